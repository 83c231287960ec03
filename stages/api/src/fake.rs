//! Stage kinds that compute nothing of use, for the tests of the engine: they are quick, exact, and use everything
//! that a real kind can use.

mod judge;

use crate::warning::{self, Doubt};
use crate::{
    Asset, Code, Description, Environment, Fault, FaultClass, Foreseen, Horizon, Input, Memory, Output, ParamFault,
    Ports, Registry, Resources, Stage, StageContext, Work, Workers,
};
use anyhow::{Context as _, Result};
pub use judge::{FakeJudge, FakeLora};
use opdflow_cache::Memo;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// Adds all fake kinds.
#[must_use]
pub fn kinds(registry: Registry) -> Registry {
    registry
        .with(FakeSource)
        .with(FakeSum)
        .with(FakeTrain)
        .with(FakeFail)
        .with(FakeClock)
        .with(FakeReport)
        .with(FakeWarn)
        .with(FakeJudge)
        .with(FakeLora)
}

/// Adds what runs them.
#[must_use]
pub fn workers(workers: Workers) -> Workers {
    workers
        .with(FakeSource, source)
        .with(FakeSum, sum)
        .with(FakeTrain, train)
        .with(FakeFail, fail)
        .with(FakeClock, clock)
        .with(FakeReport, report)
        .with(FakeWarn, warn)
        .with(FakeJudge, judge::judge)
        .with(FakeLora, judge::adapter)
}

fn sleep(seconds: f64) {
    if let Ok(time) = Duration::try_from_secs_f64(seconds) {
        std::thread::sleep(time);
    }
}

fn read(path: &Path) -> Result<i64> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    text.trim().parse().with_context(|| format!("{} holds no whole number", path.display()))
}

/// A number out of nothing, or out of a file.
pub struct FakeSource;

/// Parameters of [`FakeSource`].
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SourceParams {
    /// The number.
    value: i64,
    /// A file that holds a number to add.
    file: Option<String>,
    /// A file that must be there when it runs.
    tool: Option<String>,
    /// A variable of its environment, which it asks to be 40, that holds a number to add.
    #[serde(skip_serializing_if = "Option::is_none")]
    variable: Option<String>,
    /// Bytes of memory that it says it will take.
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<u64>,
    /// How long it sleeps.
    seconds: f64,
}

impl Stage for FakeSource {
    type Params = SourceParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_source",
            semantics: 1,
            about: "Leaves a whole number.",
            inputs: &[],
            outputs: const { &[Output::new("value", "value", "the number")] },
            outside_key: &["file", "tool", "memory", "seconds"],
            seeded: false,
            numeric: false,
        }
    }
    fn assets(&self, params: &SourceParams, folder: &Path, memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let Some(file) = &params.file else { return Ok(Vec::new()) };
        let path = folder.join(file);
        let digest = memo
            .digest(&path)
            .map_err(|e| vec![ParamFault::new("file", e.to_string()).help("name a file that is there")])?;
        Ok(vec![Asset { name: "file".into(), digest }])
    }
    /// The version of its code is that of the variable `OPDFLOW_FAKE_CODE`, if it is set: a number, or other words.
    fn code(&self, _params: &SourceParams, _ports: &Ports) -> Code {
        let version = std::env::var("OPDFLOW_FAKE_CODE").ok();
        let value = version.map(|v| v.parse::<u64>().map_or_else(|_| v.into(), Into::into));
        value.map(|v| ("fake.numbers".to_owned(), v)).into_iter().collect()
    }
    fn foresee(&self, params: &SourceParams, _folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let known = params.file.is_none() && params.variable.is_none();
        known.then(|| ("value".to_owned(), params.value.into())).into_iter().collect()
    }
    fn memory(&self, params: &SourceParams, _inputs: &Foreseen) -> Vec<Memory> {
        params.memory.map(|bytes| Memory::of("numbers", bytes)).into_iter().collect()
    }
    fn environment(&self, params: &SourceParams) -> Environment {
        params.variable.iter().map(|name| (name.clone(), "40".to_owned())).collect()
    }
    fn lacks(&self, params: &SourceParams, _ports: &Ports) -> Vec<ParamFault> {
        match params.tool.as_deref().filter(|tool| !Path::new(tool).exists()) {
            None => vec![],
            Some(tool) => vec![ParamFault::new("tool", format!("{tool} is not there")).help("put it there")],
        }
    }
}

