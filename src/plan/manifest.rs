//! What a key is made of, written once and read by everything that must agree on it.
//!
//! [`write()`] walks over the fields of a key. The same walk feeds the hasher ([`Bytes`]), the JSON that an action
//! record keeps ([`Json`]) and the list that `explain` compares ([`Fields`]), so that none of them can drift from
//! the others. [`replay`] walks over a kept JSON form again: it gives back the very bytes, and so the very key.

use opdflow_cache::Digest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The format of the manifest. Raise it when [`write()`] or the encoding of [`Bytes`] changes: every key changes too.
pub const FORMAT: u64 = 2;

/// The format of before: the same without `code`. Records of it stay readable, and no key is made of it any more.
pub const BEFORE_CODE: u64 = 1;

/// Takes in the fields of a manifest, one by one, in the order of [`write()`].
pub trait Manifest {
    /// A plain value: a number, a text, parameters.
    fn value(&mut self, field: &str, value: &Value);
    /// Digests by name: inputs by port, assets.
    fn digests(&mut self, field: &str, digests: &BTreeMap<String, Digest>);
}

/// What determines a stage's outputs.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// The stage kind.
    pub kind: &'a str,
    /// Its semantic version.
    pub semantics: u32,
    /// Versions of the code that it computes with, a map by part; absent in the format of before ([`BEFORE_CODE`]).
    pub code: Option<&'a Value>,
    /// Parameters, defaults filled in, less those that change nothing.
    pub params: &'a Value,
    /// The content on each port.
    pub inputs: &'a BTreeMap<String, Digest>,
    /// Content from outside the store.
    pub assets: &'a BTreeMap<String, Digest>,
    /// The seed, for stages that draw.
    pub seed: Option<u64>,
    /// The numeric profile, for stages that compute with tensors.
    pub numerics: Option<&'a Value>,
}

/// Writes the fields. Fields that a stage does not have are left out, not empty: they cannot be mistaken for others,
/// because each carries its name.
pub fn write(facts: &Facts<'_>, out: &mut impl Manifest) {
    out.value("format", &if facts.code.is_some() { FORMAT } else { BEFORE_CODE }.into());
    out.value("kind", &facts.kind.into());
    out.value("semantics", &facts.semantics.into());
    if let Some(code) = facts.code {
        out.value("code", code);
    }
    out.value("params", facts.params);
    out.digests("inputs", facts.inputs);
    out.digests("assets", facts.assets);
    if let Some(seed) = facts.seed {
        out.value("seed", &seed.into());
    }
    if let Some(numerics) = facts.numerics {
        out.value("numerics", numerics);
    }
}

/// Walks over a manifest that was kept as JSON. `None` if it is not one of ours.
pub fn replay(kept: &Value, out: &mut impl Manifest) -> Option<()> {
    let digests = |field: &str| -> Option<BTreeMap<String, Digest>> {
        kept.get(field)?.as_object()?.iter().map(|(k, v)| Some((k.clone(), v.as_str()?.parse().ok()?))).collect()
    };
    let (inputs, assets) = (digests("inputs")?, digests("assets")?);
    let code = match kept.get("format")?.as_u64()? {
        FORMAT => Some(kept.get("code").filter(|c| c.is_object())?),
        BEFORE_CODE => None,
        _ => return None,
    };
    let facts = Facts {
        kind: kept.get("kind")?.as_str()?,
        semantics: u32::try_from(kept.get("semantics")?.as_u64()?).ok()?,
        code,
        params: kept.get("params")?,
        inputs: &inputs,
        assets: &assets,
        seed: match kept.get("seed") {
            Some(seed) => Some(seed.as_u64()?),
            None => None,
        },
        numerics: kept.get("numerics"),
    };
    write(&facts, out);
    Some(())
}

/// The canonical bytes: typed and self-delimiting, so that no two manifests share theirs.
///
/// A field is `F`, its name, its value. A text is its length (8 bytes, little-endian) and its UTF-8 bytes. Values:
/// `n` null; `t`, `f` booleans; `i` an integer in 16 bytes; `d` a float in 8 bytes; `s` a text; `a` a list: count,
/// items; `m` a map: count, then names and values, sorted by name; `h` digests: count, then names and 32 bytes each.
#[derive(Clone, Debug, Default)]
pub struct Bytes(Vec<u8>);

