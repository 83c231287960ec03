//! Little landscapes: sky, sun or moon, and hills.

use opdflow_rewards::Image;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

use crate::draw::{Canvas, shade};
use crate::{Colour, Family, Landscape, Mood, Prompt, SIDE, Split, split};

/// Colours of the zenith, of the horizon and of the sun or moon.
fn sky(mood: Mood) -> [[f32; 3]; 3] {
    match mood {
        Mood::Warm => [[225.0, 95.0, 70.0], [252.0, 196.0, 110.0], [255.0, 240.0, 190.0]],
        Mood::Cool => [[60.0, 120.0, 205.0], [170.0, 212.0, 240.0], [255.0, 250.0, 225.0]],
        Mood::Dark => [[8.0, 10.0, 30.0], [38.0, 42.0, 78.0], [225.0, 228.0, 235.0]],
        Mood::Bright => [[196.0, 222.0, 246.0], [250.0, 248.0, 236.0], [255.0, 244.0, 150.0]],
    }
}

/// The prompt for a landscape.
pub(crate) fn ask(landscape: Landscape) -> Prompt {
    let (mood, hills) = (landscape.mood.name(), landscape.hills.name());
    Prompt {
        text: format!("a {mood} landscape with {hills} hills"),
        family: Family::Scene,
        geneval: None,
        target: None,
        landscape: Some(landscape),
    }
}

/// A landscape of the split; the 24 texts are shared out by the rank of their hash.
pub(crate) fn sample(rng: &mut ChaCha8Rng, split: Option<Split>) -> Prompt {
    let mut all: Vec<Prompt> = Mood::ALL
        .into_iter()
        .flat_map(|mood| Colour::ALL.into_iter().map(move |hills| ask(Landscape { mood, hills })))
        .collect();
    all.sort_by_key(|p| split::hash(&p.text));
    let total = all.len();
    let mut rank = 0..;
    all.retain(|_| rank.next().is_some_and(|r| split.is_none_or(|s| s == Split::of_rank(r, total))));
    let at = rng.random_range(0..all.len());
    all.swap_remove(at)
}

/// Another mood or another colour of the hills.
pub(crate) fn corrupt(landscape: Landscape, rng: &mut ChaCha8Rng) -> Prompt {
    loop {
        let mut wrong = landscape;
        if rng.random_bool(0.5) {
            wrong.mood = Mood::ALL[rng.random_range(0..Mood::ALL.len())];
        } else {
            wrong.hills = Colour::ALL[rng.random_range(0..Colour::ALL.len())];
        }
        if wrong != landscape {
            return ask(wrong);
        }
    }
}

/// Draws a landscape. Contrast and grain vary from image to image, so that measures of looks differ between them.
pub(crate) fn render(landscape: Landscape, rng: &mut ChaCha8Rng) -> Image {
    let [zenith, horizon, light] = sky(landscape.mood);
    let side = SIDE as f32;
    let base: f32 = rng.random_range(36.0..46.0);
    let mut canvas = Canvas::fill(|_, y| {
        let t = (y as f32 / base).min(1.0);
        std::array::from_fn(|c| zenith[c] + (horizon[c] - zenith[c]) * t)
    });

    let radius: f32 = rng.random_range(4.0..6.5);
    let x: f32 = rng.random_range(10.0..54.0);
    let y: f32 = rng.random_range(9.0..20.0);
    canvas.paint(
        [x - radius - 1.0, y - radius - 1.0, x + radius + 1.0, y + radius + 1.0],
        |_, _| light,
        |px, py| radius - ((px - x).powi(2) + (py - y).powi(2)).sqrt(),
    );

    let shade = shade(landscape.hills, 12.0, rng);
    let night = if landscape.mood == Mood::Dark { 0.6 } else { 1.0 };
    for ridge in 0..2 {
        let top = base - 3.0 + ridge as f32 * rng.random_range(7.0..11.0);
        let (height, length): (f32, f32) = (rng.random_range(2.5..5.5), rng.random_range(24.0..52.0));
        let phase: f32 = rng.random_range(0.0..std::f32::consts::TAU);
        // The far ridge takes some colour of the horizon, as air does.
        let haze = if ridge == 0 { 0.28 } else { 0.0 };
        let tone = night * if ridge == 0 { 0.95 } else { 0.8 };
        let outline = |px: f32| top - height * (px / length * std::f32::consts::TAU + phase).sin();
        canvas.paint(
            [0.0, 0.0, side, side],
            |_, py| {
                let fade = 1.0 - 0.25 * ((py - top) / (side - top)).clamp(0.0, 1.0);
                std::array::from_fn(|c| (shade[c] * tone * fade) * (1.0 - haze) + horizon[c] * haze)
            },
            |px, py| py - outline(px),
        );
    }
    canvas.contrast(rng.random_range(0.65..1.1), 110.0);
    canvas.grain(rng.random_range(0.0..14.0), rng);
    canvas.image()
}
