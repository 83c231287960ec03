//! Steps on images as OpenCV does them, which the published detectors and readers were run with.

mod crop;
mod resize;

pub use crop::crop;
pub use resize::linear;
