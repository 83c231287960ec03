//! The parts of the code that stage kinds compute with, each a list of files and folders below `stages/`.
//!
//! Every source file stands in exactly one part, or among those that change no result (`tests/semantics.rs`). A new file is
//! in no part at first: until somebody gives it one, its digest is in the key of every stage.

/// A name and what belongs to it.
pub type Part = (&'static str, &'static [&'static str]);

/// What stages share. A stage says which of them it uses (`stages/builtin/src/code.rs`).
pub const SHARED: &[Part] = &[
    (
        "flow.layers",
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
    ("flow.lora", &["models/src/adapter", "models/src/lora.rs", "spec/src/adapter"]),
    ("flow.random", &["models/src/rng.rs", "spec/src/rng.rs"]),
    ("flow.text", &["models/src/text", "spec/src/text"]),
    ("flow.vae", &["models/src/vae", "spec/src/vae/config.rs", "spec/src/vae/mod.rs"]),
    (
        "flow.transformer",
        &["models/src/condition.rs", "models/src/field.rs", "models/src/network.rs", "models/src/transformer.rs"],
    ),
    // All of a family is one part, so that a new one is listed here without a word.
    ("flow.pipeline", &["models/src/families", "spec/src/base_files.rs", "spec/src/families", "spec/src/family.rs"]),
    ("flow.sampling", &["models/src/rollout.rs", "models/src/solver.rs", "spec/src/schedule.rs", "spec/src/solver.rs"]),
    (
        "flow.training",
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
        "flow.exploring",
        &[
            "spec/src/training/advantage.rs",
            "spec/src/training/teacher.rs",
            "training/src/advantage.rs",
            "training/src/teacher.rs",
        ],
    ),
    ("flow.school", &["spec/src/training/school.rs", "training/src/school.rs"]),
    ("flow.grpo", &["spec/src/training/grpo.rs", "spec/src/training/window.rs", "training/src/grpo.rs"]),
    ("flow.nft", &["spec/src/training/nft.rs", "training/src/nft.rs"]),
    ("flow.opd", &["spec/src/training/opd.rs", "training/src/opd.rs"]),
    ("flow.ppo", &["spec/src/training/ppo.rs", "training/src/ppo.rs"]),
    ("flow.dance", &["spec/src/training/dance.rs", "training/src/dance.rs"]),
    ("flow.sft", &["spec/src/training/sft.rs", "training/src/sft.rs"]),
    ("flow.dmd", &["spec/src/training/dmd.rs", "training/src/dmd.rs"]),
    ("flow.merge", &["spec/src/training/merge.rs", "training/src/merge.rs"]),
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
        "critics.common",
        &[
            "critics/src/batches.rs",
            "critics/src/head.rs",
            "critics/src/judge.rs",
            "critics/src/lib.rs",
            "critics/src/parts.rs",
            "critics/src/pixels",
            "spec/src/critics/mod.rs",
        ],
    ),
    ("critics.clip", &["critics/src/clip"]),
    ("critics.aesthetic", &["critics/src/aesthetic.rs", "spec/src/critics/aesthetic.rs"]),
    ("critics.clipscore", &["critics/src/clipscore.rs", "spec/src/critics/clipscore.rs"]),
    ("critics.hpsv2", &["critics/src/hpsv2.rs", "spec/src/critics/hpsv2.rs"]),
    ("critics.pickscore", &["critics/src/pickscore.rs", "spec/src/critics/pickscore.rs"]),
    ("critics.imagereward", &["critics/src/imagereward", "spec/src/critics/imagereward.rs"]),
    ("critics.geneval", &["critics/src/geneval", "critics/src/mask2former", "spec/src/critics/geneval"]),
    ("world.subjects", &["rewards/src/metadata.rs", "rewards/src/palette.rs", "rewards/src/picture.rs"]),
    (
        "world.prompts",
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
    ("prompts.read", &["builtin/src/record.rs", "io/src/text.rs"]),
    (
        "stages.files",
        &["builtin/src/bundle.rs", "builtin/src/folder.rs", "builtin/src/model_folder.rs", "builtin/src/outside.rs"],
    ),
    (
        "stages.studio",
        &[
            "builtin/src/adapter.rs",
            "builtin/src/device.rs",
            "builtin/src/embeddings.rs",
            "builtin/src/fitting.rs",
            "builtin/src/pictures.rs",
            "builtin/src/precision.rs",
            "builtin/src/studio.rs",
        ],
    ),
    ("stages.training", &["builtin/src/candidates.rs", "builtin/src/learn.rs", "builtin/src/prompt_task.rs"]),
    (
        "judging",
        &[
            "builtin/src/judge.rs",
            "builtin/src/jury.rs",
            "builtin/src/recogniser.rs",
            "builtin/src/reward.rs",
            "builtin/src/score.rs",
        ],
    ),
    (
        "stages.tables",
        &[
            "builtin/src/curve.rs",
            "builtin/src/grid.rs",
            "builtin/src/json.rs",
            "builtin/src/seeds.rs",
            "builtin/src/timing.rs",
            "io/src/csv.rs",
            "io/src/latex.rs",
            "io/src/markdown.rs",
            "io/src/xml.rs",
        ],
    ),
];

/// The own files of each stage kind. Their version is the kind's `semantics`.
pub const KINDS: &[Part] = &[
    ("base_model", &["builtin/src/base_model.rs"]),
    ("critic", &["builtin/src/critic.rs", "builtin/src/critic_folder.rs"]),
    ("distill", &["builtin/src/distill.rs"]),
    ("embed", &["builtin/src/embed.rs"]),
    ("evaluate", &["builtin/src/evaluate.rs"]),
    ("figure", &["builtin/src/figure"]),
    ("gradient_table", &["builtin/src/gradient_table.rs"]),
    ("gradient_variance", &["builtin/src/gradient_variance.rs"]),
    ("import_lora", &["builtin/src/import_lora.rs"]),
    ("merge_loras", &["builtin/src/merge_loras.rs"]),
    ("note", &["builtin/src/note.rs"]),
    ("pretrain_base", &["builtin/src/pretrain/base.rs", "builtin/src/pretrain/mod.rs"]),
    ("pretrain_vae", &["builtin/src/pretrain/mod.rs", "builtin/src/pretrain/vae.rs"]),
    ("prompts", &["builtin/src/prompts.rs"]),
    ("score_candidates", &["builtin/src/score_candidates.rs"]),
    ("select_checkpoint", &["builtin/src/select_checkpoint.rs"]),
    ("table", &["builtin/src/table"]),
    ("train_teacher", &["builtin/src/train_teacher.rs"]),
];

/// What changes no result of a stage, and why.
pub const OUTSIDE: &[Part] = &[
    ("hands files and messages on, and computes nothing", &["contract/src"]),
    (
        "lists modules",
        &[
            "builtin/src/lib.rs",
            "models/src/lib.rs",
            "rewards/src/lib.rs",
            "spec/src/lib.rs",
            "spec/src/training/mod.rs",
            "training/src/lib.rs",
        ],
    ),
    (
        "says something of a stage before or while it runs",
        &[
            "builtin/src/adapter_doubts.rs",
            "builtin/src/alarm.rs",
            "builtin/src/code.rs",
            "builtin/src/course_doubts.rs",
            "builtin/src/memory.rs",
            "builtin/src/operations.rs",
            "builtin/src/model_fit.rs",
            "builtin/src/param.rs",
            "builtin/src/prompt_set.rs",
            "builtin/src/prompt_doubts.rs",
            "builtin/src/provenance.rs",
            "builtin/src/unfit.rs",
            "spec/src/vae/cost.rs",
            "training/src/idle.rs",
        ],
    ),
    ("works outside of recipes", &["builtin/src/export_lora.rs", "builtin/src/generate"]),
    ("reads and shows what users bring", &["io/src/file.rs", "io/src/lib.rs", "io/src/terminal.rs"]),
];

/// The crates whose sources are looked at, by their folder below `stages/`.
pub const CRATES: [&str; 8] = ["builtin", "contract", "critics", "miniature", "models", "rewards", "spec", "training"];
