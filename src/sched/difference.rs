//! How far apart two results of the same stage are: by the numbers in their files, if they hold any.

use opdflow_api::cache::{ActionRecord, Digest, Object, ObjectKind, Store, StoreError};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Files longer than this are told apart by their bytes only: both are read whole.
const LIMIT: u64 = 1 << 30;

/// A file in which two results differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The output, and the file's path inside it if it is a folder.
    pub file: String,
    /// What was found.
    pub found: DifferenceKind,
}

/// How a file differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DifferenceKind {
    /// Only one of the two results has it.
    OneSided,
    /// It holds no numbers that could be compared, or others.
    Bytes,
    /// The same shape, with other numbers in it.
    Numbers {
        /// How many numbers it holds.
        count: u64,
        /// How many of them differ.
        differ: u64,
        /// The largest difference.
        largest: f64,
        /// Root of the mean square of all differences, over that of the first result's numbers.
        relative: f64,
    },
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let file = &self.file;
        match &self.found {
            DifferenceKind::OneSided => write!(f, "{file}: only one of them has it"),
            DifferenceKind::Bytes => write!(f, "{file}: other bytes"),
            DifferenceKind::Numbers { count, differ, largest, relative } => {
                write!(f, "{file}: {differ} of {count} numbers, by {largest:.3e} at the most, {relative:.3e} relative")
            }
        }
    }
}

/// The differences in a few words.
#[must_use]
pub fn summary(all: &[Difference]) -> String {
    let mut words: Vec<String> = all.iter().take(4).map(ToString::to_string).collect();
    if all.len() > 4 {
        words.push(format!("and {} files more", all.len() - 4));
    }
    words.join("; ")
}

/// Where the meaningful outputs of two results differ, in the order of their names.
///
/// # Errors
/// One of them is damaged in the store.
pub fn differences(store: &Store, one: &ActionRecord, other: &ActionRecord) -> Result<Vec<Difference>, StoreError> {
    let (one, other) = (files(store, one)?, files(store, other)?);
    let mut found = Vec::new();
    for (file, a) in &one {
        match other.get(file) {
            None => found.push(Difference { file: file.clone(), found: DifferenceKind::OneSided }),
            Some(b) if a.0 != b.0 => {
                let numbers = if a.1.max(b.1) > LIMIT { None } else { compare(&store.read(&a.0)?, &store.read(&b.0)?) };
                found.push(Difference { file: file.clone(), found: numbers.unwrap_or(DifferenceKind::Bytes) });
            }
            Some(_) => {}
        }
    }
    let new = other.keys().filter(|file| !one.contains_key(*file));
    found.extend(new.map(|file| Difference { file: file.clone(), found: DifferenceKind::OneSided }));
    Ok(found)
}

/// All files of the outputs that carry meaning, with digest and size.
fn files(store: &Store, record: &ActionRecord) -> Result<BTreeMap<String, (Digest, u64)>, StoreError> {
    let mut found = BTreeMap::new();
    for (port, output) in record.outputs.iter().filter(|(_, o)| o.semantic) {
        let Object { digest, kind, size } = output.object;
        match kind {
            ObjectKind::Blob => {
                found.insert(port.clone(), (digest, size));
            }
            ObjectKind::Tree => {
                let entries = store.tree(&digest)?.into_iter();
                found.extend(entries.map(|e| (format!("{port}/{}", e.path), (e.digest, e.size))));
            }
        }
    }
    Ok(found)
}

fn compare(one: &[u8], other: &[u8]) -> Option<DifferenceKind> {
    let pairs = tensors(one, other).or_else(|| words(one, other))?;
    Some(pairs.finish())
}

/// A running comparison of two rows of numbers.
#[derive(Default)]
struct Pairs {
    count: u64,
    differ: u64,
    largest: f64,
    squares: f64,
    scale: f64,
}

impl Pairs {
    fn add(&mut self, a: f64, b: f64) {
        self.count += 1;
        self.scale += a * a;
        if a.to_bits() != b.to_bits() && !(a.is_nan() && b.is_nan()) {
            self.differ += 1;
            let apart = (a - b).abs();
            self.largest = if apart.is_nan() { f64::INFINITY } else { self.largest.max(apart) };
            self.squares += apart * apart;
        }
    }

    fn finish(self) -> DifferenceKind {
        let relative = if self.squares > 0.0 { (self.squares / self.scale.max(f64::MIN_POSITIVE)).sqrt() } else { 0.0 };
        DifferenceKind::Numbers { count: self.count, differ: self.differ, largest: self.largest, relative }
    }
}

