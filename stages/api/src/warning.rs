//! What a stage, or a recipe, is warned of: nothing fails by it, and it may mean that nothing is learned.
//!
//! Codes are those of `docs/reference/errors.md`. What a recipe and files on the disk tell is a [`Doubt`], found before a run;
//! what only the work shows is a [`Warning`], which a stage gives through [`crate::StageContext::warn`].

use serde::{Deserialize, Serialize};

/// The same prompt more than once in one set.
pub const DUPLICATES: &str = "W010";
/// Prompts that a model was trained on among those that judge it.
pub const LEAK: &str = "W011";
/// One file as two sets of prompts.
pub const ONE_FILE: &str = "W012";
/// Prompts that are longer than a text encoder reads.
pub const TRUNCATED: &str = "W013";
/// Guidance in DiffusionNFT's rollouts.
pub const GUIDED_NFT: &str = "W014";
/// A reward of weight 0.
pub const NO_WEIGHT: &str = "W015";
/// A learning rate of 0, or a schedule that brings it there.
pub const NO_PACE: &str = "W016";
/// Something in a file that nothing reads.
pub const IGNORED: &str = "W017";
/// A stage that is expected to take more memory than there is.
pub const TOO_LARGE: &str = "W018";
/// More processes than there are batches to share.
pub const IDLE_PROCESSES: &str = "W019";
/// A round whose groups all had equal rewards.
pub const FLAT: &str = "W020";
/// A round whose gradient was exactly zero.
pub const NO_GRADIENT: &str = "W021";
/// An adapter that changes nothing.
pub const NO_CHANGE: &str = "W022";
/// A teacher that does what the base does.
pub const IDLE_TEACHER: &str = "W023";
/// A trained model that is its base.
pub const NOTHING_LEARNED: &str = "W024";
/// A candidate whose weights or images are not finite.
pub const BROKEN_CANDIDATE: &str = "W025";
/// An alarm of the recipe that rang.
pub const ALARM: &str = "W026";
/// Warnings that were kept in a form that this program does not read.
pub const UNREADABLE: &str = "W027";

/// Images of different prompts that have become alike.
pub const ALIKE: &str = "W028";

/// A warning, told once, with how often it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// `W` and three digits.
    pub code: String,
    /// What was found and, after a colon, what it means. The same words each time.
    pub message: String,
    /// How often: rounds, prompts, keys, as the message says of one. At least 1.
    #[serde(default = "once")]
    pub count: u64,
}

fn once() -> u64 {
    1
}

impl Warning {
    /// A warning that holds `count` times.
    pub fn new(code: &str, message: impl Into<String>, count: u64) -> Self {
        Self { code: code.to_owned(), message: plain(&message.into()), count: count.max(1) }
    }

    /// Whether both say the same, however often.
    #[must_use]
    pub fn same(&self, other: &Self) -> bool {
        self.code == other.code && self.message == other.message
    }

    /// The words with the number of times.
    #[must_use]
    pub fn text(&self) -> String {
        let times = if self.count > 1 { format!(" ({} times)", self.count) } else { String::new() };
        format!("{}{times}", self.message)
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code, self.text())
    }
}

/// Longer messages are cut: names in files have no bounds of their own.
const LONGEST: usize = 2000;

/// Words without what a terminal would take for commands. Messages hold names out of users' files.
fn plain(text: &str) -> String {
    let safe = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    let mut out: String = text.chars().take(LONGEST).map(safe).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out
}

/// Reads warnings that came with a result, whoever wrote them.
pub(crate) fn read(text: &str) -> Vec<Warning> {
    let Ok(all) = serde_json::from_str::<Vec<Warning>>(text) else { return vec![unreadable("result")] };
    all.into_iter().take(MOST).map(|w| Warning::new(&plain(&w.code), w.message, w.count)).collect()
}

/// Warnings that cannot be read are no reason to throw a result away, nor to pass it for one without any.
fn unreadable(what: &str) -> Warning {
    let message = format!("the {what} came with warnings that this program cannot read: what they say is not known");
    Warning::new(UNREADABLE, message, 1)
}

