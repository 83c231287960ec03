//! What a served reward may be called, and the variables of the environment that have its name.

/// What a name is made of.
pub const NAME: &str = "a name is a small letter, then small letters, digits and `_`, 64 at the most";

/// Whether a served reward or one of its measures may be called so. Names of variables are made of it in capital letters, so that
/// two names never share one.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    name.len() <= 64 && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(rest)
}

/// The variable of the environment that says where the server of a reward is.
#[must_use]
pub fn url_variable(reward: &str) -> String {
    format!("OPDFLOW_REWARD_{}_URL", reward.to_ascii_uppercase())
}

/// The variable of the environment that holds the token for it, if it wants one.
#[must_use]
pub fn token_variable(reward: &str) -> String {
    format!("OPDFLOW_REWARD_{}_TOKEN", reward.to_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_give_variables_that_are_nobody_elses() {
        assert!(is_name("unifiedreward") && is_name("a1_b"));
        for bad in ["", "A", "1a", "a-b", "a.b", "_a", "ä", &"a".repeat(65)] {
            assert!(!is_name(bad), "{bad}");
        }
        assert_eq!(url_variable("my_judge"), "OPDFLOW_REWARD_MY_JUDGE_URL");
        assert_eq!(token_variable("my_judge"), "OPDFLOW_REWARD_MY_JUDGE_TOKEN");
    }
}
