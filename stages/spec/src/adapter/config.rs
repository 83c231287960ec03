//! peft's `LoraConfig`, as `adapter_config.json` and the header of diffusers' single files hold it: what says where an
//! adapter lies and how strong it is. Each field is read, or known to change nothing once training is over, or refused.

use crate::linears::{LinearShape, ends_with};
use anyhow::{Context as _, Result, bail, ensure};
use regex::Regex;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where peft puts an adapter and how strong it is, module by module.
#[derive(Debug)]
pub struct PeftConfig {
    rank: i64,
    alpha: f64,
    /// Whether the scale is alpha over the root of the rank.
    pub stabilised: bool,
    targets: Option<Names>,
    excluded: Option<Names>,
    layers: Option<Vec<i64>>,
    layer_names: Vec<Regex>,
    ranks: Vec<(Regex, i64)>,
    alphas: Vec<(Regex, f64)>,
}

/// Module names as peft takes them: a list of whole paths or last components, or one pattern for the whole path.
#[derive(Debug)]
enum Names {
    Listed(BTreeSet<String>),
    Pattern(Regex),
    AllLinear,
}

impl Names {
    fn of(key: &str, value: &Value) -> Result<Option<Names>> {
        match value {
            Value::Null => Ok(None),
            Value::String(s) if key == "target_modules" && s.eq_ignore_ascii_case("all-linear") => {
                Ok(Some(Names::AllLinear))
            }
            Value::String(s) => Ok(Some(Names::Pattern(pattern(key, s, |s| format!("^(?:{s})$"))?))),
            Value::Array(all) => {
                let name = |v: &Value| {
                    v.as_str().map(str::to_owned).with_context(|| format!("`{key}` holds {v}, expected names"))
                };
                Ok(Some(Names::Listed(all.iter().map(name).collect::<Result<_>>()?)))
            }
            other => bail!("`{key}` is {other}, expected a list of names or a pattern"),
        }
    }

    fn hold(&self, path: &str) -> bool {
        match self {
            Names::AllLinear => true,
            Names::Pattern(p) => p.is_match(path),
            Names::Listed(names) => names.iter().any(|n| ends_with(path, n)),
        }
    }
}

fn pattern(key: &str, text: &str, whole: impl Fn(&str) -> String) -> Result<Regex> {
    Regex::new(&whole(text)).map_err(|e| {
        let why = e.to_string();
        let why = why.lines().last().unwrap_or_default().trim();
        anyhow::anyhow!("`{key}`: the pattern `{text}` is not read here ({why}); write the module's names out")
    })
}

/// The fields of a configuration, the two whose order counts apart.
#[derive(Default)]
struct Fields {
    values: BTreeMap<String, Value>,
    patterns: BTreeMap<String, Vec<(String, Value)>>,
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Fields, D::Error> {
        struct Whole;
        impl<'de> Visitor<'de> for Whole {
            type Value = Fields;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Fields::default();
                while let Some(key) = map.next_key::<String>()? {
                    if key.ends_with("rank_pattern") || key.ends_with("alpha_pattern") {
                        let pairs = map.next_value::<Option<Ordered>>()?;
                        fields.patterns.insert(key, pairs.map(|o| o.0).unwrap_or_default());
                    } else {
                        fields.values.insert(key, map.next_value()?);
                    }
                }
                Ok(fields)
            }
        }
        from.deserialize_map(Whole)
    }
}

/// An object in the order of the file: of several patterns that fit, peft takes the first.
struct Ordered(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Ordered {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Ordered, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Ordered;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("an object of patterns")
            }
            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Ordered, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Ordered(pairs))
            }
        }
        from.deserialize_map(Pairs)
    }
}

/// Fields that say nothing of the finished tensors: who made them, with what, from what start, under which dropout.
const SILENT: [&str; 22] = [
    "auto_mapping",
    "base_model_name_or_path",
    "corda_config",
    "ensure_weight_tying",
    "ephemeral_gpu_offload",
    "eva_config",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "exclude_modules",
    "task_type",
    "velora_config",
];

impl PeftConfig {
    /// Reads `adapter_config.json`.
    pub fn parse(text: &str) -> Result<PeftConfig> {
        let fields: Fields = serde_json::from_str(text)?;
        PeftConfig::of(fields)
    }

