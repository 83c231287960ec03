//! What the reference says of parameters and inputs that several kinds of stage have.

use opdflow_stage::ParamDoc;

const fn of(name: &'static str, about: &'static str) -> ParamDoc {
    ParamDoc { name, about }
}

pub const LORA: ParamDoc = of("lora", "`{rank, alpha, targets}` of the adapter");
pub const OPTIMISER: ParamDoc = of("optimiser", "AdamW: `{lr, beta1, beta2, weight_decay, eps, clip}`");
pub const PACE: ParamDoc = of("pace", "learning-rate schedule: `{warmup, hold, until}`");
pub const EMA: ParamDoc = of("ema", "running average of the weights: `{decay, every}`");
pub const REWARDS: ParamDoc =
    of("rewards", "by set of prompts the rewards that judge it; the reward of the set's own name if absent");
pub const SIZE: ParamDoc = of("size", "side of a picture in pixels; the model's own if absent");
pub const PRECISION: ParamDoc = of(
    "precision",
    "number format of the frozen base: `f32`, `tf32` (f32 with faster products on a GPU), `bf16`, or `f16`, in which nothing is trained",
);
pub const RECOMPUTE: ParamDoc = of(
    "recompute",
    "whether gradients compute activations again instead of keeping them: less memory, more time; outside the key",
);
pub const MICRO_BATCH: ParamDoc = of("micro_batch", "largest batch of one forward; outside the key");
/// Of the input `embeddings`, which several kinds have too.
pub const EMBEDDINGS: &str = "what the stage `embed` made of the prompts; with it the text encoders are not loaded";
pub const THREADS: ParamDoc = of("threads", "threads; outside the key");
