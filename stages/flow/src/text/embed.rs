//! Prompts to conditioning, as diffusers' `StableDiffusion3Pipeline.encode_prompt`.

use super::clip::ClipText;
use super::t5::T5Encoder;
use super::tokenizer::Tokenizer;
use anyhow::{Result, ensure};
use tch::{Device, Kind, Tensor};

/// The pipeline's default for the T5 part of the sequence.
pub const MAX_SEQUENCE_LENGTH: usize = 256;

/// Prompts as the transformer takes them.
#[derive(Debug)]
pub struct Embedded {
    /// `[B, L, D]`: the CLIP tokens, then the T5 tokens.
    pub context: Tensor,
    /// `[B, P]`: the pooled outputs of both CLIP encoders.
    pub pooled: Tensor,
}

impl Embedded {
    /// Number of prompts.
    pub fn len(&self) -> i64 {
        self.pooled.size()[0]
    }

    /// Whether there are no prompts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows named by `index` `[n]` (Int64), in its order, repeats allowed.
    pub fn select(&self, index: &Tensor) -> Embedded {
        let index = index.to_device(self.pooled.device());
        Embedded { context: self.context.index_select(0, &index), pooled: self.pooled.index_select(0, &index) }
    }

    /// Several one after the other, e.g. the unconditional rows before the conditional ones for guidance.
    pub fn cat(parts: &[&Embedded]) -> Embedded {
        let of = |f: fn(&Embedded) -> &Tensor| Tensor::cat(&parts.iter().map(|p| f(p)).collect::<Vec<_>>(), 0);
        Embedded { context: of(|e| &e.context), pooled: of(|e| &e.pooled) }
    }

    /// The rows of `index`, repeats allowed.
    pub fn rows(&self, index: &[i64]) -> Embedded {
        self.select(&Tensor::from_slice(index))
    }

    /// `count` rows from `start`.
    pub fn narrow(&self, start: i64, count: i64) -> Embedded {
        Embedded { context: self.context.narrow(0, start, count), pooled: self.pooled.narrow(0, start, count) }
    }

    /// The same rows on another device and in another kind.
    pub fn to(&self, device: Device, kind: Kind) -> Embedded {
        let to = |t: &Tensor| t.to_device(device).to_kind(kind);
        Embedded { context: to(&self.context), pooled: to(&self.pooled) }
    }
}

/// Prompts as ids of the three tokenizers.
pub struct Tokens {
    /// `[B, clip length]` (Int64) for each CLIP encoder.
    pub clip: [Tensor; 2],
    /// `[B, T5 length]` (Int64); none where the encoder was left out.
    pub t5: Option<Tensor>,
    /// Length of the T5 part, with or without encoder.
    pub t5_length: i64,
}

impl Tokens {
    /// The rows named by `index` `[n]` (Int64).
    pub fn select(&self, index: &Tensor) -> Tokens {
        let of = |t: &Tensor| t.index_select(0, index);
        Tokens { clip: [of(&self.clip[0]), of(&self.clip[1])], t5: self.t5.as_ref().map(of), t5_length: self.t5_length }
    }
}

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
                Some(ids)
            }
            _ => None,
        };
        Ok(Tokens { clip: [clip(0)?, clip(1)?], t5, t5_length: t5_length as i64 })
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
    pub fn encode(&self, tokens: &Tokens) -> Result<Embedded> {
        let (mut hidden, mut pooled) = (Vec::new(), Vec::new());
        for ((_, clip), ids) in self.clip.iter().zip(&tokens.clip) {
            let out = clip.forward(ids)?;
            hidden.push(out.hidden);
            pooled.push(out.pooled);
        }
        let clip = Tensor::cat(&hidden, -1);
        let clip = clip.constant_pad_nd([0, self.width - clip.size()[2]]);
        let t5 = match (&self.t5, &tokens.t5) {
            (Some(t5), Some(ids)) => t5.forward(ids)?.to_kind(clip.kind()),
            _ => Tensor::zeros([clip.size()[0], tokens.t5_length, self.width], (clip.kind(), clip.device())),
        };
        Ok(Embedded { context: Tensor::cat(&[clip, t5], 1), pooled: Tensor::cat(&pooled, -1) })
    }

    /// Embeds prompts, without gradients, in the encoders' kind. Each is encoded in a batch of its own: which kernel a
    /// product takes, and with it the last bit, may depend on the number of rows, and a prompt must become the same
    /// bytes whatever it is asked for with.
    pub fn embed<S: AsRef<str>>(&self, prompts: &[S], t5_length: usize) -> Result<Embedded> {
        let _guard = tch::no_grad_guard();
        if prompts.is_empty() {
            return self.encode(&self.tokens(prompts, t5_length)?);
        }
        let one = |prompt: &S| self.encode(&self.tokens(&[prompt], t5_length)?);
        let rows = prompts.iter().map(one).collect::<Result<Vec<_>>>()?;
        Ok(Embedded::cat(&rows.iter().collect::<Vec<_>>()))
    }
}

/// Fails when an id of `ids` (Int64) is not below `size`. A tokenizer may know more tokens than the encoder beside it;
/// looking one up there would abort the process.
pub fn in_vocabulary(ids: &Tensor, size: i64, which: &str) -> Result<()> {
    if ids.numel() > 0 {
        let max = ids.max().int64_value(&[]);
        ensure!(
            max < size,
            "the {which} tokenizer gives id {max}, the encoder knows {size} tokens: they do not belong together"
        );
    }
    Ok(())
}
