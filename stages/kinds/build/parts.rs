//! The parts of the code that stage kinds compute with, each a list of files and folders below `stages/`.
//!
//! Every source file stands in exactly one part, or among those that change no result (`tests/semantics.rs`). A new file is
//! in no part at first: until somebody gives it one, its digest is in the key of every stage.

/// A name and what belongs to it.
pub type CodePart = (&'static str, &'static [&'static str]);

/// What stages share. A stage says which of them it uses (`stages/kinds/src/code.rs`).
pub const SHARED: &[CodePart] = &[
    (
        "models.layers",
        &[
            "models/src/device.rs",
            "models/src/finite.rs",
            "models/src/init.rs",
            "models/src/nn.rs",
            "models/src/weights",
            "spec/src/config.rs",
            "spec/src/linears.rs",
            "spec/src/nn.rs",
            "spec/src/weights",
        ],
    ),
    ("models.lora", &["models/src/adapter", "models/src/lora.rs", "spec/src/adapter"]),
    ("models.random", &["models/src/rng.rs", "spec/src/rng.rs"]),
    ("models.text", &["models/src/text", "spec/src/text"]),
    ("models.vae", &["models/src/vae", "spec/src/vae/config.rs", "spec/src/vae/mod.rs"]),
    (
        "models.transformer",
        &["models/src/condition.rs", "models/src/field.rs", "models/src/network.rs", "models/src/transformer.rs"],
    ),
    // All of a family is one part, so that a new one is listed here without a word.
    ("models.pipeline", &["models/src/families", "spec/src/base_files.rs", "spec/src/families", "spec/src/family.rs"]),
    (
        "models.sampling",
        &["models/src/rollout.rs", "models/src/solver.rs", "spec/src/schedule.rs", "spec/src/solver.rs"],
    ),
    (
        "training.common",
        &[
            "spec/src/training/muon.rs",
            "spec/src/training/objective.rs",
            "spec/src/training/optim.rs",
            "spec/src/training/task.rs",
            "spec/src/training/train.rs",
            "training/src/muon.rs",
            "training/src/objective.rs",
            "training/src/optim.rs",
            "training/src/state.rs",
            "training/src/tally.rs",
            "training/src/task.rs",
            "training/src/train.rs",
        ],
    ),
    (
        "training.rollouts",
        &[
            "spec/src/training/advantage.rs",
            "spec/src/training/teacher.rs",
            "training/src/advantage.rs",
            "training/src/teacher.rs",
        ],
    ),
    ("training.distillation", &["spec/src/training/distillation.rs", "training/src/distillation.rs"]),
    ("training.grpo", &["spec/src/training/grpo.rs", "spec/src/training/window.rs", "training/src/grpo.rs"]),
    ("training.nft", &["spec/src/training/nft.rs", "training/src/nft.rs"]),
    ("training.opd", &["spec/src/training/opd.rs", "training/src/opd.rs"]),
    ("training.ppo", &["spec/src/training/ppo.rs", "training/src/ppo.rs"]),
    ("training.dance", &["spec/src/training/dance.rs", "training/src/dance.rs"]),
    ("training.sft", &["spec/src/training/sft.rs", "training/src/sft.rs"]),
    ("training.dmd", &["spec/src/training/dmd.rs", "training/src/dmd.rs"]),
    ("training.merge", &["spec/src/training/merge.rs", "training/src/merge.rs"]),
    (
        "rewards.scoring",
        &[
            "rewards/src/opencv",
            "rewards/src/part.rs",
            "rewards/src/quote.rs",
            "rewards/src/reward.rs",
            "rewards/src/weighted.rs",
        ],
    ),
    ("rewards.geneval", &["rewards/src/detector", "rewards/src/detector.rs", "rewards/src/geneval"]),
    ("rewards.ocr", &["rewards/src/ocr"]),
    ("rewards.looks", &["rewards/src/looks.rs"]),
    (
        "reward_models.common",
        &[
            "reward_models/src/batches.rs",
            "reward_models/src/head.rs",
            "reward_models/src/judge.rs",
            "reward_models/src/lib.rs",
            "reward_models/src/parts.rs",
            "reward_models/src/pixels",
            "spec/src/reward_models/reward_model.rs",
            "spec/src/reward_models/mod.rs",
        ],
    ),
    ("reward_models.clip", &["reward_models/src/clip"]),
    ("reward_models.aesthetic", &["reward_models/src/aesthetic.rs", "spec/src/reward_models/aesthetic.rs"]),
    ("reward_models.clipscore", &["reward_models/src/clipscore.rs", "spec/src/reward_models/clipscore.rs"]),
    ("reward_models.hpsv2", &["reward_models/src/hpsv2.rs", "spec/src/reward_models/hpsv2.rs"]),
    ("reward_models.pickscore", &["reward_models/src/pickscore.rs", "spec/src/reward_models/pickscore.rs"]),
    ("reward_models.imagereward", &["reward_models/src/imagereward", "spec/src/reward_models/imagereward.rs"]),
    ("reward_models.niqe", &["reward_models/src/niqe.rs", "rewards/src/niqe.rs", "spec/src/reward_models/niqe.rs"]),
    ("reward_models.ocr", &["spec/src/reward_models/ocr.rs"]),
    (
        "reward_models.geneval",
        &["reward_models/src/geneval", "reward_models/src/mask2former", "spec/src/reward_models/geneval"],
    ),
    ("miniature.subjects", &["rewards/src/metadata.rs", "rewards/src/palette.rs", "rewards/src/image.rs"]),
    (
        "miniature.prompts",
        &[
            "miniature/src/draw.rs",
            "miniature/src/family.rs",
            "miniature/src/font.rs",
            "miniature/src/landscape.rs",
            "miniature/src/lib.rs",
            "miniature/src/prompt.rs",
            "miniature/src/scene.rs",
            "miniature/src/shapes.rs",
            "miniature/src/split.rs",
            "miniature/src/words.rs",
            "miniature/src/world.rs",
        ],
    ),
    ("prompts.read", &["kinds/src/prompt/record.rs", "io/src/text.rs"]),
    (
        "stages.files",
        &[
            "kinds/src/model/bundle.rs",
            "kinds/src/model/folder.rs",
            "kinds/src/model/model_folder.rs",
            "worker/src/artefacts/outside.rs",
        ],
    ),
    (
        "stages.pipeline",
        &[
            "kinds/src/model/shape.rs",
            "kinds/src/model/sampling.rs",
            "kinds/src/precision.rs",
            "worker/src/artefacts/adapter.rs",
            "worker/src/artefacts/embeddings.rs",
            "worker/src/artefacts/origin.rs",
            "worker/src/runtime/device.rs",
            "worker/src/runtime/fitting.rs",
            "worker/src/runtime/images.rs",
            "worker/src/runtime/precision.rs",
            "worker/src/runtime/pipeline.rs",
        ],
    ),
    (
        "stages.training",
        &[
            "kinds/src/cost/operations.rs",
            "kinds/src/model/candidates.rs",
            "kinds/src/training/budget.rs",
            "kinds/src/training/until.rs",
            "spec/src/vae/cost.rs",
            "worker/src/artefacts/candidates.rs",
            "worker/src/artefacts/cost.rs",
            "worker/src/runtime/learn.rs",
            "worker/src/runtime/prompt_task.rs",
            "worker/src/runtime/validated.rs",
        ],
    ),
    (
        "judging",
        &[
            "kinds/src/judging/reward_models.rs",
            "kinds/src/judging/recogniser.rs",
            "kinds/src/judging/reward.rs",
            "kinds/src/judging/wanted.rs",
            "worker/src/judging/reward_set.rs",
            "worker/src/judging/score.rs",
            "worker/src/judging/set.rs",
        ],
    ),
    ("judging.held_out", &["kinds/src/judging/held_out.rs", "worker/src/judging/held_out.rs"]),
    (
        "stages.tables",
        &[
            "kinds/src/report/seeds.rs",
            "kinds/src/report/timing.rs",
            "worker/src/artefacts/curve.rs",
            "worker/src/artefacts/json.rs",
            "worker/src/artefacts/timing.rs",
            "worker/src/report/grid.rs",
            "worker/src/report/seeds.rs",
            "io/src/csv.rs",
            "io/src/latex.rs",
            "io/src/markdown.rs",
            "io/src/xml.rs",
        ],
    ),
];

/// The own files of each stage kind. Their version is the kind's `semantics`.
pub const KINDS: &[CodePart] = &[
    ("base_model", &["kinds/src/stages/base_model.rs", "worker/src/stages/base_model.rs"]),
    (
        "reward_model",
        &[
            "kinds/src/stages/reward_model.rs",
            "kinds/src/model/reward_model_folder.rs",
            "worker/src/stages/reward_model.rs",
        ],
    ),
    ("distill", &["kinds/src/stages/distill.rs", "worker/src/stages/distill.rs"]),
    ("embed", &["kinds/src/stages/embed.rs", "worker/src/stages/embed.rs"]),
    ("evaluate", &["kinds/src/stages/evaluate.rs", "worker/src/stages/evaluate.rs"]),
    ("figure", &["kinds/src/stages/figure.rs", "worker/src/stages/figure"]),
    ("gradient_table", &["kinds/src/stages/gradient_table.rs", "worker/src/stages/gradient_table.rs"]),
    ("gradient_variance", &["kinds/src/stages/gradient_variance.rs", "worker/src/stages/gradient_variance.rs"]),
    ("import_lora", &["kinds/src/stages/import_lora.rs", "worker/src/stages/import_lora.rs"]),
    ("merge_loras", &["kinds/src/stages/merge_loras.rs", "worker/src/stages/merge_loras.rs"]),
    ("note", &["kinds/src/stages/note.rs"]),
    (
        "pretrain_base",
        &[
            "kinds/src/stages/pretrain/base.rs",
            "kinds/src/stages/pretrain/mod.rs",
            "worker/src/stages/pretrain/base.rs",
            "worker/src/stages/pretrain/mod.rs",
        ],
    ),
    (
        "pretrain_vae",
        &[
            "kinds/src/stages/pretrain/mod.rs",
            "kinds/src/stages/pretrain/vae.rs",
            "worker/src/stages/pretrain/mod.rs",
            "worker/src/stages/pretrain/vae.rs",
        ],
    ),
    (
        "pretrain_reward_model",
        &[
            "kinds/src/stages/pretrain/mod.rs",
            "kinds/src/stages/pretrain/reward_model.rs",
            "worker/src/stages/pretrain/mod.rs",
            "worker/src/stages/pretrain/reward_model",
        ],
    ),
    ("prompts", &["kinds/src/stages/prompts.rs", "worker/src/stages/prompts.rs"]),
    ("score_candidates", &["kinds/src/stages/score_candidates.rs", "worker/src/stages/score_candidates.rs"]),
    ("select_checkpoint", &["kinds/src/stages/select_checkpoint.rs", "worker/src/stages/select_checkpoint.rs"]),
    ("table", &["kinds/src/stages/table", "worker/src/stages/table"]),
    ("train_teacher", &["kinds/src/stages/train_teacher.rs", "worker/src/stages/train_teacher.rs"]),
];

/// What changes no result of a stage, and why.
pub const OUTSIDE: &[CodePart] = &[
    ("hands files and messages on, and computes nothing", &["api/src"]),
    (
        "lists modules",
        &[
            "kinds/src/cost/mod.rs",
            "kinds/src/judging/mod.rs",
            "kinds/src/lib.rs",
            "kinds/src/model/mod.rs",
            "kinds/src/prompt/mod.rs",
            "kinds/src/registry.rs",
            "kinds/src/report/mod.rs",
            "kinds/src/stages/mod.rs",
            "worker/src/artefacts/mod.rs",
            "worker/src/judging/mod.rs",
            "worker/src/lib.rs",
            "worker/src/report/mod.rs",
            "worker/src/runtime/mod.rs",
            "worker/src/stages/mod.rs",
            "worker/src/tools/mod.rs",
            "models/src/lib.rs",
            "spec/src/lib.rs",
            "spec/src/training/mod.rs",
            "training/src/lib.rs",
            "rewards/src/lib.rs",
        ],
    ),
    (
        "says something of a stage before or while it runs",
        &[
            "kinds/src/code.rs",
            "kinds/src/cost/memory.rs",
            "kinds/src/model/adapter_doubts.rs",
            "kinds/src/model/model_fit.rs",
            "kinds/src/param.rs",
            "kinds/src/prompt/leaks.rs",
            "kinds/src/prompt/prompt_doubts.rs",
            "kinds/src/prompt/prompt_set.rs",
            "kinds/src/prompt/provenance.rs",
            "kinds/src/training/alarm.rs",
            "kinds/src/training/course_doubts.rs",
            "kinds/src/training/mod.rs",
            "worker/src/runtime/unfit.rs",
            "worker/src/runtime/watch.rs",
            "training/src/idle.rs",
        ],
    ),
    ("works outside of recipes", &["worker/src/tools/export_lora.rs", "worker/src/tools/generate"]),
    ("reads and shows what users bring", &["io/src/file.rs", "io/src/lib.rs", "io/src/terminal.rs"]),
];

/// The crates whose sources are looked at, by their folder below `stages/`.
pub const CRATES: [&str; 9] =
    ["api", "kinds", "miniature", "models", "reward_models", "rewards", "spec", "training", "worker"];
