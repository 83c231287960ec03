//! One adapter of several, without training.

pub use opdflow_spec::merge::*;

use anyhow::{Context as _, Result, ensure};
use opdflow_models::lora::{Lora, Pair};
use std::collections::{BTreeMap, BTreeSet};
use tch::{Kind, Tensor};

/// Merges adapters of one base, each with its weight.
///
/// # Errors
/// None are given; for [`Merge::Factors`], their modules, ranks or scales differ.
pub fn merge(how: Merge, loras: &[(f64, &Lora)]) -> Result<Lora> {
    let (_, first) = loras.first().context("no adapter to merge")?;
    let _off = tch::no_grad_guard();
    match how {
        Merge::Factors => {
            for (_, lora) in loras {
                ensure!(
                    lora.config() == first.config() && lora.scaled_as(first),
                    "adapters of other ranks, scales or targets cannot be averaged factor by factor; take `product`"
                );
            }
            let mean = |of: &dyn Fn(&Pair) -> Tensor, module: &str| -> Result<Tensor> {
                let parts = loras
                    .iter()
                    .map(|(w, l)| Ok(of(l.pair(module).with_context(|| format!("no `{module}` in an adapter"))?) * *w))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Tensor::stack(&parts, 0).sum_dim_intlist(0i64, false, Kind::Float))
            };
            let merged = first.detached();
            for m in first.modules() {
                let pair = merged.pair(m).context("a copy lacks a module")?;
                pair.a.shallow_clone().copy_(&mean(&|p| p.a.shallow_clone(), m)?);
                pair.b.shallow_clone().copy_(&mean(&|p| p.b.shallow_clone(), m)?);
            }
            Ok(merged)
        }
        Merge::Product => {
            let modules: BTreeSet<&String> = loras.iter().flat_map(|(_, l)| l.modules()).collect();
            let mut pairs = BTreeMap::new();
            for module in modules {
                let some = loras.iter().find_map(|(_, l)| l.pair(module)).context("a module of no adapter")?;
                let (d_in, d_out) = (some.a.size()[1], some.b.size()[0]);
                // An adapter without the module changes nothing there.
                let none = |r: i64| {
                    let zeros = |shape: [i64; 2]| Tensor::zeros(shape, (Kind::Float, some.a.device()));
                    (zeros([r, d_in]), zeros([d_out, r]))
                };
                let each = |(w, l): &(f64, &Lora)| {
                    l.pair(module)
                        .map_or_else(|| none(l.config().rank), |p| (p.a.shallow_clone(), &p.b * (*w * l.scale(p))))
                };
                let (a, b): (Vec<Tensor>, Vec<Tensor>) = loras.iter().map(each).unzip();
                let a = Tensor::cat(&a, 0);
                // The scales are in B.
                let alpha = a.size()[0] as f64;
                pairs.insert(module.clone(), Pair { a, b: Tensor::cat(&b, 1), alpha });
            }
            let targets: BTreeSet<String> = loras.iter().flat_map(|(_, l)| l.config().target_modules.clone()).collect();
            Ok(Lora::of(targets.into_iter().collect(), false, pairs))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opdflow_models::lora::LoraConfig;
    use opdflow_models::nn::LinearShape;
    use opdflow_models::rng::normal;
    use tch::{Device, no_grad};

    fn lora(rank: i64, seed: u64) -> Lora {
        let linears = [LinearShape { name: "x.attn.to_q".into(), d_in: 6, d_out: 5 }];
        let lora =
            Lora::init(&LoraConfig::joint_attention(rank, 3.0 * rank as f64), &linears, seed, Device::Cpu).unwrap();
        for (i, p) in lora.parameters().iter_mut().enumerate() {
            no_grad(|| p.copy_(&normal(&p.size(), seed + i as u64, Device::Cpu)));
        }
        lora
    }

    fn change(l: &Lora) -> Tensor {
        let p = l.pair("x.attn.to_q").unwrap();
        p.b.detach().matmul(&p.a.detach()) * l.scale(p)
    }

    #[test]
    fn products_add_up_and_factors_do_not() {
        let (one, two) = (lora(2, 10), lora(2, 20));
        let wanted = change(&one) * 0.5 + change(&two) * 0.5;
        let both = [(0.5, &one), (0.5, &two)];
        let apart = |how: Merge| (change(&merge(how, &both).unwrap()) - &wanted).abs().max().double_value(&[]);
        assert!(apart(Merge::Product) < 1e-5, "{}", apart(Merge::Product));
        assert!(apart(Merge::Factors) > 0.1, "{}", apart(Merge::Factors));
        // One adapter with itself is itself, either way.
        let same = merge(Merge::Factors, &[(0.5, &one), (0.5, &one)]).unwrap();
        assert!((change(&same) - change(&one)).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn ranks_may_differ_only_in_products() {
        let (one, two) = (lora(2, 10), lora(3, 20));
        assert_eq!(merge(Merge::Product, &[(1.0, &one), (2.0, &two)]).unwrap().config().rank, 5);
        assert!(merge(Merge::Factors, &[(1.0, &one), (2.0, &two)]).is_err());
        assert!(merge(Merge::Product, &[]).is_err());
    }
}
