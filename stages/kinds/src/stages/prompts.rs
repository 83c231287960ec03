//! `prompts`: sets of prompts of the miniature world, or a user's own.

use crate::code;
use crate::prompt::prompt_doubts::File;
use crate::prompt::prompt_set::PromptSet;
use crate::prompt::provenance::Source;
use crate::prompt::record::{Entry, LARGEST, LINES, Record};
use crate::prompt::{prompt_doubts, provenance, record};
use anyhow::Result;
use opdflow_api::cache::{Digest, Memo};
use opdflow_api::port::Output;
use opdflow_api::{Asset, Code, Description, Doubt, Fault, Foreseen, ParamFault, Ports, Stage};
use opdflow_io::{file, terminal, text};
use opdflow_miniature::{Family, Mix, Split};
use opdflow_spec::rng::{Choices, derive};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The stage kind.
pub struct Prompts;

/// A task of the miniature world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum World {
    /// Scenes of shapes with GenEval's metadata.
    Geneval,
    /// Words to be written.
    Ocr,
    /// Landscapes.
    Scene,
    /// All families in equal parts: general prompts, as for the reward `looks`.
    Mix,
}

/// A user's own prompts: paths are relative to the recipe.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Files {
    /// Prompts to train on.
    pub train: Option<PathBuf>,
    /// Prompts to choose checkpoints by.
    pub validation: Option<PathBuf>,
    /// Prompts to evaluate on.
    pub test: Option<PathBuf>,
}

impl Files {
    /// The sets with their files.
    #[must_use]
    pub fn each(&self) -> [(&'static str, Option<&PathBuf>); 3] {
        [("train", self.train.as_ref()), ("validation", self.validation.as_ref()), ("test", self.test.as_ref())]
    }
}

/// How many prompts are drawn out of a user's files. In the key only when it is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Draw {
    /// How many to train on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub train: Option<usize>,
    /// How many to choose checkpoints by.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub validation: Option<usize>,
    /// How many to evaluate on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub test: Option<usize>,
}

impl Draw {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
    /// How many of the set of this name.
    fn of(&self, set: &str) -> Option<usize> {
        match set {
            "train" => self.train,
            "validation" => self.validation,
            _ => self.test,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs, reason = "the schema has the words of a parameter's own type")]
pub struct Params {
    /// Family of the miniature world.
    pub task: Option<World>,
    /// With `task: mix`: the families with their weights, such as `scene:4,geneval:1,ocr:1`; equal parts if absent.
    pub mix: Option<String>,
    /// Instead of `task`: your own files; a line is plain words, GenEval's JSON, or JSON with `text` or `prompt`, `target`,
    /// `geneval`.
    pub files: Files,
    /// With `files`: how many are drawn out of each, such as `{train: 2048, validation: 96}`; all in the order of the file if absent. Without a file of their own,
    /// validation prompts are drawn out of the training file, and those are not trained on.
    #[serde(skip_serializing_if = "Draw::is_nothing")]
    pub draw: Draw,
    /// Number of training prompts drawn from the world; the sets share no text where the space of texts is large enough.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub train: usize,
    /// Number of validation prompts.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub validation: usize,
    /// Number of test prompts.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub test: usize,
    /// Seed of the draw; apart from the recipe's, so that runs with several seeds are judged on the same prompts.
    #[schemars(range(min = 0, max = u64::MAX))]
    pub seed: u64,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            task: None,
            mix: None,
            files: Files::default(),
            draw: Draw::default(),
            train: 4096,
            validation: 96,
            test: 256,
            seed: 0,
        }
    }
}

impl Stage for Prompts {
    type Params = Params;

    fn describe(&self) -> Description {
        Description {
            kind: "prompts",
            semantics: 2,
            about: "Prompts for training, for choosing checkpoints and for evaluation: drawn from the miniature world, or a user's own files.",
            inputs: &[],
            outputs: const {
                &[
                    Output::new("train", "prompts", "prompts to train on").maybe(),
                    Output::new("validation", "prompts", "prompts to choose a checkpoint by").maybe(),
                    Output::new("test", "prompts", "held-out prompts").maybe(),
                ]
            },
            outside_key: &["files"],
            seeded: false,
            numeric: false,
        }
    }

