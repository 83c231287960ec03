//! A number, read from the answer of a chat model. What is not plainly a number is an error, never a nought.

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// How a number is read from an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Parser {
    /// What stands after the first `Final Score:`, from 1 to 5, divided by 5 as in Flow-GRPO; the number itself, which tables show, is
    /// the measure `raw`.
    UnifiedReward,
    /// `Alignment Score (1-5):`, `Coherence Score (1-5):` and `Style Score (1-5):`, each divided by 5, and their mean; the three are
    /// measures `alignment`, `coherence` and `style`.
    UnifiedRewardAcs,
    /// The only number of the answer, as it stands there.
    Number(Range),
    /// GenEval 2's Soft-TIFA: each question beside the prompt is asked, with its words where `{prompt}` stands, and the probability of its
    /// right answer is read from the first token; the score is their geometric mean, and their mean the measure `mean`.
    SoftTifa,
    /// DPG-Bench: each question beside the prompt is asked, and an answer is yes or it is not; the score is the share of yes, where a
    /// question without the yes of those that it hangs on counts as no, and the share without that the measure `unconditional`.
    DpgBench,
    /// The probability that the answer begins with yes, from the probabilities of its first token; that of no is the measure `no`.
    ProbabilityOfYes,
}

/// Between which numbers one must lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest.
    #[schemars(range(min = -1e12, max = 1e12))]
    pub min: f64,
    /// The largest.
    #[schemars(range(min = -1e12, max = 1e12))]
    pub max: f64,
}

/// What a chat model answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    /// Its words.
    pub text: String,
    /// Whether they end where the most tokens were reached.
    pub cut: bool,
    /// The most probable first tokens with the logarithm of their probability, if they were asked for.
    pub first: Vec<(String, f64)>,
}

/// What was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The score.
    pub value: f64,
    /// Measures beside it, by name.
    pub parts: Vec<(&'static str, f64)>,
}

/// The axes of UnifiedReward 2.0: the measure, and the word of the answer.
const AXES: [(&str, &str); 3] = [("alignment", "Alignment"), ("coherence", "Coherence"), ("style", "Style")];

/// UnifiedReward's scale.
const SCALE: Range = Range { min: 1.0, max: 5.0 };

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?"));
static FINAL: LazyLock<Regex> = LazyLock::new(|| pattern(r"Final Score:\s*([-+]?[0-9]+(?:\.[0-9]+)?)"));

fn pattern(text: &str) -> Regex {
    // The patterns are constants, which a test compiles.
    Regex::new(text).unwrap_or_else(|e| unreachable!("{e}"))
}

