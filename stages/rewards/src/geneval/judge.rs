//! GenEval's rules over a list of found objects.

use super::{Include, Metadata, Quirks, Relation};
use crate::RewardError;

/// Share of the two objects' summed sizes by which an offset is shortened before it says anything.
const SHRINK: f32 = 0.1;
/// A shortened offset smaller than this on both axes is no relation at all.
const NO_OFFSET: f32 = 1e-3;
/// Component of the unit offset from which a relation holds.
const HOLDS: f32 = 0.5;

/// An object as the rules see it; the list goes from the most to the least confident.
#[derive(Debug, Clone, PartialEq)]
pub struct Detection {
    /// Class name.
    pub class: String,
    /// Left, top, right, bottom in pixels.
    pub bounds: [f64; 4],
    /// Colour name, when it has one.
    pub colour: Option<String>,
}

/// What the rules say of one image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// GenEval's own rule: at least `count` of each include, none of the excludes.
    pub correct: bool,
    /// Exactly `count` of each include, with its colour and position; excludes are not looked at.
    pub strict: bool,
    /// Mean of the partial marks, the training reward of Flow-GRPO (Liu et al. 2025): 1 at best, may be negative.
    pub partial: f64,
}

/// What metadata ask for that is impossible, if anything.
#[must_use]
pub fn fault(metadata: &Metadata) -> Option<&'static str> {
    if metadata.include.is_empty() {
        return Some("nothing at all");
    }
    let not_before = |(i, clause): (usize, &Include)| clause.position.is_some_and(|(_, target)| target >= i);
    if metadata.include.iter().any(|clause| clause.count == 0) {
        Some("a count of 0")
    } else if metadata.include.iter().enumerate().any(not_before) {
        Some("a position that refers to a clause not before it")
    } else {
        None
    }
}

/// Judges found objects by GenEval's rules.
///
/// # Errors
/// [`RewardError::Metadata`] when nothing is asked for, a count is 0, or a position refers to a clause not before it.
pub fn judge(found: &[Detection], metadata: &Metadata, quirks: Quirks) -> Result<Verdict, RewardError> {
    if let Some(why) = fault(metadata) {
        return Err(RewardError::Metadata { prompt: metadata.prompt.clone(), why: why.to_owned() });
    }
    let (strict, partial) = marks(found, &metadata.include, quirks);
    Ok(Verdict { correct: correct(found, metadata), strict, partial })
}

fn of_class<'a>(found: &'a [Detection], class: &str) -> Vec<&'a Detection> {
    found.iter().filter(|f| f.class == class).collect()
}

fn coloured(objects: &[&Detection], colour: &str) -> usize {
    objects.iter().filter(|o| o.colour.as_deref() == Some(colour)).count()
}

/// GenEval's evaluation.
fn correct(found: &[Detection], metadata: &Metadata) -> bool {
    let mut good = true;
    let mut groups: Vec<Option<Vec<&Detection>>> = Vec::new();
    for clause in &metadata.include {
        let mut objects = of_class(found, &clause.class);
        objects.truncate(clause.count);
        let mut matched = objects.len() >= clause.count;
        if let (true, Some(colour)) = (matched, &clause.color) {
            matched = coloured(&objects, colour) >= clause.count;
        }
        if let (true, Some((relation, target))) = (matched, clause.position) {
            matched = groups[target].as_ref().is_some_and(|targets| placed(&objects, targets, relation));
        }
        good &= matched;
        groups.push(matched.then_some(objects));
    }
    good && metadata.exclude.iter().all(|clause| of_class(found, &clause.class).len() < clause.count)
}

