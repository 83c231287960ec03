//! The functions that every caller starts from: prompts of all families, and images of them.

use opdflow_rewards::Image;
use opdflow_rewards::geneval::Metadata;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{Family, Landscape, Mix, Prompt, Split, WorldError, landscape, shapes, words};

/// The random stream number `index` of a seed. Streams of one seed are independent, so images can be drawn in any order.
pub fn stream(seed: u64, index: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    rng
}

/// A random prompt of a family, of any split.
pub fn prompt(family: Family, rng: &mut ChaCha8Rng) -> Prompt {
    sample(family, rng, None)
}

/// `n` prompts of a mix, drawn with replacement from one split. Sets of different splits share no word, no landscape and
/// no position, colour or colour-attribution text; the three smaller tasks of GenEval (21 texts in all) are in every split.
pub fn prompts(mix: &Mix, n: usize, seed: u64, split: Split) -> Vec<Prompt> {
    let mut rng = stream(seed, u64::MAX - split as u64);
    (0..n)
        .map(|_| {
            let family = mix.family(&mut rng);
            sample(family, &mut rng, Some(split))
        })
        .collect()
}

fn sample(family: Family, rng: &mut ChaCha8Rng, split: Option<Split>) -> Prompt {
    match family {
        Family::Geneval => shapes::sample(rng, split),
        Family::Ocr => words::sample(rng, split),
        Family::Scene => landscape::sample(rng, split),
    }
}

/// Draws a 64x64 image that shows what the prompt asks for; place, size, shade and ground are random.
///
/// # Errors
/// When the prompt lacks its family's part, or asks for something this world does not have.
pub fn render(prompt: &Prompt, rng: &mut ChaCha8Rng) -> Result<Image, WorldError> {
    match part(prompt)? {
        Subject::Shapes(metadata) => shapes::render(metadata, rng),
        Subject::Word(word) => words::render(word, rng),
        Subject::Landscape(landscape) => Ok(landscape::render(landscape, rng)),
    }
}

/// A prompt that differs in one thing: a count, a shape, a colour, a relation, a letter or a mood. Images of such prompts
/// beside the true caption teach a model a share of mistakes.
///
/// # Errors
/// As [`render`].
pub fn corrupt(prompt: &Prompt, rng: &mut ChaCha8Rng) -> Result<Prompt, WorldError> {
    match part(prompt)? {
        Subject::Shapes(metadata) => shapes::corrupt(metadata, rng),
        Subject::Word(word) => Ok(words::corrupt(word, rng)),
        Subject::Landscape(landscape) => Ok(landscape::corrupt(landscape, rng)),
    }
}

enum Subject<'a> {
    Shapes(&'a Metadata),
    Word(&'a str),
    Landscape(Landscape),
}

fn part(prompt: &Prompt) -> Result<Subject<'_>, WorldError> {
    let (found, needs) = match prompt.family {
        Family::Geneval => (prompt.geneval.as_ref().map(Subject::Shapes), "geneval"),
        Family::Ocr => (prompt.target.as_deref().map(Subject::Word), "target"),
        Family::Scene => (prompt.landscape.map(Subject::Landscape), "landscape"),
    };
    found.ok_or_else(|| WorldError::Incomplete { family: prompt.family, text: prompt.text.clone(), needs })
}
