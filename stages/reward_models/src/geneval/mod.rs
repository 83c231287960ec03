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
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use tch::{Device, Tensor};

pub use colour::{COLOURS, Colours, Namer};
pub use frame::{Frame, Input, LIMITS};
pub use instances::{Instance, instances};
pub use opdflow_rewards::opencv::linear;

/// Opens it from the folder of its parts.
///
/// # Errors
/// A file is missing, malformed or not supported; the message names it.
pub fn open(folder: &Path, device: Device) -> Result<Box<dyn Reward>> {
    Ok(Box::new(Geneval::new(Photographs::of_parts(folder, device)?)))
}

/// What says where things are in an image: Mask2Former, but for tests.
pub trait Segmenter: Send {
    /// Logits for an image `[1, 3, H, W]`, normalised.
    fn segment(&self, image: &Tensor) -> Segments;
}

impl Segmenter for Mask2Former {
    fn segment(&self, image: &Tensor) -> Segments {
        self.forward(image)
    }
}

impl Namer for Clip {
    fn image(&self, image: &Image) -> Result<Tensor> {
        self.encode_image(std::slice::from_ref(image))
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

    fn objects(&self, image: &Image) -> Result<Vec<Object>> {
        let _off = tch::no_grad_guard();
        let (x, frame) = self.input.of(image, self.device)?;
        let segments = self.segmenter.lock().unwrap_or_else(PoisonError::into_inner).segment(&x);
        let finite = |x: &Tensor| x.isfinite().all().int64_value(&[]) != 0;
        ensure!(finite(&segments.classes) && finite(&segments.masks), "the detector's logits are not finite");
        let object = |found: Instance| Object {
            class: self.classes[found.class].clone(),
            bounds: found.bounds.map(|side| side as f64),
            confidence: found.confidence,
            mask: Some(found.mask),
        };
        // What is no surer than GenEval's lowest threshold would be dropped there, after the work of drawing it.
        Ok(instances(&segments, &frame, CONFIDENT).into_iter().map(object).collect())
    }
}

impl Detector for Photographs {
    fn name(&self) -> &str {
        "mask2former"
    }

    fn knows(&self, class: &str) -> bool {
        self.classes.iter().any(|c| c == class)
    }

    fn detect(&self, image: &Image) -> Result<Vec<Object>, RewardError> {
        self.objects(image).map_err(failed)
    }

    fn colour(&self, image: &Image, object: &Object) -> Result<Option<String>, RewardError> {
        let _off = tch::no_grad_guard();
        let mut colours = self.colours.lock().unwrap_or_else(PoisonError::into_inner);
        colours.of(image, object).map(|colour| Some(colour.to_owned())).map_err(failed)
    }
}

fn failed(e: anyhow::Error) -> RewardError {
    RewardError::Failed { reward: REWARD_MODEL.name.to_owned(), why: format!("{e:#}") }
}
