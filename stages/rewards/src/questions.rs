//! Questions about an image, each with its right answer, and what the answers are worth together.

use serde::{Deserialize, Serialize};

/// A question about the image of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its words.
    pub question: String,
    /// The right answer.
    pub answer: String,
    /// What it is about, in the words of its benchmark: a skill, or a category.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub about: String,
    /// The questions, by place among the prompt's, without whose yes this one has no meaning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<usize>,
}

/// Why these cannot be asked of an image, if they cannot.
#[must_use]
pub fn fault(questions: &[Question]) -> Option<String> {
    for (i, question) in questions.iter().enumerate() {
        if question.question.trim().is_empty() || question.answer.trim().is_empty() {
            return Some(format!("question {} has no words, or no right answer", i + 1));
        }
        if question.after.iter().any(|parent| *parent >= questions.len() || *parent == i) {
            return Some(format!("question {} hangs on one that is not there, or on itself", i + 1));
        }
    }
    None
}

/// GenEval 2's Soft-TIFA of the probabilities of right answers, 0 to 1, at least one: their geometric mean, which is the benchmark's
/// score, and their mean. `evaluation.py` of facebookresearch/GenEval2 at a6e82d2.
#[must_use]
pub fn soft_tifa(probabilities: &[f64]) -> (f64, f64) {
    let count = probabilities.len().max(1) as f64;
    let logarithms = probabilities.iter().map(|p| p.ln()).sum::<f64>();
    ((logarithms / count).exp(), probabilities.iter().sum::<f64>() / count)
}

/// DPG-Bench's score of an image: the share of questions that were answered with yes, where one without the yes of those that it hangs
/// on counts as no, in the order of the questions. And the share without that. `dpg_bench/compute_dpg_bench.py` of
/// TencentQQGYLab/ELLA at 3c228f1.
#[must_use]
pub fn dpg_bench(questions: &[Question], yes: &[bool]) -> (f64, f64) {
    let mut kept = yes.to_vec();
    for (i, question) in questions.iter().enumerate().take(yes.len()) {
        // What was struck out before is struck out for those that hang on it: a chain of them falls in the order of the file.
        if question.after.iter().any(|parent| !kept.get(*parent).copied().unwrap_or(false)) {
            kept[i] = false;
        }
    }
    let share = |all: &[bool]| all.iter().filter(|yes| **yes).count() as f64 / all.len().max(1) as f64;
    (share(&kept), share(yes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(after: &[usize]) -> Question {
        Question { question: "?".into(), answer: "yes".into(), about: String::new(), after: after.to_vec() }
    }

    #[test]
    fn soft_tifa_by_hand() {
        let (geometric, mean) = soft_tifa(&[0.9, 0.4, 0.1]);
        assert!((geometric - 0.036_f64.cbrt()).abs() < 1e-12 && (mean - 1.4 / 3.0).abs() < 1e-12);
        assert_eq!(soft_tifa(&[1.0, 0.0]), (0.0, 0.5));
    }

    #[test]
    fn a_no_takes_with_it_what_hangs_on_it() {
        let chain = [asked(&[]), asked(&[0]), asked(&[1]), asked(&[])];
        assert_eq!(dpg_bench(&chain, &[true, true, true, false]), (0.75, 0.75));
        assert_eq!(dpg_bench(&chain, &[false, true, true, true]), (0.25, 0.75));
        // One that stands before the one that it hangs on sees that one's own answer, as upstream.
        let backwards = [asked(&[1]), asked(&[2]), asked(&[])];
        assert_eq!(dpg_bench(&backwards, &[true, true, false]), (1.0 / 3.0, 2.0 / 3.0));
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        assert_eq!(fault(&[asked(&[]), asked(&[0])]), None);
        assert!(fault(&[asked(&[0])]).unwrap().contains("on itself") && fault(&[asked(&[3])]).is_some());
        assert!(fault(&[Question { answer: " ".into(), ..asked(&[]) }]).unwrap().contains("no right answer"));
    }
}
