//! What is known of a set of prompts before anything runs, and whether rewards will be able to judge it.

use crate::judging::reward::whole_of;
use crate::judging::reward_models;
use crate::prompt::record::Record;
use opdflow_api::{Foreseen, ParamFault};
use opdflow_rewards::detector::{Detector as _, Shapes};
use opdflow_rewards::geneval;
use opdflow_rewards::questions::Question;
use opdflow_spec::served::Asking;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A set of prompts, as far as rewards and the memory plan want to know it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PromptSet {
    /// Number of prompts.
    pub count: u64,
    /// Questions about one image of each, if all of them were looked at.
    #[serde(default)]
    asked: Option<u64>,
    /// Whether all of them were looked at, or only the first.
    whole: bool,
    /// Each form of prompt that is there.
    forms: Vec<Form>,
    /// The classes that GenEval's metadata ask for, with a prompt that does.
    classes: BTreeMap<String, String>,
    /// Prompts whose metadata ask for something impossible, and what.
    broken: Vec<String>,
}

/// What prompts carry beside their words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Form {
    /// A text that must be in the image.
    target: bool,
    /// GenEval's metadata.
    metadata: bool,
    /// Who can be asked the questions about the image, if there are any.
    #[serde(default)]
    suits: Vec<Asking>,
    /// The first prompt of this form: where it stands, and its words.
    first: String,
}

/// Who can be asked all of these questions.
fn suiting(questions: &[Question]) -> Vec<Asking> {
    let all = |asking: &Asking| questions.iter().all(|q| asking.suits(&q.question, &q.answer, !q.after.is_empty()));
    Asking::ALL.into_iter().filter(|asking| !questions.is_empty() && all(asking)).collect()
}

/// Words of a prompt that a message shows.
const SHOWN: usize = 60;

impl PromptSet {
    /// A set of `count` prompts, of which these are the first, or all: each with the place where it stands.
    #[must_use]
    pub fn of(count: usize, records: &[(String, Record)]) -> Self {
        let mut set = Self { count: count as u64, whole: records.len() >= count, ..Self::default() };
        set.asked = set.whole.then_some(0);
        for (place, record) in records {
            let subject = record.subject();
            let (target, metadata) = (subject.target().is_some(), record.geneval.is_some());
            let words: String = record.text.chars().take(SHOWN).collect();
            let first = format!("{place}: {words:?}");
            for class in record.geneval.iter().flat_map(|m| &m.include).map(|clause| &clause.class) {
                set.classes.entry(class.clone()).or_insert_with(|| first.clone());
            }
            if let Some(why) = record.geneval.as_ref().and_then(geneval::fault) {
                set.broken.push(format!("{first} asks for {why}"));
            }
            let suits = suiting(&record.questions);
            set.asked = set.asked.map(|asked| asked + record.questions.len() as u64);
            if !set.forms.iter().any(|f| (f.target, f.metadata, &f.suits) == (target, metadata, &suits)) {
                set.forms.push(Form { target, metadata, suits, first });
            }
        }
        set
    }

    /// The same of which so many are taken: what is asked of those is not known.
    #[must_use]
    pub fn drawn(self, count: u64) -> Self {
        let asked = self.asked.filter(|_| count == self.count);
        Self { count, asked, ..self }
    }

    /// Questions about one image of each prompt, as far as that is known.
    #[must_use]
    pub fn asked(&self) -> Option<u64> {
        self.asked
    }

    /// What is known of the prompts on a port.
    #[must_use]
    pub fn on(inputs: &Foreseen, port: &str) -> Option<Self> {
        serde_json::from_value(inputs.get(port)?.clone()).ok()
    }
}

/// Why rewards cannot judge a set: what, and the way out.
type Why = (String, String);