/// No stage gives more; a record from elsewhere may say anything.
const MOST: usize = 1000;

/// Takes `new` into `all`: one that is there already keeps its place and gets the larger count. Says whether anything
/// changed, and whether it is new.
pub fn gather(all: &mut Vec<Warning>, new: &Warning) -> (bool, bool) {
    match all.iter_mut().find(|w| w.same(new)) {
        Some(known) => {
            let more = new.count > known.count;
            known.count = known.count.max(new.count);
            (more, false)
        }
        None => {
            all.push(new.clone());
            (true, true)
        }
    }
}

/// A warning that a recipe, with the files that it names, gives before anything runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// `W` and three digits.
    pub code: &'static str,
    /// The parameter that it is about, below `with`, or `needs.` and a port; empty for the whole stage.
    pub path: String,
    /// As [`Warning::message`].
    pub message: String,
    /// As [`Warning::count`].
    pub count: u64,
    /// The way out.
    pub help: String,
}

impl Doubt {
    /// A doubt at `path` that holds once.
    pub fn new(
        code: &'static str,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { code, path: path.into(), message: message.into(), count: 1, help: help.into() }
    }

    /// It holds `count` times.
    #[must_use]
    pub fn times(mut self, count: usize) -> Self {
        self.count = (count as u64).max(1);
        self
    }

    /// The same as a warning of a run.
    #[must_use]
    pub fn warning(&self) -> Warning {
        Warning::new(self.code, self.message.clone(), self.count)
    }
}

/// The warnings of a stage while it works.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Vec<Kept>);

/// One of them as it goes into checkpoints.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    warning: Warning,
    /// Whether it adds up over the steps of the work, as opposed to being found each time the stage begins.
    adds: bool,
    /// The count that was last told.
    #[serde(skip)]
    told: u64,
}

/// What became of a warning: it is to be told now, or with the final counts.
pub(crate) type Telling = Option<Warning>;

impl Warnings {
    /// Takes in a warning that holds `count` times in all.
    pub(crate) fn set(&mut self, new: Warning) -> Telling {
        self.take(new, false)
    }

    /// Takes in a warning that holds `count` times more.
    pub(crate) fn add(&mut self, new: Warning) -> Telling {
        self.take(new, true)
    }

    fn take(&mut self, new: Warning, adds: bool) -> Telling {
        if let Some(known) = self.0.iter_mut().find(|k| k.warning.same(&new)) {
            let count = if adds { known.warning.count + new.count } else { known.warning.count.max(new.count) };
            known.warning.count = count;
            return None;
        }
        self.0.push(Kept { warning: new.clone(), adds, told: new.count });
        Some(new)
    }

    /// All of them, as they stand.
    pub(crate) fn all(&self) -> Vec<Warning> {
        self.0.iter().map(|k| k.warning.clone()).collect()
    }

    /// Those whose count has grown since they were told.
    pub(crate) fn grown(&mut self) -> Vec<Warning> {
        let grown: Vec<Warning> =
            self.0.iter().filter(|k| k.warning.count > k.told).map(|k| k.warning.clone()).collect();
        self.0.iter_mut().for_each(|k| k.told = k.warning.count);
        grown
    }

    /// As a checkpoint keeps them; nothing if there are none.
    pub(crate) fn saved(&self) -> Option<String> {
        if self.0.is_empty() { None } else { serde_json::to_string(&self.0).ok() }
    }

