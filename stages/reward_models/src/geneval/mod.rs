//! GenEval on photographs: its detector, Mask2Former, and its colours, by CLIP (Ghosh et al. 2023).
//!
//! Thresholds and rules are [`opdflow_rewards::Geneval`]'s. Here are the two networks and what lies between them and
//! the rules: an image is made ready (`frame.rs`), the network's logits become objects (`instances.rs`) with GenEval's
//! names (`opdflow_spec::reward_models::geneval`), and an object's colour is told (`colour.rs`).

mod colour;
mod frame;
mod instances;

use crate::clip::{Checkpoint, Clip};
use crate::mask2former::{Mask2Former, Segments};
use crate::parts;
use crate::pixels::{Fit, Pixels};
use anyhow::{Result, ensure};
use opdflow_rewards::detector::{Detector, Object};
use opdflow_rewards::geneval::CONFIDENT;
use opdflow_rewards::{Geneval, Image, Reward, RewardError};
pub use opdflow_spec::reward_models::geneval::{DETECTOR, REWARD_MODEL, classes, name_of};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Tensor};

pub use colour::{COLOURS, Colours, Namer};
pub use frame::{Frame, Input, LIMITS};
pub use instances::{Instance, instances};
pub use opdflow_rewards::opencv::linear;

/// Images that go through the detector together: enough to fill a GPU, at its 800x800 pixels each. A divisor of [`crate::BATCH`], so
/// that it does not matter to which of several processes images are dealt.
const TOGETHER: usize = 4;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Geneval::new(Photographs::of_parts(folder, device)?)))
}

/// What says where things are in an image: Mask2Former, but for tests.
pub trait Segmenter: Send {
    /// Logits for images of one size, `[B, 3, H, W]`, normalised.
    fn segment(&self, images: &Tensor) -> Segments;
}

impl Segmenter for Mask2Former {
    fn segment(&self, images: &Tensor) -> Segments {
        self.forward(images)
    }
}

impl Namer for Clip {
    fn images(&self, images: &[Image]) -> Result<Tensor> {
        self.encode_image(images)
    }

    fn texts(&self, texts: &[String]) -> Result<Tensor> {
        self.encode_text(texts)
    }
}

/// GenEval's detector.
pub struct Photographs {
    /// Behind locks, as tensors may not be seen by two threads at once.
    segmenter: Mutex<Box<dyn Segmenter>>,
    colours: Mutex<Colours>,
    input: Input,
    /// GenEval's names of the segmenter's classes.
    classes: Vec<String>,
    device: Device,
}

impl Photographs {
    /// A segmenter whose classes have these labels, and what tells colours.
    pub fn new(
        segmenter: impl Segmenter + 'static,
        labels: &[String],
        input: Input,
        colours: Colours,
        device: Device,
    ) -> Photographs {
        Photographs {
            segmenter: Mutex::new(Box::new(segmenter)),
            colours: Mutex::new(colours),
            input,
            classes: labels.iter().map(|label| name_of(label)).collect(),
            device,
        }
    }

    /// From the folders of the parts `detector` and `clip`.
    ///
    /// # Errors
    /// When a file is missing, malformed or not supported; the message names it.
    pub fn of_parts(folder: &Path, device: Device) -> Result<Photographs> {
        let (detector, clip) = (parts::folder(folder, &DETECTOR)?, parts::folder(folder, &parts::CLIP)?);
        let input = Input::open(&detector)?;
        let (network, config) = Mask2Former::open(&detector, device)?;
        // GenEval has open_clip make CLIP's images, from Pillow's.
        let pixels = Pixels { fit: Fit::Pillow, ..Pixels::from_folder(&clip)? };
        let colours = Clip::new(Checkpoint::open(&clip, None, device)?, &clip, pixels, device)?;
        Ok(Photographs::new(network, &config.id2label, input, Colours::new(colours), device))
    }

    /// The objects in a few images, of which those of one size go through the network together.
    fn objects(&self, images: &[Image]) -> Result<Vec<Vec<Object>>> {
        let _off = tch::no_grad_guard();
        let inputs = images.iter().map(|image| self.input.of(image, self.device)).collect::<Result<Vec<_>>>()?;
        let mut by_size: BTreeMap<[usize; 2], Vec<usize>> = BTreeMap::new();
        for (i, (_, frame)) in inputs.iter().enumerate() {
            by_size.entry(frame.padded).or_default().push(i);
        }
        let mut found = vec![Vec::new(); images.len()];
        for places in by_size.into_values() {
            let x = Tensor::cat(&places.iter().map(|i| &inputs[*i].0).collect::<Vec<_>>(), 0);
            let all = self.segmenter.lock().unwrap_or_else(PoisonError::into_inner).segment(&x);
            let finite = |x: &Tensor| x.isfinite().all().int64_value(&[]) != 0;
            ensure!(finite(&all.classes) && finite(&all.masks), "the detector's logits are not finite");
            for (row, i) in places.into_iter().enumerate() {
                let of = |x: &Tensor| x.narrow(0, row as i64, 1);
                let own = Segments { classes: of(&all.classes), masks: of(&all.masks) };
                found[i] = self.named(&own, &inputs[i].1);
            }
        }
        Ok(found)
    }

    /// What the network says of one image, as objects.
    fn named(&self, segments: &Segments, frame: &Frame) -> Vec<Object> {
        let object = |found: Instance| Object {
            class: self.classes[found.class].clone(),
            bounds: found.bounds.map(|side| side as f64),
            confidence: found.confidence,
            mask: Some(found.mask),
        };
        // What is no surer than GenEval's lowest threshold would be dropped there, after the work of drawing it.
        instances(segments, frame, CONFIDENT).into_iter().map(object).collect()
    }
}

impl Detector for Photographs {
    fn name(&self) -> &str {
        "mask2former"
    }

    fn knows(&self, class: &str) -> bool {
        self.classes.iter().any(|c| c == class)
    }

    fn detect(&self, images: &[Image]) -> Result<Vec<Vec<Object>>, RewardError> {
        let found = images.chunks(TOGETHER).map(|some| self.objects(some)).collect::<Result<Vec<_>>>();
        Ok(found.map_err(failed)?.concat())
    }

    fn colours(&self, image: &Image, objects: &[&Object]) -> Result<Vec<Option<String>>, RewardError> {
        let _off = tch::no_grad_guard();
        let mut colours = self.colours.lock().unwrap_or_else(PoisonError::into_inner);
        let found = colours.of(image, objects).map_err(failed)?;
        Ok(found.into_iter().map(|colour| Some(colour.to_owned())).collect())
    }
}

fn failed(e: anyhow::Error) -> RewardError {
    RewardError::Failed { reward: REWARD_MODEL.name.to_owned(), why: format!("{e:#}") }
}
