//! What a reward model is made of, and what is said of it before its files are opened.

/// CLIP ViT-L/14, which several reward models see with.
pub const CLIP: ModelPart = ModelPart {
    name: "clip",
    about: "the folder openai/clip-vit-large-patch14 as published, with model.safetensors",
    weights: true,
    optional: false,
};

/// Something that a reward model is made of: a folder as published, or one file of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelPart {
    /// Its name, which is also that of its folder.
    pub name: &'static str,
    /// What it is and where it is published.
    pub about: &'static str,
    /// Whether weights are read of it. Of a folder that is there for its tokenizer alone they are left where they are.
    pub weights: bool,
    /// Whether the reward model does without it.
    pub optional: bool,
}

/// A kind of reward model.
pub struct RewardModel {
    /// The reward's name, as recipes write it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// What it is made of.
    pub parts: &'static [ModelPart],
    /// The named measures of its scores, beside their value.
    pub measures: &'static [&'static str],
    /// The measure that tables show under its name, where it is not the value.
    pub shown: Option<&'static str>,
}
