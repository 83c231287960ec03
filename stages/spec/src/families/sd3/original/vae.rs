//! The autoencoder's names in a single file: `AutoencoderKL` as latent diffusion first published it.

use crate::weights::{Cut, Place};

/// Where a tensor of diffusers' `AutoencoderKL` with `levels` levels lies below `prefix`. `pixels` says whether attention
/// is made of convolutions of one pixel, as the published files have it.
pub(super) fn tensor(name: &str, levels: usize, prefix: &str, pixels: bool) -> Place {
    let (side, rest) = match name.split_once('.') {
        Some((side @ ("encoder" | "decoder"), rest)) => (side, rest),
        _ => return Place::whole(format!("{prefix}{name}")),
    };
    let parts: Vec<&str> = rest.split('.').collect();
    let level = |text: &str| text.parse::<usize>().ok().filter(|i| *i < levels);
    let (there, cut) = match parts[..] {
        ["down_blocks", i, "resnets", j, ref tail @ ..] => (format!("down.{i}.block.{j}.{}", resnet(tail)), Cut::Whole),
        ["down_blocks", i, "downsamplers", "0", "conv", kind] => {
            (format!("down.{i}.downsample.conv.{kind}"), Cut::Whole)
        }
        ["up_blocks", i, ref tail @ ..] if level(i).is_some() => {
            // Levels count from the coarsest in diffusers, from the finest there.
            let i = levels - 1 - level(i).unwrap_or_default();
            let tail = match tail {
                ["resnets", j, tail @ ..] => format!("block.{j}.{}", resnet(tail)),
                ["upsamplers", "0", "conv", kind] => format!("upsample.conv.{kind}"),
                other => other.join("."),
            };
            (format!("up.{i}.{tail}"), Cut::Whole)
        }
        ["mid_block", "resnets", j, ref tail @ ..] => {
            let j = j.parse::<usize>().unwrap_or_default() + 1;
            (format!("mid.block_{j}.{}", resnet(tail)), Cut::Whole)
        }
        ["mid_block", "attentions", "0", "group_norm", kind] => (format!("mid.attn_1.norm.{kind}"), Cut::Whole),
        ["mid_block", "attentions", "0", ref tail @ .., kind] => {
            let layer = match tail {
                ["to_q"] => "q",
                ["to_k"] => "k",
                ["to_v"] => "v",
                _ => "proj_out",
            };
            let cut = if pixels && kind == "weight" { Cut::Pixel } else { Cut::Whole };
            (format!("mid.attn_1.{layer}.{kind}"), cut)
        }
        ["conv_norm_out", kind] => (format!("norm_out.{kind}"), Cut::Whole),
        _ => (rest.to_owned(), Cut::Whole),
    };
    Place { name: format!("{prefix}{side}.{there}"), cut }
}

fn resnet(tail: &[&str]) -> String {
    tail.join(".").replace("conv_shortcut", "nin_shortcut")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_published_ones() {
        let at = |name: &str| tensor(name, 4, "first_stage_model.", true);
        for (here, there) in [
            ("encoder.conv_in.weight", "encoder.conv_in.weight"),
            ("encoder.down_blocks.1.resnets.0.conv_shortcut.bias", "encoder.down.1.block.0.nin_shortcut.bias"),
            ("encoder.down_blocks.2.downsamplers.0.conv.weight", "encoder.down.2.downsample.conv.weight"),
            ("encoder.mid_block.resnets.1.norm2.weight", "encoder.mid.block_2.norm2.weight"),
            ("decoder.mid_block.attentions.0.to_out.0.bias", "decoder.mid.attn_1.proj_out.bias"),
            ("decoder.mid_block.attentions.0.group_norm.weight", "decoder.mid.attn_1.norm.weight"),
            ("decoder.up_blocks.0.resnets.2.conv1.weight", "decoder.up.3.block.2.conv1.weight"),
            ("decoder.up_blocks.2.upsamplers.0.conv.bias", "decoder.up.1.upsample.conv.bias"),
            ("decoder.conv_norm_out.bias", "decoder.norm_out.bias"),
        ] {
            assert_eq!(at(here), Place::whole(format!("first_stage_model.{there}")), "{here}");
        }
        let q = at("encoder.mid_block.attentions.0.to_q.weight");
        assert_eq!((q.name.as_str(), q.cut), ("first_stage_model.encoder.mid.attn_1.q.weight", Cut::Pixel));
    }
}
