//! The stage trait, and the same with its parameter type erased: what the engine asks of it, and what runs it.
//!
//! These are two traits, and not one, so that a program that only plans refers to no code that computes: the linker
//! then leaves that code out, and with it the libraries that it needs.

use crate::fields::fields;
use crate::port::{Arity, Input, Output};
use crate::{StageContext, choice, range};
use opdflow_cache::{Digest, Memo};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize as _, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::any::TypeId;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// What a stage kind says of itself. All of it is static: `opdflow stages` prints it without running anything.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Description {
    /// The name after `uses:`.
    pub kind: &'static str,
    /// Raised by hand whenever the same inputs and parameters would give other bytes. Part of the key.
    pub semantics: u32,
    /// One or two sentences for the reference.
    pub about: &'static str,
    /// What it reads.
    pub inputs: &'static [Input],
    /// What it leaves.
    pub outputs: &'static [Output],
    /// Parameters that never change the result (a path whose content is in the key as an asset, a cadence, a
    /// micro-batch). They are not in the key.
    pub outside_key: &'static [&'static str],
    /// Whether the recipe's seed changes the result.
    pub seeded: bool,
    /// Whether it computes with tensors, so that the numeric profile belongs to its key.
    pub numeric: bool,
}

/// A parameter that decides how long a stage runs, and nothing else about its course: a run with a larger value
/// passes through the very states of one with a smaller value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// The parameter.
    pub param: &'static str,
    /// Its value.
    pub steps: u64,
}

/// Bytes from outside the store that a stage reads (a user's weights, a recogniser), by content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// A stable name, such as `ppocr.det`.
    pub name: String,
    /// Digest of the content.
    pub digest: Digest,
}

/// What is known of artefacts before any stage runs, by port: JSON that the kind upstream and the kind downstream agree
/// on (a model's configuration, the prompts of a set). The engine only hands it on. It is no part of any key. Of a stage's
/// inputs every connected port is there, with `null` where nothing is known.
pub type Foreseen = BTreeMap<String, Value>;

/// The connected ports of a stage (`base`, and `prompts.ocr` for one of a map), and what each reads (`base.model`,
/// `student[rounds=100].lora`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(BTreeMap<String, String>);

impl Ports {
    /// Whether something is connected to the port.
    #[must_use]
    pub fn contains(&self, port: &str) -> bool {
        self.0.contains_key(port)
    }
    /// All connected ports.
    pub fn iter(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
    /// The names below a port that takes a map.
    #[must_use]
    pub fn names(&self, port: &str) -> Vec<String> {
        self.0.keys().filter_map(|k| k.strip_prefix(port)?.strip_prefix('.')).map(ToOwned::to_owned).collect()
    }
    /// What the port reads, as recipes write it.
    #[must_use]
    pub fn source(&self, port: &str) -> Option<&str> {
        self.0.get(port).map(String::as_str)
    }
}

impl FromIterator<(String, String)> for Ports {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(ports: T) -> Self {
        Self(ports.into_iter().collect())
    }
}

/// Variables of a process's environment, by name.
pub type Environment = BTreeMap<String, String>;

/// What takes memory while a stage runs, in bytes, at the stage's peak. An estimate, made before anything runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// What takes it: `weights`, `activations`, `optimiser`.
    pub of: &'static str,
    /// How much.
    pub bytes: u64,
}

impl Memory {
    /// `bytes` taken by `of`.
    #[must_use]
    pub const fn of(of: &'static str, bytes: u64) -> Self {
        Self { of, bytes }
    }
}

/// What a stage takes of the machine while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// Threads; also the slots it takes.
    pub cpus: usize,
    /// Bytes of memory that it is expected to need, or 0 if nobody knows.
    pub memory: u64,
    /// Whether it runs on a GPU when there is one.
    pub gpu: bool,
}

impl Default for Resources {
    fn default() -> Self {
        Self { cpus: 1, memory: 0, gpu: false }
    }
}

