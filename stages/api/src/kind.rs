//! The stage trait, and the same with its parameter type erased: what the engine asks of it. What runs it is a function apart
//! ([`Worker`]), which a program that only plans does without, and without the libraries that it needs.

use crate::fields::fields;
use crate::mismatch;
use crate::param::ParamFault;
use crate::port::{Arity, Input, Member, OfSeed, Output, members};
use crate::resources::{Batches, Calls, Environment, Memory, Resources, Work};
use crate::warning::Doubt;
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
    /// micro-batch), and input ports of what is only looked at. They are not in the key.
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
    /// Its value: the steps of the stage or, where it may end before, the most that there can be. Nothing if it has none, so
    /// that the number of steps follows from what the stage reads.
    pub steps: Option<u64>,
    /// Further parameters that decide how long it runs, and nothing else: rules when to end.
    pub also: &'static [&'static str],
    /// The input ports that these rules read, and nothing else does.
    pub ports: &'static [&'static str],
    /// By what it ends, where its number of steps cannot be known before it runs: `rounds: by its budget`.
    pub ends: Option<String>,
}

impl Horizon {
    /// That many steps, as `param` says.
    #[must_use]
    pub const fn of(param: &'static str, steps: u64) -> Self {
        Self { param, steps: Some(steps), also: &[], ports: &[], ends: None }
    }
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Ports(BTreeMap<String, Connection>);

/// What a port reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Connection {
    /// An output, as recipes write it.
    pub source: String,
    /// What it is a seed of, if it is one of several that a matrix was collected from.
    pub of_seed: Option<OfSeed>,
}

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
        self.members(port).into_iter().map(|m| m.name).collect()
    }
    /// The same, with what each is a seed of.
    #[must_use]
    pub fn members(&self, port: &str) -> Vec<Member> {
        members(self.0.iter().map(|(place, to)| (place, &to.of_seed)), port)
    }
    /// What the port reads, as recipes write it.
    #[must_use]
    pub fn source(&self, port: &str) -> Option<&str> {
        self.0.get(port).map(|to| to.source.as_str())
    }
}

impl FromIterator<(String, Connection)> for Ports {
    fn from_iter<T: IntoIterator<Item = (String, Connection)>>(ports: T) -> Self {
        Self(ports.into_iter().collect())
    }
}

impl FromIterator<(String, String)> for Ports {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(ports: T) -> Self {
        ports.into_iter().map(|(port, source)| (port, Connection { source, of_seed: None })).collect()
    }
}

/// Versions of the code that a stage computes with, by the name of the part: a number that is raised by hand, or words with
/// a digest where a build has other sources than the committed ones. Part of the key.
pub type Code = BTreeMap<String, Value>;