/// Flow-GRPO's strict flag and partial marks.
fn marks(found: &[Detection], include: &[Include], quirks: Quirks) -> (bool, f64) {
    let mut strict = true;
    let mut marks = Vec::new();
    let mut groups: Vec<Option<Vec<&Detection>>> = Vec::new();
    let mark = |wanted: usize, n: usize| 1.0 - wanted.abs_diff(n) as f64 / wanted as f64;
    for clause in include {
        let objects = of_class(found, &clause.class);
        marks.push(mark(clause.count, objects.len()));
        let mut matched = objects.len() == clause.count;
        if !matched {
            if clause.color.is_some() || clause.position.is_some() {
                marks.push(0.0);
            }
        } else {
            if let Some(colour) = &clause.color {
                let n = coloured(&objects, colour);
                marks.push(mark(clause.count, n));
                matched = n == clause.count;
            }
            if let (true, Some((relation, target))) = (matched, clause.position) {
                match &groups[target] {
                    None => {
                        matched = false;
                        marks.push(0.0);
                    }
                    Some(targets) => {
                        matched = placed(&objects, targets, relation);
                        if !matched {
                            marks.push(0.0);
                        }
                        if matched || quirks.position_always_adds_one {
                            marks.push(1.0);
                        }
                    }
                }
            }
        }
        strict &= matched;
        groups.push(matched.then_some(objects));
    }
    (strict, marks.iter().sum::<f64>() / marks.len() as f64)
}

/// Whether every object stands in the relation to every target.
fn placed(objects: &[&Detection], targets: &[&Detection], relation: Relation) -> bool {
    objects.iter().all(|a| targets.iter().all(|b| relations(a.bounds, b.bounds).contains(&relation)))
}

