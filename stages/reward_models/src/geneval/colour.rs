//! The colour of an object, by asking CLIP which of ten it goes best with: GenEval's `color_classification`.

use anyhow::{Result, ensure};
use opdflow_rewards::Image;
use opdflow_rewards::detector::Object;
use std::collections::HashMap;
use tch::Tensor;

/// GenEval's colours.
pub const COLOURS: [&str; 10] =
    ["red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white"];
/// What stands where the object is not, `#999`.
const GROUND: u8 = 0x99;

/// Puts images and texts into one space: CLIP, but for tests.
pub trait Namer: Send {
    /// An image as a row `[1, D]` of length 1.
    ///
    /// # Errors
    /// When the image is malformed.
    fn image(&self, image: &Image) -> Result<Tensor>;

    /// Texts as rows `[n, D]` of length 1.
    ///
    /// # Errors
    /// When the tokenizer and the network do not belong together.
    fn texts(&self, texts: &[String]) -> Result<Tensor>;
}

/// Tells an object's colour. The texts of a class are read once.
pub struct Colours {
    namer: Box<dyn Namer>,
    /// For each class the ten colours' rows `[10, D]`.
    known: HashMap<String, Tensor>,
}

impl Colours {
    /// By some network.
    pub fn new(namer: impl Namer + 'static) -> Colours {
        Colours { namer: Box::new(namer), known: HashMap::new() }
    }

    /// The colour of an object in its image, one of [`COLOURS`]: there is always one that goes best.
    ///
    /// # Errors
    /// When the object lies outside of the image, or the network fails.
    pub fn of(&mut self, image: &Image, object: &Object) -> Result<&'static str> {
        let best = self.cosines(image, object)?.argmax(0, false).int64_value(&[]);
        Ok(COLOURS[usize::try_from(best)?])
    }

    /// How well an object goes with each of [`COLOURS`]: `[10]`, -1 to 1.
    ///
    /// # Errors
    /// As for [`Colours::of`].
    pub fn cosines(&mut self, image: &Image, object: &Object) -> Result<Tensor> {
        let row = self.namer.image(&cut_out(image, object)?)?;
        if !self.known.contains_key(&object.class) {
            self.known.insert(object.class.clone(), self.rows(&object.class)?);
        }
        Ok(row.matmul(&self.known[&object.class].tr()).squeeze_dim(0))
    }

    /// A row for each colour: the mean of three phrasings, brought back to length 1. `[10, D]`.
    fn rows(&self, class: &str) -> Result<Tensor> {
        let rows = COLOURS.iter().map(|colour| {
            let mean = self.namer.texts(&phrasings(colour, class))?.mean_dim([0i64].as_slice(), false, None);
            Ok(&mean / mean.norm())
        });
        Ok(Tensor::stack(&rows.collect::<Result<Vec<_>>>()?, 0))
    }
}

/// GenEval's three ways to say it.
fn phrasings(colour: &str, class: &str) -> [String; 3] {
    [
        format!("a photo of a {colour} {class}"),
        format!("a photo of a {colour}-colored {class}"),
        format!("a photo of a {colour} object"),
    ]
}