    /// Reads what diffusers keeps in a single file's header for the transformer: the same fields, each behind
    /// `transformer.`. Nothing if the header is about other parts alone.
    pub fn parse_packed(text: &str) -> Result<Option<PeftConfig>> {
        let all: Fields = serde_json::from_str(text)?;
        let mut own = Fields::default();
        let strip = |k: &str| match k.split_once('.') {
            Some(("transformer", rest)) => Some(rest.to_owned()),
            Some(_) => None,
            None => Some(k.to_owned()),
        };
        for (k, v) in all.values {
            if let Some(k) = strip(&k) {
                own.values.insert(k, v);
            }
        }
        for (k, v) in all.patterns {
            if let Some(k) = strip(&k) {
                own.patterns.insert(k, v);
            }
        }
        if own.values.is_empty() { Ok(None) } else { PeftConfig::of(own).map(Some) }
    }

    fn of(fields: Fields) -> Result<PeftConfig> {
        let Fields { mut values, patterns } = fields;
        let kind = values.get("peft_type").and_then(Value::as_str).unwrap_or("LORA").to_owned();
        ensure!(kind == "LORA", "`peft_type` is {kind}, supported: LORA{}", way_out(&kind));
        let get = |key: &str| values.get(key).cloned().unwrap_or(Value::Null);
        let rank = get("r").as_i64().with_context(|| format!("`r` is {}, expected a whole number", get("r")))?;
        ensure!(rank > 0, "`r` is {rank}, it must be at least 1");
        let alpha = get("lora_alpha");
        let alpha = alpha.as_f64().with_context(|| format!("`lora_alpha` is {alpha}, expected a number"))?;
        let stabilised = flag("use_rslora", &get("use_rslora"))?;
        start(&get("init_lora_weights"))?;
        let layers = match get("layers_to_transform") {
            Value::Null => None,
            Value::Number(n) => Some(vec![n.as_i64().context("`layers_to_transform` is no whole number")?]),
            Value::Array(a) if a.is_empty() => None,
            Value::Array(a) => Some(
                a.iter()
                    .map(|v| v.as_i64().context("`layers_to_transform` holds no whole number"))
                    .collect::<Result<_>>()?,
            ),
            other => bail!("`layers_to_transform` is {other}, expected numbers of layers"),
        };
        let layer_names = match get("layers_pattern") {
            Value::Null => Vec::new(),
            Value::String(s) if s.is_empty() => Vec::new(),
            Value::String(s) => vec![s],
            Value::Array(a) => a.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect(),
            other => bail!("`layers_pattern` is {other}, expected names"),
        };
        let layer_name = |s: &String| pattern("layers_pattern", s, |s| format!(r"^(?:.*?\.)?(?:{s})\.(\d+)\."));
        let config = PeftConfig {
            rank,
            alpha,
            stabilised,
            targets: Names::of("target_modules", &get("target_modules"))?,
            excluded: Names::of("exclude_modules", &get("exclude_modules"))?,
            layers,
            layer_names: layer_names.iter().map(layer_name).collect::<Result<_>>()?,
            ranks: of_pattern("rank_pattern", &patterns, |v| v.as_i64().filter(|r| *r > 0))?,
            alphas: of_pattern("alpha_pattern", &patterns, Value::as_f64)?,
        };
        for known in ["r", "lora_alpha", "use_rslora", "init_lora_weights"].iter().chain(&SILENT) {
            values.remove(*known);
        }
        nothing_else(&values)?;
        Ok(config)
    }

    /// Whether peft would put an adapter on this module.
    pub fn targets(&self, path: &str) -> bool {
        if self.excluded.as_ref().is_some_and(|n| n.hold(path)) {
            return false;
        }
        let Some(targets) = &self.targets else { return false };
        if !targets.hold(path) {
            return false;
        }
        // peft looks at numbers of layers only beside a list.
        match (&self.layers, targets) {
            (Some(layers), Names::Listed(_)) => self.layer(path).is_some_and(|l| layers.contains(&l)),
            _ => true,
        }
    }

    /// Whether it says at all which modules it is for.
    pub fn names_targets(&self) -> bool {
        self.targets.is_some()
    }

    fn layer(&self, path: &str) -> Option<i64> {
        if !self.layer_names.is_empty() {
            return self.layer_names.iter().find_map(|p| p.captures(path)?.get(1)?.as_str().parse().ok());
        }
        // The first component that is a number and has a name of two components before it: `..\.[^.]*\.(\d+)\.`.
        let parts: Vec<&str> = path.split('.').collect();
        let number = |i: usize| parts[i].parse::<i64>().ok();
        (2..parts.len().saturating_sub(1)).find_map(number)
    }

    /// The targets, sorted, where they are a list.
    pub fn listed(&self) -> Option<Vec<String>> {
        match &self.targets {
            Some(Names::Listed(names)) => Some(names.iter().cloned().collect()),
            _ => None,
        }
    }