/// The relations of box A to box B: their centres' offset is shortened on each axis by a tenth of the summed sizes,
/// divided by the length of the full offset, and holds on an axis beyond one half.
///
/// In 32 bits, as the published evaluator has it: whole-numbered boxes often lie right at a limit, where rounding decides.
fn relations(a: [f64; 4], b: [f64; 4]) -> Vec<Relation> {
    let (a, b) = (a.map(|v| v as f32), b.map(|v| v as f32));
    let axis = |i: usize| {
        let offset = (a[i] + a[i + 2]) / 2.0 - (b[i] + b[i + 2]) / 2.0;
        let sizes = (a[i + 2] - a[i]).abs() + (b[i + 2] - b[i]).abs();
        (offset, (offset.abs() - SHRINK * sizes).max(0.0) * offset.signum())
    };
    let ((x, short_x), (y, short_y)) = (axis(0), axis(1));
    let length = (x * x + y * y).sqrt();
    if short_x.abs().max(short_y.abs()) < NO_OFFSET {
        return Vec::new();
    }
    let checks = [
        (short_x / length < -HOLDS, Relation::LeftOf),
        (short_x / length > HOLDS, Relation::RightOf),
        (short_y / length < -HOLDS, Relation::Above),
        (short_y / length > HOLDS, Relation::Below),
    ];
    checks.into_iter().filter_map(|(holds, relation)| holds.then_some(relation)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(class: &str, colour: &str, x: f64, y: f64) -> Detection {
        Detection { class: class.to_owned(), bounds: [x, y, x + 10.0, y + 10.0], colour: Some(colour.to_owned()) }
    }

    fn ask(tag: &str, include: &str, exclude: &str) -> Metadata {
        serde_json::from_str(&format!(r#"{{"tag":"{tag}","include":{include},"exclude":{exclude}}}"#)).unwrap()
    }

    fn verdict(found: &[Detection], metadata: &Metadata) -> (bool, bool, f64) {
        let v = judge(found, metadata, Quirks::default()).unwrap();
        (v.correct, v.strict, (v.partial * 1e6).round() / 1e6)
    }

    #[test]
    fn counting() {
        let two = ask("counting", r#"[{"class":"circle","count":2}]"#, r#"[{"class":"circle","count":3}]"#);
        let row = |n: usize| (0..n).map(|i| object("circle", "red", 20.0 * i as f64, 0.0)).collect::<Vec<_>>();
        assert_eq!(verdict(&row(0), &two), (false, false, 0.0));
        assert_eq!(verdict(&row(1), &two), (false, false, 0.5));
        assert_eq!(verdict(&row(2), &two), (true, true, 1.0));
        // One too many fails by the exclusion; five are worse than none.
        assert_eq!(verdict(&row(3), &two), (false, false, 0.5));
        assert_eq!(verdict(&row(5), &two), (false, false, -0.5));
    }

    #[test]
    fn an_object_too_many_is_correct_but_not_strict() {
        let one = ask("single_object", r#"[{"class":"circle","count":1}]"#, "[]");
        let found = [object("circle", "red", 0.0, 0.0), object("circle", "red", 30.0, 0.0)];
        assert_eq!(verdict(&found, &one), (true, false, 0.0));
    }

    #[test]
    fn colours() {
        let pair = ask(
            "color_attr",
            r#"[{"class":"circle","count":1,"color":"red"},{"class":"square","count":1,"color":"blue"}]"#,
            "[]",
        );
        let (red, blue) = (object("circle", "red", 0.0, 0.0), object("square", "blue", 30.0, 0.0));
        assert_eq!(verdict(&[red.clone(), blue.clone()], &pair), (true, true, 1.0));
        // Count right, colour wrong: 1 and 0 for the circle, 1 and 1 for the square.
        assert_eq!(verdict(&[object("circle", "green", 0.0, 0.0), blue.clone()], &pair), (false, false, 0.75));
        // No circle: 0 for the count and 0 for its colour.
        assert_eq!(verdict(&[blue], &pair), (false, false, 0.5));
        // Two circles: GenEval looks at the best one only.
        let (green, square) = (object("circle", "green", 0.0, 30.0), object("square", "blue", 30.0, 0.0));
        assert!(verdict(&[red.clone(), green.clone(), square.clone()], &pair).0);
        assert!(!verdict(&[green, red, square], &pair).0);
    }

    #[test]
    fn positions_and_the_quirk() {
        let left = ask(
            "position",
            r#"[{"class":"square","count":1},{"class":"circle","count":1,"position":["left of",0]}]"#,
            "[]",
        );
        let square = object("square", "red", 40.0, 0.0);
        assert_eq!(verdict(&[square.clone(), object("circle", "red", 0.0, 0.0)], &left), (true, true, 1.0));
        // On the other side: marks 1, 1, 0; with the quirk 1, 1, 0, 1.
        let wrong = [object("square", "red", 0.0, 0.0), object("circle", "red", 40.0, 0.0)];
        assert_eq!(verdict(&wrong, &left), (false, false, 0.666667));
        let quirks = Quirks { position_always_adds_one: true };
        assert_eq!(judge(&wrong, &left, quirks).unwrap().partial, 0.75);
        // No circle: marks 1, 0, 0. No square: marks 0, 1, 0, quirk or not.
        assert_eq!(verdict(&[square], &left), (false, false, 0.333333));
        let alone = [object("circle", "red", 0.0, 0.0)];
        assert_eq!(verdict(&alone, &left), (false, false, 0.333333));
        assert!((judge(&alone, &left, quirks).unwrap().partial - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn relations_by_hand() {
        let at = |x: f64, y: f64| [x - 5.0, y - 5.0, x + 5.0, y + 5.0];
        // Offset (-16, 16), shrink 2 on each axis: 14 / 22.63 = 0.62 on both.
        assert_eq!(relations(at(0.0, 16.0), at(16.0, 0.0)), [Relation::LeftOf, Relation::Below]);
        // Offset (4, 0): 2 / 4 = 0.5 is not beyond one half.
        assert_eq!(relations(at(4.0, 0.0), at(0.0, 0.0)), []);
        assert_eq!(relations(at(4.1, 0.0), at(0.0, 0.0)), [Relation::RightOf]);
        // Offsets within the shrink, and none at all.
        assert_eq!(relations(at(2.0, 2.0), at(0.0, 0.0)), []);
        assert_eq!(relations(at(0.0, 0.0), at(0.0, 0.0)), []);
        // Offset (3, -20): 1 / 20.2 and -18 / 20.2.
        assert_eq!(relations(at(3.0, 0.0), at(0.0, 20.0)), [Relation::Above]);
    }

    #[test]
    fn impossible_metadata_are_errors() {
        for include in ["[]", r#"[{"class":"a","count":0}]"#, r#"[{"class":"a","count":1,"position":["above",0]}]"#] {
            assert!(judge(&[], &ask("position", include, "[]"), Quirks::default()).is_err(), "{include}");
        }
    }
}
