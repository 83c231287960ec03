//! A model folder with random weights.

use anyhow::{Context as _, Result, ensure};
use opdflow_models::families::sd3::{Mmdit, MmditConfig};
use opdflow_models::text::clip::{ClipConfig, ClipText};
use opdflow_models::vae::{Vae, VaeConfig};
use opdflow_models::weights::{Scope, Weights, save_tensors};
use serde_json::{Map, Value, json};
use std::path::Path;
use tch::{Device, Kind, Tensor};

/// What is told apart by size. The form is always SD3.5 Medium's.
pub struct Sizes {
    layers: i64,
    heads: i64,
    head: i64,
    dual: i64,
    limit: i64,
    sample: i64,
    joint: i64,
    clip: [Clip; 2],
    vocabulary: i64,
    vae: [i64; 4],
    groups: i64,
}

/// A CLIP text encoder.
struct Clip {
    width: i64,
    inner: i64,
    pooled: i64,
    layers: i64,
    heads: i64,
    act: &'static str,
}

impl Sizes {
    /// The published configuration files.
    pub fn medium() -> Sizes {
        Sizes {
            layers: 24,
            heads: 24,
            head: 64,
            dual: 13,
            limit: 384,
            sample: 128,
            joint: 4096,
            clip: [
                Clip { width: 768, inner: 3072, pooled: 768, layers: 12, heads: 12, act: "quick_gelu" },
                Clip { width: 1280, inner: 5120, pooled: 1280, layers: 32, heads: 20, act: "gelu" },
            ],
            vocabulary: 49408,
            vae: [128, 256, 512, 512],
            groups: 32,
        }
    }

    /// Runs in a second anywhere.
    pub fn tiny() -> Sizes {
        let clip = |act| Clip { width: 8, inner: 16, pooled: 8, layers: 2, heads: 2, act };
        let (clip, vae) = ([clip("quick_gelu"), clip("gelu")], [8, 8, 8, 8]);
        Sizes {
            layers: 3,
            heads: 2,
            head: 8,
            dual: 2,
            limit: 16,
            sample: 8,
            joint: 24,
            clip,
            vocabulary: 600,
            vae,
            groups: 4,
        }
    }
}

/// Bytes of a shard, as diffusers cuts them by default, less the last tensor.
const SHARD: usize = 5_000_000_000;

/// Writes the folder, which must not be there yet.
pub fn make(to: &Path, sizes: &Sizes) -> Result<()> {
    ensure!(!to.exists(), "{} is there already", to.display());
    let width = sizes.heads * sizes.head;
    let pooled: i64 = sizes.clip.iter().map(|c| c.pooled).sum();
    let transformer = json!({
        "_class_name": "SD3Transformer2DModel", "sample_size": sizes.sample, "patch_size": 2, "in_channels": 16, "out_channels": 16,
        "num_layers": sizes.layers, "attention_head_dim": sizes.head, "num_attention_heads": sizes.heads,
        "joint_attention_dim": sizes.joint, "caption_projection_dim": width, "pooled_projection_dim": pooled,
        "pos_embed_max_size": sizes.limit, "qk_norm": "rms_norm", "dual_attention_layers": (0..sizes.dual).collect::<Vec<_>>(),
    });
    part::<MmditConfig>(to, "transformer", "diffusion_pytorch_model", transformer, |s, c| Mmdit::new(s, c).map(drop))?;
    let vae = json!({
        "_class_name": "AutoencoderKL", "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2,
        "down_block_types": vec!["DownEncoderBlock2D"; 4], "up_block_types": vec!["UpDecoderBlock2D"; 4], "act_fn": "silu",
        "block_out_channels": sizes.vae, "norm_num_groups": sizes.groups, "sample_size": sizes.sample * 8,
        "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": false, "use_post_quant_conv": false,
        "mid_block_add_attention": true, "force_upcast": true,
    });
    part::<VaeConfig>(to, "vae", "diffusion_pytorch_model", vae, |s, c| Vae::new(s, c).map(drop))?;
    for (clip, suffix) in sizes.clip.iter().zip(["", "_2"]) {
        let config = json!({
            "architectures": ["CLIPTextModelWithProjection"], "model_type": "clip_text_model", "vocab_size": sizes.vocabulary,
            "hidden_size": clip.width, "intermediate_size": clip.inner, "projection_dim": clip.pooled, "hidden_act": clip.act,
            "num_hidden_layers": clip.layers, "num_attention_heads": clip.heads, "max_position_embeddings": 77,
            "layer_norm_eps": 1e-5, "eos_token_id": 2,
        });
        let make = |s: &Scope, c: &ClipConfig| ClipText::new(s, c).map(drop);
        part::<ClipConfig>(to, &format!("text_encoder{suffix}"), "model", config, make)?;
        tokenizer(&to.join(format!("tokenizer{suffix}")), sizes.vocabulary)?;
    }
    let scheduler =
        json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0});
    write(&to.join("scheduler"), "scheduler_config.json", &scheduler)?;
    let clip = |part: &str| json!(["transformers", part]);
    let index = json!({
        "_class_name": "StableDiffusion3Pipeline", "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": clip("CLIPTextModelWithProjection"), "text_encoder_2": clip("CLIPTextModelWithProjection"),
        "tokenizer": clip("CLIPTokenizer"), "tokenizer_2": clip("CLIPTokenizer"),
        "text_encoder_3": [null, null], "tokenizer_3": [null, null],
    });
    write(to, "model_index.json", &index)
}

