//! Did you mean?

/// Characters of a name that something could be near to.
const LONG: usize = 200;

/// Names that are compared for one recipe, all its mistakes together: a second or so. A recipe of many stages that are
/// all mistyped would take minutes otherwise.
const COMPARED: usize = 2_000_000;

/// [`hint`] for the mistakes of one recipe. After very many of them nothing more is looked for.
pub(crate) struct Hints(usize);

impl Default for Hints {
    fn default() -> Self {
        Self(COMPARED)
    }
}

impl Hints {
    /// A near one of `count` candidates, or all if they are few.
    pub fn hint<'a>(
        &mut self,
        found: &str,
        count: usize,
        candidates: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Option<String> {
        self.0 = self.0.checked_sub(count)?;
        hint(found, candidates)
    }
}

/// The candidate nearest to what was written, if one is near enough to be meant.
#[must_use]
pub fn near<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = found.chars().count();
    let far = length.max(3).div_ceil(3);
    // A text that goes on and on is no mistyped name.
    let found = if length > LONG { "" } else { &found.to_lowercase() };
    candidates
        .into_iter()
        .filter(|c| c.chars().count().abs_diff(length) <= far)
        .map(|c| (strsim::damerau_levenshtein(found, &c.to_lowercase()), c))
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
    let count = candidates.clone().into_iter().count();
    let all: Vec<String> = candidates.into_iter().take(24).map(|c| format!("`{c}`")).collect();
    (!all.is_empty()).then(|| match count {
        1 => format!("the only choice is {}", all[0]),
        2..=24 => format!("choose from {}", all.join(", ")),
        n => format!("choose from {} and {} more", all.join(", "), n - 24),
    })
}
