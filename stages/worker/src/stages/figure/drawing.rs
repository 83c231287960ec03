//! What a figure is drawn of. Units are those of the SVG: pixels of a screen, from the top left.

/// Red, green, blue.
pub type Colour = [u8; 3];

/// Something drawn.
#[derive(Clone, Debug, PartialEq)]
pub enum Mark {
    /// Straight lines from point to point.
    Line { points: Vec<(f64, f64)>, width: f64, colour: Colour },
    /// A filled circle.
    Dot { at: (f64, f64), radius: f64, colour: Colour },
    /// Words; `at` is the left end, middle or right end of their base line.
    Words { at: (f64, f64), text: String, from: Anchor },
}

/// Where words begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Left,
    Middle,
    Right,
}

/// Height of letters, and the width that each takes where all take the same.
pub const LETTER: (f64, f64) = (10.0, 6.0);

/// Marks on white paper, the later ones above.
#[derive(Clone, Debug, PartialEq)]
pub struct Drawing {
    pub width: f64,
    pub height: f64,
    pub marks: Vec<Mark>,
}
