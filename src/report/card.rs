//! The model card of an adapter: Markdown with the front matter that the Hugging Face Hub reads
//! (<https://huggingface.co/docs/hub/model-cards>).

use super::artefacts::Score;
use super::numbers::NORMAL;
use opdflow_api::cache::Digest;
use opdflow_io::markdown::{Cell, Side, Table, code, escaped};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What a card says.
#[derive(Debug, Default)]
pub struct Card {
    /// The recipe's name.
    pub recipe: String,
    /// The output, as `stage.port`.
    pub output: String,
    /// What the adapter was trained on.
    pub base: Base,
    /// How it is loaded.
    pub form: Form,
    /// All stages that it stands on, in their order, itself last.
    pub made: Vec<Made>,
    /// Scores on prompts, of the base and of the adapter.
    pub scores: Vec<Scored>,
    /// Images of prompts.
    pub images: Vec<Row>,
    /// Whether images of the base stand beside them.
    pub with_base: bool,
    /// The adapter's content.
    pub digest: Option<Digest>,
    /// Its key.
    pub key: Option<Digest>,
    /// The program that made it.
    pub program: String,
    /// The name of the lock beside the card, if there is one.
    pub lock: Option<String>,
    /// What is not on the card, and why.
    pub lacking: Vec<String>,
}

/// What an adapter was trained on.
#[derive(Debug, Default)]
pub struct Base {
    /// Its name on the Hub, where its folder is of a download cache.
    pub hub: Option<String>,
    /// Where it was, unless paths are left out.
    pub path: Option<String>,
    /// The class of its pipeline in diffusers.
    pub class: Option<String>,
    /// What its files say of its licence.
    pub licence: Licence,
    /// Its content, by the key of the stage that read it.
    pub digest: Option<Digest>,
}

/// What a base's files say of its licence.
#[derive(Debug, Default)]
pub enum Licence {
    /// Nothing.
    #[default]
    Unsaid,
    /// It is part of the program.
    Own,
    /// The fields of its card: `license`, `license_name`, `license_link`.
    Card(BTreeMap<String, String>),
    /// The first line of a file of this name.
    File(String, String),
}

/// How an adapter's files are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A folder of peft's.
    #[default]
    Peft,
    /// `pytorch_lora_weights.safetensors`, for `load_lora_weights`.
    Diffusers,
    /// A file for other programs.
    Other,
}

/// A stage that an adapter stands on.
#[derive(Debug)]
pub struct Made {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// What that does.
    pub about: String,
    /// Its key.
    pub key: Digest,
    /// Its parameters.
    pub params: BTreeMap<String, Value>,
    /// What it read from outside, each by a name or a path, with its digest.
    pub inputs: Vec<(String, Digest)>,
    /// Whether it left sets of prompts.
    pub prompts: bool,
}

/// A score of the adapter, and of the base on the same prompts.
#[derive(Debug)]
pub struct Scored {
    /// Of the adapter.
    pub own: Score,
    /// Of the base.
    pub base: Option<Score>,
}

/// An image of a prompt, as a path below the card.
#[derive(Debug)]
pub struct Row {
    /// The prompt, unless prompts are left out.
    pub prompt: Option<String>,
    /// By the base.
    pub base: Option<String>,
    /// By the adapter.
    pub own: String,
}