impl Parser {
    /// The names of the measures.
    #[must_use]
    pub fn measures(&self) -> &'static [&'static str] {
        match self {
            Self::UnifiedReward => &["raw"],
            Self::Number(_) => &[],
            Self::UnifiedRewardAcs => &["alignment", "coherence", "style"],
            Self::ProbabilityOfYes => &["no"],
            Self::SoftTifa => &["mean"],
            Self::DpgBench => &["unconditional"],
        }
    }

    /// Whether it reads probabilities of tokens.
    #[must_use]
    pub fn reads_tokens(&self) -> bool {
        matches!(self, Self::ProbabilityOfYes | Self::SoftTifa)
    }

    /// Which questions beside a prompt it is about, if it is not about the prompt itself.
    #[must_use]
    pub fn asking(&self) -> Option<Asking> {
        match self {
            Self::SoftTifa => Some(Asking::SoftTifa),
            Self::DpgBench => Some(Asking::DpgBench),
            _ => None,
        }
    }

    /// What is wrong with it, and the way out.
    pub(super) fn fault(&self) -> Option<(String, String)> {
        let Self::Number(Range { min, max }) = self else { return None };
        (min >= max)
            .then(|| (format!("no number lies between {min} and {max}"), "`min` must be below `max`".to_owned()))
    }

    /// Reads an answer; `right` is the question with its right answer, where it is about one.
    ///
    /// # Errors
    /// Why there is no number, in words that go after "the answer".
    pub fn read(&self, reply: &Reply, right: Option<(&str, &str)>) -> Result<Reading, String> {
        if reply.cut && !self.reads_tokens() {
            return Err("was cut at `max_tokens`, where a number may go on".to_owned());
        }
        let alone = |value| Reading { value, parts: Vec::new() };
        match self {
            Self::UnifiedReward => {
                let raw = from_1_to_5(&FINAL, &reply.text, "Final Score:")?;
                Ok(Reading { value: raw / SCALE.max, parts: vec![("raw", raw)] })
            }
            Self::UnifiedRewardAcs => axes(&reply.text),
            Self::Number(range) => only(&reply.text, *range).map(alone),
            Self::ProbabilityOfYes => yes(&reply.first),
            Self::SoftTifa => {
                let (question, answer) = right.ok_or("belongs to no question: a bug")?;
                sound(&reply.first)?;
                let forms = forms(question, answer);
                let own = reply.first.iter().filter(|(token, _)| forms.contains(token));
                Ok(alone(own.map(|(_, p)| p.exp()).sum::<f64>().min(1.0)))
            }
            // The published judge says one of the two and nothing else; a talkative one may add a stop.
            Self::DpgBench => {
                let said = reply.text.trim().trim_end_matches('.').to_lowercase();
                match said.strip_prefix("yes") {
                    _ if said.is_empty() => Err("is empty".to_owned()),
                    Some(more) if more.starts_with(|c: char| !c.is_alphanumeric()) => Err(
                        "is yes and more, which the published rule counts as no; have the template ask for one word"
                            .to_owned(),
                    ),
                    _ => Ok(alone(f64::from(u8::from(said == "yes")))),
                }
            }
        }
    }
}

/// A benchmark of questions about an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asking {
    /// [`Parser::SoftTifa`].
    SoftTifa,
    /// [`Parser::DpgBench`].
    DpgBench,
}

impl Asking {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::SoftTifa, Self::DpgBench];

    /// Whether it can judge the answer to a question with this right answer, which `hangs` on others or does not.
    #[must_use]
    pub fn suits(self, question: &str, answer: &str, hangs: bool) -> bool {
        let yes = answer.eq_ignore_ascii_case("yes");
        match self {
            Self::SoftTifa if question.starts_with("How many") => !hangs && !answer.contains(char::is_whitespace),
            Self::SoftTifa => !hangs && yes,
            Self::DpgBench => yes,
        }
    }

    /// What it must find beside a prompt, in words.
    #[must_use]
    pub fn needs(self) -> &'static str {
        match self {
            Self::SoftTifa => {
                "questions about its image, each with the right answer Yes, or one word after `How many`, and none that hangs on another"
            }
            Self::DpgBench => "questions about its image, each with the right answer yes",
        }
    }
}

/// The first tokens that count as this answer: `evaluation.py` of facebookresearch/GenEval2 at a6e82d2, which asks for numbers by `How
/// many` and for yes by all else.
fn forms(question: &str, answer: &str) -> Vec<String> {
    if !question.starts_with("How many") {
        return ["Yes", "yes", " yes", " Yes"].map(str::to_owned).into();
    }
    let mut letters = answer.chars();
    // Python's `capitalize`: the others become small.
    let capital =
        letters.next().map(|c| c.to_uppercase().chain(letters.flat_map(char::to_lowercase)).collect::<String>());
    let numbers = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];
    let digits = numbers.iter().position(|number| *number == answer).map(|n| (n + 1).to_string());
    let words = [Some(answer.to_owned()), capital, digits].into_iter().flatten();
    words.flat_map(|word| [format!(" {word}"), word]).collect()
}

/// Refuses what cannot be the probabilities of first tokens.
fn sound(first: &[(String, f64)]) -> Result<(), String> {
    if first.is_empty() {
        return Err("came without the probabilities of its first token".to_owned());
    }
    if let Some((token, p)) = first.iter().find(|(_, p)| p.is_nan() || *p > 1e-6) {
        return Err(format!("gives the token {token:?} the logarithm {p} of a probability"));
    }
    // With room for a server that rounds.
    let whole: f64 = first.iter().map(|(_, p)| p.exp()).sum();
    if whole > 1.01 { Err(format!("gives its first token probabilities that add up to {whole:.3}")) } else { Ok(()) }
}

