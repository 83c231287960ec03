//! The key of a stage: a digest of everything that determines its outputs, and of nothing else.
//! `docs/explanation/caching.md` says what is in it and why.

use super::Planned;
use super::manifest::{Bytes, Facts, Json, write};
use crate::recipe::{Device, Numerics, Recipe, Strict};
use opdflow_cache::Digest;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const KEY: &str = "opdflow stage key v1";
const LINEAGE: &str = "opdflow lineage key v1";

/// A stage's name in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Keys {
    /// The key: two stages with the same key give the same outputs.
    pub key: Digest,
    /// The same less the horizon: the parameters that decide how long it runs, and what their rules read. Checkpoints live under
    /// it, so that a longer run goes on where a shorter one ended.
    pub lineage: Digest,
    /// What the key is made of, as the action record keeps it.
    pub manifest: Value,
}

/// What is known of the arithmetic beside what the recipe says. Of the machine that plans only `gpu` is, and no key has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NumericFacts {
    /// Whether stages that can use a GPU get one here, as far as the recipe leaves it open.
    pub gpu: bool,
    /// The number type of the arithmetic, such as `f32`.
    pub dtype: String,
    /// The version of libtorch that the program of the stages is built with.
    pub libtorch: String,
    /// The kinds whose stages run on other machines alone, because this one has no program for them. What a stage needs of a
    /// machine is not asked of this one.
    pub elsewhere: BTreeSet<&'static str>,
}

impl Default for NumericFacts {
    fn default() -> Self {
        Self { gpu: false, dtype: "f32".into(), libtorch: String::new(), elsewhere: BTreeSet::new() }
    }
}

/// The keys of `planned`, given the digest of what it reads on each port.
#[must_use]
pub fn keys(planned: &Planned, recipe: &Recipe, facts: &NumericFacts, inputs: &BTreeMap<String, Digest>) -> Keys {
    let about = planned.spec.kind.describe();
    let mut params = opdflow_api::without_added(&planned.spec.kind.schema(), &planned.spec.params);
    for name in about.outside_key {
        remove(&mut params, name);
    }
    let on = |ports: &[&str], place: &str| ports.contains(&place.split('.').next().unwrap_or(place));
    let mut inputs = inputs.clone();
    inputs.retain(|place, _| !on(about.outside_key, place));
    let (mut course, mut followed) = (params.clone(), inputs.clone());
    if let Some(horizon) = &planned.horizon {
        horizon.also.iter().chain([&horizon.param]).for_each(|name| remove(&mut course, name));
        followed.retain(|place, _| !on(horizon.ports, place));
    }
    let assets: BTreeMap<String, Digest> = planned.assets.iter().map(|a| (a.name.clone(), a.digest)).collect();
    let code = Value::Object(planned.code.clone().into_iter().collect());
    let numerics = about.numeric.then(|| profile(&recipe.numerics, facts, planned.resources.gpu));
    let whole = Facts {
        kind: about.kind,
        semantics: about.semantics,
        code: Some(&code),
        params: &params,
        inputs: &inputs,
        assets: &assets,
        seed: about.seeded.then_some(planned.spec.seed),
        numerics: numerics.as_ref(),
    };
    let (mut bytes, mut kept, mut less) = (Bytes::default(), Json::default(), Bytes::default());
    write(&whole, &mut bytes);
    write(&whole, &mut kept);
    write(&Facts { params: &course, inputs: &followed, ..whole }, &mut less);
    Keys { key: bytes.key(KEY), lineage: less.key(LINEAGE), manifest: kept.finish() }
}

/// The key that a kept manifest stands for, if it is one of ours: a record can be held against its own key.
#[must_use]
pub fn of_manifest(kept: &Value) -> Option<Digest> {
    let mut bytes = Bytes::default();
    super::manifest::replay(kept, &mut bytes)?;
    Some(bytes.key(KEY))
}

fn profile(numerics: &Numerics, facts: &NumericFacts, gpu: bool) -> Value {
    match numerics {
        Numerics::Portable => json!({"profile": "portable"}),
        Numerics::Strict(Strict { device, libtorch }) => {
            // A stage that never takes a GPU computes the same beside one.
            let device = if gpu { *device } else { Device::Cpu };
            let libtorch = libtorch.as_ref().unwrap_or(&facts.libtorch);
            json!({"profile": "strict", "device": device.name(), "dtype": facts.dtype, "libtorch": libtorch})
        }
    }
}

/// Takes a parameter out, named as `a` or `a.b`.
pub(super) fn remove(params: &mut Value, path: &str) {
    let (head, rest) = path.split_once('.').map_or((path, None), |(h, r)| (h, Some(r)));
    let Some(map) = params.as_object_mut() else { return };
    match rest {
        None => {
            map.remove(head);
        }
        Some(rest) => {
            if let Some(inner) = map.get_mut(head) {
                remove(inner, rest);
            }
        }
    }
}
