//! JSON files that notice their own damage.
//!
//! A record is a JSON object whose first field, `check`, is the blake3 of every byte after it. The file stays plain
//! JSON for any tool, while a cut, a flipped bit or an edit by hand is seen. The hash is over the bytes in the file,
//! so it does not depend on how a JSON library orders or prints things.

use serde::Serialize;

use crate::Digest;

const HEAD: &str = "{\n  \"check\": \"";
const NECK: &str = "\",";

/// The file's text for a value that serialises to a JSON object with at least one field.
pub(crate) fn seal(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string_pretty(value)?;
    let body = text.strip_prefix('{').ok_or_else(|| serde::ser::Error::custom("not a JSON object"))?;
    Ok(format!("{HEAD}{}{NECK}{body}\n", Digest::of(format!("{body}\n").as_bytes())))
}

/// The JSON inside, or what is wrong with it.
pub(crate) fn unseal(bytes: &[u8]) -> Result<serde_json::Value, String> {
    serde_json::from_str(&opened(bytes)?).map_err(|e| e.to_string())
}

/// As [`unseal`], straight into what is wanted: less memory for what is big.
pub(crate) fn unseal_as<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_str(&opened(bytes)?).map_err(|e| e.to_string())
}

/// The text of the JSON object without its check, which is right.
fn opened(bytes: &[u8]) -> Result<String, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text".to_owned())?;
    let torn = || "it is cut short or was edited".to_owned();
    let rest = text.strip_prefix(HEAD).ok_or_else(torn)?;
    let (check, rest) = rest.split_at_checked(64).ok_or_else(torn)?;
    let body = rest.strip_prefix(NECK).ok_or_else(torn)?;
    if check != Digest::of(body.as_bytes()).to_string() {
        return Err(torn());
    }
    Ok(format!("{{{body}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_cut_or_flip_is_seen() {
        let value = serde_json::json!({"b": [1, 0.1, "é"], "a": {"x": null}});
        let text = seal(&value).unwrap();
        assert_eq!(unseal(text.as_bytes()).unwrap(), value);
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "stays plain JSON");
        for cut in 0..text.len() {
            assert!(unseal(&text.as_bytes()[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert!(unseal(&bytes).is_err(), "flip at {at}");
        }
        assert!(seal(&3).is_err());
    }
}
