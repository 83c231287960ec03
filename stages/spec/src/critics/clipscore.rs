//! CLIPScore: what it is made of.

use super::critic::{CLIP, Critic};

/// `clipscore`.
pub const CRITIC: Critic = Critic {
    name: "clipscore",
    about: "how well a picture fits its prompt: CLIP's cosine (ViT-L/14), about 0.2 to 0.3",
    parts: &[CLIP],
    measures: &["logit"],
    shown: None,
};
