//! Reading lines of text: PP-OCRv4's recogniser with greedy CTC decoding (Graves et al. 2006).

use std::sync::Mutex;

use ort::session::Session;
use ort::value::TensorRef;

use super::resize::{bilinear, push_planes};
use super::runtime::failed;
use crate::{Picture, RewardError};

/// Height of a line as the network sees it.
const HEIGHT: usize = 48;
/// Lines are padded on the right to a multiple of this width.
const STEP: usize = 32;
/// Longest line; wider ones are squeezed.
const WIDEST: usize = 3200;

/// The text recogniser.
pub(super) struct Reader {
    session: Mutex<Session>,
    /// What each class of the network stands for; the first is CTC's blank.
    table: Vec<String>,
}

impl Reader {
    /// Reads the table of characters out of the model itself.
    pub fn new(session: Session) -> Result<Reader, RewardError> {
        let characters = session
            .metadata()
            .map_err(failed)?
            .custom("character")
            .ok_or_else(|| RewardError::Model("the text reader has no `character` table".to_owned()))?;
        let lines = characters.lines().map(str::to_owned);
        let table = std::iter::once(String::new()).chain(lines).chain([" ".to_owned()]).collect();
        Ok(Reader { session: Mutex::new(session), table })
    }

    /// The text of each line. Lines go one by one: on one thread a batch is slower, as it no longer fits the caches.
    pub fn read(&self, lines: &[Picture]) -> Result<Vec<String>, RewardError> {
        let mut session = self.session.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut planes = Vec::new();
        let mut texts = Vec::with_capacity(lines.len());
        for line in lines {
            let width = (HEIGHT * line.width).div_ceil(line.height.max(1)).clamp(1, WIDEST);
            let padded = width.div_ceil(STEP) * STEP;
            planes.clear();
            push_planes(&bilinear(line, width, HEIGHT), padded, &mut planes);
            let input = TensorRef::from_array_view(([1, 3, HEIGHT, padded], planes.as_slice())).map_err(failed)?;
            let outputs = session.run(ort::inputs![input]).map_err(failed)?;
            let (shape, classes) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
            if classes.is_empty() || classes.len() % self.table.len() != 0 {
                let characters = self.table.len();
                return Err(RewardError::Model(format!(
                    "the text reader's output has shape {shape:?} for {characters} characters"
                )));
            }
            texts.push(self.decode(classes));
        }
        Ok(texts)
    }

    /// The best class of each step, repeats and blanks taken out.
    fn decode(&self, line: &[f32]) -> String {
        let mut last = 0;
        let mut text = String::new();
        for step in line.chunks_exact(self.table.len()) {
            let mut best = 0;
            for (class, p) in step.iter().enumerate() {
                if *p > step[best] {
                    best = class;
                }
            }
            if best != last {
                text.push_str(&self.table[best]);
            }
            last = best;
        }
        text
    }
}