impl PromptSet {
    /// Why these rewards, whose sum judges the set, cannot. `knows` says which classes GenEval's detector finds, if that is
    /// known.
    fn unfit(
        &self,
        rewards: &[&str],
        asks: &dyn Fn(&str) -> Option<Asking>,
        knows: Option<&dyn Fn(&str) -> bool>,
    ) -> Vec<Why> {
        let need = |reward: &&str| asks(reward).map_or_else(|| Need::of(reward), Need::Questions);
        let needs: Vec<Need> = rewards.iter().map(need).collect();
        let mut found = Vec::new();
        for form in self.forms.iter().filter(|form| !needs.iter().any(|need| need.met(form))) {
            let lacks: Vec<&str> = needs.iter().filter_map(|need| need.words()).collect();
            let named: Vec<String> = rewards.iter().map(|r| format!("`{r}`")).collect();
            let reads = if rewards.len() == 1 { "reads" } else { "read" };
            let what = format!("{} has no {}, which {} {reads}", form.first, lacks.join(" and no "), named.join(", "));
            found.push((what, needs.iter().find_map(|n| n.help()).unwrap_or_default().to_owned()));
        }
        let alone = !found.is_empty() || !self.whole || rewards.len() < 2;
        for (reward, need) in rewards.iter().zip(&needs).filter(|_| !alone) {
            if let (Some(words), false) = (need.words(), self.forms.iter().any(|form| need.met(form))) {
                let what = format!("none of the {} prompts has {words}, which `{reward}` reads", self.count);
                found.push((what, format!("take `{reward}` out, or give it prompts that it can judge")));
            }
        }
        if rewards.iter().any(|r| whole_of(r) == "geneval") {
            let help = "correct the line, or take it out";
            found.extend(self.broken.iter().take(8).map(|what| (what.clone(), help.to_owned())));
            let unknown = self.classes.iter().filter(|(class, _)| knows.is_some_and(|knows| !knows(class)));
            found.extend(unknown.take(8).map(|(class, first)| {
                let what = format!("{first} asks for `{class}`, which GenEval's detector here cannot find");
                (what, "use prompts about what it can find, or another detector (docs/reference/rewards.md)".to_owned())
            }));
        }
        found
    }
}

/// What a reward must find in a prompt.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Need {
    Nothing,
    Target,
    Metadata,
    Questions(Asking),
}

impl Need {
    /// That of a reward or one of its measures. A test holds it against the rewards themselves.
    fn of(reward: &str) -> Self {
        match whole_of(reward) {
            "ocr" => Self::Target,
            "geneval" => Self::Metadata,
            _ => Self::Nothing,
        }
    }

    fn met(self, form: &Form) -> bool {
        match self {
            Self::Nothing => true,
            Self::Target => form.target,
            Self::Metadata => form.metadata,
            Self::Questions(asking) => form.suits.contains(&asking),
        }
    }

    fn words(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Target => Some("text between double quotes"),
            Self::Metadata => Some("GenEval metadata"),
            Self::Questions(asking) => Some(asking.needs()),
        }
    }

    fn help(self) -> Option<&'static str> {
        match self {
            Self::Nothing => None,
            Self::Target => {
                Some("write what must be in the image between double quotes, give the line a `target`, or take it out")
            }
            Self::Metadata => Some("write the line as GenEval's JSON, or take it out"),
            Self::Questions(_) => {
                Some("take the published file of GenEval 2 or DPG-Bench, or give the line `questions`")
            }
        }
    }
}