    fn check(&self, params: &Params) -> Vec<ParamFault> {
        if let Some(Err(e)) = params.mix.as_deref().map(str::parse::<Mix>) {
            return vec![ParamFault::new("mix", e.to_string())];
        }
        let own = params.files.each().iter().any(|(_, f)| f.is_some());
        match (params.task, own) {
            (Some(_), true) => vec![ParamFault::new("task", "`task` and `files` exclude each other")],
            (None, false) => vec![
                ParamFault::new("", "neither `task` nor `files` is given")
                    .help("write `task: geneval`, or `files: {train: prompts.txt}`"),
            ],
            (task, _) if params.mix.is_some() && task != Some(World::Mix) => {
                vec![ParamFault::new("mix", "`mix` goes with `task: mix` alone")]
            }
            (Some(_), false) if !params.draw.is_nothing() => {
                vec![
                    ParamFault::new("draw", "`draw` goes with `files` alone")
                        .help("the sizes of sets drawn from the world are `train`, `validation` and `test`"),
                ]
            }
            (None, true) => SETS
                .into_iter()
                .filter(|set| params.draw.of(set).is_some() && params.source(set).is_none())
                .map(|set| ParamFault::new(format!("draw.{set}"), format!("there is no file to draw `{set}` from")))
                .collect(),
            (Some(_), false) if params.train == 0 && params.validation == 0 && params.test == 0 => {
                vec![ParamFault::new("train", "all three sets are empty")]
            }
            _ => Vec::new(),
        }
    }

    fn code(&self, params: &Params, _ports: &Ports) -> Code {
        let world: &[&str] = if params.task.is_some() { &["miniature.prompts"] } else { &[] };
        code::of("prompts", &[&["models.random", "prompts.read", "stages.files", "miniature.subjects"], world])
    }

    fn assets(&self, params: &Params, folder: &Path, _memo: &Memo) -> Result<Vec<Asset>, Vec<ParamFault>> {
        let (mut assets, mut faults, mut sets) = (Vec::new(), Vec::new(), Sets::new());
        for (name, file) in params.files.each() {
            let Some(file) = file else { continue };
            // The lines too: a run of days should not end at a mistyped prompt of its last evaluation.
            match read(&folder.join(file)) {
                Ok((entries, digest)) => {
                    assets.push(Asset { name: format!("prompts.{name}"), digest });
                    faults.extend(params.too_few(name, entries.len()));
                    sets.push((name, records(entries)));
                }
                Err(unread) => faults.extend(unread.faults(&format!("files.{name}"))),
            }
        }
        if faults.is_empty() {
            faults.extend(params.short(&draw(sets, &params.draw, params.seed)));
        }
        if faults.is_empty() { Ok(assets) } else { Err(faults) }
    }

