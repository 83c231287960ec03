//! Tensors cut out of files of another layout.

use opdflow_spec::weights::Cut;
use tch::Tensor;

/// The part of `t`, which has the shape of [`Cut::there`]. A part is copied: it must not keep the whole alive.
pub(super) fn part_of(cut: Cut, t: Tensor) -> Tensor {
    match cut {
        Cut::Whole => t,
        Cut::Swapped => {
            let (rows, half) = (t.size()[0], t.size()[0] / 2);
            Tensor::cat(&[t.narrow(0, half, rows - half), t.narrow(0, 0, half)], 0)
        }
        Cut::Pixel => t.flatten(1, -1),
        Cut::Transposed => t.transpose(0, 1).contiguous(),
        Cut::Part { which, units } => {
            let unit = t.size()[0] / units.iter().sum::<i64>().max(1);
            t.narrow(0, units[..which].iter().sum::<i64>() * unit, units[which] * unit).copy()
        }
        Cut::Third(which) => {
            let rows = t.size()[0] / 3;
            t.narrow(0, which * rows, rows).copy()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::Init;
    use crate::weights::{Place, Weights, save_tensors};
    use tch::{Device, Kind};

    fn renamed(name: &str) -> Place {
        match name {
            "k.weight" => Place::third("in_proj", 1),
            "out.weight" => Place::transposed("proj"),
            other => Place::whole(other),
        }
    }

    #[test]
    fn parts_are_found_and_errors_name_the_file_s_tensors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("w.safetensors");
        let count =
            |shape: &[i64]| Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)).view(shape);
        let tensors = [("in_proj", count(&[6, 2])), ("proj", count(&[2, 3])), ("left", count(&[1]))];
        save_tensors(&file, &tensors.map(|(n, t)| (n.to_owned(), t)), Kind::Float).unwrap();
        let open = || Weights::load(&file, Device::Cpu, Kind::Float).unwrap().with_layout(renamed);
        let weights = open();
        let root = weights.root();
        let flat = |t: Tensor| Vec::<f64>::try_from(t.view(-1)).unwrap();
        assert_eq!(flat(root.get("k.weight", &[2, 2], Init::Zeros).unwrap()), [4.0, 5.0, 6.0, 7.0]);
        assert_eq!(flat(root.get("out.weight", &[3, 2], Init::Zeros).unwrap()), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        assert!(root.has("k.weight") && !root.has("q"));
        assert_eq!(weights.unused(), ["left"]);
        let wrong = open().root().get("k.weight", &[3, 2], Init::Zeros).unwrap_err().to_string();
        assert!(wrong.contains("tensor `in_proj` has shape [6, 2], expected [9, 2]"), "{wrong}");
        let absent = open().root().get("q", &[3], Init::Zeros).unwrap_err().to_string();
        assert!(absent.contains("tensor `q` is missing"), "{absent}");
    }
}
