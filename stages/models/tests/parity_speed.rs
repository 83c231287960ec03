//! Time of a small forward and backward pass, to set beside `parity/speed.py`. Run alone, with OMP_NUM_THREADS=1:
//! `cargo test -p opdflow-models --test parity_speed -- --ignored --nocapture`.

use opdflow_models::families::sd3::{Mmdit, MmditConfig};
use opdflow_models::lora::{Lora, LoraConfig};
use opdflow_models::weights::Weights;
use tch::{Device, Kind, Tensor};

/// Time that this thread spent on a processor: a busy machine then disturbs less than by the clock on the wall.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e6
}

#[test]
#[ignore = "a benchmark"]
fn speed() {
    let config = MmditConfig {
        sample_size: 8,
        num_layers: 4,
        attention_head_dim: 24,
        num_attention_heads: 4,
        joint_attention_dim: 64,
        caption_projection_dim: 96,
        pooled_projection_dim: 64,
        pos_embed_max_size: Some(8),
        qk_norm: Some("rms_norm".into()),
        ..MmditConfig::default()
    };
    let weights = Weights::new_dense(1, Device::Cpu);
    let model = Mmdit::new(&weights.root(), &config).unwrap();
    weights.set_trainable(false, |_| true);
    let f32 = (Kind::Float, Device::Cpu);
    let (x, t) = (Tensor::randn([96, 16, 8, 8], f32), Tensor::rand([96], f32) * 1000.0);
    let (context, pooled) = (Tensor::randn([96, 20, 64], f32), Tensor::randn([96, 64], f32));
    let lora = Lora::init(&LoraConfig::joint_attention(32, 64.0), &model.linears(), 2, Device::Cpu).unwrap();
    let time = |what: &str, run: &dyn Fn()| {
        (0..5).for_each(|_| run());
        let mut each: Vec<f64> = (0..30)
            .map(|_| {
                let at = cpu_ms();
                run();
                cpu_ms() - at
            })
            .collect();
        each.sort_by(f64::total_cmp);
        println!("{what}: {:.2} ms (fastest {:.2})", each[15], each[0]);
    };
    let forward = |lora: Option<&Lora>| model.forward(&x, &t, &context, &pooled, lora);
    tch::no_grad(|| time("forward", &|| drop(forward(None))));
    tch::no_grad(|| time("forward, LoRA", &|| drop(forward(Some(&lora)))));
    time("forward and backward, LoRA", &|| forward(Some(&lora)).square().mean(Kind::Float).backward());
    weights.set_trainable(true, |n| n != "pos_embed.pos_embed");
    time("forward and backward, all weights", &|| forward(None).square().mean(Kind::Float).backward());
}