/// Why the sum of these rewards cannot judge the prompts on `port`, as faults of the parameter at `path`, or of the port
/// where that is none.
#[must_use]
pub fn unfit(inputs: &Foreseen, port: &str, rewards: &[&str], path: Option<&str>) -> Vec<ParamFault> {
    let Some(set) = PromptSet::on(inputs, port) else { return Vec::new() };
    let classes = reward_models::classes(inputs);
    let listed = |class: &str| classes.as_ref().is_some_and(|all| all.iter().any(|c| c == class));
    let shapes = |class: &str| Shapes.knows(class);
    let knows: Option<&dyn Fn(&str) -> bool> = match (inputs.contains_key("reward_models.geneval"), &classes) {
        (false, _) => Some(&shapes),
        (true, Some(_)) => Some(&listed),
        (true, None) => None,
    };
    let fault = |(what, help): Why| match path {
        Some(path) => ParamFault::new(path, format!("`{port}`: {what}")).help(help),
        None => ParamFault::of_port(port, what).help(help),
    };
    let asks = |reward: &str| reward_models::asking(inputs, reward_models::REWARD_MODELS.name, reward);
    set.unfit(rewards, &asks, knows).into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_rewards::{Geneval, Looks, Reward};

    const NOBODY: fn(&str) -> Option<Asking> = |_| None;

    fn records(lines: &[&str]) -> Vec<(String, Record)> {
        let text = lines.join("\n");
        let read = crate::prompt::record::entries(std::path::Path::new("p.txt"), &text).unwrap();
        read.into_iter().map(|e| (format!("p.txt:{}", e.line), e.record)).collect()
    }

    const COW: &str = r#"{"tag": "single_object", "include": [{"class": "cow", "count": 1}], "prompt": "a cow"}"#;
    const SQUARE: &str =
        r#"{"tag": "single_object", "include": [{"class": "square", "count": 1}], "prompt": "no square"}"#;

    fn faults(lines: &[&str], rewards: &[&str]) -> Vec<String> {
        let records = records(lines);
        let set = PromptSet::of(records.len(), &records);
        set.unfit(rewards, &NOBODY, Some(&|class| Shapes.knows(class))).into_iter().map(|(what, _)| what).collect()
    }

    #[test]
    fn a_single_line_that_a_reward_cannot_judge_is_named() {
        let words = ["the word \"cat\"", "a sign \"x\"", "a dog"];
        assert_eq!(faults(&words[..2], &["ocr"]), [""; 0]);
        assert_eq!(faults(&words, &["looks"]), [""; 0]);
        assert_eq!(faults(&words, &["ocr", "looks"]), [""; 0], "a sum judges what one of its rewards does");
        assert_eq!(
            faults(&words, &["ocr"]),
            ["p.txt:3: \"a dog\" has no text between double quotes, which `ocr` reads"]
        );
        assert!(faults(&words, &["ocr.exact"])[0].contains("p.txt:3"));
        assert!(
            faults(&words, &["ocr", "geneval"])[0].contains("no text between double quotes and no GenEval metadata")
        );
        assert_eq!(
            faults(&words, &["looks", "geneval"]),
            ["none of the 3 prompts has GenEval metadata, which `geneval` reads"]
        );
        // No file may ask for a count of 0; a stage of another's might.
        let mut records = records(&["", SQUARE, COW]);
        records[0].1.geneval.as_mut().unwrap().include[0].count = 0;
        let set = PromptSet::of(records.len(), &records);
        let found = set.unfit(&["geneval"], &NOBODY, Some(&|class| Shapes.knows(class)));
        let found: Vec<String> = found.into_iter().map(|(what, _)| what).collect();
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("p.txt:2: \"no square\" asks for a count of 0"), "{found:?}");
        assert!(found[1].contains("p.txt:3") && found[1].contains("`cow`"), "{found:?}");
    }

    #[test]
    fn of_a_set_that_is_known_in_part_nothing_is_said_that_the_rest_could_change() {
        let records = records(&["a dog"]);
        let part = PromptSet::of(100, &records);
        assert!(part.unfit(&["looks", "ocr"], &NOBODY, None).is_empty());
        assert_eq!(part.unfit(&["ocr"], &NOBODY, None).len(), 1);
    }

    #[test]
    fn a_reward_that_asks_questions_wants_them() {
        let asked =
            r#"{"prompt": "two cats", "vqa_list": [["How many cats are in the image?", "two"]], "skills": ["count"]}"#;
        let found = |lines: &[&str]| {
            let records = records(lines);
            PromptSet::of(records.len(), &records).unfit(&["judge"], &|_| Some(Asking::SoftTifa), None)
        };
        assert!(found(&[asked]).is_empty());
        let odd = r#"{"prompt": "a cat", "questions": [{"question": "Is there a dog?", "answer": "no"}]}"#;
        assert!(
            found(&[odd])[0].0.contains("each with the right answer Yes"),
            "its answer would count the wrong way round"
        );
        let faults = found(&[asked, "a dog"]);
        assert!(
            faults.len() == 1 && faults[0].0.contains("p.txt:2: \"a dog\" has no questions about its image"),
            "{faults:?}"
        );
    }

    #[test]
    fn needs_are_those_of_the_rewards() {
        let all = records(&["a dog", COW, "\"x\""]);
        for (name, reward) in [("geneval", Box::new(Geneval::default()) as Box<dyn Reward>), ("looks", Box::new(Looks))]
        {
            for (place, record) in &all {
                let set = PromptSet::of(1, &[(place.clone(), record.clone())]);
                assert_eq!(Need::of(name).met(&set.forms[0]), reward.applies(&record.subject()), "{name} {place}");
            }
        }
    }
}