/// One kind of stage. Implementations are unit-like values; all state is in the parameters and the context.
pub trait Stage: Send + Sync + 'static {
    /// The type of `with:`. Use `#[serde(deny_unknown_fields)]` and defaults; the defaults are filled in before
    /// the key is made, so that writing one out changes nothing. What its fields say of themselves in their doc
    /// comments goes into the schema of recipes and the reference. Every number has a lower and an upper bound there
    /// (`#[schemars(range(min = 1, max = 9))]`, `extend("exclusiveMinimum" = 0)`), which [`Kind::normalise`] holds.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// The static facts.
    fn describe(&self) -> Description;

    /// What earlier versions called this kind. A recipe that uses such a name is told the new one.
    fn formerly(&self) -> &'static [&'static str] {
        &[]
    }

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

    /// What is legal, but may mean that nothing is learned or that a score means less than it seems, as far as parameters,
    /// files on the disk and what is known of the inputs tell it. Asked before a run; a fault is not for here.
    fn doubts(&self, _params: &Self::Params, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        Vec::new()
    }

    /// What is known of its outputs before it runs; `inputs` is what is known of its inputs. A fault is not for here:
    /// leave out what cannot be known.
    fn foresee(&self, _params: &Self::Params, _folder: &Path, _inputs: &Foreseen) -> Foreseen {
        Foreseen::new()
    }

    /// What a user should see of the files that its parameters name before anything runs: how they were understood. A fault
    /// is not for here.
    fn remarks(&self, _params: &Self::Params, _folder: &Path) -> Vec<String> {
        Vec::new()
    }

    /// Versions of the code that it computes with, beside its own files, for which [`Description::semantics`] stands. `ports`
    /// are those that are connected.
    fn code(&self, _params: &Self::Params, _ports: &Ports) -> Code {
        Code::new()
    }

    /// How much it has to do, or nothing if that cannot be counted. `inputs` is what is known of its inputs; `folder` is the
    /// recipe's.
    fn work(&self, _params: &Self::Params, _folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        None
    }

    /// Why it would refuse its inputs or its parameters when it runs, as far as that follows from what is known of its
    /// inputs and from files that its parameters name: the same rules as those of the work itself, before anything runs. Only what is
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

    /// What several processes of it would share, or nothing if that cannot be known. `inputs` is what is known of its inputs.
    fn batches(&self, _params: &Self::Params, _inputs: &Foreseen) -> Option<Batches> {
        None
    }

    /// What it asks of servers, and how often. `inputs` is what is known of its inputs.
    fn calls(&self, _params: &Self::Params, _inputs: &Foreseen) -> Vec<Calls> {
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
}

/// A stage kind as the engine sees it: all but the work itself. Parameters are JSON.
pub trait Kind: Send + Sync {
    /// See [`Stage::describe`].
    fn describe(&self) -> Description;
    /// JSON Schema of `with`, by the parameter type: types, ranges, defaults, choices, what fields say of themselves.
    /// Nothing in it refers to anything outside it.
    fn schema(&self) -> Arc<Value>;
    /// See [`Stage::formerly`].
    fn formerly(&self) -> &'static [&'static str];
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
    ///
    /// # Errors
    /// Of this and all that follow: the parameters are none that [`Kind::normalise`] gave, or a bug of the kind.
    fn wired(&self, params: &Value, ports: &Ports) -> Result<Vec<ParamFault>, Unreadable>;
    /// See [`Stage::assets`].
    ///
    /// # Errors
    /// As there; parameters that cannot be read are a fault of `with` itself.
    fn assets(&self, params: &Value, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>>;
    /// See [`Stage::lacks`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn lacks(&self, params: &Value, ports: &Ports) -> Result<Vec<ParamFault>, Unreadable>;
    /// See [`Stage::doubts`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn doubts(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Vec<Doubt>, Unreadable>;
    /// See [`Stage::foresee`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn foresee(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Foreseen, Unreadable>;
    /// See [`Stage::unfit`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn unfit(
        &self,
        params: &Value,
        folder: &Path,
        ports: &Ports,
        inputs: &Foreseen,
    ) -> Result<Vec<ParamFault>, Unreadable>;
    /// See [`Stage::omits`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn omits(&self, params: &Value) -> Result<Vec<(&'static str, String)>, Unreadable>;
    /// See [`Stage::remarks`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn remarks(&self, params: &Value, folder: &Path) -> Result<Vec<String>, Unreadable>;
    /// See [`Stage::code`]; `params` are normalised ones.
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn code(&self, params: &Value, ports: &Ports) -> Result<Code, Unreadable>;
    /// See [`Stage::work`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn work(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Option<Work>, Unreadable>;
    /// See [`Stage::memory`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn memory(&self, params: &Value, inputs: &Foreseen) -> Result<Vec<Memory>, Unreadable>;
    /// See [`Stage::batches`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn batches(&self, params: &Value, inputs: &Foreseen) -> Result<Option<Batches>, Unreadable>;
    /// See [`Stage::calls`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn calls(&self, params: &Value, inputs: &Foreseen) -> Result<Vec<Calls>, Unreadable>;
    /// See [`Stage::horizon`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn horizon(&self, params: &Value) -> Result<Option<Horizon>, Unreadable>;
    /// See [`Stage::environment`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn environment(&self, params: &Value) -> Result<Environment, Unreadable>;
    /// See [`Stage::resources`].
    ///
    /// # Errors
    /// As for [`Kind::wired`].
    fn resources(&self, params: &Value) -> Result<Resources, Unreadable>;

    /// The input port of this name.
    fn input(&self, name: &str) -> Option<&'static Input> {
        self.describe().inputs.iter().find(|p| p.name == name)
    }
    /// The output port of this name; `metrics` is on every kind.
    fn output(&self, name: &str) -> Option<&'static Output> {
        self.describe().outputs.iter().chain([&METRICS]).find(|p| p.name == name)
    }
    /// The input port that earlier versions called so.
    fn former_input(&self, name: &str) -> Option<&'static Input> {
        self.describe().inputs.iter().find(|p| p.formerly.contains(&name))
    }
    /// The output port that earlier versions called so.
    fn former_output(&self, name: &str) -> Option<&'static Output> {
        self.describe().outputs.iter().find(|p| p.formerly.contains(&name))
    }
    /// The inputs that a recipe must connect.
    fn required(&self) -> Vec<&'static Input> {
        self.describe().inputs.iter().filter(|p| matches!(p.arity, Arity::One | Arity::Many)).collect()
    }
}

