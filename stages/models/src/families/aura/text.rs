//! Prompts to conditioning, as diffusers' `AuraFlowPipeline.encode_prompt`: the encoder sees the prompt's own tokens, and the states of
//! those that fill up are zero. The network sees all of them.

use super::{AuraConfig, TEXT, Umt5Encoder};
use crate::condition::{Condition, Tokens};
use crate::network::{Cut, Text, each_alone};
use crate::text::in_vocabulary;
use crate::text::tokenizer::Tokenizer;
use anyhow::{Result, ensure};

/// The condition: `[B, L, D]`, the text's tokens.
pub(super) const CONTEXT: &str = "context";

/// Tokens: ids `[B, L]` (Int64).
const IDS: &str = "ids";
/// Tokens: 1 for one of the prompt, 0 for one that fills up, `[B, L]` (Int64). Not by the ids: a prompt may hold the words of a
/// token that fills up.
const MASK: &str = "mask";

/// The text side of a folder. Drop it when all prompts are embedded.
pub struct AuraText {
    /// `tokenizer`.
    pub tokenizer: Tokenizer,
    /// `text_encoder`.
    pub encoder: Umt5Encoder,
}

impl AuraText {
    /// Whether the encoder fits a transformer of this configuration, and its tokenizer the encoder.
    ///
    /// # Errors
    /// They do not.
    pub fn check(&self, config: &AuraConfig) -> Result<()> {
        let (own, joint) = (self.encoder.config().d_model, config.joint_attention_dim);
        ensure!(own == joint, "the text encoder is {own} wide, the transformer's `joint_attention_dim` is {joint}");
        // The empty prompt, which guidance needs, would leave the encoder nothing to look at.
        let end = self.tokenizer.encode("", usize::MAX)?;
        ensure!(
            !end.is_empty(),
            "the tokenizer gives the empty prompt no token, not even its end: AuraFlow's puts `</s>` behind each prompt; take the \
             tokenizer.json of the published folder"
        );
        Ok(())
    }

    /// The number of text tokens: what is asked for, as upstream, or the default as far as the tokenizer goes.
    #[must_use]
    pub fn length(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| self.tokenizer.max_length().map_or(TEXT, |max| max.min(TEXT)))
    }

    /// Tokenises prompts to `length` tokens each.
    ///
    /// # Errors
    /// A length that has no room for the special tokens; a tokenizer and an encoder that do not belong together.
    pub fn tokens<S: AsRef<str>>(&self, prompts: &[S], length: usize) -> Result<Tokens> {
        let ids = self.tokenizer.ids(prompts, length)?;
        in_vocabulary(&ids, self.encoder.config().vocab_size, "UMT5")?;
        let mask = ids.zeros_like();
        for (row, prompt) in (0i64..).zip(prompts) {
            let own = self.tokenizer.encode(prompt.as_ref(), length)?.len() as i64;
            let _ = mask.get(row).narrow(0, 0, own).fill_(1i64);
        }
        Tokens::new([(IDS, ids), (MASK, mask)])
    }

    /// How many of these prompts are longer than `length` tokens.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    pub fn cut<'a>(&self, prompts: impl IntoIterator<Item = &'a str>, length: usize) -> Result<usize> {
        let mut cut = 0;
        for prompt in prompts {
            cut += usize::from(self.tokenizer.encode(prompt, usize::MAX)?.len() > length);
        }
        Ok(cut)
    }

    /// Encodes tokens in one batch, with gradients where the caller has them on. `context` is `[B, L, joint_attention_dim]`, in
    /// the encoder's kind.
    ///
    /// # Errors
    /// Tokens of another model.
    pub fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        let (ids, mask) = (tokens.tensor(IDS)?, tokens.tensor(MASK)?);
        let states = self.encoder.forward(ids, mask)?;
        let mask = mask.to_device(states.device()).unsqueeze(-1).to_kind(states.kind());
        Condition::new([(CONTEXT, states * mask)])
    }

    /// Embeds prompts, without gradients, each in a batch of its own, so that a prompt becomes the same bytes whatever it is
    /// asked for with.
    ///
    /// # Errors
    /// As for [`AuraText::tokens`] and [`AuraText::encode`].
    pub fn embed<S: AsRef<str>>(&self, prompts: &[S], length: usize) -> Result<Condition> {
        each_alone(prompts, |some| self.encode(&self.tokens(some, length)?))
    }
}

impl Text for AuraText {
    fn embed(&self, prompts: &[&str], length: Option<usize>) -> Result<Condition> {
        AuraText::embed(self, prompts, self.length(length))
    }

    fn cut(&self, prompts: &[&str], length: Option<usize>) -> Result<Vec<Cut>> {
        let length = self.length(length);
        let count = AuraText::cut(self, prompts.iter().copied(), length)?;
        Ok(vec![Cut { encoder: "UMT5", length, count }])
    }

    fn tokens(&self, prompts: &[&str]) -> Result<Tokens> {
        AuraText::tokens(self, prompts, self.length(None))
    }

    fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        AuraText::encode(self, tokens)
    }
}
