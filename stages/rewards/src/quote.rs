//! The text that a prompt quotes: what the image must show.

/// Quotation marks that open, each with those that close it.
const PAIRS: [(char, &str); 11] = [
    ('"', "\""),
    ('＂', "＂"),
    ('“', "”“\""),
    ('„', "“”„\""),
    ('‟', "”"),
    ('”', "”"),
    ('«', "»"),
    ('»', "«»"),
    ('‹', "›"),
    ('›', "‹"),
    ('「', "」"),
];

/// The text between the first pair of quotation marks, if there is a pair; it may be empty.
///
/// Flow-GRPO (Liu et al. 2025) takes what stands between the first two `"`. Beyond that, a `"` right after a digit opens
/// nothing, since it stands for inches (`a 6" sign that says "HELLO"`), and typographic quotation marks count too (“ ”,
/// „ “, « », ‹ ›, 「 」), without the spaces inside that some languages write. Single quotes do not: they are apostrophes
/// as often.
#[must_use]
pub fn quoted(text: &str) -> Option<&str> {
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        let inches = c == '"' && (before.is_ascii_digit() || "½¼¾⅓⅔⅛′".contains(before));
        before = c;
        let Some((_, closers)) = PAIRS.iter().find(|(open, _)| *open == c && !inches) else { continue };
        let inside = &text[at + c.len_utf8()..];
        // Without its other half it is no quotation mark, and the next one may be.
        let Some(end) = inside.find(|c| closers.contains(c)) else { continue };
        return Some(if c == '"' { &inside[..end] } else { inside[..end].trim() });
    }
    None
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn pairs_by_hand() {
        for (text, expected) in [
            ("a sign \"Open\" by \"night\"", Some("Open")),
            ("half a \"quote", None),
            ("a red circle", None),
            ("a sign that says \"\"", Some("")),
            ("a 6\" sign that says \"HELLO\"", Some("HELLO")),
            ("a 6\" nail", None),
            ("a 6\" nail, 3\" deep", None),
            ("a 24\"x36\" poster, \"SALE\"", Some("SALE")),
            ("a sign \"ROUTE 66\" and \"A\"", Some("ROUTE 66")),
            ("a 3½\" disk labelled \"DOS\"", Some("DOS")),
            ("“HELLO” on a wall", Some("HELLO")),
            ("„Grüße“ an einer Wand", Some("Grüße")),
            ("»Halt« auf einem Schild", Some("Halt")),
            ("une affiche « OUVERT »", Some("OUVERT")),
            ("une affiche «\u{a0}OUVERT\u{a0}»", Some("OUVERT")),
            ("‹A› or 「茶」", Some("A")),
            ("a cup 「茶」", Some("茶")),
            ("“HELLO\" half and half", Some("HELLO")),
            ("a dog's 'HELLO'", None),
            ("he says '\"HELLO\"'", Some("HELLO")),
            ("a stray » and \"HELLO\"", Some("HELLO")),
            ("the word \" x \"", Some(" x ")),
        ] {
            assert_eq!(quoted(text), expected, "{text}");
        }
    }
}
