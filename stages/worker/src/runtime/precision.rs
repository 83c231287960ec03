//! Number formats as libtorch names them.

use opdflow_kinds::precision::Precision;
use tch::Kind;

/// As libtorch names it.
#[must_use]
pub fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::F32 | Precision::Tf32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
        Precision::F16 => Kind::Half,
    }
}
