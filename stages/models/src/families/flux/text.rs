//! Prompts to conditioning, as diffusers' `FluxPipeline.encode_prompt`: CLIP-L gives the pooled text alone, T5 the tokens.

use super::{FluxConfig, LONGEST_TEXT};
use crate::condition::{Condition, Tokens};
use crate::network::{Cut, Text, each_alone};
use crate::text::clip::ClipText;
use crate::text::in_vocabulary;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use anyhow::{Result, ensure};

/// The condition: `[B, L, D]`, the T5 tokens.
pub(super) const CONTEXT: &str = "context";
/// The condition: `[B, P]`, the pooled output of the CLIP encoder.
pub(super) const POOLED: &str = "pooled";

/// Tokens: ids `[B, length]` (Int64) for each encoder.
const IDS: [&str; 2] = ["clip", "t5"];

/// The text side of a folder. Drop it when all prompts are embedded: at full size it is 10 GB.
pub struct FluxText {
    /// `tokenizer` with `text_encoder`, without projection.
    pub clip: (Tokenizer, ClipText),
    /// `tokenizer_2` with `text_encoder_2`.
    pub t5: (Tokenizer, T5Encoder),
    /// Tokens of the text where nothing else is asked for ([`FluxConfig::max_sequence_length`]).
    pub length: usize,
}

impl FluxText {
    /// Whether the encoders fit a transformer of this configuration.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self, config: &FluxConfig) -> Result<()> {
        let (clip, pooled) = (self.clip.1.config().hidden_size, config.pooled_projection_dim);
        ensure!(
            clip == pooled,
            "the CLIP encoder is {clip} wide, the transformer's `pooled_projection_dim` is {pooled}"
        );
        let (t5, joint) = (self.t5.1.config().d_model, config.joint_attention_dim);
        ensure!(t5 == joint, "the T5 encoder is {t5} wide, the transformer's `joint_attention_dim` is {joint}");
        Ok(())
    }

    /// The length of the CLIP part: `model_max_length` of its tokenizer.
    #[must_use]
    pub fn clip_length(&self) -> usize {
        let (tokenizer, clip) = &self.clip;
        tokenizer.max_length().unwrap_or(clip.config().max_position_embeddings as usize)
    }

    /// The number of text tokens for a wanted one: never above the tokenizer's `model_max_length`. diffusers itself takes
    /// what it is given, up to [`LONGEST_TEXT`].
    #[must_use]
    pub fn t5_length(&self, wanted: usize) -> usize {
        self.t5.0.max_length().map_or(wanted, |max| max.min(wanted)).min(LONGEST_TEXT)
    }

    /// The number of text tokens: what is asked for, as upstream, or the default as far as the tokenizer goes.
    fn length(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| self.t5_length(self.length))
    }

    /// Tokenises prompts; `t5_length` is the number of text tokens that the transformer sees.
    ///
    /// # Errors
    /// A length that is too long or has no room for the special tokens; tokenizers and encoders that do not belong together.
    pub fn tokens<S: AsRef<str>>(&self, prompts: &[S], t5_length: usize) -> Result<Tokens> {
        ensure!(t5_length <= LONGEST_TEXT, "{t5_length} text tokens, FLUX.1 takes at most {LONGEST_TEXT}");
        let clip = self.clip.0.ids(prompts, self.clip_length())?;
        in_vocabulary(&clip, self.clip.1.config().vocab_size, "CLIP")?;
        let t5 = self.t5.0.ids(prompts, t5_length)?;
        in_vocabulary(&t5, self.t5.1.config().vocab_size, "T5")?;
        Tokens::new(IDS.into_iter().zip([clip, t5]))
    }

    /// How many of these prompts are longer than what is read of them: by CLIP, by T5. What CLIP does not read is missing
    /// from the pooled text alone.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    pub fn cut<'a>(&self, prompts: impl IntoIterator<Item = &'a str>, t5_length: usize) -> Result<[usize; 2]> {
        let mut cut = [0; 2];
        for prompt in prompts {
            for (n, (tokenizer, length)) in
                [(&self.clip.0, self.clip_length()), (&self.t5.0, t5_length)].into_iter().enumerate()
            {
                // A token is at least a byte long; a special token stands at either end.
                let short = prompt.is_ascii() && prompt.len() + 2 <= length;
                cut[n] += usize::from(!short && tokenizer.encode(prompt, usize::MAX)?.len() > length);
            }
        }
        Ok(cut)
    }

    /// Encodes tokens in one batch, with gradients where the caller has them on. `context` is `[B, T, joint_attention_dim]`,
    /// `pooled` `[B, pooled_projection_dim]`, in the encoders' kinds.
    ///
    /// # Errors
    /// More tokens than the CLIP encoder has places for.
    pub fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        let pooled = self.clip.1.forward(tokens.tensor(IDS[0])?)?.pooled;
        Condition::new([(CONTEXT, self.t5.1.forward(tokens.tensor(IDS[1])?)?), (POOLED, pooled)])
    }

    /// Embeds prompts, without gradients, each in a batch of its own, so that a prompt becomes the same bytes whatever it is
    /// asked for with.
    ///
    /// # Errors
    /// As for [`FluxText::tokens`] and [`FluxText::encode`].
    pub fn embed<S: AsRef<str>>(&self, prompts: &[S], t5_length: usize) -> Result<Condition> {
        each_alone(prompts, |some| self.encode(&self.tokens(some, t5_length)?))
    }
}

impl Text for FluxText {
    fn embed(&self, prompts: &[&str], length: Option<usize>) -> Result<Condition> {
        FluxText::embed(self, prompts, self.length(length))
    }

    fn cut(&self, prompts: &[&str], length: Option<usize>) -> Result<Vec<Cut>> {
        let length = self.length(length);
        let [clip, t5] = FluxText::cut(self, prompts.iter().copied(), length)?;
        let of_clip = Cut { encoder: "CLIP", length: self.clip_length(), count: clip };
        Ok(vec![of_clip, Cut { encoder: "T5", length, count: t5 }])
    }

    fn tokens(&self, prompts: &[&str]) -> Result<Tokens> {
        FluxText::tokens(self, prompts, self.length(None))
    }

    fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        FluxText::encode(self, tokens)
    }
}
