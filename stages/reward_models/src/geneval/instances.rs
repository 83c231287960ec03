//! From the network's logits to objects, as mmdetection does it for GenEval.
//!
//! This follows `MaskFormerFusionHead.instance_postprocess` of mmdetection 2.x. The classes compete by a softmax, "no
//! object" among them. Of all pairs of query and class the 100 surest are taken, so that one query may stand for
//! several classes. Mask logits are resized (bilinear) to the network's input, cut to the image's part of it and
//! resized to the image; a mask is where they are above 0. A pair's confidence is its class's probability times the
//! mean probability of the mask's pixels. The box is the mask's.
//!
//! `Mask2FormerImageProcessor.post_process_instance_segmentation` of transformers does otherwise: it resizes logits to
//! 384x384, cuts and scores masks there and brings them to the image by the nearest pixel; of objects that overlap
//! the later one has the pixels; and there are no boxes.

use super::frame::Frame;
use crate::mask2former::Segments;
use std::collections::HashMap;
use tch::{Device, Kind, Tensor};

/// Most pairs of query and class that are looked at: mmdetection's `max_per_image`.
const MOST: usize = 100;
/// Keeps the mean of an empty mask finite, as upstream.
const EPS: f64 = 1e-6;

/// Something that the network found.
#[derive(Clone, Debug, PartialEq)]
pub struct Instance {
    /// Its class's number.
    pub class: usize,
    /// 0 to 1.
    pub confidence: f64,
    /// Left, top, right, bottom in pixels; right and bottom are outside.
    pub bounds: [usize; 4],
    /// Which pixels within the bounds are its own, row by row.
    pub mask: Vec<bool>,
}

/// A query's mask on the image.
#[derive(Clone)]
struct Outline {
    bounds: [usize; 4],
    mask: Vec<bool>,
    /// Mean probability of its pixels.
    score: f64,
}

/// The objects of one image, of `segments` whose batch is 1, the surest classes first. Pairs whose class is no surer
/// than `floor` are left out, as their confidence cannot be above it; and so are empty masks, whose confidence is 0.
pub fn instances(segments: &Segments, frame: &Frame, floor: f64) -> Vec<Instance> {
    let sure = segments.classes.get(0).softmax(-1, Kind::Float);
    let classes = sure.size()[1] - 1;
    let sure = Vec::<f32>::try_from(sure.narrow(1, 0, classes).contiguous().view(-1).to_device(Device::Cpu));
    let sure = sure.expect("f32 on the CPU");
    let mut pairs: Vec<usize> = (0..sure.len()).collect();
    // Equals keep their order, so that the result is always the same.
    pairs.sort_by(|&a, &b| sure[b].total_cmp(&sure[a]));
    pairs.truncate(MOST);
    let mut outlines = HashMap::new();
    let object = |pair: usize| {
        let (query, class) = (pair / classes as usize, pair % classes as usize);
        let masks = segments.masks.get(0);
        let outline = outlines.entry(query).or_insert_with(|| outline(&masks.get(query as i64), frame)).clone()?;
        let confidence = f64::from(sure[pair]) * outline.score;
        Some(Instance { class, confidence, bounds: outline.bounds, mask: outline.mask })
    };
    pairs.into_iter().take_while(|&pair| f64::from(sure[pair]) > floor).filter_map(object).collect()
}

/// Mask logits `[h, w]` of the network's input as an outline on the image; nothing if no pixel is inside.
fn outline(logits: &Tensor, frame: &Frame) -> Option<Outline> {
    let to = |x: &Tensor, [w, h]: [usize; 2]| x.upsample_bilinear2d([h as i64, w as i64], false, None, None);
    let [w, h] = frame.fitted.map(|side| side as i64);
    let x = to(&logits.unsqueeze(0).unsqueeze(0), frame.padded).narrow(2, 0, h).narrow(3, 0, w);
    let x = to(&x, frame.image).squeeze();
    let x = x.view([frame.image[1] as i64, frame.image[0] as i64]);
    let inside = x.gt(0.0);
    let share = inside.to_kind(Kind::Float);
    let score = (x.sigmoid() * &share).sum(Kind::Float) / (share.sum(Kind::Float) + EPS);
    let [(left, right), (top, bottom)] = [extent(&inside, 0)?, extent(&inside, 1)?];
    let part = inside.narrow(0, top, bottom - top).narrow(1, left, right - left);
    let mask = Vec::<bool>::try_from(part.contiguous().view(-1).to_device(Device::Cpu)).expect("bool on the CPU");
    let bounds = [left, top, right, bottom].map(|side| side as usize);
    Some(Outline { bounds, mask, score: score.double_value(&[]) })
}

/// First and behind the last of the places on the axis that is left when `dim` is gone.
fn extent(inside: &Tensor, dim: i64) -> Option<(i64, i64)> {
    let line = Vec::<bool>::try_from(inside.any_dim(dim, false).to_device(Device::Cpu)).expect("bool on the CPU");
    let first = line.iter().position(|&x| x)?;
    let last = line.iter().rposition(|&x| x)?;
    Some((first as i64, last as i64 + 1))
}
