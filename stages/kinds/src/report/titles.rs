//! Titles of rows, lines and columns, by which readers, `lineage --row` and `--column` tell them apart.

use opdflow_api::ParamFault;
use std::collections::HashMap;

/// Each text that stands a second time among `texts`; `at` names the parameter of the one at a place.
pub fn twice<'a>(at: impl Fn(usize) -> String, texts: impl Iterator<Item = &'a String>) -> Vec<ParamFault> {
    let mut first = HashMap::new();
    let again = texts.enumerate().filter_map(|(i, text)| {
        let before = *first.entry(text).or_insert(i);
        let fault = || ParamFault::new(at(i), format!("`{text}` is there already, as number {}", before + 1));
        (before < i).then(|| fault().help("take it out, or call it otherwise"))
    });
    again.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_after_the_first_is_named() {
        let titles = ["a", "b", "a", "a"].map(str::to_owned);
        let found = twice(|i| format!("rows[{i}].title"), titles.iter());
        let paths: Vec<&str> = found.iter().map(|f| f.path.as_str()).collect();
        assert_eq!(paths, ["rows[2].title", "rows[3].title"]);
    }
}