/// One part with its weights in bf16, sharded as diffusers does.
fn part<C: serde::de::DeserializeOwned>(
    to: &Path,
    name: &str,
    stem: &str,
    config: Value,
    make: impl FnOnce(&Scope, &C) -> Result<()>,
) -> Result<()> {
    let folder = to.join(name);
    write(&folder, "config.json", &config)?;
    let weights = Weights::new_dense(1, Device::Cpu);
    make(&weights.root(), &serde_json::from_value(config)?)?;
    let tensors = weights.tensors();
    drop(weights);
    let bytes = |t: &Tensor| t.numel() * 2;
    let total: usize = tensors.iter().map(|(_, t)| bytes(t)).sum();
    let mut shards: Vec<Vec<(String, Tensor)>> = vec![Vec::new()];
    let mut size = 0;
    // Small models too are cut, so that what is tried in small is what runs in large.
    let most = SHARD.min(total / 2 + 1);
    for (name, t) in tensors {
        if size + bytes(&t) > most && shards.last().is_some_and(|s| !s.is_empty()) {
            shards.push(Vec::new());
            size = 0;
        }
        size += bytes(&t);
        shards.last_mut().context("a shard")?.push((name, t));
    }
    let count = shards.len();
    let mut map = Map::new();
    for (i, shard) in shards.into_iter().enumerate() {
        let file = format!("{stem}-{:05}-of-{count:05}.safetensors", i + 1);
        map.extend(shard.iter().map(|(name, _)| (name.clone(), Value::from(file.as_str()))));
        save_tensors(folder.join(&file), &shard, Kind::BFloat16)?;
    }
    println!("{name}: {:.2} billion numbers in {count} shards", total as f64 / 2e9);
    write(
        &folder,
        &format!("{stem}.safetensors.index.json"),
        &json!({"metadata": {"total_size": total}, "weight_map": map}),
    )
}

/// A vocabulary of CLIP's form and size: the bytes, the bytes at the end of a word, filling, the two special tokens.
fn tokenizer(folder: &Path, size: i64) -> Result<()> {
    let printable = |b: u32| (33..=126).contains(&b) || (161..=172).contains(&b) || (174..=255).contains(&b);
    let mut spare = 256..;
    let order = (0..256).filter(|b| printable(*b)).chain((0..256).filter(|b| !printable(*b)));
    let symbols: Vec<String> =
        order.filter_map(|b| char::from_u32(if printable(b) { b } else { spare.next()? })).map(String::from).collect();
    let ends = symbols.iter().map(|s| format!("{s}</w>"));
    let known: Vec<String> = symbols.iter().cloned().chain(ends).collect();
    let filling = (known.len() as i64..size - 2).map(|i| format!("unused{i}</w>"));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let vocabulary: Map<String, Value> =
        known.iter().cloned().chain(filling).chain(special).enumerate().map(|(i, t)| (t, i.into())).collect();
    write(folder, "vocab.json", &Value::Object(vocabulary))?;
    std::fs::write(folder.join("merges.txt"), "#version: 0.2\n")?;
    let config = json!({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>", "add_prefix_space": false, "do_lower_case": true,
    });
    write(folder, "tokenizer_config.json", &config)
}

fn write(folder: &Path, name: &str, value: &Value) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(name);
    std::fs::write(&path, serde_json::to_vec_pretty(value)?).with_context(|| format!("cannot write {}", path.display()))
}
