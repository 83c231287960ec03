//! Tensors of one safetensors file.

use anyhow::{Context as _, Result};
use opdflow_spec::weights::scan::{self, Most, PIECE};
use opdflow_spec::weights::{Shard, WeightsError};
use safetensors::tensor::Dtype;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use tch::{Device, Kind, Tensor};

/// One tensor of a file, on `device`; floats as `kind`. `shape` is what it must have.
pub(super) fn read(shard: &Shard, name: &str, shape: Option<&[i64]>, device: Device, kind: Kind) -> Result<Tensor> {
    let file = shard.path().display().to_string();
    let tensor = name.to_string();
    let Some(info) = shard.header().info(name) else {
        let expected = shape.unwrap_or_default().to_vec();
        return Err(WeightsError::Missing { file, tensor, expected, hint: String::new() }.into());
    };
    let found: Vec<i64> = info.shape.iter().map(|&d| d as i64).collect();
    if let Some(expected) = shape.filter(|s| *s != found) {
        return Err(WeightsError::Shape { file, tensor, found, expected: expected.to_vec() }.into());
    }
    let Some(own) = kind_of(info.dtype) else {
        return Err(WeightsError::Dtype { file, tensor, found: format!("{:?}", info.dtype) }.into());
    };
    let (start, end) = info.data_offsets;
    let mut t = Tensor::f_empty(&found, (own, Device::Cpu))?;
    let read = fill(shard.file(), &mut t, end - start, shard.data_start() + start as u64, info.dtype);
    let most = read.with_context(|| format!("cannot read tensor `{name}` of {file}"))?;
    if !most.is_finite(info.dtype) {
        return Err(shard.broken(name));
    }
    let largest = most.size(info.dtype);
    if kind != own && dtype_of(kind).is_some_and(|wanted| largest >= scan::room(wanted)) && t.is_floating_point() {
        return Err(WeightsError::NoRoom { file, tensor, largest, kind: format!("{kind:?}") }.into());
    }
    // To the device as the file has it: a half is half the way.
    let t = t.to_device(device);
    Ok(if t.is_floating_point() { t.to_kind(kind) } else { t })
}

/// Reads `length` bytes at `offset` straight into the storage of `t`, which has just that many: no copy on the way.
/// Each piece is looked at while it is still near the processor.
fn fill(file: &File, t: &mut Tensor, length: usize, offset: u64, dtype: Dtype) -> io::Result<Most> {
    let start = t.data_ptr().cast::<u8>();
    let mut most = Most::default();
    for from in (0..length).step_by(PIECE) {
        let count = PIECE.min(length - from);
        // SAFETY: `t` is contiguous, on the CPU, and of `length` bytes by its shape and kind, as the header's check
        // has it; `from + count` is not more.
        let piece = unsafe { start.add(from) };
        read_into(file, piece, count, offset + from as u64)?;
        // SAFETY: as above, and these bytes have just been written.
        most = most.or(scan::scan(dtype, unsafe { std::slice::from_raw_parts(piece, count) }));
    }
    Ok(most)
}

/// Reads `length` bytes at `offset` to `start`, where there is room for them.
fn read_into(file: &File, start: *mut u8, length: usize, offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = i64::try_from(offset + done as u64).map_err(io::Error::other)?;
        // SAFETY: there is room for `length` bytes, and `done` is less. Raw, because the storage is not initialised
        // and no slice may show it.
        let n = unsafe { libc::pread(file.as_raw_fd(), start.add(done).cast(), length - done, at) };
        match usize::try_from(n) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => done += n,
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
    Ok(())
}

/// The kind of a dtype that is read here.
pub(super) fn kind_of(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// The dtype of a kind that is written here.
pub(super) fn dtype_of(kind: Kind) -> Option<Dtype> {
    use Dtype::*;
    [F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL].into_iter().find(|d| kind_of(*d) == Some(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_spec::weights::READ;

    #[test]
    fn every_dtype_that_is_read_has_a_kind() {
        assert!(READ.iter().all(|dtype| kind_of(*dtype).and_then(dtype_of) == Some(*dtype)));
        assert_eq!(kind_of(Dtype::F8_E4M3), None);
    }

    #[test]
    fn room_is_where_rounding_to_the_kind_overflows() {
        let to = |v: f64, kind| Tensor::from_slice(&[v as f32]).to_kind(kind).isfinite().all().int64_value(&[]) != 0;
        for (dtype, kind) in [(Dtype::F16, Kind::Half), (Dtype::BF16, Kind::BFloat16)] {
            let limit = scan::room(dtype);
            assert!(!to(limit, kind) && to(f64::from((limit as f32).next_down()), kind), "{dtype:?}");
        }
    }
}
