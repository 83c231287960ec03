//! Which kernels MKL takes for products of f32 on a processor with AVX-512 that is not Intel's.
//!
//! MKL, which libtorch has its products of f32 from, asks one function whether the processor is Intel's, and of any other it uses no AVX-512.
//! The function is a symbol that the dynamic linker looks up, in the program first: here it answers by what the processor can do. Products
//! are 2.3 times as fast on AMD's Zen 5 (`docs/explanation/benchmarks.md`). On Intel's processors, and on others without AVX-512, the
//! answer is MKL's own.
//!
//! `OPDFLOW_MKL=own` leaves the choice to MKL, which `opdflow` passes on. Bytes differ between the two as they do between two kinds of processor.

use std::ffi::c_int;

/// The variable that leaves the choice to MKL, where it is `own`.
pub const VARIABLE: &str = "OPDFLOW_MKL";

/// What MKL asks before it chooses kernels: 1 if those for Intel's processors will do.
#[unsafe(no_mangle)]
pub extern "C" fn mkl_serv_intel_cpu_true() -> c_int {
    c_int::from(takes_all(is_intel(), has_avx512(), std::env::var(VARIABLE).ok().as_deref()))
}

// Without a mention nothing of this file would be in a program.
#[used]
static MENTIONED: extern "C" fn() -> c_int = mkl_serv_intel_cpu_true;

fn takes_all(intel: bool, avx512: bool, said: Option<&str>) -> bool {
    intel || (avx512 && said != Some("own"))
}

#[cfg(target_arch = "x86_64")]
fn is_intel() -> bool {
    let leaf = std::arch::x86_64::__cpuid(0);
    [leaf.ebx, leaf.edx, leaf.ecx].map(u32::to_le_bytes).concat() == b"GenuineIntel"
}

/// The parts of AVX-512 that MKL's kernels of that name are made of.
#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512cd")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

#[cfg(not(target_arch = "x86_64"))]
fn is_intel() -> bool {
    false
}

#[cfg(not(target_arch = "x86_64"))]
fn has_avx512() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tch::{Device, Kind, Tensor};

    #[test]
    fn the_choice_is_mkls_own_but_for_avx512_of_another_maker() {
        for said in [None, Some("own"), Some("processor")] {
            assert!(takes_all(true, false, said) && takes_all(true, true, said));
            assert!(!takes_all(false, false, said));
            assert_eq!(takes_all(false, true, said), said != Some("own"));
        }
    }

    /// How far a product of f32 is from the same in f64, of the largest of its values; and its bytes.
    fn product() -> (f64, Vec<u8>) {
        tch::manual_seed(3);
        let [a, b] = [[257, 3001], [3001, 385]].map(|size| Tensor::randn(size, (Kind::Float, Device::Cpu)));
        let (found, exact) = (a.matmul(&b), a.to_kind(Kind::Double).matmul(&b.to_kind(Kind::Double)));
        let off = (found.to_kind(Kind::Double) - &exact).abs().max() / exact.abs().max();
        let values: Vec<f32> = Vec::try_from(found.flatten(0, -1)).unwrap();
        (off.double_value(&[]), values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// A product in a process of its own, for MKL chooses once in each.
    #[test]
    fn products_are_right_either_way_and_the_answer_is_asked_for() {
        if let Some(file) = std::env::var_os("OPDFLOW_TEST_PRODUCT") {
            let (off, bytes) = product();
            assert!(off < 1e-6, "{off}");
            std::fs::write(file, bytes).unwrap();
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let of = |choice: &str| {
            let file = folder.path().join(choice);
            let own = "mkl::tests::products_are_right_either_way_and_the_answer_is_asked_for";
            let mut again = Command::new(std::env::current_exe().unwrap());
            again.args(["--exact", own]).env("OPDFLOW_TEST_PRODUCT", &file).env(VARIABLE, choice);
            let ended = again.env_remove("MKL_CBWR").output().unwrap();
            assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
            std::fs::read(file).unwrap()
        };
        // Where the choice is ours the kernels differ, and with them the last bits.
        assert_eq!(of("own") != of("processor"), has_avx512() && !is_intel());
    }
}
