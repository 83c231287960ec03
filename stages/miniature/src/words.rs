//! Words: their prompts and how they are drawn.

use opdflow_rewards::Image;
use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use crate::draw::{dark_ground, to_segment};
use crate::font::{LETTERS, segments};
use crate::{CELL, Family, GRID, Prompt, SIDE, Split, WorldError};

/// Nominal size of the centre lines of a letter and thickness of the pen, in pixels.
const LETTER: [f32; 2] = [9.2, 11.8];
const PEN: f32 = 2.5;
/// Pixels from letter to letter: a little less than a cell, so that they read as one line of text.
const PITCH: f32 = 14.0;
/// Share of words out of [`COMMON`]; the rest are random letters.
const COMMON_SHARE: f64 = 0.25;

/// Everyday words, so that images are pleasant to read; those with letters outside [`LETTERS`] are skipped.
const COMMON: &[&str] = &[
    "HAT", "SUN", "MOON", "TREE", "STAR", "ROAD", "GOLD", "SNOW", "LAKE", "ROSE", "LEAF", "BEAR", "WOLF", "CAT", "DOG",
    "COW", "FOX", "OWL", "BEE", "ANT", "SEA", "SKY", "RED", "BLUE", "TEA", "CUP", "BOX", "KEY", "MAP", "PEN", "BOOK",
    "DOOR", "LAMP", "GO", "UP", "ON", "NO", "WE", "JAZZ", "ZOO", "YES", "TEN", "ONE", "TWO", "HAND", "FOOT", "EYE",
    "JAM", "JET", "VAN",
];

/// The prompt for a word.
pub(crate) fn ask(word: &str) -> Prompt {
    Prompt {
        text: format!("the word \"{word}\""),
        family: Family::Ocr,
        geneval: None,
        target: Some(word.to_owned()),
        landscape: None,
    }
}

/// A word of the split: 2 to 4 letters, longer ones more often.
pub(crate) fn sample(rng: &mut ChaCha8Rng, split: Option<Split>) -> Prompt {
    loop {
        let word = if rng.random_bool(COMMON_SHARE) {
            COMMON.choose(rng).copied().unwrap_or("HAT").to_owned()
        } else {
            let length = [2, 3, 3, 4, 4][rng.random_range(0..5usize)];
            (0..length).map(|_| letter(rng)).collect()
        };
        let known = word.bytes().all(|b| LETTERS.contains(&b));
        if known && split.is_none_or(|s| s == Split::of_hash(&word)) {
            return ask(&word);
        }
    }
}

/// The same word with one other letter.
pub(crate) fn corrupt(word: &str, rng: &mut ChaCha8Rng) -> Prompt {
    let mut letters: Vec<char> = word.chars().collect();
    if let Some(at) = (!letters.is_empty()).then(|| rng.random_range(0..letters.len())) {
        let old = letters[at];
        while letters[at] == old {
            letters[at] = letter(rng);
        }
    }
    ask(&letters.into_iter().collect::<String>())
}

fn letter(rng: &mut ChaCha8Rng) -> char {
    char::from(*LETTERS.choose(rng).unwrap_or(&b'A'))
}

/// Draws a word, a letter to a cell, in one of the middle rows at a random place where it fits.
pub(crate) fn render(word: &str, rng: &mut ChaCha8Rng) -> Result<Image, WorldError> {
    let bytes = word.as_bytes();
    if bytes.is_empty() || bytes.len() > GRID || bytes.iter().any(|b| !LETTERS.contains(b)) {
        return Err(WorldError::Word { word: word.to_owned(), letters: GRID });
    }
    let mut canvas = dark_ground(rng);
    let ink = INKS[rng.random_range(0..INKS.len())].map(|v: f32| (v + rng.random_range(-12.0..=12.0)).min(255.0));
    let column = rng.random_range(0..=GRID - bytes.len());
    // PP-OCR's detector misses a third of the words that touch the upper or lower edge of so small an image.
    let row = rng.random_range(1..GRID - 1);
    let cell = CELL as f32;
    let dx: f32 = rng.random_range(-0.8..=0.8);
    let dy: f32 = rng.random_range(-0.8..=0.8);
    let middle = (column as f32 + bytes.len() as f32 / 2.0) * cell + dx;
    let y = (row as f32 + 0.5) * cell + dy;
    for (i, &b) in bytes.iter().enumerate() {
        let x = middle + (i as f32 - (bytes.len() as f32 - 1.0) / 2.0) * PITCH;
        let strokes = segments(b, LETTER[0], LETTER[1]);
        let area = [x - cell, y - cell, (x + cell).min(SIDE as f32), (y + cell).min(SIDE as f32)];
        canvas.paint(
            area,
            |_, _| ink,
            |px, py| {
                let nearest =
                    strokes.iter().map(|[a, b]| to_segment([px - x, py - y], *a, *b)).fold(f32::INFINITY, f32::min);
                PEN / 2.0 - nearest
            },
        );
    }
    Ok(canvas.image())
}

/// Bright inks: white, cream, light blue, light green, pink.
const INKS: [[f32; 3]; 5] =
    [[243.0, 243.0, 243.0], [250.0, 230.0, 140.0], [160.0, 220.0, 250.0], [170.0, 240.0, 170.0], [250.0, 185.0, 195.0]];
