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
    /// Images as rows `[n, D]` of length 1.
    ///
    /// # Errors
    /// When an image is malformed.
    fn images(&self, images: &[Image]) -> Result<Tensor>;

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

    /// The colours of objects in their image, each one of [`COLOURS`]: there is always one that goes best.
    ///
    /// # Errors
    /// When an object lies outside of the image, or the network fails.
    pub fn of(&mut self, image: &Image, objects: &[&Object]) -> Result<Vec<&'static str>> {
        let best = |cosines: Tensor| Ok(COLOURS[usize::try_from(cosines.argmax(0, false).int64_value(&[]))?]);
        self.cosines(image, objects)?.into_iter().map(best).collect()
    }

    /// How well each object goes with each of [`COLOURS`]: `[10]`, -1 to 1. What is cut out of an image goes through the network
    /// together.
    ///
    /// # Errors
    /// As for [`Colours::of`].
    pub fn cosines(&mut self, image: &Image, objects: &[&Object]) -> Result<Vec<Tensor>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let parts = objects.iter().map(|object| cut_out(image, object)).collect::<Result<Vec<_>>>()?;
        let rows = self.namer.images(&parts)?;
        let mut found = Vec::with_capacity(objects.len());
        for (i, object) in objects.iter().enumerate() {
            if !self.known.contains_key(&object.class) {
                self.known.insert(object.class.clone(), self.rows(&object.class)?);
            }
            let row = rows.narrow(0, i as i64, 1);
            found.push(row.matmul(&self.known[&object.class].tr()).squeeze_dim(0));
        }
        Ok(found)
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
        fn images(&self, images: &[Image]) -> Result<Tensor> {
            let row = |image: &Image| {
                let mean = |c: usize| image.rgb.iter().skip(c).step_by(3).map(|&v| f32::from(v)).sum::<f32>();
                let row = Tensor::from_slice(&[mean(0), mean(1), mean(2)]);
                &row / row.norm()
            };
            Ok(Tensor::stack(&images.iter().map(row).collect::<Vec<_>>(), 0))
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
        let (left, right) = (object([0.0, 0.0, 2.0, 1.0], None), object([2.0, 0.0, 4.0, 1.0], None));
        assert_eq!(colours.of(&image, &[&left, &right]).unwrap(), ["red", "green"]);
        assert!(colours.of(&image, &[]).unwrap().is_empty());
        // Both halves within the box, but only the green one within the mask.
        let mask = Some(vec![false, false, true, true]);
        assert_eq!(colours.of(&image, &[&object([0.0, 0.0, 4.0, 1.0], mask)]).unwrap(), ["green"]);
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
