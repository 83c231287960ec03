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
            "flow/src/config.rs",
            "flow/src/device.rs",
            "flow/src/finite.rs",
            "flow/src/init.rs",
            "flow/src/linears.rs",
            "flow/src/nn.rs",
            "flow/src/weights",
        ],
    ),
    ("flow.lora", &["flow/src/adapter", "flow/src/lora.rs"]),
    ("flow.random", &["flow/src/rng.rs"]),
    ("flow.text", &["flow/src/text"]),
    ("flow.vae", &["flow/src/vae/block.rs", "flow/src/vae/config.rs", "flow/src/vae/mod.rs", "flow/src/vae/tile.rs"]),
    (
        "flow.transformer",
        &["flow/src/condition.rs", "flow/src/field.rs", "flow/src/network.rs", "flow/src/transformer.rs"],
    ),
    // All of a family is one part, so that a new one is listed here without a word.
    ("flow.pipeline", &["flow/src/base_files.rs", "flow/src/families", "flow/src/family.rs"]),
    ("flow.sampling", &["flow/src/rollout.rs", "flow/src/schedule.rs", "flow/src/solver.rs"]),
    (
        "flow.training",
        &[
            "flow/src/muon.rs",
            "flow/src/objective.rs",
            "flow/src/optim.rs",
            "flow/src/state.rs",
            "flow/src/tally.rs",
            "flow/src/task.rs",
            "flow/src/train.rs",
        ],
    ),
    ("flow.exploring", &["flow/src/advantage.rs", "flow/src/teacher.rs"]),
    ("flow.school", &["flow/src/school.rs"]),
    ("flow.grpo", &["flow/src/grpo.rs", "flow/src/window.rs"]),
    ("flow.nft", &["flow/src/nft.rs"]),
    ("flow.opd", &["flow/src/opd.rs"]),
    ("flow.ppo", &["flow/src/ppo.rs"]),
    ("flow.dance", &["flow/src/dance.rs"]),
    ("flow.sft", &["flow/src/sft.rs"]),
    ("flow.dmd", &["flow/src/dmd.rs"]),
    ("flow.merge", &["flow/src/merge.rs"]),
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
        ],
    ),
    ("critics.clip", &["critics/src/clip"]),
    ("critics.aesthetic", &["critics/src/aesthetic.rs"]),
    ("critics.clipscore", &["critics/src/clipscore.rs"]),
    ("critics.hpsv2", &["critics/src/hpsv2.rs"]),
    ("critics.pickscore", &["critics/src/pickscore.rs"]),
    ("critics.imagereward", &["critics/src/imagereward"]),
    ("critics.geneval", &["critics/src/geneval", "critics/src/mask2former"]),
    ("world.subjects", &["rewards/src/metadata.rs", "rewards/src/palette.rs", "rewards/src/picture.rs"]),
    (
        "world.prompts",
        &[
            "miniature/src/draw.rs",
            "miniature/src/font.rs",
            "miniature/src/landscape.rs",
            "miniature/src/lib.rs",
            "miniature/src/prompt.rs",
            "miniature/src/shapes.rs",
            "miniature/src/split.rs",
            "miniature/src/words.rs",
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
    ("lists modules", &["builtin/src/lib.rs", "flow/src/lib.rs", "rewards/src/lib.rs"]),
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
            "flow/src/idle.rs",
            "flow/src/vae/cost.rs",
        ],
    ),
    ("works outside of recipes", &["builtin/src/export_lora.rs", "builtin/src/generate"]),
    ("reads and shows what users bring", &["io/src/file.rs", "io/src/lib.rs", "io/src/terminal.rs"]),
];

/// The crates whose sources are looked at, by their folder below `stages/`.
pub const CRATES: [&str; 6] = ["builtin", "contract", "critics", "flow", "miniature", "rewards"];