/// The number after a label, from 1 to 5.
fn from_1_to_5(pattern: &Regex, text: &str, label: &str) -> Result<f64, String> {
    let found =
        pattern.captures(text).and_then(|c| c.get(1)).ok_or_else(|| format!("has no number after `{label}`"))?;
    let rest = &text[found.end()..];
    // "4/10" would be another scale, "4e1" and "45th" another number.
    let other = match rest.strip_prefix('/') {
        Some(of) => {
            let of: String = of.trim_start().chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            of.trim_end_matches('.').parse::<f64>() != Ok(SCALE.max)
        }
        None => rest.starts_with(|c: char| c.is_alphanumeric() || c == '%'),
    };
    let number = found.as_str().parse::<f64>().map_err(|e| e.to_string())?;
    if other || !(SCALE.min..=SCALE.max).contains(&number) {
        let shown: String = text[found.start()..].chars().take(16).collect();
        return Err(format!("has `{}` after `{label}`, which is no score from 1 to 5", shown.trim_end()));
    }
    Ok(number)
}

fn axes(text: &str) -> Result<Reading, String> {
    let mut parts = Vec::new();
    for (measure, word) in AXES {
        let label = format!("{word} Score (1-5):");
        let pattern = pattern(&(regex::escape(&label) + r"\s*([-+]?[0-9]+(?:\.[0-9]+)?)"));
        parts.push((measure, from_1_to_5(&pattern, text, &label)? / SCALE.max));
    }
    let value = parts.iter().map(|(_, v)| v).sum::<f64>() / parts.len() as f64;
    Ok(Reading { value, parts })
}

/// The only number of the text. Digits within a word are none.
fn only(text: &str, range: Range) -> Result<f64, String> {
    let alone = |found: &regex::Match| {
        let before = text[..found.start()].chars().next_back();
        let after = text[found.end()..].chars().next();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
            && !after.is_some_and(|c| c.is_alphanumeric() || c == '_')
    };
    let found: Vec<&str> = NUMBER.find_iter(text).filter(alone).map(|m| m.as_str()).collect();
    let [one] = found[..] else {
        return Err(match found.len() {
            0 => "has no number".to_owned(),
            n => format!("has {n} numbers, of which one would be a guess"),
        });
    };
    let number = one.parse::<f64>().map_err(|e| e.to_string())?;
    if !(range.min..=range.max).contains(&number) {
        return Err(format!("is {one}, which does not lie between {} and {}", range.min, range.max));
    }
    Ok(number)
}

