//! Update rules against an independent NumPy reference, `reference/make.py`, to 1e-6.

use opdflow_training::advantage::{Spread, advantages};
use opdflow_training::dmd::noised;
use opdflow_training::grpo::{log_ratio, loss, plain_log_ratio};
use opdflow_training::nft;
use opdflow_training::opd::divergence;
use serde_json::Value;
use tch::{Kind, Tensor};

/// One section of the file.
struct Section(Value);

fn section(name: &str) -> Section {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/updates.json");
    let all: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    Section(all[name].clone())
}

impl Section {
    fn list(&self, name: &str) -> Vec<f64> {
        serde_json::from_value(self.0[name]["values"].clone()).unwrap_or_else(|e| panic!("{name}: {e}"))
    }
    fn tensor(&self, name: &str) -> Tensor {
        let shape: Vec<i64> = serde_json::from_value(self.0[name]["shape"].clone()).unwrap();
        Tensor::from_slice(&self.list(name)).view(&shape[..]).to_kind(Kind::Float)
    }
    fn number(&self, name: &str) -> f64 {
        self.0[name].as_f64().unwrap_or_else(|| panic!("{name}"))
    }
    #[track_caller]
    fn holds(&self, name: &str, ours: &Tensor) {
        let apart = (ours - self.tensor(name)).abs().max().double_value(&[]);
        assert!(apart < 1e-6, "{name}: {apart:e}");
    }
}

/// Gradient of a sum of losses in `at`.
fn slope(at: &Tensor, f: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = at.detach().copy().set_requires_grad(true);
    f(&leaf).sum(Kind::Float).backward();
    leaf.grad()
}

#[test]
fn grpo_with_either_ratio() {
    let s = section("grpo");
    let (mean, old, noise, advantage) = (s.tensor("mean"), s.tensor("old"), s.tensor("noise"), s.tensor("advantage"));
    let (std, clip) = (s.number("std"), s.number("clip"));
    let plain = |m: &Tensor| plain_log_ratio(m, &old, &noise, std);
    let guard = |m: &Tensor| log_ratio(m, &old, &noise);
    s.holds("plain_log_ratio", &plain(&mean));
    s.holds("guard_log_ratio", &guard(&mean));
    s.holds("plain_loss", &loss(&plain(&mean), &advantage, clip));
    s.holds("guard_loss", &loss(&guard(&mean), &advantage, clip));
    s.holds("plain_gradient", &slope(&mean, |m| loss(&plain(m), &advantage, clip)));
    s.holds("guard_gradient", &slope(&mean, |m| loss(&guard(m), &advantage, clip)));
}

#[test]
fn diffusion_nft() {
    let s = section("nft");
    let of = |v: &Tensor| {
        let [x0, xt, t, old, rho] = ["x0", "xt", "t", "old", "rho"].map(|n| s.tensor(n));
        nft::loss(&x0, &xt, &t, v, &old, &rho, s.number("beta"))
    };
    s.holds("loss", &of(&s.tensor("v")));
    s.holds("gradient", &slope(&s.tensor("v"), of));
}

#[test]
fn distillation_in_closed_form_and_as_a_policy_gradient() {
    let s = section("opd");
    let (mean, goal, old, noise) = (s.tensor("mean"), s.tensor("goal"), s.tensor("old"), s.tensor("noise"));
    let (std, clip) = (s.number("std"), s.number("clip"));
    s.holds("sde", &divergence(&mean, &goal, std));
    s.holds("ode", &divergence(&mean, &goal, 0.0));
    s.holds("sde_gradient", &slope(&mean, |m| divergence(m, &goal, std)));
    let ppo = |m: &Tensor, held: bool| {
        let apart = divergence(m, &goal, std);
        let advantage = if held { -apart.detach() } else { -&apart };
        loss(&plain_log_ratio(m, &old, &noise, std), &advantage, clip)
    };
    s.holds("ppo", &ppo(&mean, false));
    s.holds("ppo_gradient", &slope(&mean, |m| ppo(m, false)));
    s.holds("ppo_detached_gradient", &slope(&mean, |m| ppo(m, true)));
}

#[test]
fn advantages_of_round_and_group() {
    let s = section("advantages");
    let (rewards, group) = (s.list("rewards"), s.number("group") as usize);
    for (name, spread) in [("of_round", Spread::Round), ("of_group", Spread::Group)] {
        for (a, b) in advantages(&rewards, group, spread).iter().zip(s.list(name)) {
            assert!((a - b).abs() < 1e-9, "{name}: {a} {b}");
        }
    }
}

#[test]
fn states_noised_further() {
    let s = section("dmd");
    let (x, to) = (s.tensor("x"), s.tensor("to"));
    let seen = noised(&x, &s.tensor("from"), &to, &s.tensor("noise"));
    s.holds("state", &seen.state);
    s.holds("noise", &seen.told(&s.tensor("velocity"), &to));
}
