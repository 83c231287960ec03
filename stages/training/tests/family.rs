//! A second family, made up here: its guidance is an input, its condition has names of its own, and its noise levels depend on
//! the latent. What trains and samples must not notice.
#![allow(missing_docs)]

use anyhow::{Result, ensure};
use opdflow_models::adapter::Naming;
use opdflow_models::base_files::SingleFile;
use opdflow_models::condition::Condition;
use opdflow_models::family::{Architecture, Configs, Family, Forward, Guided, Part, Role, Sides};
use opdflow_models::field::{Field, Guidance};
use opdflow_models::init::Init;
use opdflow_models::linears::{LinearShape, Linears, LoraConfig};
use opdflow_models::lora::Lora;
use opdflow_models::network::{Backward, Input, Network};
use opdflow_models::nn::Linear;
use opdflow_models::rng::normal;
use opdflow_models::schedule::Schedule;
use opdflow_models::weights::{Place, Weights};
use opdflow_ranks::Ranks;
use opdflow_training::distillation::{Distillation, StudentSampling, TaskTeacher};
use opdflow_training::nft::{Nft, NftConfig};
use opdflow_training::objective::Objective;
use opdflow_training::opd::{Opd, OpdConfig, Remaining};
use opdflow_training::task::{RewardValues, Sample, Task, of_parts};
use opdflow_training::teacher::{Canvas, RolloutCollector, Sampling, per_sample};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use tch::{Device, Kind, Tensor, no_grad};

const CPU: Device = Device::Cpu;

struct Plain;

impl Naming for Plain {
    fn place(&self, _: &LinearShape) -> Option<Place> {
        None
    }
    fn sd_scripts(&self) -> Option<&'static str> {
        None
    }
    fn marks(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Family for Plain {
    fn class(&self) -> &'static str {
        "PlainPipeline"
    }
    fn title(&self) -> &'static str {
        "Plain"
    }
    fn parts(&self) -> &'static [Part] {
        const { &[Part::new("net", Role::Network)] }
    }
    fn text_tokens(&self, _: &Configs, _: &dyn Fn(&str) -> Option<u64>) -> u64 {
        1
    }
    fn architecture(&self, _: &Configs) -> Result<Box<dyn Architecture>> {
        Ok(Box::new(Small))
    }
    fn naming(&self) -> &'static dyn Naming {
        &Plain
    }
    fn index(&self) -> Value {
        Value::Null
    }
    fn single_files(&self) -> bool {
        false
    }
    fn single(&self, _: &Path, _: &BTreeMap<String, Vec<i64>>) -> Option<Box<dyn SingleFile>> {
        None
    }
}

struct Small;

impl Architecture for Small {
    fn family(&self) -> &'static dyn Family {
        &Plain
    }
    fn linears(&self) -> Linears {
        Linears::named(vec![LinearShape { name: "blocks.0.mix".into(), d_in: 4, d_out: 4 }], &Plain)
    }
    fn kin(&self) -> Linears {
        self.linears()
    }
    fn targets(&self) -> Vec<String> {
        vec!["mix".into()]
    }
    fn guided(&self) -> Guided {
        Guided::Input
    }
    fn guidance(&self) -> f64 {
        1.0
    }
    fn sides(&self) -> Sides {
        Sides { unit: 1, own: 4, most: None }
    }
    fn latent(&self, height: i64, width: i64) -> Result<[i64; 3]> {
        Ok([4, height, width])
    }
    /// The shift grows with the latent.
    fn schedule(&self, steps: usize, latent: [i64; 3]) -> Schedule {
        Schedule::new(steps, (latent[1] * latent[2]) as f64 / 4.0)
    }
    fn condition(&self, _: u64) -> u64 {
        4
    }
    fn forward(&self, _: [i64; 3], _: u64) -> Forward {
        Forward { products: 1.0, attention: 0.0 }
    }
    fn decoding(&self, _: [i64; 3]) -> f64 {
        0.0
    }
    fn kept(&self, _: [i64; 3], _: u64, _: bool) -> u64 {
        1
    }
    fn alive(&self, _: [i64; 3], _: u64) -> u64 {
        1
    }
    fn decoded(&self, _: [i64; 3]) -> u64 {
        1
    }
}

/// Mixes channels, and adds the words and the guidance.
struct Mixer(Linear);

impl Mixer {
    fn new() -> Self {
        let weights = Weights::new_dense(1, CPU);
        let layer = Linear::new(&weights.root().sub("blocks").sub(0).sub("mix"), 4, 4, true, Init::Xavier).unwrap();
        weights.set_trainable(false, |_| true);
        Self(layer)
    }
}

impl Network for Mixer {
    fn architecture(&self) -> &dyn Architecture {
        &Small
    }
    fn kind(&self) -> Kind {
        Kind::Float
    }
    fn device(&self) -> Device {
        CPU
    }
    fn takes(&self, condition: &Condition) -> Result<()> {
        ensure!(condition.tensor("words")?.size()[1..] == [4], "four channels of words");
        Ok(())
    }
    fn velocity(&self, input: &Input, lora: Option<&Lora>) -> Tensor {
        let channels = input.state.permute([0, 2, 3, 1]);
        let words = input.condition.tensor("words").unwrap().view([-1, 1, 1, 4]);
        let y = self.0.forward(&(channels + words), lora) * input.sigma.view([-1, 1, 1, 1]);
        y.permute([0, 3, 1, 2]) + input.guidance.expect("the guidance is an input")
    }
    fn velocity_to_recompute<'a>(&'a self, input: &Input, lora: Option<&'a Lora>) -> (Tensor, Backward<'a>) {
        let out = no_grad(|| self.velocity(input, lora));
        let (state, sigma) = (input.state.shallow_clone(), input.sigma.shallow_clone());
        let (condition, guidance) = (input.condition.narrow(0, input.condition.len()), input.guidance);
        let backward = move |grad: &Tensor| {
            let again = Input { state: &state, sigma: &sigma, condition: &condition, guidance };
            (self.velocity(&again, lora) * grad).sum(Kind::Float).backward();
        };
        (out, Box::new(backward))
    }
    fn levels(&self, u: &Tensor, _: [i64; 3]) -> Tensor {
        u.shallow_clone()
    }
}

