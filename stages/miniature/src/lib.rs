//! The miniature world: seeded 64x64 images of shapes, words and landscapes with their captions.
//!
//! Three families of prompts share one grid of 4x4 cells of 16 px, so that a latent model with 16 tokens
//! has one token for each cell:
//! - [`Family::Geneval`]: coloured shapes in the six tasks of GenEval (Ghosh et al. 2023), with GenEval's own metadata
//!   ([`opdflow_rewards::geneval::Metadata`]);
//! - [`Family::Ocr`]: words of 2 to 4 capital letters, prompt `the word "HAT"`;
//! - [`Family::Scene`]: little landscapes, prompt `a warm landscape with green hills`.
//!
//! Everything is a pure function of its seed: the same seed gives the same prompts and the same bytes.
//!
//! ```
//! use opdflow_miniature::{Family, Mix, Split, prompts, render, stream};
//! let all = prompts(&Mix::from(Family::Ocr), 3, 7, Split::Train);
//! let image = render(&all[0], &mut stream(7, 0)).unwrap();
//! assert_eq!(image.rgb.len(), 64 * 64 * 3);
//! ```

mod draw;
mod family;
mod font;
mod landscape;
mod prompt;
mod scene;
mod shapes;
mod split;
mod words;
mod world;

pub use family::{Family, Mix, WorldError};
pub use font::LETTERS;
pub use opdflow_rewards::{Colour, Shape};
pub use prompt::Prompt;
pub use scene::{Landscape, Mood};
pub use split::Split;
pub use world::{corrupt, prompt, prompts, render, stream};

/// Width and height of an image in pixels.
pub const SIDE: usize = 64;
/// Width and height of a cell in pixels.
pub const CELL: usize = 16;
/// Cells along one side of an image.
pub const GRID: usize = SIDE / CELL;
