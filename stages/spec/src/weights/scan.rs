//! One look at the bytes of a tensor: the largest size of its numbers, and whether all are finite.
//!
//! Without its sign, a number of IEEE 754 is the larger the larger its bits are as a whole number, and infinities and NaN
//! lie above all others. So one running maximum of whole numbers, which a processor does some at a time, tells both.

use safetensors::tensor::Dtype;

/// Bytes that are read and looked at together: whole numbers of every dtype, and less than a core's cache.
pub const PIECE: usize = 1 << 20;

/// What [`scan`] finds: the largest size as bits, and from where on bits mean no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Most(u64);

/// Bits of infinity without the sign, of a float dtype.
fn infinite(dtype: Dtype) -> Option<u64> {
    Some(match dtype {
        Dtype::F64 => 0x7ff0_0000_0000_0000,
        Dtype::F32 => 0x7f80_0000,
        Dtype::F16 => 0x7c00,
        Dtype::BF16 => 0x7f80,
        _ => return None,
    })
}

/// The largest size among numbers of `dtype` in these bytes; nothing for dtypes that are no floats. From the page cache, a
/// core reads some 4 GB a second and looks through 5 to 9.
pub fn scan(dtype: Dtype, bytes: &[u8]) -> Most {
    // Several maxima side by side: one alone waits for itself.
    macro_rules! largest {
        ($int:ty) => {{
            const SIZE: usize = size_of::<$int>();
            let mut most = [0 as $int; 64 / SIZE];
            let (blocks, rest) = bytes.as_chunks::<64>();
            for block in blocks {
                for (m, b) in most.iter_mut().zip(block.as_chunks::<SIZE>().0) {
                    *m = (*m).max(<$int>::from_le_bytes(*b) & <$int>::MAX);
                }
            }
            let rest = rest.as_chunks::<SIZE>().0.iter().map(|b| <$int>::from_le_bytes(*b) & <$int>::MAX);
            most.into_iter().chain(rest).max().unwrap_or(0) as u64
        }};
    }
    Most(match dtype {
        Dtype::F64 => largest!(i64),
        Dtype::F32 => largest!(i32),
        Dtype::F16 | Dtype::BF16 => largest_of_halves(bytes),
        _ => 0,
    })
}

/// The same of 16-bit numbers, two in each 32-bit one: maxima of 16 bits come out several times slower.
fn largest_of_halves(bytes: &[u8]) -> u64 {
    let (mut low, mut high) = ([0_i32; 16], [0_i32; 16]);
    let (blocks, rest) = bytes.as_chunks::<64>();
    for block in blocks {
        for (i, pair) in block.as_chunks::<4>().0.iter().enumerate() {
            let pair = i32::from_le_bytes(*pair);
            low[i] = low[i].max(pair & 0x7fff);
            high[i] = high[i].max(pair & 0x7fff_0000);
        }
    }
    let rest = rest.as_chunks::<2>().0.iter().map(|b| i32::from(i16::from_le_bytes(*b) & i16::MAX));
    let high = high.into_iter().map(|h| h >> 16);
    low.into_iter().chain(high).chain(rest).max().unwrap_or(0) as u64
}

impl Most {
    /// The larger of both.
    pub fn or(self, other: Most) -> Most {
        Most(self.0.max(other.0))
    }

    /// Whether nothing was infinite or NaN.
    pub fn is_finite(self, dtype: Dtype) -> bool {
        infinite(dtype).is_none_or(|limit| self.0 < limit)
    }

    /// The size itself; infinite or NaN if something was.
    pub fn size(self, dtype: Dtype) -> f64 {
        match dtype {
            Dtype::F64 => f64::from_bits(self.0),
            Dtype::F32 => f64::from(f32::from_bits(self.0 as u32)),
            Dtype::BF16 => f64::from(f32::from_bits((self.0 as u32) << 16)),
            Dtype::F16 => half(self.0 as u16),
            _ => 0.0,
        }
    }
}

/// A positive f16 by its bits.
fn half(bits: u16) -> f64 {
    let (exponent, rest) = (i32::from(bits >> 10), f64::from(bits & 0x3ff));
    match exponent {
        0 => rest * 2f64.powi(-24),
        0x1f if rest == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + rest / 1024.0) * 2f64.powi(exponent - 15),
    }
}

