//! The curve of a metric as SVG, by plotters. Colours are those of the page: it is read in light and dark, and on paper.

use plotters::prelude::*;
use std::error::Error;

/// Width and height, in units of the page.
const SIZE: (u32, u32) = (340, 190);

/// Points of a curve; of more, the mean of neighbours is drawn.
const MOST_POINTS: usize = 300;

/// Colours that stand for those of the page's style, in which they are put into the drawing.
const INK: RGBColor = RGBColor(1, 1, 1);
const RULE: RGBColor = RGBColor(2, 2, 2);
const LINE: RGBColor = RGBColor(3, 3, 3);
const MARK: RGBColor = RGBColor(4, 4, 4);
const OTHER: RGBColor = RGBColor(5, 5, 5);
const STYLE: [(&str, &str); 5] = [
    ("#010101", "currentColor"),
    ("#020202", "var(--rule)"),
    ("#030303", "var(--line)"),
    ("#040404", "var(--mark)"),
    ("#050505", "var(--other)"),
];

/// The curve of `values` by step, beside that of another run if there is one, with lines at the steps `marks`. Nothing if there is
/// nothing to draw.
pub(super) fn curve(values: &[(u64, f64)], other: &[(u64, f64)], marks: &[u64]) -> Option<String> {
    let (values, other) = (thinned(values), thinned(other));
    let all = || values.iter().chain(&other).filter(|(_, y)| y.is_finite());
    let bounds = |of: fn(&(f64, f64)) -> f64| {
        let low = all().map(of).fold(f64::INFINITY, f64::min);
        let high = all().map(of).fold(f64::NEG_INFINITY, f64::max);
        // A line that is level has room above and below.
        let room = if high > low { (high - low) * 0.05 } else { high.abs().max(1.0) * 0.1 };
        (low, high, room)
    };
    let ((left, right, _), (low, high, room)) = (bounds(|p| p.0), bounds(|p| p.1));
    // Numbers whose distance is no number have no axis.
    if !(left.is_finite() && (low - room).is_finite() && (high + room).is_finite()) {
        return None;
    }
    let right = if right > left { right } else { left + 1.0 };
    let svg = drawing((left, right), (low - room, high + room), [&values, &other], marks).ok()?;
    let svg = STYLE.iter().fold(svg, |svg, (colour, name)| svg.replace(colour, name));
    Some(svg.replace("<svg ", "<svg aria-hidden=\"true\" "))
}

fn drawing(
    (left, right): (f64, f64),
    (low, high): (f64, f64),
    curves: [&[(f64, f64)]; 2],
    marks: &[u64],
) -> Result<String, Box<dyn Error>> {
    let mut out = String::new();
    {
        let area = SVGBackend::with_string(&mut out, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(6)
            .margin_right(18)
            .x_label_area_size(22)
            .y_label_area_size(52)
            .build_cartesian_2d(left..right, low..high)?;
        let words = ("sans-serif", 11).into_font().color(&INK);
        let number = |y: &f64| short(*y);
        chart
            .configure_mesh()
            .x_labels(5)
            .y_labels(5)
            .disable_x_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(RULE)
            .axis_style(RULE)
            .label_style(words)
            .x_label_formatter(&|x| format!("{x:.0}"))
            .y_label_formatter(&number)
            .draw()?;
        for mark in marks.iter().map(|m| *m as f64).filter(|m| (left..=right).contains(m)) {
            chart.draw_series(LineSeries::new([(mark, low), (mark, high)], MARK.stroke_width(2)))?;
        }
        for (points, colour) in curves.into_iter().zip([LINE, OTHER]).rev() {
            chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)))?;
        }
        area.present()?;
    }
    Ok(out)
}

fn thinned(values: &[(u64, f64)]) -> Vec<(f64, f64)> {
    let each = values.len().div_ceil(MOST_POINTS).max(1);
    let mean = |some: &[(u64, f64)]| {
        let n = some.len() as f64;
        (some.iter().map(|p| p.0 as f64).sum::<f64>() / n, some.iter().map(|p| p.1).sum::<f64>() / n)
    };
    values.chunks(each).map(mean).collect()
}

/// A number with three digits that count.
pub(super) fn short(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 {
        "0".to_owned()
    } else if (0.001..100_000.0).contains(&size) {
        let digits = (2 - size.log10().floor() as i32).clamp(0, 5) as usize;
        format!("{x:.digits$}")
    } else {
        format!("{x:.1e}")
    }
}

/// Half of an interval: two digits say how far it can be trusted.
pub(super) fn rough(x: f64) -> String {
    let size = x.abs();
    if x == 0.0 || !(0.0001..1000.0).contains(&size) {
        return short(x);
    }
    let digits = (1 - size.log10().floor() as i32).clamp(0, 5) as usize;
    format!("{x:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_the_page_s_colours_and_its_marks() {
        let values: Vec<(u64, f64)> = (0..1000).map(|i| (i, (i as f64 / 50.0).sin())).collect();
        let svg = curve(&values, &[], &[500]).unwrap();
        assert!(svg.contains("var(--line)") && svg.contains("var(--mark)") && !svg.contains("#03"), "{svg}");
        assert!(svg.len() < 20_000, "{}", svg.len());
        assert!(!curve(&values, &[], &[]).unwrap().contains("var(--mark)"));
        assert!(curve(&[], &[], &[]).is_none() && curve(&[(1, f64::NAN)], &[], &[]).is_none());
        assert!(curve(&[(1, 2.0)], &[], &[1]).is_some(), "one point, level");
        assert!(curve(&[(1, f64::MAX), (2, -f64::MAX)], &[], &[]).is_none(), "no axis is that long");
        assert!(curve(&[(0, 1e-300), (u64::MAX, 1e300)], &[], &[u64::MAX]).is_some());
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, 0.12345, 3.0, 1234.5, 12_345.6, 1e-5, -0.5, 2.5e7].map(short);
        assert_eq!(found, ["0", "0.123", "3.00", "1234", "12346", "1.0e-5", "-0.500", "2.5e7"]);
        assert_eq!([0.0609, 0.00349, 0.174, 12.4, 0.0].map(rough), ["0.061", "0.0035", "0.17", "12", "0"]);
    }
}
