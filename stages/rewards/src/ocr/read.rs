//! Reading lines of text: PP-OCR's recogniser with greedy CTC decoding (Graves et al. 2006).

use ort::value::TensorRef;

use super::prepare::{planes, reader_values};
use super::reading::Channels;
use super::runtime::{Sessions, failed, finite};
use crate::opencv::linear;
use crate::{Image, RewardError};

/// Height of a line as the network sees it.
const HEIGHT: usize = 48;
/// Shorter lines are filled up on the right to this width.
const SHORTEST: usize = 320;
/// Longest line; wider ones are squeezed.
const WIDEST: usize = 3200;
/// Lines of one image that the reference hands to the network together, all as wide as the widest of them.
const TOGETHER: usize = 6;

/// What was read of a line.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Text {
    /// The characters.
    pub characters: String,
    /// The mean probability of the characters; 0 if there are none.
    pub confidence: f64,
}

/// The text recogniser.
pub(super) struct Reader {
    sessions: Sessions,
    /// What each class of the network stands for; the first is CTC's blank.
    table: Vec<String>,
    channels: Channels,
}

impl Reader {
    /// `characters` has the reader's characters, one a line; if absent they are read out of the model itself.
    pub fn new(sessions: Sessions, channels: Channels, characters: Option<String>) -> Result<Reader, RewardError> {
        let own = || sessions.with(|session| Ok(session.metadata().map_err(failed)?.custom("character")));
        let characters = match characters {
            Some(characters) => characters,
            None => own()?.ok_or_else(|| {
                let what = "the text reader has no `character` table of its own, and no file of characters is given";
                RewardError::Model(what.to_owned())
            })?,
        };
        let lines = characters.lines().map(str::to_owned);
        let table = std::iter::once(String::new()).chain(lines).chain([" ".to_owned()]).collect();
        Ok(Reader { sessions, table, channels })
    }

    /// The text of each line of one image.
    pub fn read(&self, lines: &[Image]) -> Result<Vec<Text>, RewardError> {
        let (widths, values) = (widths(lines), reader_values());
        self.sessions.with(|session| {
            let mut texts = Vec::with_capacity(lines.len());
            // Lines go one by one at the width of their batch: on one thread a batch is slower, as it no longer fits the
            // caches.
            for (line, [width, whole]) in lines.iter().zip(widths) {
                let planes = planes(&linear(line, width, HEIGHT), whole, self.channels, &values);
                let input = TensorRef::from_array_view(([1, 3, HEIGHT, whole], planes.as_slice())).map_err(failed)?;
                let outputs = session.run(ort::inputs![input]).map_err(failed)?;
                let (shape, classes) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
                if classes.is_empty() || shape.last() != Some(&(self.table.len() as i64)) {
                    let characters = self.table.len();
                    return Err(RewardError::Model(format!(
                        "the text reader's output has shape {shape:?} for {characters} characters"
                    )));
                }
                finite(classes, "reader")?;
                texts.push(self.decode(classes));
            }
            Ok(texts)
        })
    }

    /// The best class of each step, repeats and blanks taken out.
    fn decode(&self, line: &[f32]) -> Text {
        let (mut last, mut characters, mut sum, mut count) = (0, String::new(), 0.0, 0u32);
        for step in line.chunks_exact(self.table.len()) {
            let mut best = 0;
            for (class, p) in step.iter().enumerate() {
                if *p > step[best] {
                    best = class;
                }
            }
            if best != last && best != 0 {
                characters.push_str(&self.table[best]);
                sum += f64::from(step[best]);
                count += 1;
            }
            last = best;
        }
        Text { characters, confidence: if count == 0 { 0.0 } else { sum / f64::from(count) } }
    }
}

/// The width of each line at the network's height, and that to which it is filled up: that of the widest line among the
/// six next to it by shape, and never less than the shortest.
fn widths(lines: &[Image]) -> Vec<[usize; 2]> {
    let shape = |i: &usize| lines[*i].width as f64 / lines[*i].height.max(1) as f64;
    let mut order: Vec<usize> = (0..lines.len()).collect();
    order.sort_by(|a, b| shape(a).total_cmp(&shape(b)));
    let mut widths = vec![[0; 2]; lines.len()];
    for batch in order.chunks(TOGETHER) {
        let widest = batch.iter().map(shape).fold(SHORTEST as f64 / HEIGHT as f64, f64::max);
        let whole = ((HEIGHT as f64 * widest) as usize).min(WIDEST);
        for i in batch {
            widths[*i] = [((HEIGHT as f64 * shape(i)).ceil() as usize).clamp(1, whole), whole];
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_lines_are_filled_up() {
        let line = |width: usize, height: usize| Image { width, height, rgb: vec![0; width * height * 3] };
        // 48 x 30 / 20 = 72; 48 x 31 / 20 = 74.4; 10 times as wide as high needs 480, and so do the five next to it.
        let lines = [line(30, 20), line(31, 20), line(100, 10), line(20, 20), line(20, 20), line(20, 20)];
        let got = widths(&lines[..2]);
        assert_eq!(got, [[72, 320], [75, 320]]);
        assert_eq!(widths(&lines)[..3], [[72, 480], [75, 480], [480, 480]]);
        // A seventh pushes the widest into a batch of its own.
        let seven = [&lines[..], &[line(5, 20)]].concat();
        assert_eq!(widths(&seven)[2], [480, 480]);
        assert_eq!(widths(&seven)[0], [72, 320]);
        assert_eq!(widths(&[line(5000, 4), line(1, 900)]), [[3200, 3200], [1, 3200]]);
        assert!(widths(&[]).is_empty());
    }
}