fn source(params: SourceParams, context: &mut StageContext) -> Result<()> {
    sleep(params.seconds);
    let found = params.variable.and_then(|name| std::env::var(name).ok());
    let found: i64 = found.map_or(Ok(0), |v| v.parse()).context("the variable holds no number")?;
    let more = params.file.map_or(Ok(0), |f| read(&context.job().folder.join(f)))?;
    std::fs::write(context.output("value"), (params.value.wrapping_add(more).wrapping_add(found)).to_string())?;
    Ok(())
}

/// The sum of numbers.
pub struct FakeSum;

/// Parameters of [`FakeSum`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SumParams {
    /// Added to the sum.
    plus: i64,
    /// The sum is multiplied by this.
    #[schemars(extend("x-added" = 1))]
    times: i64,
    /// The sum is taken modulo this.
    #[schemars(extend("x-formerly" = ["remainder", "/options/modulo"]))]
    modulo: Option<i64>,
    /// The term of this name is taken off instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    minus: Option<String>,
    /// How long it sleeps.
    seconds: f64,
}

impl Default for SumParams {
    fn default() -> Self {
        Self { plus: 0, times: 1, modulo: None, minus: None, seconds: 0.0 }
    }
}

/// Larger terms are refused.
const MOST: i64 = 1_000_000_000_000;

impl Stage for FakeSum {
    type Params = SumParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_sum",
            semantics: 1,
            about: "Adds whole numbers.",
            inputs: const { &[Input::many("terms", &["value"], "the numbers").formerly(&["summands"])] },
            outputs: const {
                &[
                    Output::new("value", "value", "the sum").formerly(&["total"]),
                    Output::side("log", "text", "the terms, one a line"),
                ]
            },
            outside_key: &["seconds"],
            seeded: false,
            numeric: false,
        }
    }
    fn formerly(&self) -> &'static [&'static str] {
        &["fake_add"]
    }
    fn check(&self, params: &SumParams) -> Vec<ParamFault> {
        let fits = params.modulo.is_none_or(|m| m > 0);
        if fits {
            vec![]
        } else {
            vec![ParamFault::new("modulo", "it must be positive").help("leave `modulo` out for the plain sum")]
        }
    }
    fn wired(&self, params: &SumParams, ports: &Ports) -> Vec<ParamFault> {
        match params.minus.as_deref().filter(|name| !ports.contains(&format!("terms.{name}"))) {
            None => vec![],
            Some(name) => vec![
                ParamFault::new("minus", format!("no term is named `{name}`"))
                    .help(format!("connect it: `needs: {{terms: {{{name}: ...}}}}`")),
            ],
        }
    }
    fn unfit(&self, _: &SumParams, _: &Path, _: &Ports, inputs: &Foreseen) -> Vec<ParamFault> {
        let large = inputs.iter().filter(|(_, term)| term.as_i64().is_some_and(|t| t > MOST));
        let fault = |port: &String| ParamFault::of_port(port, format!("the term is larger than {MOST}"));
        large.map(|(port, _)| fault(port).help("connect a smaller one")).collect()
    }
}

fn sum(params: SumParams, context: &mut StageContext) -> Result<()> {
    sleep(params.seconds);
    let (mut sum, mut log) = (params.plus, String::new());
    for name in context.names("terms") {
        let term = read(&context.input(&format!("terms.{name}"))?)?;
        if term > MOST {
            return Err(Fault::user(format!("`{name}` is larger than {MOST}")).into());
        }
        log.push_str(&format!("{name} {term}\n"));
        let less = params.minus.as_ref() == Some(&name);
        sum = if less { sum.wrapping_sub(term) } else { sum.wrapping_add(term) };
    }
    let sum = sum.wrapping_mul(params.times);
    let sum = params.modulo.map_or(sum, |m| sum.rem_euclid(m));
    std::fs::write(context.output("value"), sum.to_string())?;
    std::fs::write(context.output("log"), log)?;
    Ok(())
}

/// Something long that goes on from where it was stopped.
pub struct FakeTrain;

/// Parameters of [`FakeTrain`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainParams {
    /// Steps.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    iterations: u64,
    /// How it takes a step.
    #[serde(default)]
    algorithm: Algorithm,
    /// How long each step sleeps.
    #[serde(default)]
    step_seconds: f64,
    /// Steps between checkpoints.
    #[serde(default = "one")]
    checkpoint_every: u64,
    /// A step at which it gives up.
    #[serde(default)]
    fail_at: Option<u64>,
}

