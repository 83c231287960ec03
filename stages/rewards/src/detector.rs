//! What finds the objects in an image.

mod shapes;

use crate::{Image, RewardError};

pub use shapes::Shapes;

/// An object in an image.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// Class name, as the metadata write it.
    pub class: String,
    /// Left, top, right, bottom in pixels; right and bottom are outside.
    pub bounds: [f64; 4],
    /// How sure the detector is, 0 to 1.
    pub confidence: f64,
    /// Which pixels within the bounds, then whole numbers, are its own, row by row; for detectors that tell.
    pub mask: Option<Vec<bool>>,
}

/// Finds objects and names their colours. GenEval's own uses Mask2Former and CLIP.
pub trait Detector: Send + Sync {
    /// Its short name.
    fn name(&self) -> &str;

    /// Whether it can find objects of this class at all.
    fn knows(&self, class: &str) -> bool;

    /// The objects in each image, in any order.
    ///
    /// # Errors
    /// When the detector's model fails.
    fn detect(&self, images: &[Image]) -> Result<Vec<Vec<Object>>, RewardError>;

    /// The colour of each of these objects, which [`Detector::detect`] found in this image: one of GenEval's ten names; `None` when it
    /// has none of them.
    ///
    /// # Errors
    /// When the detector's model fails.
    fn colours(&self, image: &Image, objects: &[&Object]) -> Result<Vec<Option<String>>, RewardError>;
}
