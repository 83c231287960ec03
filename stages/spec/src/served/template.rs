//! The words that a chat model is asked with.

/// What stands for the prompt of the image.
pub const PROMPT: &str = "{prompt}";

/// How the name of a template of the program begins.
pub const BUNDLED: &str = "bundled:";

/// The published questions: the networks were trained with these words, so that they are an interface.
///
/// `unified_reward`: flow_grpo/rewards.py of yifan123/flow_grpo at 54809b5, `unifiedreward_score_sglang`.
/// `unified_reward_acs`: inference_qwen/UnifiedReward-2.0-inference/point_score_ACS_image_generation.py of CodeGoat24/UnifiedReward at
/// a759534.
const TEMPLATES: [(&str, &str); 2] = [
    (
        "bundled:unified_reward",
        "<image>\nYou are given a text caption and a generated image based on that caption. Your task is to evaluate this \
         image based on two key criteria:\n1. Alignment with the Caption: Assess how well this image aligns with the provided \
         caption. Consider the accuracy of depicted objects, their relationships, and attributes as described in the caption.\n2. \
         Overall Image Quality: Examine the visual quality of this image, including clarity, detail preservation, color \
         accuracy, and overall aesthetic appeal.\nBased on the above criteria, assign a score from 1 to 5 after 'Final \
         Score:'.\nYour task is provided as follows:\nText Caption: [{prompt}]",
    ),
    (
        "bundled:unified_reward_acs",
        "You are presented with a generated image and its associated text caption. Your task is to analyze the image across \
         multiple dimensions in relation to the caption. Specifically:\nProvide overall assessments for the image along the \
         following axes (each rated from 1 to 5):\n- Alignment Score: How well the image matches the caption in terms of \
         content.\n- Coherence Score: How logically consistent the image is (absence of visual glitches, object distortions, \
         etc.).\n- Style Score: How aesthetically appealing the image looks, regardless of caption accuracy.\n\nOutput your \
         evaluation using the format below:\n\nAlignment Score (1-5): X\nCoherence Score (1-5): Y\nStyle Score (1-5): Z\n\nYour \
         task is provided as follows:\nText Caption: [{prompt}]",
    ),
];

/// The words of a template of the program.
#[must_use]
pub(super) fn bundled(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(own, _)| *own == name).map(|(_, words)| *words)
}

/// Their names, in words.
pub(super) fn names() -> String {
    TEMPLATES.map(|(name, _)| format!("`{name}`")).join(" and ")
}

/// The question about an image of this prompt. A prompt that itself has `{prompt}` in it stands as it is.
#[must_use]
pub fn fill(template: &str, prompt: &str) -> String {
    template.split(PROMPT).collect::<Vec<_>>().join(prompt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_is_put_in_as_it_is() {
        assert_eq!(fill("a {prompt} b {prompt}", "{prompt} \"x\"\n"), "a {prompt} \"x\"\n b {prompt} \"x\"\n");
        assert_eq!(fill("no {name}", "x"), "no {name}");
    }

    /// Lengths and line breaks of the published words, counted in the sources.
    #[test]
    fn the_published_words_are_whole() {
        let words = bundled("bundled:unified_reward").unwrap();
        assert_eq!(words.matches('\n').count(), 6);
        assert!(!words.contains("  ") && words.starts_with("<image>\nYou are given") && words.ends_with("[{prompt}]"));
        let acs = bundled("bundled:unified_reward_acs").unwrap();
        assert!(!acs.contains("  ") && acs.matches('\n').count() == 13, "{}", acs.matches('\n').count());
    }
}