/// A parameter that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParamFault {
    /// Where, below `with`: `algorithm.diffusion_nft.beta`; empty for `with` itself.
    pub path: String,
    /// What was found and expected.
    pub message: String,
    /// The way out.
    pub help: Option<String>,
    /// The connected port that it is about, if it is about one and not about a parameter: `prompts.ocr`.
    pub port: Option<String>,
}

impl ParamFault {
    /// A fault at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), help: None, port: None }
    }
    /// A fault of what is connected to `port`.
    pub fn of_port(port: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: String::new(), message: message.into(), help: None, port: Some(port.into()) }
    }
    /// Adds the way out.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// One kind of stage. Implementations are unit-like values; all state is in the parameters and the context.
pub trait Stage: Send + Sync + 'static {
    /// The type of `with:`. Use `#[serde(deny_unknown_fields)]` and defaults; the defaults are filled in before
    /// the key is made, so that writing one out changes nothing. What its fields say of themselves in their doc
    /// comments goes into the schema of recipes and the reference. Every number has a lower and an upper bound there
    /// (`#[schemars(range(min = 1, max = 9))]`, `extend("exclusiveMinimum" = 0)`), which [`Kind::normalise`] holds.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// The static facts.
    fn describe(&self) -> Description;

    /// What the types and the ranges in their schema cannot say: combinations. The numbers may lie outside their ranges.
    fn check(&self, _params: &Self::Params) -> Vec<ParamFault> {
        Vec::new()
    }

    /// What is wrong with the connections as the parameters want them: a port that one of them calls for and that is not
    /// connected. `ports` are those that are, as the job will see them (`base`, `prompts.ocr`). That a required port is
    /// there and that types fit was checked before.
    fn wired(&self, _params: &Self::Params, _ports: &Ports) -> Vec<ParamFault> {
        Vec::new()
    }

    /// Content from outside the store that the result depends on. `folder` is the recipe's, for relative paths; `memo`
    /// knows the digests of big files that were hashed before.
    ///
    /// # Errors
    /// Every missing or unreadable file, each as a fault of the parameter that names it.
    fn assets(&self, _params: &Self::Params, _folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Ok(Vec::new())
    }

    /// What this machine lacks that the stage will need when it runs, though its key does not hang on it: a library, files
    /// that are pinned. It is asked before a run begins, so that a missing file is not found out hours later. A fault's
    /// path is that of the parameter that calls for it.
    fn lacks(&self, _params: &Self::Params, _ports: &Ports) -> Vec<ParamFault> {
        Vec::new()
    }

    /// What is known of its outputs before it runs; `inputs` is what is known of its inputs. A fault is not for here:
    /// leave out what cannot be known.
    fn foresee(&self, _params: &Self::Params, _folder: &Path, _inputs: &Foreseen) -> Foreseen {
        Foreseen::new()
    }

    /// Why it would refuse its inputs or its parameters when it runs, as far as that follows from what is known of its
    /// inputs and from files that its parameters name: the same rules as [`Stage::run`]'s, before anything runs. Only what is
    /// certain is a fault. Files that are missing are not for here.
    fn unfit(&self, _params: &Self::Params, _folder: &Path, _ports: &Ports, _inputs: &Foreseen) -> Vec<ParamFault> {
        Vec::new()
    }

    /// The optional outputs that it will not leave with these parameters, each with the way to get it.
    fn omits(&self, _params: &Self::Params) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// What takes memory at its peak, or nothing if that cannot be known. `inputs` is what is known of its inputs.
    fn memory(&self, _params: &Self::Params, _inputs: &Foreseen) -> Vec<Memory> {
        Vec::new()
    }

    /// The parameter that is a horizon, if there is one.
    fn horizon(&self, _params: &Self::Params) -> Option<Horizon> {
        None
    }

    /// What it takes of the machine.
    fn resources(&self, _params: &Self::Params) -> Resources {
        Resources::default()
    }

    /// What its process must find in its environment, for libraries that look there while they load. What the user has
    /// set stands.
    fn environment(&self, _params: &Self::Params) -> Environment {
        Environment::new()
    }

    /// Does the work. Reads only through `context`, leaves every output that [`Description::outputs`] promises,
    /// polls [`StageContext::should_stop`] and checkpoints if it runs for more than a few seconds.
    ///
    /// # Errors
    /// A [`crate::Fault`] somewhere in the chain says whose fault it is; anything else counts as a bug.
    fn run(&self, params: Self::Params, context: &mut StageContext) -> anyhow::Result<()>;
}