fn words(count: i64, seed: u64) -> Condition {
    Condition::new([("words", normal(&[count, 4], seed, CPU))]).unwrap()
}

fn lora(network: &Mixer, seed: u64) -> Lora {
    let config = LoraConfig { rank: 1, alpha: 1.0, target_modules: network.architecture().targets() };
    let lora = Lora::init(&config, &network.architecture().linears(), seed, CPU).unwrap();
    for p in lora.parameters() {
        no_grad(|| p.shallow_clone().copy_(&(normal(&p.size(), seed, CPU) * 0.3)));
    }
    lora
}

fn canvas(gradient_checkpointing: bool) -> Canvas {
    Canvas { shape: [4, 4, 4], device: CPU, micro: 3, gradient_checkpointing, ranks: Ranks::alone() }
}

struct Words(Condition);

impl Task for Words {
    fn name(&self) -> &str {
        "words"
    }
    fn prompts(&self) -> usize {
        self.0.len() as usize
    }
    fn condition(&self, prompts: &[usize]) -> Result<Condition> {
        Ok(self.0.rows(&prompts.iter().map(|&p| p as i64).collect::<Vec<_>>()))
    }
    fn score(&mut self, _: &[usize], _: Range<usize>, sample: &mut Sample) -> Result<Vec<RewardValues>> {
        let values = of_parts(sample, |latents| Ok(Vec::try_from(per_sample(latents).to_kind(Kind::Double))?))?;
        Ok(vec![RewardValues { name: "mean".into(), weight: 1.0, values }])
    }
}

#[test]
fn guidance_that_is_an_input_runs_the_network_once_for_each_row() {
    let (network, condition, empty) = (Mixer::new(), words(5, 1), words(1, 2));
    let x = canvas(false).noise(5, 3);
    let at = |scale| {
        let field = Field { model: &network, lora: None, guidance: Guidance { scale, empty: &empty } };
        field.velocity_at(&x, 0.5, &condition)
    };
    // The scale is added to every number, and the empty prompt has no part in it.
    let apart = (at(4.5) - at(1.0) - 3.5).abs().max().double_value(&[]);
    assert!(at(4.5).size() == x.size() && apart < 1e-5, "{apart:e}");
    assert_eq!(Guided::Input.rows(4.5), 1);
    assert_eq!((Guided::Classifier.rows(4.5), Guided::Classifier.rows(1.0)), (2, 1));
}

/// One round of each way to train, with the inside kept and computed once more.
#[test]
fn what_trains_sees_the_traits_alone() {
    let (network, empty) = (Mixer::new(), words(1, 2));
    let gradient = |lora: &Lora, objective: &mut dyn Objective| {
        lora.parameters().iter_mut().for_each(Tensor::zero_grad);
        objective.accumulate(0, 0).unwrap();
        Tensor::cat(&lora.parameters().iter().map(|p| p.grad().copy().view([-1])).collect::<Vec<_>>(), 0)
    };
    let of = |gradient_checkpointing: bool| {
        let (own, teacher) = (lora(&network, 5), lora(&network, 6).detached());
        let mut task = Words(words(4, 7));
        let sampling = StudentSampling {
            num_inference_steps: 3,
            prompts: 4,
            guidance_scale: Some(2.0),
            ..StudentSampling::default()
        };
        let teachers = vec![TaskTeacher { lora: &teacher, guidance: 3.0, task: &task }];
        let distillation = Distillation {
            sampling,
            canvas: canvas(gradient_checkpointing),
            model: &network,
            empty: &empty,
            lora: &own,
            teachers,
            seed: 8,
        };
        // 16 places: a shift of 4.
        assert_eq!(distillation.schedule(), Schedule::new(3, 4.0));
        let mut opd = Opd { config: OpdConfig::default(), distillation, remaining: Remaining::default() };
        let distilled = gradient(&own, &mut opd);
        let sampling =
            Sampling { prompts: 2, group_size: 2, num_inference_steps: 3, guidance_scale: 2.0, ..Sampling::default() };
        let collector = RolloutCollector {
            model: &network,
            empty: &empty,
            canvas: canvas(gradient_checkpointing),
            sampling,
            tasks: vec![&mut task],
            seed: 9,
        };
        let mut nft = Nft { config: NftConfig::default(), collector, old: own.detached(), lora: &own, seen: None };
        [distilled, gradient(&own, &mut nft)]
    };
    for (kept, again) in of(false).into_iter().zip(of(true)) {
        assert!(kept.abs().max().double_value(&[]) > 1e-6, "something is learnt");
        assert!(kept.allclose(&again, 1e-4, 1e-7, false), "{kept} {again}");
    }
}
