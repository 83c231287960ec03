//! Prompts to conditioning, as diffusers' `StableDiffusion3Pipeline.encode_prompt`.

use super::MAX_SEQUENCE_LENGTH;
use crate::condition::{Condition, Tokens};
use crate::network::{Cut, Text, each_alone};
use crate::text::clip::ClipText;
use crate::text::in_vocabulary;
use crate::text::t5::T5Encoder;
use crate::text::tokenizer::Tokenizer;
use anyhow::{Result, ensure};
use tch::{Kind, Tensor};

/// The condition: `[B, L, D]`, the CLIP tokens, then the T5 tokens.
pub(super) const CONTEXT: &str = "context";
/// The condition: `[B, P]`, the pooled outputs of both CLIP encoders.
pub(super) const POOLED: &str = "pooled";

/// Tokens: ids `[B, length]` (Int64) for each encoder. Those of a T5 that was left out are zeros, for their number.
const IDS: [&str; 3] = ["clip", "clip_2", "t5"];

/// The text side of a pipeline. Drop it when all prompts are embedded: at full size it is larger than the transformer.
pub struct TextEncoders {
    /// `tokenizer` with `text_encoder`, then `tokenizer_2` with `text_encoder_2`.
    pub clip: [(Tokenizer, ClipText); 2],
    /// `text_encoder_3`; without it its tokens are zero.
    pub t5: Option<T5Encoder>,
    /// `tokenizer_3`; it bounds the length of the T5 part even where the encoder is left out.
    pub t5_tokenizer: Option<Tokenizer>,
    /// The transformer's `joint_attention_dim`.
    pub width: i64,
}

impl TextEncoders {
    /// Whether the parts fit each other and a transformer with `pooled` pooled channels.
    pub fn check(&self, pooled: i64) -> Result<()> {
        let sum = |f: fn(&ClipText) -> i64| self.clip.iter().map(|(_, c)| f(c)).sum::<i64>();
        let (hidden, projected) = (sum(|c| c.config().hidden_size), sum(|c| c.config().projection_dim));
        ensure!(
            hidden <= self.width,
            "the CLIP encoders are {hidden} wide together, the transformer's `joint_attention_dim` is {}",
            self.width
        );
        ensure!(
            projected == pooled,
            "the CLIP encoders pool to {projected} channels, the transformer's `pooled_projection_dim` is {pooled}"
        );
        if let Some(t5) = &self.t5 {
            let d = t5.config().d_model;
            ensure!(
                d == self.width,
                "the T5 encoder is {d} wide, the transformer's `joint_attention_dim` is {}",
                self.width
            );
            ensure!(self.t5_tokenizer.is_some(), "a T5 encoder without its tokenizer");
        }
        Ok(())
    }

    /// The length of the CLIP part: `model_max_length` of the first tokenizer, for both, as upstream.
    pub fn clip_length(&self) -> usize {
        let (tokenizer, clip) = &self.clip[0];
        tokenizer.max_length().unwrap_or(clip.config().max_position_embeddings as usize)
    }

    /// The length of the T5 part for a wanted one: never above the tokenizer's `model_max_length`. diffusers itself takes
    /// what it is given.
    pub fn t5_length(&self, wanted: usize) -> usize {
        self.t5_tokenizer.as_ref().and_then(Tokenizer::max_length).map_or(wanted, |max| max.min(wanted))
    }

    /// The length of the T5 part: what is asked for, as upstream, or the pipeline's default as far as the tokenizer goes.
    fn length(&self, wanted: Option<usize>) -> usize {
        wanted.unwrap_or_else(|| self.t5_length(MAX_SEQUENCE_LENGTH))
    }