/// How [`FakeTrain`] takes a step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum Algorithm {
    /// By a fixed rate.
    Plain {
        /// The rate.
        rate: f64,
    },
    /// By a rate and noise.
    #[schemars(extend("x-formerly" = ["loud"]))]
    Noisy {
        /// The rate.
        rate: f64,
        /// How much noise.
        #[schemars(extend("x-formerly" = ["volume"]))]
        #[schemars(range(min = 0.0, max = 1.0))]
        noise: f64,
    },
}

impl Default for Algorithm {
    fn default() -> Self {
        Self::Plain { rate: 0.5 }
    }
}

fn one() -> u64 {
    1
}

impl TrainParams {
    /// The state after one more step. It hangs on all that the key holds apart from the horizon.
    fn step(&self, state: u64, seed: u64, step: u64) -> Result<u64> {
        let algorithm = serde_json::to_string(&self.algorithm)?;
        let digest = blake3::hash(format!("{state} {seed} {step} {algorithm}").as_bytes());
        Ok(digest.as_bytes().iter().take(8).fold(0, |n, b| n << 8 | u64::from(*b)))
    }
}

impl Stage for FakeTrain {
    type Params = TrainParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_train",
            semantics: 1,
            about: "Takes steps, saves each, and goes on from the last.",
            inputs: const { &[Input::optional("base", &["value"], "where to start")] },
            outputs: const {
                &[
                    Output::new("model", "model", "the state after the last step").result(),
                    Output::new("candidates", "candidates", "the state after each quarter of the way"),
                ]
            },
            outside_key: &["step_seconds", "checkpoint_every", "fail_at"],
            seeded: true,
            numeric: true,
        }
    }
    fn horizon(&self, params: &TrainParams) -> Option<Horizon> {
        Some(Horizon::of("iterations", params.iterations))
    }
    /// A noisy step counts as a thousand plain ones.
    fn work(&self, params: &TrainParams, _folder: &Path, _inputs: &Foreseen) -> Option<Work> {
        let each = if matches!(params.algorithm, Algorithm::Plain { .. }) { 1e9 } else { 1e12 };
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        Some(Work { operations: params.iterations as f64 * each, bytes: None })
    }
    fn resources(&self, _params: &TrainParams) -> Resources {
        Resources { cpus: 1, gpu: true, several: true }
    }
}

fn train(params: TrainParams, context: &mut StageContext) -> Result<()> {
    let total = params.iterations;
    let base = context.maybe_input("base")?.map_or(Ok(0), |p| read(&p))?;
    let (mut done, mut state) = match context.resume(total)? {
        Some(saved) => {
            let text = std::fs::read_to_string(saved.path.join("state"))?;
            (saved.step, text.trim().parse().context("the state in the checkpoint")?)
        }
        None => (0, base.cast_unsigned()),
    };
    // What the candidates are must not hang on where a run was stopped: they are computed from the start.
    while done < total {
        if context.should_stop() {
            save(context, done, state)?;
            return Err(context.stopped(done));
        }
        if params.fail_at == Some(done + 1) {
            return Err(Fault::not_finite(format!("the loss is NaN at step {}", done + 1))
                .help("take a smaller rate")
                .into());
        }
        sleep(params.step_seconds);
        done += 1;
        state = params.step(state, context.job().seed, done)?;
        #[expect(clippy::cast_precision_loss, reason = "only a number to look at")]
        let loss = (state % 1000) as f64 / 1000.0;
        context.metric(done, "loss", loss)?;
        context.progress(done, total, &format!("loss {loss:.3}"));
        if done % params.checkpoint_every.max(1) == 0 && done < total {
            save(context, done, state)?;
        }
    }
    let folder = context.output("candidates");
    std::fs::create_dir_all(&folder)?;
    let mut candidate = base.cast_unsigned();
    for step in 1..=total {
        candidate = params.step(candidate, context.job().seed, step)?;
        if step % (total / 4).max(1) == 0 {
            std::fs::write(folder.join(format!("step-{step:06}")), candidate.to_string())?;
        }
    }
    std::fs::write(context.output("model"), state.to_string())?;
    Ok(())
}

fn save(context: &mut StageContext, step: u64, state: u64) -> Result<()> {
    context.checkpoint(step, |folder| Ok(std::fs::write(folder.join("state"), state.to_string())?))
}

/// Fails in the way that is asked for.
pub struct FakeFail;

/// Parameters of [`FakeFail`].
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailParams {
    /// The class of the failure.
    class: FaultClass,
    /// What it says.
    message: String,
    /// Panic instead of returning an error.
    panic: bool,
    /// How long it sleeps.
    seconds: f64,
}

impl Default for FailParams {
    fn default() -> Self {
        Self { class: FaultClass::User, message: "failed as asked".into(), panic: false, seconds: 0.0 }
    }
}