    /// What rewards will find in the prompts of each set. Of a file every line counts: any of them may be drawn.
    fn foresee(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Foreseen {
        let of = |set: &str| -> Option<PromptSet> {
            if let Some(task) = params.task {
                let (_, count, split) = params.of_world(set)?;
                let first = params.drawn(task, count.min(FORESEEN), split).ok()?;
                let place = |(i, record)| (format!("prompt {} of the set", i + 1), record);
                return Some(PromptSet::of(count, &first.into_iter().enumerate().map(place).collect::<Vec<_>>()));
            }
            let path = folder.join(params.source(set)?);
            let lines = read(&path).ok()?.0;
            let place = |Entry { line, record }| (format!("{}:{line}", path.display()), record);
            let lines: Vec<(String, Record)> = lines.into_iter().map(place).collect();
            let count = params.draw.of(set).unwrap_or(lines.len());
            Some(PromptSet::of(lines.len(), &lines).drawn(count as u64))
        };
        let known = |set: &str| -> Option<(String, serde_json::Value)> {
            let known = serde_json::to_value(of(set)?).ok()?;
            if params.task.is_some() {
                return Some((set.to_owned(), known));
            }
            let values = serde_json::to_value(params).ok()?;
            let source = Source { folder: folder.to_owned(), params: values, set: set.to_owned() };
            Some((set.to_owned(), provenance::from(known, &source)))
        };
        SETS.into_iter().filter(|set| params.leaves(set)).filter_map(known).collect()
    }

    fn omits(&self, params: &Params) -> Vec<(&'static str, String)> {
        let way = |set: &str| match params.task {
            Some(_) => format!("give the stage `{set}: N` with N above 0"),
            None if params.draw.of(set) == Some(0) => format!("have some drawn: `draw: {{{set}: N}}` with N above 0"),
            None => format!("give the stage a file for it: `files: {{{set}: PATH}}`"),
        };
        SETS.into_iter().filter(|set| !params.leaves(set)).map(|set| (set, way(set))).collect()
    }

    fn doubts(&self, params: &Params, folder: &Path, _inputs: &Foreseen) -> Vec<Doubt> {
        let of = |(set, path): (&'static str, Option<&PathBuf>)| -> Option<File> {
            let path = folder.join(path?);
            let (entries, digest) = read(&path).ok()?;
            let text = file::read_text(&path, LARGEST).ok()?;
            Some(File { set, digest, text, records: records(entries) })
        };
        let files: Vec<File> = params.files.each().into_iter().filter_map(of).collect();
        let sets = files.iter().map(|f| (f.set, f.records.clone())).collect();
        prompt_doubts::doubts(&files, &draw(sets, &params.draw, params.seed))
    }

    /// How each file was understood, and texts that several of them hold.
    fn remarks(&self, params: &Params, folder: &Path) -> Vec<String> {
        let mut sets: Vec<(&str, &PathBuf, Vec<Entry>)> = Vec::new();
        for (set, file) in params.files.each() {
            let Some(file) = file else { continue };
            // What cannot be read is a fault, and told as one.
            if let Ok((entries, _)) = read(&folder.join(file)) {
                sets.push((set, file, entries));
            }
        }
        let mut said: Vec<String> = sets.iter().map(|(set, file, entries)| about(set, file, entries)).collect();
        for (i, (a, _, one)) in sets.iter().enumerate() {
            for (b, _, other) in &sets[i + 1..] {
                let texts =
                    |entries: &'_ [Entry]| entries.iter().map(|e| e.record.text.clone()).collect::<BTreeSet<_>>();
                let shared = texts(one).intersection(&texts(other)).count();
                if shared > 0 {
                    said.push(format!("{a} and {b} share {shared} texts"));
                }
            }
        }
        said
    }
}

/// The sets, which are the outputs.
pub const SETS: [&str; 3] = ["train", "validation", "test"];

/// Prompts of a set of the world that are drawn to see of what forms they are.
const FORESEEN: usize = 128;

impl Params {
    /// Whether there will be a set of this name.
    pub fn leaves(&self, set: &str) -> bool {
        if self.task.is_some() {
            return self.of_world(set).is_some_and(|(_, count, _)| count > 0);
        }
        if self.draw.of(set) == Some(0) {
            return false;
        }
        let own = self.files.each().into_iter().any(|(name, file)| name == set && file.is_some());
        own || set == "validation" && self.draw.validation.is_some() && self.files.train.is_some()
    }

    /// A set of the world: its output, its size and its split.
    pub fn of_world(&self, set: &str) -> Option<(&'static str, usize, Split)> {
        let sets = [
            ("train", self.train, Split::Train),
            ("validation", self.validation, Split::Validation),
            ("test", self.test, Split::Test),
        ];
        sets.into_iter().find(|(name, ..)| *name == set)
    }

