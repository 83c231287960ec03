//! A stroke font of capital letters: straight lines and arcs of ellipses in a unit box, y downwards.

/// The letters that words are made of. I and Q are left out: at this size a reader takes I for 1, L or T and Q for O or G.
pub const LETTERS: &[u8] = b"ABCDEFGHJKLMNOPRSTUVWXYZ";

/// One pen stroke.
enum Stroke {
    /// A chain of straight lines.
    Line(&'static [[f32; 2]]),
    /// An arc of an ellipse: centre, radii, first and last angle in degrees (0 right, 90 down).
    Arc([f32; 2], [f32; 2], [f32; 2]),
}

use Stroke::{Arc, Line};

/// Width of a letter relative to its nominal width, and its strokes. Unknown letters are empty.
fn glyph(letter: u8) -> (f32, &'static [Stroke]) {
    match letter {
        b'A' => (1.08, &[Line(&[[0.0, 1.0], [0.5, 0.0], [1.0, 1.0]]), Line(&[[0.18, 0.66], [0.82, 0.66]])]),
        b'B' => (
            0.95,
            &[
                Line(&[[0.55, 0.48], [0.0, 0.48], [0.0, 0.0], [0.55, 0.0]]),
                Line(&[[0.0, 0.48], [0.0, 1.0], [0.58, 1.0]]),
                Line(&[[0.55, 0.48], [0.58, 0.48]]),
                Arc([0.55, 0.24], [0.38, 0.24], [-90.0, 90.0]),
                Arc([0.58, 0.74], [0.42, 0.26], [-90.0, 90.0]),
            ],
        ),
        b'C' => (1.0, &[Arc([0.55, 0.5], [0.55, 0.5], [-48.0, -312.0])]),
        b'D' => (
            1.0,
            &[Line(&[[0.42, 1.0], [0.0, 1.0], [0.0, 0.0], [0.42, 0.0]]), Arc([0.42, 0.5], [0.58, 0.5], [-90.0, 90.0])],
        ),
        b'E' => (0.85, &[Line(&[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), Line(&[[0.0, 0.48], [0.88, 0.48]])]),
        b'F' => (0.85, &[Line(&[[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]]), Line(&[[0.0, 0.5], [0.85, 0.5]])]),
        b'G' => {
            (1.08, &[Arc([0.52, 0.5], [0.52, 0.5], [-45.0, -360.0]), Line(&[[1.0, 0.85], [1.0, 0.54], [0.62, 0.54]])])
        }
        b'H' => (
            1.0,
            &[Line(&[[0.0, 0.0], [0.0, 1.0]]), Line(&[[1.0, 0.0], [1.0, 1.0]]), Line(&[[0.0, 0.48], [1.0, 0.48]])],
        ),
        b'J' => (0.7, &[Line(&[[1.0, 0.0], [1.0, 0.7]]), Arc([0.5, 0.7], [0.5, 0.3], [0.0, 165.0])]),
        b'K' => (
            1.0,
            &[Line(&[[0.0, 0.0], [0.0, 1.0]]), Line(&[[1.0, 0.0], [0.0, 0.62]]), Line(&[[0.32, 0.42], [1.0, 1.0]])],
        ),
        b'L' => (0.85, &[Line(&[[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]])]),
        b'M' => (1.15, &[Line(&[[0.0, 1.0], [0.0, 0.0], [0.5, 0.68], [1.0, 0.0], [1.0, 1.0]])]),
        b'N' => (1.0, &[Line(&[[0.0, 1.0], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])]),
        b'O' => (1.1, &[Arc([0.5, 0.5], [0.5, 0.5], [0.0, 360.0])]),
        b'P' => (
            0.92,
            &[
                Line(&[[0.0, 1.0], [0.0, 0.0], [0.6, 0.0]]),
                Line(&[[0.0, 0.54], [0.6, 0.54]]),
                Arc([0.6, 0.27], [0.4, 0.27], [-90.0, 90.0]),
            ],
        ),
        b'R' => (
            1.0,
            &[
                Line(&[[0.0, 1.0], [0.0, 0.0], [0.6, 0.0]]),
                Line(&[[0.0, 0.52], [0.6, 0.52]]),
                Arc([0.6, 0.26], [0.38, 0.26], [-90.0, 90.0]),
                Line(&[[0.5, 0.52], [1.0, 1.0]]),
            ],
        ),
        b'S' => {
            (0.95, &[Arc([0.5, 0.25], [0.46, 0.25], [-22.0, -270.0]), Arc([0.5, 0.75], [0.48, 0.25], [-90.0, 158.0])])
        }
        b'T' => (1.0, &[Line(&[[0.0, 0.0], [1.0, 0.0]]), Line(&[[0.5, 0.0], [0.5, 1.0]])]),
        b'U' => (
            1.0,
            &[
                Line(&[[0.0, 0.0], [0.0, 0.6]]),
                Arc([0.5, 0.6], [0.5, 0.4], [0.0, 180.0]),
                Line(&[[1.0, 0.0], [1.0, 0.6]]),
            ],
        ),
        b'V' => (1.08, &[Line(&[[0.0, 0.0], [0.5, 1.0], [1.0, 0.0]])]),
        b'W' => (1.3, &[Line(&[[0.0, 0.0], [0.25, 1.0], [0.5, 0.25], [0.75, 1.0], [1.0, 0.0]])]),
        b'X' => (1.0, &[Line(&[[0.0, 0.0], [1.0, 1.0]]), Line(&[[1.0, 0.0], [0.0, 1.0]])]),
        b'Y' => (1.05, &[Line(&[[0.0, 0.0], [0.5, 0.5], [1.0, 0.0]]), Line(&[[0.5, 0.5], [0.5, 1.0]])]),
        b'Z' => (0.95, &[Line(&[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])]),
        _ => (0.5, &[]),
    }
}

/// A letter as straight pieces in pixels around the middle of its box, for a nominal centre-line size of
/// `width` x `height` pixels. Arcs are cut into pieces of at most 20 degrees.
pub(crate) fn segments(letter: u8, width: f32, height: f32) -> Vec<[[f32; 2]; 2]> {
    let (relative, strokes) = glyph(letter);
    let place = |[x, y]: [f32; 2]| [(x - 0.5) * width * relative, (y - 0.5) * height];
    let mut out = Vec::new();
    for stroke in strokes {
        match stroke {
            Line(points) => out.extend(points.windows(2).map(|p| [place(p[0]), place(p[1])])),
            Arc([cx, cy], [rx, ry], [from, to]) => {
                let pieces = ((to - from).abs() / 20.0).ceil().max(1.0) as usize;
                let point = |i: usize| {
                    let angle = (from + (to - from) * i as f32 / pieces as f32).to_radians();
                    place([cx + rx * angle.cos(), cy + ry * angle.sin()])
                };
                out.extend((0..pieces).map(|i| [point(i), point(i + 1)]));
            }
        }
    }
    out
}
