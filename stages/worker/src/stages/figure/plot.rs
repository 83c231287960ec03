//! From numbers to marks: panels side by side, one axis of what training took for all, and a legend.

use super::drawing::{Anchor, Colour, Drawing, LETTER, Mark};
use super::line::{Line, Spot};
use opdflow_io::terminal::{cut, line};
use opdflow_kinds::stages::figure::Against;

/// Okabe and Ito's colours, which people of any colour vision tell apart.
const COLOURS: [Colour; 8] = [
    [0, 0, 0],
    [230, 159, 0],
    [86, 180, 233],
    [0, 158, 115],
    [204, 121, 167],
    [0, 114, 178],
    [213, 94, 0],
    [140, 140, 140],
];

const GREY: Colour = [225, 225, 225];
const INK: Colour = [60, 60, 60];

/// Inside of a panel, and the room around it: left, right, top, bottom.
const PANEL: (f64, f64) = (270.0, 210.0);
const ROOM: (f64, f64, f64, f64) = (44.0, 14.0, 46.0, 40.0);

/// What is drawn from left to right: in which unit, and its name.
struct Axis {
    against: Against,
    unit: f64,
    name: String,
}

impl Axis {
    fn of(against: Against, lines: &[Line]) -> Self {
        let whole = Self { against, unit: 1.0, name: "training time, s".to_owned() };
        if against == Against::Seconds {
            return whole;
        }
        let most = lines.iter().flat_map(|l| &l.points).map(|spot| whole.place(spot)).fold(0.0, f64::max);
        let units = [(1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP")];
        // So that the largest tick has at most four digits.
        let (unit, name) = units.into_iter().find(|(unit, _)| most >= 10.0 * unit).unwrap_or((1e12, "TFLOP"));
        Self { unit, name: format!("training, {name}"), ..whole }
    }

    fn place(&self, spot: &Spot) -> f64 {
        let all = match self.against {
            Against::Seconds => spot.seconds,
            Against::Operations => spot.operations.unwrap_or(0.0),
        };
        all / self.unit
    }
}

/// Draws the lines, a panel for each column.
pub fn plot(title: &str, columns: &[String], lines: &[Line], against: Against) -> Drawing {
    let axis = Axis::of(against, lines);
    let titles: Vec<String> = lines.iter().map(|l| shown(&l.title)).collect();
    let longest = titles.iter().map(|t| t.chars().count()).max().unwrap_or(0) as f64;
    let step = ROOM.0 + PANEL.0 + ROOM.1;
    let legend = step * columns.len() as f64 + 10.0;
    let width = legend + 24.0 + longest * LETTER.1 + 10.0;
    let height = (ROOM.2 + PANEL.1 + ROOM.3).max(ROOM.2 + 18.0 * lines.len() as f64 + 10.0);
    let mut marks = vec![Mark::Words { at: (ROOM.0, 16.0), text: shown(title), from: Anchor::Left }];
    for (place, column) in columns.iter().enumerate() {
        panel(place, column, step * place as f64 + ROOM.0, (lines, &axis), &mut marks);
    }
    for (i, title) in titles.into_iter().enumerate() {
        let (y, colour) = (ROOM.2 + 8.0 + 18.0 * i as f64, COLOURS[i % COLOURS.len()]);
        marks.push(Mark::Line { points: vec![(legend, y), (legend + 16.0, y)], width: 2.0, colour });
        marks.push(Mark::Dot { at: (legend + 8.0, y), radius: 2.5, colour });
        marks.push(Mark::Words { at: (legend + 24.0, y + 3.5), text: title, from: Anchor::Left });
    }
    Drawing { width, height, marks }
}

/// Words as one line that leaves room for the drawing.
fn shown(words: &str) -> String {
    cut(&line(words), 120).into_owned()
}

/// The panel of one column; `left` is its inside's left edge.
fn panel(place: usize, column: &str, left: f64, (lines, axis): (&[Line], &Axis), marks: &mut Vec<Mark>) {
    let (top, bottom) = (ROOM.2, ROOM.2 + PANEL.1);
    let spots = || lines.iter().flat_map(|l| &l.points);
    let end = spots().map(|p| axis.place(p)).fold(f64::MIN_POSITIVE, f64::max);
    let values = spots().filter_map(|p| p.cells[place]).map(|c| c.mean);
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    let (low, high) = if low <= high { (low, high.max(low + 1e-3)) } else { (0.0, 1.0) };
    let air = 0.05 * (high - low);
    let (low, high) = (low - air, high + air);
    let x = |along: f64| left + along / end * PANEL.0;
    let y = |value: f64| bottom - (value - low) / (high - low) * PANEL.1;
    let words = |at, text, from| Mark::Words { at, text, from };
    for (tick, text) in ticks(low, high, 5) {
        marks.push(Mark::Line { points: vec![(left, y(tick)), (left + PANEL.0, y(tick))], width: 1.0, colour: GREY });
        marks.push(words((left - 5.0, y(tick) + 3.5), text, Anchor::Right));
    }
    for (tick, text) in ticks(0.0, end, 5) {
        marks.push(Mark::Line { points: vec![(x(tick), bottom), (x(tick), bottom + 4.0)], width: 1.0, colour: INK });
        marks.push(words((x(tick), bottom + 15.0), text, Anchor::Middle));
    }
    let frame = vec![(left, top), (left, bottom), (left + PANEL.0, bottom)];
    marks.push(Mark::Line { points: frame, width: 1.0, colour: INK });
    marks.push(words((left + PANEL.0 / 2.0, top - 8.0), column.to_owned(), Anchor::Middle));
    marks.push(words((left + PANEL.0 / 2.0, bottom + 31.0), axis.name.clone(), Anchor::Middle));
    for (i, line) in lines.iter().enumerate() {
        let colour = COLOURS[i % COLOURS.len()];
        let place_of = |p: &Spot| p.cells[place].map(|c| (x(axis.place(p)), y(c.mean)));
        let points: Vec<(f64, f64)> = line.points.iter().filter_map(place_of).collect();
        marks.extend(points.iter().map(|at| Mark::Dot { at: *at, radius: 2.5, colour }));
        marks.push(Mark::Line { points, width: 2.0, colour });
    }
}

/// Round numbers from `low` to `high`, at most about `most`, as they are written.
fn ticks(low: f64, high: f64, most: usize) -> Vec<(f64, String)> {
    let rough = ((high - low) / most as f64).max(1e-9);
    let power = 10.0_f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough * 0.999).unwrap_or(power * 10.0);
    let places = (-step.log10().floor()).max(0.0) as usize;
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|i| i as f64 * step).map(|v| (v, format!("{v:.places$}"))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::line::tests::lines;
    use super::*;

    pub fn drawing() -> Drawing {
        plot("Scores & time", &["ocr".to_owned()], &lines(), Against::Seconds)
    }

    #[test]
    fn ticks_are_round_and_inside() {
        let texts = |low, high| ticks(low, high, 5).into_iter().map(|(_, t)| t).collect::<Vec<_>>();
        assert_eq!(texts(0.0, 130.0), ["0", "50", "100"]);
        assert_eq!(texts(0.479, 0.941), ["0.5", "0.6", "0.7", "0.8", "0.9"]);
        assert_eq!(texts(0.50, 0.51), ["0.500", "0.502", "0.504", "0.506", "0.508", "0.510"]);
    }

    #[test]
    fn every_candidate_has_its_dot_inside_the_paper() {
        let drawing = drawing();
        let dots: Vec<(f64, f64)> =
            drawing.marks.iter().filter_map(|m| if let Mark::Dot { at, .. } = m { Some(*at) } else { None }).collect();
        assert_eq!(dots.len(), 4 + 3 + 2, "seven models, two in the legend");
        assert!(dots.iter().all(|(x, y)| (0.0..drawing.width).contains(x) && (0.0..drawing.height).contains(y)));
        // Later is further to the right, better is further up.
        assert!(dots[3].0 > dots[2].0 && dots[3].1 < dots[2].1, "{dots:?}");
    }

    #[test]
    fn the_axis_says_what_it_is_of() {
        let words = |against| {
            let marks = plot("", &["ocr".to_owned()], &lines(), against).marks;
            marks
                .into_iter()
                .filter_map(|m| if let Mark::Words { text, .. } = m { Some(text) } else { None })
                .collect::<Vec<_>>()
        };
        let (time, operations) = (words(Against::Seconds), words(Against::Operations));
        assert!(time.contains(&"training time, s".to_owned()) && time.contains(&"100".to_owned()), "{time:?}");
        // The trainings of the test take as many TFLOP as seconds.
        assert!(operations.contains(&"training, TFLOP".to_owned()) && operations.contains(&"100".to_owned()));
        assert_eq!(time.len(), operations.len());
    }

    #[test]
    fn nothing_to_draw_is_an_empty_panel() {
        let empty = plot(&"x".repeat(1_000_000), &["ocr".to_owned()], &[], Against::Operations);
        assert!(empty.marks.iter().all(|m| !matches!(m, Mark::Dot { .. })) && empty.width.is_finite());
    }
}
