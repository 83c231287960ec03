//! The colours and shapes that the bundled detector tells apart and the miniature draws.

use serde::{Deserialize, Serialize};

/// Six of GenEval's ten colour names; the other four (pink, brown, black, white) are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Colour {
    /// sRGB 220, 40, 45.
    Red,
    /// sRGB 242, 135, 25.
    Orange,
    /// sRGB 240, 222, 50.
    Yellow,
    /// sRGB 45, 180, 65.
    Green,
    /// sRGB 45, 95, 235.
    Blue,
    /// sRGB 160, 60, 205.
    Purple,
}

impl Colour {
    /// All colours, in the order of the rainbow.
    pub const ALL: [Colour; 6] =
        [Colour::Red, Colour::Orange, Colour::Yellow, Colour::Green, Colour::Blue, Colour::Purple];

    /// GenEval's name.
    pub fn name(self) -> &'static str {
        match self {
            Colour::Red => "red",
            Colour::Orange => "orange",
            Colour::Yellow => "yellow",
            Colour::Green => "green",
            Colour::Blue => "blue",
            Colour::Purple => "purple",
        }
    }

    /// The colour of that name.
    pub fn from_name(name: &str) -> Option<Colour> {
        Colour::ALL.into_iter().find(|c| c.name() == name)
    }

    /// Its pure sRGB value, 0 to 255.
    pub fn rgb(self) -> [f32; 3] {
        match self {
            Colour::Red => [220.0, 40.0, 45.0],
            Colour::Orange => [242.0, 135.0, 25.0],
            Colour::Yellow => [240.0, 222.0, 50.0],
            Colour::Green => [45.0, 180.0, 65.0],
            Colour::Blue => [45.0, 95.0, 235.0],
            Colour::Purple => [160.0, 60.0, 205.0],
        }
    }
}

/// The object classes of the miniature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A disc.
    Circle,
    /// An upright square.
    Square,
    /// An isosceles triangle with its base at the bottom.
    Triangle,
}

impl Shape {
    /// All shapes.
    pub const ALL: [Shape; 3] = [Shape::Circle, Shape::Square, Shape::Triangle];

    /// The class name, singular.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
        }
    }

    /// The shape of that name.
    pub fn from_name(name: &str) -> Option<Shape> {
        Shape::ALL.into_iter().find(|s| s.name() == name)
    }

    /// Signed distance in pixels (positive inside) of the point (`dx`, `dy`) from the outline of the shape that fills a
    /// box of half sizes `half_w`, `half_h` round the origin. Exact for circle, square and near the sides of a triangle.
    pub fn depth(self, dx: f32, dy: f32, half_w: f32, half_h: f32) -> f32 {
        match self {
            Shape::Circle => {
                let unit = ((dx / half_w).powi(2) + (dy / half_h).powi(2)).sqrt();
                (1.0 - unit) * half_w.min(half_h)
            }
            Shape::Square => (half_w - dx.abs()).min(half_h - dy.abs()),
            Shape::Triangle => {
                // The slanted side goes from (0, -half_h) to (half_w, half_h); its normal is (2 half_h, -half_w).
                let (nx, ny) = (2.0 * half_h, -half_w);
                let slant = -((nx * dx.abs() + ny * (dy + half_h)) / (nx * nx + ny * ny).sqrt());
                slant.min(half_h - dy)
            }
        }
    }
}