impl Stage for FakeFail {
    type Params = FailParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_fail",
            semantics: 1,
            about: "Fails.",
            inputs: const { &[Input::any("terms", &[], "anything")] },
            outputs: const { &[Output::new("value", "value", "never there")] },
            outside_key: &["seconds"],
            seeded: false,
            numeric: false,
        }
    }
}

fn fail(params: FailParams, _context: &mut StageContext) -> Result<()> {
    sleep(params.seconds);
    assert!(!params.panic, "{}", params.message);
    Err(Fault { class: params.class, message: params.message, help: None }.into())
}

/// What no real kind may be: its result hangs on something outside its key.
pub struct FakeClock;

/// Parameters of [`FakeClock`]: none.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockParams {}

impl Stage for FakeClock {
    type Params = ClockParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_clock",
            semantics: 1,
            about: "Leaves what stands in the file `clock` beside the recipe, which its key knows nothing of.",
            inputs: &[],
            outputs: const { &[Output::new("value", "value", "the number")] },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }
}

fn clock(_params: ClockParams, context: &mut StageContext) -> Result<()> {
    let now = read(&context.job().folder.join("clock"))?;
    Ok(std::fs::write(context.output("value"), now.to_string())?)
}

/// A text about whatever it is given: the end of a recipe.
pub struct FakeReport;

/// Parameters of [`FakeReport`].
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReportParams {
    /// The first line.
    title: String,
}

impl Stage for FakeReport {
    type Params = ReportParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_report",
            semantics: 1,
            about: "Says what it was given.",
            inputs: const { &[Input::any("parts", &[], "anything")] },
            outputs: const {
                &[
                    Output::new("report", "report", "a line for each part").result().folder(),
                    Output::new("markdown", "markdown", "the same, for the terminal").result().file("md"),
                ]
            },
            outside_key: &[],
            seeded: false,
            numeric: false,
        }
    }
}

fn report(params: ReportParams, context: &mut StageContext) -> Result<()> {
    let mut text = format!("{}\n", params.title);
    for name in context.names("parts") {
        let digest = context.object(&format!("parts.{name}")).map(|o| o.digest.short()).unwrap_or_default();
        text.push_str(&format!("{name} {digest}\n"));
    }
    std::fs::write(context.output("report"), &text)?;
    std::fs::write(context.output("markdown"), text)?;
    Ok(())
}

/// Warns of what it is told to.
pub struct FakeWarn;

/// Parameters of [`FakeWarn`].
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WarnParams {
    /// Steps, each saved.
    rounds: u64,
    /// The rounds, from 0, in which it warns once more.
    flat: Vec<u64>,
    /// It warns of so many things as it begins.
    zeros: usize,
    /// It is doubted so many times before it runs.
    doubt: usize,
    /// How long each step sleeps.
    step_seconds: f64,
}

impl Stage for FakeWarn {
    type Params = WarnParams;
    fn describe(&self) -> Description {
        Description {
            kind: "fake_warn",
            semantics: 1,
            about: "Warns, and leaves the number of its rounds.",
            inputs: const { &[Input::any("terms", &[], "anything")] },
            outputs: const { &[Output::new("value", "value", "the rounds")] },
            outside_key: &["step_seconds", "doubt"],
            seeded: false,
            numeric: false,
        }
    }
    fn horizon(&self, params: &WarnParams) -> Option<Horizon> {
        Some(Horizon::of("rounds", params.rounds))
    }
    fn doubts(&self, params: &WarnParams, _folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        let doubt = Doubt::new(warning::NO_WEIGHT, "doubt", "a thing is doubtful", "take it out");
        if params.doubt == 0 { Vec::new() } else { vec![doubt.times(params.doubt)] }
    }
}

fn warn(params: WarnParams, context: &mut StageContext) -> Result<()> {
    if params.zeros > 0 {
        context.warn(warning::NO_CHANGE, "a thing is zero", params.zeros);
    }
    let begin = context.resume(params.rounds)?.map_or(0, |saved| saved.step);
    for round in begin..params.rounds {
        if context.should_stop() {
            return Err(context.stopped(round));
        }
        sleep(params.step_seconds);
        if params.flat.contains(&round) {
            context.warn_again(warning::FLAT, "a round was flat");
        }
        context.checkpoint(round + 1, |_| Ok(()))?;
        context.progress(round + 1, params.rounds, "");
    }
    Ok(std::fs::write(context.output("value"), params.rounds.to_string())?)
}