impl Bytes {
    /// The key of these bytes under a context: keys of different contexts never meet.
    #[must_use]
    pub fn key(&self, context: &str) -> Digest {
        Digest::from_bytes(blake3::derive_key(context, &self.0))
    }
    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
    fn count(&mut self, n: usize) {
        self.0.extend_from_slice(&(n as u64).to_le_bytes());
    }
    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }
    fn field(&mut self, name: &str) {
        self.0.push(b'F');
        self.text(name);
    }
    fn any(&mut self, value: &Value) {
        match value {
            Value::Null => self.0.push(b'n'),
            Value::Bool(true) => self.0.push(b't'),
            Value::Bool(false) => self.0.push(b'f'),
            Value::Number(n) => {
                if let Some(i) = n.as_i64().map(i128::from).or_else(|| n.as_u64().map(i128::from)) {
                    self.0.push(b'i');
                    self.0.extend_from_slice(&i.to_le_bytes());
                } else {
                    self.0.push(b'd');
                    self.0.extend_from_slice(&n.as_f64().unwrap_or(f64::NAN).to_bits().to_le_bytes());
                }
            }
            Value::String(s) => {
                self.0.push(b's');
                self.text(s);
            }
            Value::Array(items) => {
                self.0.push(b'a');
                self.count(items.len());
                items.iter().for_each(|v| self.any(v));
            }
            Value::Object(map) => {
                self.0.push(b'm');
                self.count(map.len());
                // Not every build of serde_json keeps its maps sorted.
                for (name, value) in map.iter().collect::<BTreeMap<_, _>>() {
                    self.text(name);
                    self.any(value);
                }
            }
        }
    }
}

impl Manifest for Bytes {
    fn value(&mut self, field: &str, value: &Value) {
        self.field(field);
        self.any(value);
    }
    fn digests(&mut self, field: &str, digests: &BTreeMap<String, Digest>) {
        self.field(field);
        self.0.push(b'h');
        self.count(digests.len());
        for (name, digest) in digests {
            self.text(name);
            self.0.extend_from_slice(digest.as_bytes());
        }
    }
}

/// The form that an action record keeps.
#[derive(Clone, Debug, Default)]
pub struct Json(Map<String, Value>);

impl Json {
    /// The whole manifest.
    #[must_use]
    pub fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

impl Manifest for Json {
    fn value(&mut self, field: &str, value: &Value) {
        self.0.insert(field.to_owned(), value.clone());
    }
    fn digests(&mut self, field: &str, digests: &BTreeMap<String, Digest>) {
        let map = digests.iter().map(|(k, d)| (k.clone(), Value::String(d.to_string()))).collect();
        self.0.insert(field.to_owned(), Value::Object(map));
    }
}

/// One leaf of a manifest, for people.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// A plain value.
    Plain(Value),
    /// A digest.
    Content(Digest),
}

impl std::fmt::Display for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(value) => write!(f, "{value}"),
            Self::Content(digest) => f.write_str(&digest.short()),
        }
    }
}

/// The leaves by their path from the top, such as `params`, `lr`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(pub BTreeMap<Vec<String>, Leaf>);

impl Fields {
    fn walk(&mut self, path: &mut Vec<String>, value: &Value) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                for (name, value) in map {
                    path.push(name.clone());
                    self.walk(path, value);
                    path.pop();
                }
            }
            leaf => {
                self.0.insert(path.clone(), Leaf::Plain(leaf.clone()));
            }
        }
    }
}

impl Manifest for Fields {
    fn value(&mut self, field: &str, value: &Value) {
        // A stage without parameters has no leaf there, rather than an empty one.
        if value.as_object().is_none_or(|m| !m.is_empty()) {
            self.walk(&mut vec![field.to_owned()], value);
        }
    }
    fn digests(&mut self, field: &str, digests: &BTreeMap<String, Digest>) {
        for (name, digest) in digests {
            self.0.insert(vec![field.to_owned(), name.clone()], Leaf::Content(*digest));
        }
    }
}