    /// Goes back to where a checkpoint stood, or to the beginning: what adds up is forgotten, and what the checkpoint
    /// had is told again.
    pub(crate) fn resume(&mut self, saved: Option<&str>) -> Vec<Warning> {
        self.0.retain(|k| !k.adds);
        let saved: Vec<Kept> = saved.map_or_else(Vec::new, |text| {
            serde_json::from_str(text)
                .unwrap_or_else(|_| vec![Kept { warning: unreadable("checkpoint"), adds: true, told: 0 }])
        });
        let mut news = Vec::new();
        for kept in saved {
            match self.0.iter_mut().find(|k| k.warning.same(&kept.warning)) {
                Some(known) => known.warning.count = known.warning.count.max(kept.warning.count),
                None => {
                    news.push(kept.warning.clone());
                    self.0.push(Kept { told: kept.warning.count, ..kept });
                }
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn w(message: &str, count: u64) -> Warning {
        Warning::new(FLAT, message, count)
    }

    #[test]
    fn each_is_told_once_and_then_with_its_count() {
        let mut all = Warnings::default();
        assert_eq!(all.add(w("flat", 1)), Some(w("flat", 1)));
        assert_eq!((all.add(w("flat", 1)), all.add(w("flat", 2))), (None, None));
        assert_eq!(all.grown(), [w("flat", 4)]);
        assert!(all.grown().is_empty());
        assert_eq!(all.all(), [w("flat", 4)]);
        // What is found again each time the stage begins does not add up.
        assert_eq!((all.set(w("zero", 2)), all.set(w("zero", 2))), (Some(w("zero", 2)), None));
        assert_eq!(all.all()[1].count, 2);
        assert_eq!(w("flat", 4).to_string(), "W020: flat (4 times)");
        assert_eq!(w("flat", 1).to_string(), "W020: flat");
    }

    #[test]
    fn a_checkpoint_brings_the_counts_back() {
        let mut first = Warnings::default();
        first.set(w("zero", 1));
        first.add(w("flat", 3));
        let saved = first.saved().unwrap();
        // Three rounds more, of which the checkpoint knows nothing.
        first.add(w("flat", 3));
        assert!(first.resume(Some(&saved)).iter().eq([&w("flat", 3)]));
        assert_eq!(first.all(), [w("zero", 1), w("flat", 3)]);
        // A new process finds the fixed one again before it looks for the checkpoint.
        let mut second = Warnings::default();
        second.set(w("zero", 1));
        second.resume(Some(&saved));
        second.add(w("flat", 1));
        assert_eq!(second.all(), [w("zero", 1), w("flat", 4)]);
        assert!(second.resume(None).is_empty());
        assert_eq!(second.all(), [w("zero", 1)]);
        let found = second.resume(Some("damaged"));
        assert_eq!((found.len(), found[0].code.as_str()), (1, UNREADABLE));
        assert!(found[0].message.contains("the checkpoint came with warnings"), "{}", found[0].message);
        assert_eq!(second.all()[1..], found);
    }

    #[test]
    fn names_out_of_files_command_no_terminal() {
        let said = Warning::new(IGNORED, "the field `a\u{1b}[2J\rb` is read by nothing", 1).message;
        assert_eq!(said, "the field `a\\u{1b}[2J\\rb` is read by nothing");
        assert_eq!(Warning::new(IGNORED, "ä".repeat(3000), 1).message.chars().count(), LONGEST + 1);
        let read = read("[{\"code\": \"W0\\u001b[0m\", \"message\": \"\\u0007\"}]");
        assert_eq!((read[0].code.as_str(), read[0].message.as_str(), read[0].count), ("W0\\u{1b}[0m", "\\u{7}", 1));
        // What cannot be read is not nothing: `--strict` must not take such a result for a clean one.
        for text in ["{}", "damaged", "[{\"code\": 1}]"] {
            let found = super::read(text);
            assert_eq!((found.len(), found[0].code.as_str()), (1, UNREADABLE), "{text}");
        }
        assert!(super::read("[]").is_empty());
    }

    #[test]
    fn counts_are_gathered_not_summed() {
        let mut all = Vec::new();
        assert_eq!(gather(&mut all, &w("flat", 1)), (true, true));
        assert_eq!(gather(&mut all, &w("flat", 5)), (true, false));
        assert_eq!(gather(&mut all, &w("flat", 5)), (false, false));
        assert_eq!(all, [w("flat", 5)]);
    }
}