/// A stage as its own process sees it: a kind with the function that does its work. Parameters are JSON.
pub trait Worker: Send + Sync {
    /// See [`Stage::describe`].
    fn describe(&self) -> Description;
    /// Does the work: see [`crate::Workers::with`].
    ///
    /// # Errors
    /// What the work fails with; parameters that cannot be read.
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
    fn formerly(&self) -> &'static [&'static str] {
        Stage::formerly(self)
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
        let params: S::Params = mismatch::read(&with).map_err(|fault| vec![*fault])?;
        let mut faults = range::faults(&schema, &with);
        faults.extend(self.check(&params));
        if !faults.is_empty() {
            return Err(faults);
        }
        let kind = Stage::describe(self).kind;
        let unreadable = |why: String| vec![ParamFault::bug(Unreadable { kind, why }.to_string())];
        let normal = serde_json::to_value(&params).map_err(|e| unreadable(e.to_string()))?;
        // What could not be read again later would have no resources, no files and no end.
        read_again::<S>(&normal, kind).map_err(|e| unreadable(e.why))?;
        Ok(normal)
    }
    fn wired(&self, params: &Value, ports: &Ports) -> Result<Vec<ParamFault>, Unreadable> {
        Ok(Stage::wired(self, &typed(self, params)?, ports))
    }
    fn assets(&self, params: &Value, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let params = typed(self, params).map_err(|e| vec![ParamFault::bug(e.to_string())])?;
        Stage::assets(self, &params, folder, memo)
    }
    fn lacks(&self, params: &Value, ports: &Ports) -> Result<Vec<ParamFault>, Unreadable> {
        Ok(Stage::lacks(self, &typed(self, params)?, ports))
    }
    fn doubts(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Vec<Doubt>, Unreadable> {
        Ok(Stage::doubts(self, &typed(self, params)?, folder, inputs))
    }
    fn foresee(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Foreseen, Unreadable> {
        Ok(Stage::foresee(self, &typed(self, params)?, folder, inputs))
    }
    fn unfit(
        &self,
        params: &Value,
        folder: &Path,
        ports: &Ports,
        inputs: &Foreseen,
    ) -> Result<Vec<ParamFault>, Unreadable> {
        Ok(Stage::unfit(self, &typed(self, params)?, folder, ports, inputs))
    }
    fn omits(&self, params: &Value) -> Result<Vec<(&'static str, String)>, Unreadable> {
        Ok(Stage::omits(self, &typed(self, params)?))
    }
    fn code(&self, params: &Value, ports: &Ports) -> Result<Code, Unreadable> {
        Ok(Stage::code(self, &typed(self, params)?, ports))
    }
    fn work(&self, params: &Value, folder: &Path, inputs: &Foreseen) -> Result<Option<Work>, Unreadable> {
        Ok(Stage::work(self, &typed(self, params)?, folder, inputs))
    }
    fn remarks(&self, params: &Value, folder: &Path) -> Result<Vec<String>, Unreadable> {
        Ok(Stage::remarks(self, &typed(self, params)?, folder))
    }
    fn memory(&self, params: &Value, inputs: &Foreseen) -> Result<Vec<Memory>, Unreadable> {
        Ok(Stage::memory(self, &typed(self, params)?, inputs))
    }
    fn batches(&self, params: &Value, inputs: &Foreseen) -> Result<Option<Batches>, Unreadable> {
        Ok(Stage::batches(self, &typed(self, params)?, inputs))
    }
    fn calls(&self, params: &Value, inputs: &Foreseen) -> Result<Vec<Calls>, Unreadable> {
        Ok(Stage::calls(self, &typed(self, params)?, inputs))
    }
    fn horizon(&self, params: &Value) -> Result<Option<Horizon>, Unreadable> {
        Ok(Stage::horizon(self, &typed(self, params)?))
    }
    fn environment(&self, params: &Value) -> Result<Environment, Unreadable> {
        Ok(Stage::environment(self, &typed(self, params)?))
    }
    fn resources(&self, params: &Value) -> Result<Resources, Unreadable> {
        Ok(Stage::resources(self, &typed(self, params)?))
    }
}

/// Normalised parameters as their type.
pub(crate) fn typed<S: Stage>(stage: &S, params: &Value) -> Result<S::Params, Unreadable> {
    read_again::<S>(params, Stage::describe(stage).kind)
}

fn read_again<S: Stage>(params: &Value, kind: &'static str) -> Result<S::Params, Unreadable> {
    S::Params::deserialize(params).map_err(|e| Unreadable { kind, why: e.to_string() })
}

/// Parameters that a kind gave back as checked and that its own type does not take again. Always a bug: of the kind, or of
/// whoever changed them on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The kind.
    pub kind: &'static str,
    /// What its type says.
    pub why: String,
}

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, why } = self;
        write!(
            f,
            "stage kind `{kind}` cannot read its own parameters ({why}): a bug of ours, please report it with the recipe"
        )
    }
}

