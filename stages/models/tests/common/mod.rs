//! How tensors, images and adapters are held against those of the published programs.
#![allow(dead_code, missing_docs, reason = "each test program uses a part of it")]

use opdflow_models::lora::Lora;
use tch::{Kind, Tensor};

/// The largest size among the numbers of a tensor.
pub fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

/// Holds the largest absolute difference against `allowed`; printed, so that `--nocapture` gives the table.
#[track_caller]
pub fn within(what: &str, found: &Tensor, expected: &Tensor, allowed: f64) {
    assert_eq!(found.size(), expected.size(), "{what}: shape");
    let diff = largest(&(found - expected));
    println!("{what}: max |difference| {diff:.2e} of max |value| {:.2e}", largest(expected));
    assert!(diff <= allowed, "{what}: differs by {diff:e}, allowed {allowed:e}");
}

/// The same images in 8 bits, to 45 dB. Values lie within 0..1. The expected ones must not be flat, or all would be alike.
#[track_caller]
pub fn same_images(what: &str, found: &Tensor, expected: &Tensor) {
    let eight = |t: &Tensor| (t * 255.0).round();
    let error = (eight(found) - eight(expected)).square().mean(Kind::Double).double_value(&[]);
    let psnr = 10.0 * (255.0 * 255.0 / error.max(1e-12)).log10();
    println!("{what}: PSNR of the 8-bit images {psnr:.1} dB");
    assert!(psnr >= 45.0, "{what}: {psnr} dB");
    let spread = expected.std(true).double_value(&[]);
    assert!(spread > 0.05, "the images of the fixture are flat: {spread}");
}

/// The same adapter to the last bit; its scales, which forms of files round otherwise, to a millionth.
#[track_caller]
pub fn same_adapters(one: &Lora, other: &Lora, what: &str) {
    let all = |l: &Lora| l.named().into_iter().map(|(n, t)| (n, t.size())).collect::<Vec<_>>();
    assert_eq!(all(one), all(other), "{what}");
    for ((name, a), (_, b)) in one.named().into_iter().zip(other.named()) {
        assert!(a == b, "{what}: {name} differs");
    }
    for module in one.modules() {
        let scale = |l: &Lora| l.scale(l.pair(module).unwrap());
        let off = (scale(one) / scale(other) - 1.0).abs();
        assert!(off < 1e-6, "{what}: the scale of {module} is off by {off:e}");
    }
}