/// Two texts whose words are the same but for numbers. Nothing if they are no texts, or other texts.
fn words(one: &[u8], other: &[u8]) -> Option<Pairs> {
    let split = |bytes| -> Option<std::vec::IntoIter<&str>> {
        let text: &str = std::str::from_utf8(bytes).ok()?;
        let parts: Vec<&str> = text.split(|c: char| c.is_whitespace() || ",:;|[]{}()\"".contains(c)).collect();
        Some(parts.into_iter())
    };
    let (mut a, mut b) = (split(one)?, split(other)?);
    let mut pairs = Pairs::default();
    loop {
        match (a.next(), b.next()) {
            (None, None) => return (pairs.differ > 0).then_some(pairs),
            (Some(x), Some(y)) => match (x.parse::<f64>(), y.parse::<f64>()) {
                (Ok(x), Ok(y)) => pairs.add(x, y),
                _ if x == y => {}
                _ => return None,
            },
            _ => return None,
        }
    }
}

/// Two files of weights (safetensors) with the same tensors. The format is a length, a JSON header and bytes: nothing
/// here needs to know what a tensor is.
fn tensors(one: &[u8], other: &[u8]) -> Option<Pairs> {
    let ((head, a), (other_head, b)) = (header(one)?, header(other)?);
    if head != other_head || a.len() != b.len() {
        return None;
    }
    let mut pairs = Pairs::default();
    for (name, about) in head.as_object()? {
        if name == "__metadata__" {
            continue;
        }
        let place = |i: usize| usize::try_from(about["data_offsets"][i].as_u64()?).ok();
        let (from, to) = (place(0)?, place(1)?);
        let (a, b) = (a.get(from..to)?, b.get(from..to)?);
        let (size, read): (usize, fn(&[u8]) -> f64) = match about["dtype"].as_str()? {
            "F64" => (8, |x| x.try_into().map_or(0.0, f64::from_le_bytes)),
            "F32" => (4, |x| x.try_into().map_or(0.0, |x| f64::from(f32::from_le_bytes(x)))),
            "BF16" => (2, |x| f64::from(f32::from_bits(u32::from(u16::from_le_bytes([x[0], x[1]])) << 16))),
            "F16" => (2, |x| half(u16::from_le_bytes([x[0], x[1]]))),
            _ if a == b => continue,
            _ => return None,
        };
        a.chunks_exact(size).zip(b.chunks_exact(size)).for_each(|(x, y)| pairs.add(read(x), read(y)));
    }
    Some(pairs)
}

fn header(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (head, data) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((serde_json::from_slice(head).ok().filter(Value::is_object)?, data))
}

/// IEEE half precision.
fn half(bits: u16) -> f64 {
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 31, f64::from(bits & 1023));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction > 0.0 => f64::NAN,
        31 => f64::INFINITY,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(e) - 15),
    };
    if sign == 1 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(dtype: &str, values: &[Vec<u8>]) -> Vec<u8> {
        let data: Vec<u8> = values.concat();
        let head = serde_json::json!({"a": {"dtype": dtype, "shape": [values.len()], "data_offsets": [0, data.len()]}});
        let head = head.to_string();
        [(head.len() as u64).to_le_bytes().as_slice(), head.as_bytes(), &data].concat()
    }

    fn numbers(found: Option<DifferenceKind>) -> (u64, u64, f64, f64) {
        match found {
            Some(DifferenceKind::Numbers { count, differ, largest, relative }) => (count, differ, largest, relative),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn weights_are_compared_number_by_number() {
        let f32s = |all: [f32; 3]| weights("F32", &all.map(|x| x.to_le_bytes().to_vec()));
        let (count, differ, largest, relative) = numbers(compare(&f32s([3.0, 4.0, 0.0]), &f32s([3.0, 4.5, 0.0])));
        assert_eq!((count, differ, largest), (3, 1, 0.5));
        assert!((relative - 0.1).abs() < 1e-12, "{relative}");
        // 1 and 1.0078125 in bfloat16; 1 and 1.0009765625 in half precision.
        let two = |dtype, a: u16, b: u16| {
            (weights(dtype, &[a.to_le_bytes().into()]), weights(dtype, &[b.to_le_bytes().into()]))
        };
        let (a, b) = two("BF16", 0x3f80, 0x3f81);
        assert_eq!(numbers(compare(&a, &b)).2, 0.007_812_5);
        let (a, b) = two("F16", 0x3c00, 0x3c01);
        assert_eq!(numbers(compare(&a, &b)).2, 0.000_976_562_5);
        assert_eq!(compare(&a, &f32s([1.0, 2.0, 3.0])), None);
        assert_eq!(numbers(compare(&f32s([1.0, 2.0, f32::NAN]), &f32s([1.0, 2.0, 3.0]))).2, f64::INFINITY);
    }

    #[test]
    fn texts_are_compared_by_the_numbers_in_them() {
        let (count, differ, largest, _) =
            numbers(compare(b"{\"x\": 0.5, \"y\": [1, 2]}", b"{\"x\": 0.5, \"y\": [1, 4]}"));
        assert_eq!((count, differ, largest), (3, 1, 2.0));
        assert_eq!(compare(b"a,1\n", b"b,1\n"), None);
        assert_eq!(compare(b"1 2", b"1"), None);
        assert_eq!(compare(&[0xff, 0], &[0xff, 1]), None);
        // The same numbers in another spelling are not numbers that differ.
        assert_eq!(compare(b"1.0", b"1.00"), None);
    }
}