    /// Tokenises prompts. `t5_length` is that of the T5 part alone, with or without its encoder.
    pub fn tokens<S: AsRef<str>>(&self, prompts: &[S], t5_length: usize) -> Result<Tokens> {
        let clip = |which: usize| -> Result<Tensor> {
            let (tokenizer, clip) = &self.clip[which];
            let ids = tokenizer.ids(prompts, self.clip_length())?;
            in_vocabulary(&ids, clip.config().vocab_size, "CLIP")?;
            Ok(ids)
        };
        let t5 = match (&self.t5, &self.t5_tokenizer) {
            (Some(t5), Some(tokenizer)) => {
                let ids = tokenizer.ids(prompts, t5_length)?;
                in_vocabulary(&ids, t5.config().vocab_size, "T5")?;
                ids
            }
            _ => Tensor::zeros([prompts.len() as i64, t5_length as i64], (Kind::Int64, tch::Device::Cpu)),
        };
        Tokens::new(IDS.into_iter().zip([clip(0)?, clip(1)?, t5]))
    }

    /// How many of these prompts are longer than what is read of them: by the CLIP encoders, and by T5 where it is there.
    ///
    /// # Errors
    /// A prompt that cannot be tokenised.
    pub fn cut<'a>(&self, prompts: impl IntoIterator<Item = &'a str>, t5_length: usize) -> Result<[usize; 2]> {
        let mut cut = [0; 2];
        for prompt in prompts {
            // A token is at least a byte long; a special token stands at either end.
            let short = |length: usize| prompt.is_ascii() && prompt.len() + 2 <= length;
            let longer = |tokenizer: &Tokenizer, length: usize| -> Result<bool> {
                Ok(!short(length) && tokenizer.encode(prompt, usize::MAX)?.len() > length)
            };
            let [(first, _), (second, _)] = &self.clip;
            let length = self.clip_length();
            cut[0] += usize::from(longer(first, length)? || longer(second, length)?);
            if let (Some(_), Some(tokenizer)) = (&self.t5, &self.t5_tokenizer) {
                cut[1] += usize::from(longer(tokenizer, t5_length)?);
            }
        }
        Ok(cut)
    }

    /// Encodes tokens in one batch, with gradients where the caller has them on: for training, where the batch is part of
    /// what is computed.
    pub fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        let (mut hidden, mut pooled) = (Vec::new(), Vec::new());
        for ((_, clip), name) in self.clip.iter().zip(IDS) {
            let out = clip.forward(tokens.tensor(name)?)?;
            hidden.push(out.hidden);
            pooled.push(out.pooled);
        }
        let clip = Tensor::cat(&hidden, -1);
        let clip = clip.constant_pad_nd([0, self.width - clip.size()[2]]);
        let ids = tokens.tensor(IDS[2])?;
        let t5 = match &self.t5 {
            Some(t5) => t5.forward(ids)?.to_kind(clip.kind()),
            None => Tensor::zeros([clip.size()[0], ids.size()[1], self.width], (clip.kind(), clip.device())),
        };
        Condition::new([(CONTEXT, Tensor::cat(&[clip, t5], 1)), (POOLED, Tensor::cat(&pooled, -1))])
    }

    /// Embeds prompts, without gradients, in the encoders' kind, each in a batch of its own ([`each_alone`]).
    pub fn embed<S: AsRef<str>>(&self, prompts: &[S], t5_length: usize) -> Result<Condition> {
        each_alone(prompts, |some| self.encode(&self.tokens(some, t5_length)?))
    }
}

impl Text for TextEncoders {
    fn embed(&self, prompts: &[&str], length: Option<usize>) -> Result<Condition> {
        TextEncoders::embed(self, prompts, self.length(length))
    }

    fn cut(&self, prompts: &[&str], length: Option<usize>) -> Result<Vec<Cut>> {
        let length = self.length(length);
        let [clip, t5] = TextEncoders::cut(self, prompts.iter().copied(), length)?;
        let of_clip = Cut { encoder: "CLIP", length: self.clip_length(), count: clip };
        Ok(vec![of_clip, Cut { encoder: "T5", length, count: t5 }])
    }

    fn tokens(&self, prompts: &[&str]) -> Result<Tokens> {
        TextEncoders::tokens(self, prompts, self.length(None))
    }

    fn encode(&self, tokens: &Tokens) -> Result<Condition> {
        TextEncoders::encode(self, tokens)
    }
}