/// A stage kind as the engine sees it: all but the work itself. Parameters are JSON.
pub trait Kind: Send + Sync {
    /// See [`Stage::describe`].
    fn describe(&self) -> Description;
    /// JSON Schema of `with`, by the parameter type: types, ranges, defaults, choices, what fields say of themselves.
    /// Nothing in it refers to anything outside it.
    fn schema(&self) -> Arc<Value>;
    /// The names of its parameters, in the order of their type.
    fn fields(&self) -> &'static [&'static str];
    /// What of `with` lies outside the ranges of the schema, whatever else is wrong with it.
    fn out_of_range(&self, with: &Value) -> Vec<ParamFault>;
    /// Checks `with` and gives it back with defaults filled in.
    ///
    /// # Errors
    /// A value that its type refuses; else everything that is wrong with it, [`Kind::out_of_range`] first.
    fn normalise(&self, with: &Value) -> Result<Value, Vec<ParamFault>>;
    /// See [`Stage::wired`]; `params` are normalised ones.
    fn wired(&self, params: &Value, ports: &Ports) -> Vec<ParamFault>;
    /// See [`Stage::assets`].
    ///
    /// # Errors
    /// As there.
    fn assets(&self, params: &Value, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>>;
    /// See [`Stage::lacks`].
    fn lacks(&self, params: &Value, ports: &Ports) -> Vec<ParamFault>;
    /// See [`Stage::foresee`].
    fn foresee(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Foreseen;
    /// See [`Stage::unfit`].
    fn unfit(&self, params: &Value, folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault>;
    /// See [`Stage::omits`].
    fn omits(&self, params: &Value) -> Vec<(&'static str, String)>;
    /// See [`Stage::memory`].
    fn memory(&self, params: &Value, inputs: &Foreseen) -> Vec<Memory>;
    /// See [`Stage::horizon`].
    fn horizon(&self, params: &Value) -> Option<Horizon>;
    /// See [`Stage::environment`].
    fn environment(&self, params: &Value) -> Environment;
    /// See [`Stage::resources`].
    fn resources(&self, params: &Value) -> Resources;

    /// The input port of this name.
    fn input(&self, name: &str) -> Option<&'static Input> {
        self.describe().inputs.iter().find(|p| p.name == name)
    }
    /// The output port of this name; `metrics` is on every kind.
    fn output(&self, name: &str) -> Option<&'static Output> {
        self.describe().outputs.iter().chain([&METRICS]).find(|p| p.name == name)
    }
    /// The inputs that a recipe must connect.
    fn required(&self) -> Vec<&'static Input> {
        self.describe().inputs.iter().filter(|p| matches!(p.arity, Arity::One | Arity::Many)).collect()
    }
}

/// A stage kind as its own process sees it. Parameters are JSON.
pub trait Worker: Send + Sync {
    /// See [`Stage::describe`].
    fn describe(&self) -> Description;
    /// See [`Stage::run`].
    ///
    /// # Errors
    /// As there.
    fn run(&self, params: &Value, context: &mut StageContext) -> anyhow::Result<()>;
}

/// The side output that every stage has which reports metrics: a JSON line each, `{"step", "name", "value"}`.
pub(crate) static METRICS: Output = Output::side("metrics", "metrics", "one JSON line per metric: step, name, value");