impl Card {
    /// The card.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = self.front();
        let _ = writeln!(text, "# {}\n", escaped(&format!("{} of {}", self.output, self.recipe)));
        let _ = writeln!(text, "A LoRA for a text-to-image flow model, trained by {}.\n", escaped(&self.program));
        self.about_base(&mut text);
        self.scores(&mut text);
        self.images(&mut text);
        self.how_to_load(&mut text);
        self.how_made(&mut text);
        self.same_again(&mut text);
        text
    }

    fn front(&self) -> String {
        let mut fields = Map::new();
        if let Some(hub) = &self.base.hub {
            fields.insert("base_model".into(), json!(hub));
            fields.insert("base_model_relation".into(), json!("adapter"));
        }
        if let Licence::Card(said) = &self.base.licence {
            fields.extend(said.iter().map(|(name, value)| (name.clone(), json!(value))));
        }
        fields.insert("library_name".into(), json!(if self.form == Form::Peft { "peft" } else { "diffusers" }));
        fields.insert("pipeline_tag".into(), json!("text-to-image"));
        fields.insert("tags".into(), json!(["text-to-image", "lora", "diffusers", "flow-matching", "opdflow"]));
        // A map of texts and lists of texts has a form in YAML.
        let yaml = serde_yaml::to_string(&Value::Object(fields)).unwrap_or_default();
        format!("---\n{yaml}---\n\n")
    }

    fn about_base(&self, text: &mut String) {
        text.push_str("## Base\n\n");
        let Base { hub, path, class, licence, digest } = &self.base;
        let mut line = |name: &str, value: String| {
            let _ = writeln!(text, "- {name}: {value}");
        };
        match (hub, path) {
            (Some(hub), _) => line("model", code(hub)),
            (None, Some(path)) => line("model", code(path)),
            (None, None) => {}
        }
        class.iter().for_each(|class| line("pipeline", code(class)));
        digest.iter().for_each(|digest| line("digest of its files", code(&digest.to_string())));
        let licence = match licence {
            Licence::Unsaid => "not stated by its files".to_owned(),
            Licence::Own => format!("part of opdflow, {}", env!("CARGO_PKG_LICENSE")),
            Licence::Card(said) => said.values().map(|v| escaped(v)).collect::<Vec<_>>().join(", "),
            Licence::File(name, first) => format!("{}: {}", code(name), escaped(first)),
        };
        line("licence", licence);
        text.push('\n');
    }

    fn scores(&self, text: &mut String) {
        text.push_str("## Scores\n\n");
        if self.scores.is_empty() {
            text.push_str("No evaluation of this adapter is in the recipe and in the store.\n\n");
            return;
        }
        text.push_str("Means over held-out prompts, with 95 % intervals (1.96 standard errors).\n\n");
        let head = [("prompts", Side::Left), ("score", Side::Left), ("base", Side::Right), ("adapter", Side::Right)];
        let mut table = Table::new(head.map(|(name, side)| (Cell::text(name), side)));
        for Scored { own, base } in &self.scores {
            let base = base.as_ref().map_or_else(String::new, interval);
            let set = format!("{} ({})", own.set, own.n);
            table.row([Cell::text(&set), Cell::text(&own.column), Cell::markup(base), Cell::markup(interval(own))]);
        }
        text.push_str(&table.finish());
        text.push('\n');
    }

    fn images(&self, text: &mut String) {
        if self.images.is_empty() {
            return;
        }
        text.push_str("## Samples\n\nThe first held-out prompts, with the same noise for each model.\n\n");
        let mut head = vec![(Cell::text("prompt"), Side::Left)];
        head.extend(self.with_base.then(|| (Cell::text("base"), Side::Left)));
        head.push((Cell::text("adapter"), Side::Left));
        let mut table = Table::new(head).compact();
        let image = |path: &String| Cell::markup(format!("![]({path})"));
        for Row { prompt, base, own } in &self.images {
            let mut cells = vec![Cell::text(prompt.as_deref().unwrap_or_default())];
            cells.extend(self.with_base.then(|| base.as_ref().map_or_else(Cell::default, image)));
            cells.push(image(own));
            table.row(cells);
        }
        text.push_str(&table.finish());
        text.push('\n');
    }

    fn how_to_load(&self, text: &mut String) {
        text.push_str("## How to load it\n\n");
        let class = self.base.class.as_deref().filter(|c| c.chars().all(|c| c.is_ascii_alphanumeric()));
        let class = class.unwrap_or("DiffusionPipeline");
        // As Python writes a text. Nothing in it ends the line or the block.
        let base = json!(self.base.hub.as_deref().unwrap_or("BASE")).to_string();
        let load = match self.form {
            Form::Peft => "pipe.transformer = PeftModel.from_pretrained(pipe.transformer, \"FOLDER\")",
            Form::Diffusers => "pipe.load_lora_weights(\"FOLDER\")",
            Form::Other => {
                text.push_str("The file is in the names of another program, and is loaded there. `opdflow get` with `--format diffusers` writes one for diffusers.\n\n");
                return;
            }
        };
        let peft = if self.form == Form::Peft { "from peft import PeftModel\n" } else { "" };
        let _ = writeln!(
            text,
            "`FOLDER` is the folder of this card{}.\n\n```python\nimport torch\nfrom diffusers import {class}\n{peft}\npipe = {class}.from_pretrained({base}, torch_dtype=torch.bfloat16)\n{load}\nimage = pipe(\"a prompt\").images[0]\n```\n",
            if self.base.hub.is_some() { "" } else { ", and `BASE` that of the base" }
        );
    }

    fn how_made(&self, text: &mut String) {
        text.push_str("## How it was made\n\n");
        let rewards = |made: &Made| {
            let own = made.params.iter().filter(|(name, _)| *name == "reward" || name.starts_with("reward."));
            own.map(|(name, value)| format!("{} {value}", name.strip_prefix("reward.").unwrap_or(name)))
                .collect::<Vec<_>>()
        };
        let rewards: Vec<(&str, Vec<String>)> =
            self.made.iter().map(|m| (m.stage.as_str(), rewards(m))).filter(|(_, r)| !r.is_empty()).collect();
        if !rewards.is_empty() {
            text.push_str("Rewards:\n\n");
            for (stage, rewards) in rewards {
                let _ = writeln!(text, "- {}: {}", escaped(stage), escaped(&rewards.join(", ")));
            }
            text.push('\n');
        }
        let prompts: Vec<&Made> = self.made.iter().filter(|m| m.prompts).collect();
        if !prompts.is_empty() {
            text.push_str("Prompts:\n\n");
            for made in prompts {
                let files: Vec<String> =
                    made.inputs.iter().map(|(name, digest)| format!("{} {}", code(name), digest.short())).collect();
                let from = if files.is_empty() { "drawn by the program".to_owned() } else { files.join(", ") };
                let _ = writeln!(text, "- {}: {from}", escaped(&made.stage));
            }
            text.push('\n');
        }
        text.push_str("Stages, each with its parameters:\n\n");
        for made in &self.made {
            let _ = writeln!(
                text,
                "- **{}** ({}), key {}. {}",
                escaped(&made.stage),
                escaped(&made.kind),
                made.key.short(),
                escaped(&made.about)
            );
            let params: Vec<String> = made.params.iter().map(|(name, value)| format!("{name} {value}")).collect();
            if !params.is_empty() {
                let _ = writeln!(text, "  {}", code(&params.join(", ")));
            }
            for (name, digest) in &made.inputs {
                let _ = writeln!(text, "  - read {}, {digest}", code(name));
            }
        }
        text.push('\n');
    }

    fn same_again(&self, text: &mut String) {
        text.push_str("## The same again\n\n");
        for (name, digest) in [("digest of the adapter", self.digest), ("key", self.key)] {
            if let Some(digest) = digest {
                let _ = writeln!(text, "- {name}: `{digest}`");
            }
        }
        let _ = writeln!(text, "- program: {}\n", escaped(&self.program));
        match &self.lock {
            Some(lock) => {
                let _ = writeln!(
                    text,
                    "`opdflow run {lock}` makes it again on another machine, or names what differs: the lock holds the recipe, and the digest of everything that it reads."
                );
            }
            None => text.push_str("There is no lock: it would hold prompts and paths, which were left out.\n"),
        }
        if !self.lacking.is_empty() {
            text.push_str("\nNot on this card:\n\n");
            for what in &self.lacking {
                let _ = writeln!(text, "- {}", escaped(what));
            }
        }
    }
}

