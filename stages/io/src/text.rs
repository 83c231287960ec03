//! Bytes as text. What is not UTF-8 is refused with the way out.

use std::fmt;

/// Why some bytes are no text. Shown, it follows the name of a file: `prompts.txt: is UTF-16 text; save it as UTF-8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotText {
    /// Another encoding, by its byte order mark or by its NUL bytes.
    Encoding(&'static str),
    /// A NUL byte, on this line from 1.
    Nul(usize),
    /// Bytes that are not UTF-8, on this line from 1.
    Utf8(usize),
}

impl fmt::Display for NotText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoding(name) => write!(f, "is {name} text; save it as UTF-8"),
            Self::Nul(line) => write!(f, "line {line} holds a NUL byte: is it a text file?"),
            Self::Utf8(line) => write!(f, "line {line} is not UTF-8, perhaps Latin-1; save it as UTF-8"),
        }
    }
}

impl std::error::Error for NotText {}

/// UTF-8 text without its byte order mark. No NUL is in it.
///
/// # Errors
/// Another encoding, a NUL, or bytes that are no text.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    let marks: [(&[u8], &str); 4] = [
        (&[0xff, 0xfe, 0, 0], "UTF-32"),
        (&[0, 0, 0xfe, 0xff], "UTF-32"),
        (&[0xff, 0xfe], "UTF-16"),
        (&[0xfe, 0xff], "UTF-16"),
    ];
    if let Some((_, name)) = marks.iter().find(|(mark, _)| bytes.starts_with(mark)) {
        return Err(NotText::Encoding(name));
    }
    let line = |at: usize| bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
    if let Some(at) = bytes.iter().position(|b| *b == 0) {
        // Latin letters in UTF-16 are every other byte.
        let head = &bytes[..bytes.len().min(64) / 2 * 2];
        let nuls = |odd: usize| head.iter().skip(odd).step_by(2).filter(|b| **b == 0).count();
        let wide = head.len() >= 4 && nuls(0).max(nuls(1)) * 4 >= head.len() && nuls(0).min(nuls(1)) == 0;
        return Err(if wide { NotText::Encoding("UTF-16") } else { NotText::Nul(line(at)) });
    }
    match String::from_utf8(bytes) {
        Ok(mut text) => {
            if text.starts_with('\u{feff}') {
                text.drain(..'\u{feff}'.len_utf8());
            }
            Ok(text)
        }
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            Err(NotText::Utf8(e.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_told_from_what_is_none() {
        let utf16 = |mark: &[u8], big: bool, text: &str| -> Vec<u8> {
            let units = text.encode_utf16().flat_map(|u| if big { u.to_be_bytes() } else { u.to_le_bytes() });
            mark.iter().copied().chain(units).collect()
        };
        assert_eq!(decode("\u{feff}a dög\n".into()), Ok("a dög\n".to_owned()));
        assert_eq!(decode(b"a\xff\xfe".to_vec()), Err(NotText::Utf8(1)));
        for bytes in [
            utf16(&[0xff, 0xfe], false, "a dog"),
            utf16(&[0xfe, 0xff], true, "a dog"),
            utf16(&[], false, "a dog\nand a cat"),
            utf16(&[], true, "a dog\nand a cat"),
        ] {
            assert_eq!(decode(bytes).unwrap_err().to_string(), "is UTF-16 text; save it as UTF-8");
        }
        assert_eq!(decode(vec![0xff, 0xfe, 0, 0, b'a', 0, 0, 0]), Err(NotText::Encoding("UTF-32")));
        assert_eq!(decode(b"a dog\na \0cat and much more after it\n".to_vec()), Err(NotText::Nul(2)));
        assert_eq!(decode(b"a\nb\ncaf\xe9\n".to_vec()), Err(NotText::Utf8(3)));
        assert_eq!(decode(Vec::new()), Ok(String::new()));
    }
}