    /// The first `count` prompts of a set of the world.
    pub fn drawn(&self, task: World, count: usize, split: Split) -> Result<Vec<Record>> {
        let mix = match task {
            World::Geneval => Mix::from(Family::Geneval),
            World::Ocr => Mix::from(Family::Ocr),
            World::Scene => Mix::from(Family::Scene),
            World::Mix => self.mix.as_deref().map_or(Ok(Mix::all()), str::parse)?,
        };
        let record = |p: opdflow_miniature::Prompt| Record {
            text: p.text,
            target: p.target,
            geneval: p.geneval,
            questions: Vec::new(),
        };
        Ok(opdflow_miniature::prompts(&mix, count, self.seed, split).into_iter().map(record).collect())
    }

    /// The file that a set comes from.
    fn source(&self, set: &str) -> Option<&PathBuf> {
        let own = self.files.each().into_iter().find(|(name, _)| *name == set).and_then(|(_, file)| file);
        own.or(if set == "validation" { self.files.train.as_ref() } else { None })
    }

    /// The fault of sets that came out smaller than they were asked for: prompts that are drawn for validation are not
    /// trained on, however often they stand in the file.
    pub fn short(&self, drawn: &Sets) -> Option<ParamFault> {
        let (set, records) = drawn.iter().find(|(set, records)| records.len() < self.draw.of(set).unwrap_or(1))?;
        let (asked, left) = (self.draw.of(set), records.len());
        let wanted = asked.map_or_else(|| "some are needed".to_owned(), |n| format!("{n} are asked for"));
        let message = format!(
            "{left} different prompts are left for `{set}`, where {wanted}: lines repeat each other, and what is drawn for validation is not trained on"
        );
        let fault = ParamFault::new(if asked.is_some() { format!("draw.{set}") } else { "draw".to_owned() }, message);
        Some(fault.help("take the repeated lines out of the file, ask for fewer, or name a file for `validation`"))
    }

    /// The fault of asking a file of `there` prompts for more.
    fn too_few(&self, set: &str, there: usize) -> Option<ParamFault> {
        let held = match set {
            "train" if self.files.validation.is_none() => self.draw.validation.unwrap_or(0),
            _ => 0,
        };
        // Something must be left to train on.
        let own = self.draw.of(set);
        let asked = own.unwrap_or(1) + held;
        (asked > there).then(|| {
            let message = format!("{asked} prompts are to be drawn out of a file that holds {there}");
            ParamFault::new(format!("draw.{}", if own.is_some() { set } else { "validation" }), message)
        })
    }
}

/// The words of the prompts of a set that comes from files; none where they cannot be read.
#[must_use]
pub fn texts(source: &Source) -> Vec<String> {
    let Ok(params) = serde_json::from_value::<Params>(source.params.clone()) else { return Vec::new() };
    let mut sets = Sets::new();
    for (set, file) in params.files.each() {
        match file.map(|file| read(&source.folder.join(file))) {
            None => {}
            Some(Ok((entries, _))) => sets.push((set, records(entries))),
            Some(Err(_)) => return Vec::new(),
        }
    }
    let drawn = draw(sets, &params.draw, params.seed).into_iter().filter(|(set, _)| *set == source.set);
    drawn.flat_map(|(_, records)| records).map(|r| r.text).collect()
}

/// Why a file of prompts cannot be read.
#[derive(Debug)]
pub enum Unread {
    /// The file itself: there is none, it is no text.
    File(String),
    /// Lines that are no prompts.
    Lines(Vec<String>),
}

impl Unread {
    /// As faults of the parameter that names the file.
    fn faults(self, path: &str) -> Vec<ParamFault> {
        match self {
            Self::File(why) => vec![ParamFault::new(path, why).help("paths are relative to the recipe's folder")],
            Self::Lines(all) => all.into_iter().map(|why| ParamFault::new(path, why).help(LINES)).collect(),
        }
    }
}

impl From<Unread> for Fault {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::File(why) => Self::user(why),
            Unread::Lines(all) => Self::user(all.join("\n")).help(LINES),
        }
    }
}

