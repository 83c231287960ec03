//! Did you mean?

/// The candidate nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn near<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let far = found.chars().count().max(3).div_ceil(3);
    candidates
        .into_iter()
        .map(|c| (strsim::damerau_levenshtein(&found.to_lowercase(), &c.to_lowercase()), c))
        .filter(|(distance, c)| *distance <= far && *distance < c.chars().count().max(2))
        .min_by(|(a, x), (b, y)| a.cmp(b).then_with(|| x.cmp(y)))
        .map(|(_, c)| c)
}

/// The same as words for a help line: a near one, or all if they are few.
#[must_use]
pub fn hint<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = near(found, candidates.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let all: Vec<String> = candidates.into_iter().map(|c| format!("`{c}`")).collect();
    (!all.is_empty()).then(|| match all.len() {
        1 => format!("the only choice is {}", all[0]),
        2..=24 => format!("choose from {}", all.join(", ")),
        n => format!("choose from {} and {} more", all[..24].join(", "), n - 24),
    })
}