impl std::error::Error for Unreadable {}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::param::Cause;
    use serde::Deserialize;
    use serde_json::json;

    /// A kind with a bug: JSON has no number for its default.
    struct Boundless;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Params {
        limit: f64,
    }

    impl Default for Params {
        fn default() -> Self {
            Self { limit: f64::INFINITY }
        }
    }

    impl Stage for Boundless {
        type Params = Params;
        fn describe(&self) -> Description {
            Description {
                kind: "boundless",
                semantics: 1,
                about: "Nothing.",
                inputs: &[],
                outputs: &[],
                outside_key: &[],
                seeded: false,
                numeric: false,
            }
        }
        fn resources(&self, _: &Params) -> Resources {
            Resources { cpus: 7, gpu: true, several: false }
        }
    }

    #[test]
    fn parameters_that_cannot_be_read_again_are_a_bug_and_no_default() {
        let found = Boundless.normalise(&json!({})).unwrap_err();
        assert_eq!((found.len(), &found[0].cause), (1, &Cause::Bug));
        assert!(found[0].message.contains("a bug of ours"), "{}", found[0].message);
        let sound = Boundless.normalise(&json!({"limit": 2})).unwrap();
        assert_eq!(Kind::resources(&Boundless, &sound).unwrap().cpus, 7);
        let spoiled = json!({"limit": null});
        assert!(Kind::resources(&Boundless, &spoiled).unwrap_err().to_string().contains("`boundless`"));
        assert!(
            Kind::horizon(&Boundless, &spoiled).is_err()
                && Kind::lacks(&Boundless, &spoiled, &Ports::default()).is_err()
        );
        assert_eq!(Kind::assets(&Boundless, &spoiled, Path::new("."), &Memo::none()).unwrap_err()[0].cause, Cause::Bug);
    }
}