/// A mean with its interval: `0.750 (0.505 to 0.995)`.
fn interval(score: &Score) -> String {
    let Score { mean, error, .. } = score;
    if !error.is_finite() {
        return format!("{mean:.3}");
    }
    let half = NORMAL * error;
    format!("{mean:.3} ({:.3} to {:.3})", mean - half, mean + half)
}

/// The fields of a model card that say its licence, in its front matter.
#[must_use]
pub fn licence_of(card: &str) -> Option<BTreeMap<String, String>> {
    let rest = card.strip_prefix("---")?.trim_start_matches('\r').strip_prefix('\n')?;
    let end = rest.find("\n---")?;
    let fields = serde_yaml::from_str::<Value>(&rest[..end]).ok()?;
    let field = |name: &str| Some((name.to_owned(), fields[name].as_str()?.to_owned()));
    let found: BTreeMap<String, String> =
        ["license", "license_name", "license_link"].into_iter().filter_map(field).collect();
    found.contains_key("license").then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_s_card_says_its_licence() {
        let card =
            "---\nlicense: other\nlicense_name: some-community\nlicense_link: LICENSE.md\ntags: [x]\n---\n# Model\n";
        let found = licence_of(card).unwrap();
        assert_eq!(found["license_name"], "some-community");
        for none in
            ["# Model\nlicense: mit\n", "---\ntags: [x]\n---\n", "---\nlicense: mit\n", "---\nlicense: [\n---\n", ""]
        {
            assert_eq!(licence_of(none), None, "{none}");
        }
    }

    #[test]
    fn an_interval_is_two_standard_errors() {
        let score = |error| Score { set: "ocr".into(), column: "ocr".into(), mean: 0.75, error, n: 4 };
        assert_eq!(interval(&score(0.125)), "0.750 (0.505 to 0.995)");
        assert_eq!(interval(&score(f64::NAN)), "0.750");
    }

    #[test]
    fn text_of_others_stays_text() {
        let hostile = "x`|</b>\n---\n# head [a](javascript:b)";
        let key = Digest::of(b"k");
        let card = Card {
            recipe: hostile.into(),
            output: hostile.into(),
            program: "opdflow".into(),
            base: Base {
                hub: Some("a\"b\n```".into()),
                path: None,
                class: Some("X;import os".into()),
                ..Base::default()
            },
            form: Form::Diffusers,
            made: vec![Made {
                stage: hostile.into(),
                kind: "k".into(),
                about: "a".into(),
                key,
                params: BTreeMap::from([("reward.ocr".into(), json!(hostile))]),
                inputs: vec![(hostile.into(), key)],
                prompts: true,
            }],
            images: vec![Row { prompt: Some(hostile.into()), base: None, own: "images/a.png".into() }],
            lock: Some("recipe.lock.yaml".into()),
            lacking: vec![hostile.into()],
            ..Card::default()
        };
        let text = card.markdown();
        // One front matter, whose fields are those that we wrote.
        let front = text.strip_prefix("---\n").unwrap().split("\n---\n").next().unwrap();
        let fields: Value = serde_yaml::from_str(front).unwrap();
        assert_eq!(fields["base_model"], "a\"b\n```");
        assert_eq!(fields.as_object().unwrap().len(), 5);
        let body = &text[front.len()..];
        assert_eq!(body.lines().filter(|l| l.starts_with("```")).count(), 2, "one block of code: {body}");
        assert_eq!(body.lines().filter(|l| l.starts_with("# ")).count(), 1, "{body}");
        // What is no code is escaped.
        let outside: Vec<&str> = body.lines().filter(|line| line.contains("</b>") && !line.contains("``")).collect();
        assert!(outside.is_empty(), "{outside:?}");
        assert!(body.contains("from diffusers import DiffusionPipeline"));
    }
}
