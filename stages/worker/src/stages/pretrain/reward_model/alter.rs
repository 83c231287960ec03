//! Images that are blurred, noisy, pale, grey or stronger than the miniature draws them: what a model that is being trained
//! may come to make.

use opdflow_models::rng::Choices;
use opdflow_rewards::Image;

/// Some changes at random, each with a strength of its own: saturation (0.3 to 2), contrast (0.4 to 1.8), brightness, a
/// blur, noise. What the image shows stays. One in ten is grey; the second value says so.
pub fn alter(image: &Image, choices: &mut Choices) -> (Image, bool) {
    let mut values: Vec<f64> = image.rgb.iter().map(|v| f64::from(*v)).collect();
    let grey = choices.unit() < 0.1;
    let saturation = if grey { 0.0 } else { between(choices, 0.5, [0.3, 2.0], 1.0) };
    let contrast = between(choices, 0.5, [0.4, 1.8], 1.0);
    let brightness = between(choices, 0.2, [-30.0, 30.0], 0.0);
    tone(&mut values, saturation, contrast, brightness);
    if choices.unit() < 0.4 {
        for _ in 0..=choices.below(2) {
            values = blurred(&values, image.width, image.height);
        }
    }
    if choices.unit() < 0.3 {
        let strength = 25.0 * choices.unit();
        for value in &mut values {
            // The sum of four uniform numbers is close to a normal one of deviation 1 / sqrt(3).
            let sum: f64 = (0..4).map(|_| choices.unit()).sum::<f64>() - 2.0;
            *value += strength * 3f64.sqrt() * sum;
        }
    }
    let rgb = values.into_iter().map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
    (Image { width: image.width, height: image.height, rgb }, grey)
}

/// With the probability `often` a number of the range, else `usual`.
fn between(choices: &mut Choices, often: f64, [low, high]: [f64; 2], usual: f64) -> f64 {
    let (drawn, at) = (choices.unit() < often, choices.unit());
    if drawn { low + (high - low) * at } else { usual }
}

/// Each pixel's distance from its own grey is scaled, then each value's from the image's mean, and the light is shifted.
fn tone(values: &mut [f64], saturation: f64, contrast: f64, brightness: f64) {
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    for pixel in values.chunks_exact_mut(3) {
        let light = 0.299 * pixel[0] + 0.587 * pixel[1] + 0.114 * pixel[2];
        for value in pixel {
            let coloured = light + saturation * (*value - light);
            *value = mean + contrast * (coloured - mean) + brightness;
        }
    }
}

/// The mean of each 3 by 3 pixels; the border repeats.
fn blurred(values: &[f64], width: usize, height: usize) -> Vec<f64> {
    let at = |x: usize, y: usize, c: usize| values[(y * width + x) * 3 + c];
    let near = |i: usize, most: usize| [i.saturating_sub(1), i, (i + 1).min(most - 1)];
    let mut out = Vec::with_capacity(values.len());
    for y in 0..height {
        for x in 0..width {
            for c in 0..3 {
                let sum: f64 = near(y, height).into_iter().flat_map(|v| near(x, width).map(|u| at(u, v, c))).sum();
                out.push(sum / 9.0);
            }
        }
    }
    out
}

/// An image of nothing that any prompt asks for, however well it looks: a plain colour, two halves, a gradient or noise.
pub fn blank(width: usize, height: usize, choices: &mut Choices) -> Image {
    let colour = |choices: &mut Choices| [0; 3].map(|_: i32| 255.0 * choices.unit());
    let (first, second, sort, upright) = (colour(choices), colour(choices), choices.below(4), choices.unit() < 0.5);
    let edge = choices.unit();
    let mut rgb = Vec::with_capacity(3 * width * height);
    for y in 0..height {
        for x in 0..width {
            let along = if upright { y as f64 / height as f64 } else { x as f64 / width as f64 };
            let part = match sort {
                0 => 0.0,
                1 => f64::from(u8::from(along > edge)),
                2 => along,
                _ => choices.unit(),
            };
            rgb.extend((0..3).map(|c| (first[c] + (second[c] - first[c]) * part).round().clamp(0.0, 255.0) as u8));
        }
    }
    Image { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tone_by_hand() {
        // Light 76.245 of pure red; the image's mean is 85.
        let mut red = [255.0, 0.0, 0.0];
        tone(&mut red, 0.0, 1.0, 0.0);
        assert!(red.iter().all(|v| (v - 76.245).abs() < 1e-9), "{red:?}");
        let mut red = [255.0, 0.0, 0.0];
        tone(&mut red, 1.0, 0.5, 10.0);
        assert_eq!(red, [180.0, 52.5, 52.5]);
    }

    #[test]
    fn a_blur_keeps_a_plain_image_and_spreads_a_point() {
        assert_eq!(blurred(&[7.0; 27], 3, 3), [7.0; 27]);
        let mut point = [0.0; 27];
        point[12] = 9.0;
        let out = blurred(&point, 3, 3);
        assert!(out.iter().step_by(3).all(|v| (*v - 1.0).abs() < 1e-12), "{out:?}");
    }

    #[test]
    fn altered_images_and_blanks_are_whole() {
        let mut choices = Choices::new(3);
        let image = Image { width: 4, height: 2, rgb: (0..24).map(|v| v * 10).collect() };
        for _ in 0..50 {
            let (altered, _) = alter(&image, &mut choices);
            assert!(altered.is_whole() && blank(4, 2, &mut choices).is_whole());
        }
    }
}
