//! Colour, where it is wanted. It only repeats what the words say.

/// Whether and how to colour.
#[derive(Clone, Copy, Debug)]
pub struct Paint(bool);

/// What a word means.
#[derive(Clone, Copy, Debug)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Nothing happened.
    Calm,
    /// Look at this.
    Warn,
    /// This is wrong.
    Bad,
}

impl Paint {
    /// Colour if `wanted`.
    #[must_use]
    pub const fn new(wanted: bool) -> Self {
        Self(wanted)
    }
    /// No colour.
    #[must_use]
    pub const fn plain() -> Self {
        Self(false)
    }
    /// `text` in the colour of `tone`.
    #[must_use]
    pub fn tint(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Calm => "36",
            Tone::Warn => "33",
            Tone::Bad => "31;1",
        };
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