impl<S: Stage> Kind for S {
    fn describe(&self) -> Description {
        Stage::describe(self)
    }
    fn schema(&self) -> Arc<Value> {
        schema_of::<S>()
    }
    fn fields(&self) -> &'static [&'static str] {
        fields::<S::Params>()
    }
    fn out_of_range(&self, with: &Value) -> Vec<ParamFault> {
        let schema = schema_of::<S>();
        range::faults(&schema, &choice::written_out(&schema, with))
    }
    fn normalise(&self, with: &Value) -> Result<Value, Vec<ParamFault>> {
        let schema = schema_of::<S>();
        let with = match with {
            Value::Null => Value::Object(serde_json::Map::new()),
            with => choice::written_out(&schema, with),
        };
        let params: S::Params = serde_path_to_error::deserialize(&with).map_err(|e| {
            let path = e.path().to_string();
            let path = if path == "." { String::new() } else { path };
            vec![ParamFault::new(path, e.into_inner().to_string())]
        })?;
        let mut faults = range::faults(&schema, &with);
        faults.extend(self.check(&params));
        if !faults.is_empty() {
            return Err(faults);
        }
        serde_json::to_value(&params).map_err(|e| vec![ParamFault::new("", e.to_string())])
    }
    fn wired(&self, params: &Value, ports: &Ports) -> Vec<ParamFault> {
        typed::<S>(params).map(|p| Stage::wired(self, &p, ports)).unwrap_or_default()
    }
    fn assets(&self, params: &Value, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        Stage::assets(self, &typed::<S>(params).map_err(|e| vec![ParamFault::new("", e.to_string())])?, folder, memo)
    }
    fn lacks(&self, params: &Value, ports: &Ports) -> Vec<ParamFault> {
        typed::<S>(params).map(|p| Stage::lacks(self, &p, ports)).unwrap_or_default()
    }
    fn foresee(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Foreseen {
        typed::<S>(params).map(|p| Stage::foresee(self, &p, folder, inputs)).unwrap_or_default()
    }
    fn unfit(&self, params: &Value, folder: &Path, ports: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        typed::<S>(params).map(|p| Stage::unfit(self, &p, folder, ports, inputs)).unwrap_or_default()
    }
    fn omits(&self, params: &Value) -> Vec<(&'static str, String)> {
        typed::<S>(params).map(|p| Stage::omits(self, &p)).unwrap_or_default()
    }
    fn memory(&self, params: &Value, inputs: &Foreseen) -> Vec<Memory> {
        typed::<S>(params).map(|p| Stage::memory(self, &p, inputs)).unwrap_or_default()
    }
    fn horizon(&self, params: &Value) -> Option<Horizon> {
        Stage::horizon(self, &typed::<S>(params).ok()?)
    }
    fn environment(&self, params: &Value) -> Environment {
        typed::<S>(params).map(|p| Stage::environment(self, &p)).unwrap_or_default()
    }
    fn resources(&self, params: &Value) -> Resources {
        typed::<S>(params).map(|p| Stage::resources(self, &p)).unwrap_or_default()
    }
}

impl<S: Stage> Worker for S {
    fn describe(&self) -> Description {
        Stage::describe(self)
    }
    fn run(&self, params: &Value, context: &mut StageContext) -> anyhow::Result<()> {
        Stage::run(self, typed::<S>(params)?, context)
    }
}

fn typed<S: Stage>(params: &Value) -> Result<S::Params, serde_json::Error> {
    S::Params::deserialize(params)
}

/// The schema of a kind's parameters. It is made once: each stage of a recipe is held against it.
fn schema_of<S: Stage>() -> Arc<Value> {
    static MADE: Mutex<Option<HashMap<TypeId, Arc<Value>>>> = Mutex::new(None);
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let schema = made.get_or_insert_default().entry(TypeId::of::<S>()).or_insert_with(|| {
        let settings = SchemaSettings::draft2020_12().with(|s| {
            s.inline_subschemas = true;
            s.meta_schema = None;
        });
        Arc::new(settings.into_generator().into_root_schema_for::<S::Params>().to_value())
    });
    Arc::clone(schema)
}