/// The first number in these bytes that is not finite: its place, and what it is.
pub fn broken(dtype: Dtype, bytes: &[u8]) -> Option<(usize, f64)> {
    let limit = infinite(dtype)?;
    let width = dtype.bitsize() / 8;
    let sign = 1u64 << (8 * width - 1);
    let bits = |b: &[u8]| b.iter().rev().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let (place, found) = bytes.chunks_exact(width).map(bits).enumerate().find(|(_, n)| n & !sign >= limit)?;
    let size = Most(found & !sign).size(dtype);
    Some((place, if found & sign != 0 { -size } else { size }))
}

/// Sizes from here on become infinite when they are rounded to `dtype`: half a step above its largest number.
pub fn room(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F16 => 65_520.0,
        Dtype::BF16 => 2f64.powi(127) * (2.0 - 2f64.powi(-8)),
        Dtype::F32 => 2f64.powi(127) * (2.0 - 2f64.powi(-24)),
        _ => f64::INFINITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|v| v.to_le_bytes()).collect()
    }

    #[test]
    fn one_number_in_a_million_is_found_wherever_it_stands() {
        let mut values = vec![-1.5_f32; 1000];
        assert_eq!(scan(Dtype::F32, &bytes(&values)).size(Dtype::F32), 1.5);
        assert_eq!(broken(Dtype::F32, &bytes(&values)), None);
        for at in [0, 15, 16, 511, 992, 999] {
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let kept = std::mem::replace(&mut values[at], bad);
                let all = bytes(&values);
                assert!(!scan(Dtype::F32, &all).is_finite(Dtype::F32), "{at} {bad}");
                let (place, found) = broken(Dtype::F32, &all).unwrap();
                assert!(
                    place == at && (found == f64::from(bad) || found.is_nan() && bad.is_nan()),
                    "{at} {bad} {found}"
                );
                values[at] = kept;
            }
        }
    }

    #[test]
    fn a_half_is_found_on_either_side_of_a_pair() {
        for dtype in [Dtype::F16, Dtype::BF16] {
            for at in [0, 1, 30, 31, 32, 63, 64, 66] {
                let mut values = [0x8001_u16; 67];
                values[at] = if dtype == Dtype::F16 { 0xfc00 } else { 0xff80 };
                let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                assert!(!scan(dtype, &bytes).is_finite(dtype), "{dtype:?} {at}");
                assert_eq!(broken(dtype, &bytes), Some((at, f64::NEG_INFINITY)));
            }
            let bytes: Vec<u8> = [0x8001_u16; 67].iter().flat_map(|v| v.to_le_bytes()).collect();
            assert!(scan(dtype, &bytes).is_finite(dtype));
        }
    }

    #[test]
    fn sizes_of_every_kind() {
        // f16: 65504, its smallest 2^-24, -2; bf16: 1.0.
        let most = |dtype, all: &[u16]| {
            let bytes: Vec<u8> = all.iter().flat_map(|v| v.to_le_bytes()).collect();
            scan(dtype, &bytes).size(dtype)
        };
        assert_eq!(most(Dtype::F16, &[0x7bff, 0x0001]), 65_504.0);
        assert_eq!(most(Dtype::F16, &[0x0001]), 2f64.powi(-24));
        assert_eq!(most(Dtype::F16, &[0x0001, 0xc000]), 2.0);
        assert_eq!(most(Dtype::BF16, &[0x3f80, 0x8001]), 1.0);
        assert!(most(Dtype::F16, &[0x7c00]).is_infinite() && most(Dtype::F16, &[0xfe00]).is_nan());
        let double: Vec<u8> = [1e300_f64, -2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(scan(Dtype::F64, &double).size(Dtype::F64), 1e300);
        assert!(scan(Dtype::I64, &[0xff; 8]).is_finite(Dtype::I64) && scan(Dtype::U8, &[0xff]).is_finite(Dtype::U8));
    }

    #[test]
    fn room_is_where_rounding_overflows() {
        assert!(((room(Dtype::F32)) as f32).is_infinite());
        assert!((room(Dtype::F32).next_down() as f32).is_finite());
    }
}