/// The prompts of a user's file with their lines, and the digest of the very bytes that they were read from.
///
/// # Errors
/// It is no regular file, or no text; every line that is no prompt.
pub fn read(path: &Path) -> Result<(Vec<Entry>, Digest), Unread> {
    let unread = |e: &dyn std::fmt::Display| Unread::File(format!("reading prompts from {}: {e}", path.display()));
    let bytes = file::read(path, LARGEST).map_err(|e| unread(&e))?;
    let digest = Digest::of(&bytes);
    let text = text::decode(bytes).map_err(|e| unread(&e))?;
    Ok((record::entries(path, &text).map_err(Unread::Lines)?, digest))
}

/// The prompts of entries.
#[must_use]
pub fn records(entries: Vec<Entry>) -> Vec<Record> {
    entries.into_iter().map(|e| e.record).collect()
}

/// Prompts by output.
pub type Sets = Vec<(&'static str, Vec<Record>)>;

/// What was read of a user's file, for the log: how many prompts, which targets were found, what repeats.
#[must_use]
pub fn about(set: &str, file: &Path, entries: &[Entry]) -> String {
    let mut text = format!("{set}: {} prompts of {}", entries.len(), file.display());
    let found: Vec<&Entry> = entries.iter().filter(|e| e.target().is_some()).collect();
    if let Some(first) = found.first() {
        let target = terminal::cut(first.target().unwrap_or_default(), 40);
        text += &format!("; {} have a target, such as `{target}` in line {}", found.len(), first.line);
        let without: Vec<String> =
            entries.iter().filter(|e| e.target().is_none()).map(|e| e.line.to_string()).take(10).collect();
        if !without.is_empty() {
            text += &format!(", and none is in line {}", without.join(", "));
            text += if entries.len() - found.len() > without.len() { ", ..." } else { "" };
        }
    }
    let mut tags: BTreeMap<&str, usize> = BTreeMap::new();
    entries.iter().filter_map(Entry::tag).for_each(|tag| *tags.entry(tag.name()).or_default() += 1);
    let tags: Vec<String> = tags.iter().map(|(tag, n)| format!("{n} {tag}")).collect();
    if !tags.is_empty() {
        text += &format!("; of GenEval: {}", tags.join(", "));
    }
    let texts: BTreeSet<&str> = entries.iter().map(|e| e.record.text.as_str()).collect();
    if texts.len() < entries.len() {
        text += &format!("; {} have the text of an earlier one", entries.len() - texts.len());
    }
    text
}

/// Draws the wanted numbers out of the sets; without a number, a set stays as it is. Validation prompts that have no
/// set of their own come out of the training set, and their texts are not trained on.
pub fn draw(sets: Sets, draw: &Draw, seed: u64) -> Sets {
    let shuffled = |port: &str, records: &[Record]| -> Vec<Record> {
        let order = Choices::new(derive(seed, port, 0)).permutation(records.len());
        order.into_iter().map(|i| records[i].clone()).collect()
    };
    let held = draw.validation.filter(|_| sets.iter().all(|(port, _)| *port != "validation"));
    let mut drawn = Sets::new();
    for (port, mut records) in sets {
        let wanted = draw.of(port);
        let held = held.filter(|_| port == "train");
        if wanted.is_some() || held.is_some() {
            records = shuffled(port, &records);
        }
        if let Some(held) = held {
            let rest = records.split_off(held.min(records.len()));
            let texts: BTreeSet<&str> = records.iter().map(|r| r.text.as_str()).collect();
            let rest = rest.into_iter().filter(|r| !texts.contains(r.text.as_str())).collect();
            drawn.push(("validation", std::mem::replace(&mut records, rest)));
        }
        records.truncate(wanted.unwrap_or(records.len()));
        drawn.push((port, records));
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> Vec<Record> {
        (0..n).map(|i| Record::plain(&format!("prompt {i}"))).collect()
    }

    #[test]
    fn what_is_drawn_for_validation_is_not_trained_on() {
        let wish = Draw { train: Some(5), validation: Some(3), test: None };
        let mut train = set(20);
        train.extend(set(20));
        let sets = draw(vec![("train", train), ("test", set(4))], &wish, 1);
        let of = |port: &str| sets.iter().find(|(p, _)| *p == port).unwrap().1.clone();
        assert_eq!((of("train").len(), of("validation").len(), of("test")), (5, 3, set(4)));
        assert!(of("train").iter().all(|r| !of("validation").contains(r)));
        assert_eq!(draw(vec![("train", set(9))], &Draw::default(), 1), [("train", set(9))], "nothing is drawn unasked");
    }

    #[test]
    fn a_set_that_repeated_lines_make_too_small_is_refused() {
        let wish = Draw { train: Some(3), validation: Some(1), test: None };
        let of = |words: &[&str]| vec![("train", words.iter().map(|w| Record::plain(w)).collect::<Vec<_>>())];
        let params = Params { draw: wish.clone(), ..Params::default() };
        for seed in 0..20 {
            let drawn = draw(of(&["dog", "dog", "dog", "cat"]), &wish, seed);
            let train = drawn.iter().find(|(set, _)| *set == "train").unwrap().1.len();
            let fault = params.short(&drawn);
            // Where `cat` is drawn for validation, all is well.
            assert_eq!(fault.is_none(), train == 3, "{train}: {fault:?}");
            if let Some(fault) = fault {
                assert_eq!(fault.path, "draw.train");
                assert!(fault.message.starts_with("1 different prompts are left for `train`, where 3 are asked for"));
            }
            assert!(params.short(&draw(of(&["a", "b", "c", "d"]), &wish, seed)).is_none());
        }
        let all = Draw { validation: Some(1), ..Draw::default() };
        let params = Params { draw: all.clone(), ..Params::default() };
        let fault = params.short(&draw(of(&["dog", "dog"]), &all, 1)).unwrap();
        assert!(fault.path == "draw" && fault.message.contains("0 different prompts are left"), "{fault:?}");
    }

    #[test]
    fn what_was_read_is_said() {
        let text = "a 6\" sign, \"HI\"\na dog\na dog\n{\"tag\":\"counting\",\"include\":[{\"class\":\"cow\",\"count\":2}],\"prompt\":\"two cows\"}\n";
        let entries = record::entries(Path::new("p"), text).unwrap();
        assert_eq!(
            about("train", Path::new("p.txt"), &entries),
            "train: 4 prompts of p.txt; 1 have a target, such as `HI` in line 1, and none is in line 2, 3, 4; of GenEval: 1 counting; 1 have the text of an earlier one"
        );
    }

    #[test]
    fn files_that_are_no_text_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p");
        let why = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            match read(&path).unwrap_err() {
                Unread::File(why) => why,
                Unread::Lines(all) => all.join("\n"),
            }
        };
        assert!(why(b"\xff\xfea\0").ends_with("p: is UTF-16 text; save it as UTF-8"));
        assert!(why(b"a\ncaf\xe9\n").contains("line 2 is not UTF-8"));
        assert!(why(b"a dog\nand a \0 cat, and so on\n").contains("line 2 holds a NUL byte"));
        std::fs::write(&path, "\u{feff}{\"prompt\": \"a dog\"}\n").unwrap();
        assert_eq!(read(&path).unwrap().0[0].record, Record::plain("a dog"));
        let error = format!("{:?}", read(Path::new("/dev/zero")).unwrap_err());
        assert!(error.contains("is a device, expected a regular file"), "{error}");
    }

    #[test]
    fn more_than_there_is_cannot_be_drawn() {
        let files = || Files { train: Some("t".into()), ..Files::default() };
        let params = |draw| Params { files: files(), draw, ..Params::default() };
        let both = params(Draw { train: Some(5), validation: Some(3), test: None });
        assert!(both.too_few("train", 8).is_none());
        assert_eq!(both.too_few("train", 7).unwrap().path, "draw.train");
        let one = params(Draw { validation: Some(3), ..Draw::default() });
        assert_eq!(one.too_few("train", 3).unwrap().path, "draw.validation");
        assert_eq!(Prompts.check(&params(Draw { test: Some(1), ..Draw::default() }))[0].path, "draw.test");
    }
}