/// The object's box of the image, grey where its mask is not.
fn cut_out(image: &Image, object: &Object) -> Result<Image> {
    let whole =
        |side: f64, most: usize| (side >= 0.0 && side <= most as f64 && side.fract() == 0.0).then_some(side as usize);
    let [left, top, right, bottom] = object.bounds;
    let (w, h) = (image.width, image.height);
    let inside = |at: f64, to: f64, most: usize| Some((whole(at, most)?, whole(to, most).filter(|_| to > at)?));
    let (Some((left, right)), Some((top, bottom))) = (inside(left, right, w), inside(top, bottom, h)) else {
        anyhow::bail!("a box {:?} in an image of {w}x{h}", object.bounds)
    };
    let (width, height) = (right - left, bottom - top);
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in top..bottom {
        rgb.extend_from_slice(&image.rgb[3 * (y * w + left)..3 * (y * w + right)]);
    }
    if let Some(mask) = &object.mask {
        ensure!(mask.len() == width * height, "a mask of {} pixels in a box of {width}x{height}", mask.len());
        let pixels = rgb.chunks_exact_mut(3).zip(mask);
        pixels.filter(|(_, own)| !**own).for_each(|(pixel, _)| pixel.fill(GROUND));
    }
    Ok(Image { width, height, rgb })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Texts lie where the test says; images where their mean colour points.
    struct Table(Arc<Mutex<Vec<String>>>);

    impl Namer for Table {
        fn image(&self, image: &Image) -> Result<Tensor> {
            let mean = |c: usize| image.rgb.iter().skip(c).step_by(3).map(|&v| f32::from(v)).sum::<f32>();
            let row = Tensor::from_slice(&[mean(0), mean(1), mean(2)]).view([1, 3]);
            Ok(&row / row.norm())
        }

        fn texts(&self, texts: &[String]) -> Result<Tensor> {
            self.0.lock().unwrap().extend_from_slice(texts);
            let row = |text: &String| match text.as_str() {
                t if t.contains(" red") => [1f32, 0.0, 0.0],
                // One phrasing of three points away; the mean does not.
                "a photo of a green object" => [0.0, 0.0, 1.0],
                t if t.contains(" green") => [0.0, 1.0, 0.0],
                t if t.contains(" blue") => [0.0, 0.0, 1.0],
                _ => [-1.0, 0.0, 0.0],
            };
            Ok(Tensor::from_slice(&texts.iter().flat_map(row).collect::<Vec<_>>()).view([-1, 3]))
        }
    }

    fn object(bounds: [f64; 4], mask: Option<Vec<bool>>) -> Object {
        Object { class: "cup".into(), bounds, confidence: 1.0, mask }
    }

    #[test]
    fn a_colour_by_the_mean_of_three_phrasings() {
        let asked = Arc::default();
        let mut colours = Colours::new(Table(Arc::clone(&asked)));
        // Left half red, right half green, on 4x1.
        let image = Image::new(4, 1, [[255, 0, 0], [255, 0, 0], [0, 255, 0], [0, 255, 0]].concat()).unwrap();
        assert_eq!(colours.of(&image, &object([0.0, 0.0, 2.0, 1.0], None)).unwrap(), "red");
        assert_eq!(colours.of(&image, &object([2.0, 0.0, 4.0, 1.0], None)).unwrap(), "green");
        // Both halves within the box, but only the green one within the mask.
        let mask = Some(vec![false, false, true, true]);
        assert_eq!(colours.of(&image, &object([0.0, 0.0, 4.0, 1.0], mask)).unwrap(), "green");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 30, "each class is read once");
        assert_eq!(asked[..3], ["a photo of a red cup", "a photo of a red-colored cup", "a photo of a red object"]);
    }

    #[test]
    fn the_ground_is_grey() {
        let image = Image::new(2, 2, (0..12).collect()).unwrap();
        let cut = cut_out(&image, &object([0.0, 1.0, 2.0, 2.0], Some(vec![false, true]))).unwrap();
        assert_eq!((cut.width, cut.height, cut.rgb), (2, 1, vec![0x99, 0x99, 0x99, 9, 10, 11]));
        for (bounds, mask) in [
            ([0.0, 0.0, 3.0, 1.0], None),
            ([1.0, 0.0, 1.0, 1.0], None),
            ([0.5, 0.0, 2.0, 1.0], None),
            ([f64::NAN, 0.0, 2.0, 1.0], None),
            ([0.0, 0.0, 2.0, 2.0], Some(vec![true])),
        ] {
            assert!(cut_out(&image, &object(bounds, mask)).is_err(), "{bounds:?}");
        }
    }
}