    /// Rank and alpha of one module.
    pub fn of_module(&self, path: &str) -> (i64, f64) {
        let rank = self.ranks.iter().find(|(p, _)| p.is_match(path)).map_or(self.rank, |(_, r)| *r);
        let alpha = self.alphas.iter().find(|(p, _)| p.is_match(path)).map_or(self.alpha, |(_, a)| *a);
        (rank, alpha)
    }

    /// The first of `linears` that is a target and not among the modules that `has` accepts.
    pub fn lacking<'a>(&self, linears: &'a [LinearShape], has: impl Fn(&str) -> bool) -> Option<&'a LinearShape> {
        linears.iter().find(|l| self.targets(&l.name) && !has(&l.name))
    }
}

fn flag(key: &str, value: &Value) -> Result<bool> {
    match value {
        Value::Null => Ok(false),
        Value::Bool(b) => Ok(*b),
        other => bail!("`{key}` is {other}, expected true or false"),
    }
}

fn of_pattern<T>(
    key: &str,
    patterns: &BTreeMap<String, Vec<(String, Value)>>,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Vec<(Regex, T)>> {
    let pairs = patterns.get(key).map(Vec::as_slice).unwrap_or_default();
    let one = |(name, value): &(String, Value)| {
        let found =
            read(value).with_context(|| format!("`{key}` gives `{name}` {value}, expected a number above 0"))?;
        // As peft's `get_pattern_key`.
        Ok((pattern(key, name, |s| format!(r"^(?:.*\.)?(?:{s})$"))?, found))
    };
    pairs.iter().map(one).collect()
}

/// Starts of training that leave the base as it is; the others take something out of it that the tensors bring back.
fn start(value: &Value) -> Result<()> {
    const HARMLESS: [&str; 5] = ["gaussian", "eva", "orthogonal", "mica", "true"];
    const MOVED: [&str; 5] = ["pissa", "olora", "corda", "loftq", "lora_ga"];
    let name = match value {
        Value::Null | Value::Bool(_) => return Ok(()),
        Value::String(s) => s.to_ascii_lowercase(),
        other => bail!("`init_lora_weights` is {other}, expected a name"),
    };
    if HARMLESS.contains(&name.as_str()) {
        return Ok(());
    }
    let known = MOVED.iter().any(|m| name.starts_with(m));
    let what = if known {
        "has changed the base, so that on the plain base the adapter means something else"
    } else {
        "is not known here"
    };
    bail!(
        "`init_lora_weights` is {name}, which {what}; save it again with peft's `save_pretrained(..., \
         path_initial_model_for_weight_conversion=...)`, which makes a plain LoRA of it"
    )
}

/// What is left must be unset: an unknown field may change what the tensors mean.
fn nothing_else(values: &BTreeMap<String, Value>) -> Result<()> {
    let unset = |v: &Value| match v {
        Value::Null | Value::Bool(false) => true,
        Value::Array(a) => a.is_empty(),
        Value::Object(o) => o.is_empty(),
        Value::String(s) => s.is_empty() || s == "none",
        Value::Number(_) | Value::Bool(true) => false,
    };
    if let Some((key, value)) = values.iter().find(|(_, v)| !unset(v)) {
        let out = match key.as_str() {
            "use_dora" => way_out("DORA"),
            "bias" | "lora_bias" => "; an adapter here changes weights alone: train with `bias=\"none\"`".to_owned(),
            "modules_to_save" => {
                "; it holds whole layers: merge it into the base with peft's `merge_and_unload`".to_owned()
            }
            _ => "; merge it into the base with peft's `merge_and_unload` and name the merged model as the base"
                .to_owned(),
        };
        bail!("`{key}` is {value}, which is not read here{out}");
    }
    Ok(())
}

/// What to do with an adapter of another kind.
pub fn way_out(kind: &str) -> String {
    let kind = match kind {
        "DORA" => "DoRA",
        "LOKR" => "LoKr",
        "LOHA" => "LoHa",
        other => other,
    };
    format!(
        "; {kind} is no sum of low-rank products: merge it into the base (peft: `merge_and_unload`) and name the merged \
         model as the base, or train a plain LoRA"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "transformer_blocks.1.attn.to_q";

    fn config(more: &str) -> Result<PeftConfig> {
        PeftConfig::parse(&format!(r#"{{"r": 4, "lora_alpha": 8, "target_modules": ["attn.to_q", "proj_out"]{more}}}"#))
    }

    fn error(more: &str) -> String {
        format!("{:#}", config(more).expect_err(more))
    }

    #[test]
    fn patterns_are_peft_s() {
        let c =
            config(r#", "rank_pattern": {"to_q": 2, ".*attn.to_q": 3}, "alpha_pattern": {"^proj_out": 1.5}"#).unwrap();
        assert_eq!(c.of_module(PATH), (2, 8.0));
        assert_eq!(c.of_module("x.attn2.to_k"), (4, 8.0));
        assert_eq!(c.of_module("proj_out"), (4, 1.5));
        // `^` is the module's own beginning: it does not match behind other components.
        assert_eq!(c.of_module("x.proj_out"), (4, 8.0));
        let c = config(r#", "rank_pattern": {"b.*to_q": 3, "to_q": 2}"#).unwrap();
        assert_eq!(c.of_module("transformer_blocks.1.bttn.to_q").0, 3);
        assert!(error(r#", "rank_pattern": {"(?=x)": 3}"#).contains("the pattern `(?=x)` is not read here"));
    }

    #[test]
    fn targets_are_peft_s() {
        let c = config(r#", "exclude_modules": ["transformer_blocks.1.attn.to_q"]"#).unwrap();
        assert!(!c.targets(PATH) && c.targets("transformer_blocks.0.attn.to_q") && c.targets("proj_out"));
        assert!(!c.targets("transformer_blocks.0.xattn.to_q"));
        let c = config(r#", "exclude_modules": ".*blocks\\.1\\..*""#).unwrap();
        assert!(!c.targets(PATH) && c.targets("transformer_blocks.0.attn.to_q"));
        // Without a pattern peft looks for a number behind at least two components, which this model has none of.
        for (layers, pattern, there) in [("[1]", "transformer_blocks", true), ("0", "transformer_blocks", false)] {
            let c = config(&format!(r#", "layers_to_transform": {layers}, "layers_pattern": "{pattern}""#)).unwrap();
            assert_eq!(c.targets(PATH), there, "{layers}");
            assert!(!c.targets("proj_out"));
        }
        let c = PeftConfig::parse(r#"{"r": 1, "lora_alpha": 1, "target_modules": ".*\\.to_[qk]"}"#).unwrap();
        assert!(c.targets(PATH) && !c.targets("x.to_qq"));
        let c = PeftConfig::parse(r#"{"r": 1, "lora_alpha": 1, "target_modules": "ALL-LINEAR"}"#).unwrap();
        assert!(c.targets("proj_out"));
    }

    #[test]
    fn every_field_is_read_or_refused() {
        for (more, says) in [
            (r#", "use_dora": true"#, "`use_dora` is true"),
            (r#", "use_dora": true"#, "DoRA is no sum"),
            (
                r#", "init_lora_weights": "pissa_niter_16""#,
                "`init_lora_weights` is pissa_niter_16, which has changed the base",
            ),
            (r#", "init_lora_weights": "OLoRA""#, "path_initial_model_for_weight_conversion"),
            (r#", "init_lora_weights": "lora_ga""#, "has changed the base"),
            (r#", "init_lora_weights": "surprise""#, "is not known here"),
            (r#", "peft_type": "LOKR""#, "LoKr is no sum"),
            (r#", "bias": "all""#, "`bias` is \"all\""),
            (r#", "lora_bias": true"#, "`lora_bias` is true"),
            (r#", "modules_to_save": ["proj_out"]"#, "`modules_to_save` is"),
            (r#", "fan_in_fan_out": true"#, "`fan_in_fan_out` is true"),
            (r#", "layer_replication": [[0, 2]]"#, "`layer_replication` is"),
            (r#", "target_parameters": ["x"]"#, "`target_parameters` is"),
            (r#", "a_field_of_tomorrow": 3"#, "`a_field_of_tomorrow` is 3"),
            (r#", "rank_pattern": {"to_q": 0}"#, "`rank_pattern` gives `to_q` 0"),
        ] {
            let found = error(more);
            assert!(found.contains(says), "{more}: {found}");
        }
        config(r#", "init_lora_weights": "eva", "bias": "none", "lora_dropout": 0.1, "use_dora": false"#).unwrap();
        let packed = r#"{"transformer.r": 2, "transformer.lora_alpha": 3, "transformer.use_rslora": true, "text_encoder.r": 9,
            "transformer.rank_pattern": {"to_q": 1}}"#;
        let c = PeftConfig::parse_packed(packed).unwrap().unwrap();
        assert!(c.stabilised && c.of_module(PATH) == (1, 3.0) && !c.names_targets());
        assert!(PeftConfig::parse_packed(r#"{"text_encoder.r": 9}"#).unwrap().is_none());
    }
}