/// The probabilities of yes and of no among the first tokens, whatever their case and the blanks around them.
fn yes(first: &[(String, f64)]) -> Result<Reading, String> {
    sound(first)?;
    let of = |word: &str| -> Option<f64> {
        let tokens: Vec<f64> =
            first.iter().filter(|(t, _)| t.trim().eq_ignore_ascii_case(word)).map(|(_, p)| p.exp()).collect();
        (!tokens.is_empty()).then(|| tokens.iter().sum::<f64>().min(1.0))
    };
    match (of("yes"), of("no")) {
        (None, None) => {
            Err("begins with neither yes nor no, nor are these among the tokens that it might begin with".to_owned())
        }
        (yes, no) => Ok(Reading { value: yes.unwrap_or(0.0), parts: vec![("no", no.unwrap_or(0.0))] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parser: &Parser, text: &str) -> Result<f64, String> {
        parser.read(&Reply { text: text.to_owned(), ..Reply::default() }, None).map(|r| r.value)
    }

    #[test]
    fn unified_reward_s_published_answers() {
        let of = |text: &str| read(&Parser::UnifiedReward, text);
        assert_eq!(of("a dog (animal): 1\nFinal Score: 4.5"), Ok(4.5 / 5.0));
        assert_eq!(of("Final Score:3"), Ok(3.0 / 5.0));
        assert_eq!(of("Final Score: 5/5."), Ok(1.0));
        assert_eq!(of("Final Score: 2.75\nFinal Score: 4"), Ok(2.75 / 5.0), "the first, as re.search");
        for (text, word) in [
            ("", "no number after `Final Score:`"),
            ("I cannot judge this image.", "no number after"),
            ("Final Score: high", "no number after"),
            ("Final Score: 0", "`0` after"),
            ("Final Score: 10", "`10` after"),
            ("Final Score: 5.5", "`5.5` after"),
            ("Final Score: -3", "`-3` after"),
            ("Final Score: 4/10", "`4/10` after"),
            ("Final Score: 4%", "`4%` after"),
            ("Final Score: 4e1", "`4e1` after"),
            ("Final Score: NaN", "no number after"),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    /// The example at the end of the published script.
    #[test]
    fn unified_reward_2_s_published_answer() {
        let text = "Alignment Score (1-5): 2.694700002670288\nCoherence Score (1-5): 2.371500015258789\n\
                    Style Score (1-5): 2.802500009536743\n";
        let found = Parser::UnifiedRewardAcs.read(&Reply { text: text.to_owned(), ..Reply::default() }, None).unwrap();
        let by_hand = (2.694_700_002_670_288 + 2.371_500_015_258_789 + 2.802_500_009_536_743) / 15.0;
        assert!((found.value - by_hand).abs() < 1e-12, "{found:?}");
        assert_eq!(found.parts[2], ("style", 2.802_500_009_536_743 / 5.0));
        assert_eq!(found.parts.iter().map(|p| p.0).collect::<Vec<_>>(), Parser::UnifiedRewardAcs.measures());
        let without = read(&Parser::UnifiedRewardAcs, "Alignment Score (1-5): 2\nStyle Score (1-5): 3");
        assert!(without.unwrap_err().contains("Coherence Score (1-5):"));
    }

    #[test]
    fn a_plain_number_is_the_only_one() {
        let of = |text: &str| read(&Parser::Number(Range { min: 0.0, max: 10.0 }), text);
        assert_eq!(of("7"), Ok(7.0));
        assert_eq!(of("I give it 7.25 points."), Ok(7.25));
        assert_eq!(of("**8**"), Ok(8.0));
        assert_eq!(of("1e1"), Ok(10.0));
        for (text, word) in [
            ("8/10", "2 numbers"),
            ("seven", "no number"),
            ("11", "between 0 and 10"),
            ("-1", "between"),
            ("gpt4", "no number"),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.contains(word), "{text}: {why}");
        }
    }

    #[test]
    fn an_answer_that_was_cut_is_none() {
        let cut = Reply { text: "Final Score: 4".to_owned(), cut: true, first: Vec::new() };
        assert!(Parser::UnifiedReward.read(&cut, None).unwrap_err().contains("max_tokens"));
    }

    #[test]
    fn the_probability_of_yes_by_hand() {
        let of = |first: &[(&str, f64)]| {
            let first = first.iter().map(|(t, p)| ((*t).to_owned(), p.ln())).collect();
            Parser::ProbabilityOfYes.read(&Reply { cut: true, first, ..Reply::default() }, None)
        };
        let found = of(&[("Yes", 0.5), (" yes", 0.125), ("No", 0.25), ("Yesterday", 0.1)]).unwrap();
        assert!((found.value - 0.625).abs() < 1e-12 && (found.parts[0].1 - 0.25).abs() < 1e-12, "{found:?}");
        assert_eq!(of(&[("no", 1.0)]).unwrap().value, 0.0);
        assert!(of(&[("maybe", 1.0)]).unwrap_err().contains("neither yes nor no"));
        assert!(of(&[]).unwrap_err().contains("without the probabilities"));
        let lies = Reply { first: vec![("yes".to_owned(), 2.0)], ..Reply::default() };
        assert!(Parser::ProbabilityOfYes.read(&lies, None).unwrap_err().contains("logarithm 2"));
    }
}
