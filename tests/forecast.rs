//! `check` finds what a stage would refuse later: a recipe for each mistake, with its code, its place and the way out.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

/// A sound recipe, in which each mistake is one change.
const SOUND: &str = r#"opdflow: 1
name: sound
stages:
  base: {uses: base_model, with: {source: "bundled:mini"}}
  shapes: {uses: prompts, with: {task: geneval, train: 8, validation: 4, test: 4}}
  words: {uses: prompts, with: {task: ocr, train: 8, validation: 4, test: 4}}
  scenes: {uses: prompts, with: {task: scene, train: 8, validation: 4, test: 4}}
  own: {uses: prompts, with: {files: {train: own.txt}}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: words.train}
    with:
      algorithm: grpo_guard
      reward: {ocr: 1.0}
      iterations: 2
      sampling: {prompts: 4, group_size: 4, num_inference_steps: 4}
      optimizer: {lr: 0.003}
      lora: {rank: 4, alpha: 8.0, target_modules: [attn.to_q, attn.to_k]}
      size: 64
      alarms: {reward: {below: 0.1}}
  nft:
    uses: train_teacher
    needs: {base: base.model, prompts: shapes.train}
    with: {algorithm: {diffusion_nft: {beta: 1.0, advantage_clip: 5.0, kl: 0.1}}, reward: {geneval: 0.5, geneval.strict: 0.5}, iterations: 2}
  best:
    uses: select_checkpoint
    needs: {base: base.model, candidates: teacher.candidates, prompts: {ocr: words.validation}}
    with: {maximize: ocr}
  student:
    uses: distill
    needs:
      base: base.model
      teachers: {ocr: best.lora, geneval: nft.lora}
      prompts: {ocr: words.train, geneval: shapes.train}
    matrix: {rounds: [3, 2]}
    with: {rounds: "${matrix.rounds}", rollout: {num_inference_steps: 4, prompts: 2, guidance_scale: 1.0, solver: {flow: {noise_level: 0.0}}}}
  base_scores:
    uses: evaluate
    needs: {base: base.model, prompts: {ocr: words.test, geneval: shapes.test, looks: scenes.test}}
    with: {sampling: {num_inference_steps: 4, guidance_scale: 1.0, seed: 2}}
  scores:
    uses: evaluate
    matrix: {rounds: [2, 3]}
    needs: {base: base.model, lora: student.lora, prompts: {ocr: words.test, geneval: shapes.test, looks: scenes.test}}
  table:
    uses: table
    needs:
      scores: {base: base_scores.scores, student: scores.scores}
      timings: {teacher: teacher.timing}
    with:
      columns: [geneval, ocr, looks]
      rows:
        - {scores: base, title: base}
        - {scores: student_rounds_2, title: student, seconds: [[teacher]]}
"#;

const OWN: &str = "a sign that says \"HELLO\"\nthe word \"cat\"\n";

/// What `check` says of the sound recipe with one text in place of another.
struct Case {
    from: &'static str,
    to: &'static str,
    code: &'static str,
    /// The title's beginning.
    place: &'static str,
    /// Words of the message or the way out.
    says: &'static [&'static str],
}

fn case(
    from: &'static str,
    to: &'static str,
    code: &'static str,
    place: &'static str,
    says: &'static [&'static str],
) -> Case {
    Case { from, to, code, place, says }
}

fn cases() -> Vec<Case> {
    let lr = "optimizer: {lr: 0.003}";
    let sampling = "sampling: {prompts: 4, group_size: 4, num_inference_steps: 4}";
    let algorithm = "algorithm: grpo_guard";
    let nft = "beta: 1.0, advantage_clip: 5.0, kl: 0.1";
    let judged = "sampling: {num_inference_steps: 4, guidance_scale: 1.0, seed: 2}";
    let lora = "lora: {rank: 4, alpha: 8.0, target_modules: [attn.to_q, attn.to_k]}";
    let own = "needs: {base: base.model, prompts: words.train}";
    let rows = "{scores: base, title: base}";
    vec![
        // Numbers.
        case(
            lr,
            "optimizer: {lr: 0}",
            "E043",
            "`optimizer.lr` of stage `teacher`",
            &["found 0", "above 0, at most 10"],
        ),
        case(lr, "optimizer: {lr: -0.003}", "E043", "`optimizer.lr`", &["found -0.003"]),
        case(lr, "optimizer: {lr: .nan}", "E042", "`optimizer.lr`", &["expected a number"]),
        case(lr, "optimizer: {lr: .inf}", "E042", "`optimizer.lr`", &["expected a number"]),
        case(lr, "optimizer: {lr: 1.0e400}", "E042", "`optimizer.lr`", &["expected a number"]),
        case(
            lr,
            "optimizer: {max_grad_norm: 1.0e308}",
            "E043",
            "`optimizer.max_grad_norm`",
            &["found 1e308", "at most 1000000"],
        ),
        case(lr, "optimizer: {beta2: 1.0}", "E043", "`optimizer.beta2`", &["from 0, below 1"]),
        case(lr, "lr_schedule: {hold: 5}", "E043", "`lr_schedule`", &["until"]),
        case(nft, "beta: -1", "E043", "`algorithm.diffusion_nft.beta`", &["found -1", "above 0"]),
        case(nft, "advantage_clip: 0", "E043", "`algorithm.diffusion_nft.advantage_clip`", &["above 0"]),
        case(nft, "timesteps: 11", "E043", "`algorithm.diffusion_nft.timesteps`", &["only 10 steps are trained"]),
        case(
            algorithm,
            "algorithm: {grpo_guard: {clip_range: 0}}",
            "E043",
            "`algorithm.grpo_guard.clip_range`",
            &["found 0", "above 0"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {solver: {flow: {noise_level: -0.7}}}}",
            "E043",
            "`algorithm.grpo_guard.solver.flow.noise_l…`",
            &["from 0 to 10"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {solver: {cps: {noise_level: 1.5}}}}",
            "E043",
            "`algorithm.grpo_guard.solver.cps.noise_le…`",
            &["from 0 to 1"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {solver: cps}}",
            "E043",
            "`algorithm.grpo_guard.solver`",
            &["`cps` is named without `cps.noise_level`", "write `{cps: {noise_level: ...}}`"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {updates: 17}}",
            "E043",
            "`algorithm.grpo_guard.updates`",
            &["the images of a round, which they share, are 16"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {split: prompts, updates: 9}}",
            "E043",
            "`algorithm.grpo_guard.updates`",
            &["the prompts of a round, which they share, are 4"],
        ),
        case(
            algorithm,
            "algorithm: {grpo_guard: {density: distance}}",
            "E043",
            "`algorithm.grpo_guard.density`",
            &["flow_grpo"],
        ),
        case(algorithm, "algorithm: grpo_gard", "E042", "`algorithm`", &["grpo_guard"]),
        case("reward: {ocr: 1.0}", "reward: {ocr: -1}", "E043", "`reward.ocr`", &["found -1"]),
        case(sampling, "sampling: {group_size: 1}", "E043", "`sampling.group_size`", &["found 1", "from 2 to 10000"]),
        case(
            sampling,
            "sampling: {num_inference_steps: 0}",
            "E043",
            "`sampling.num_inference_steps`",
            &["from 1 to 1000"],
        ),
        case(
            sampling,
            "sampling: {prompts: 9223372036854775807}",
            "E043",
            "`sampling.prompts`",
            &["found 9223372036854775807"],
        ),
        case(sampling, "sampling: {guidance_scale: -1.0}", "E043", "`sampling.guidance_scale`", &["from 0 to 100"]),
        case("iterations: 2\n", "iterations: -1\n", "E043", "`iterations`", &["found -1", "from 1 to 10000000"]),
        case(judged, "sampling: {seed: -1}", "E043", "`sampling.seed`", &["found -1"]),
        case(lora, "lora: {rank: 0}", "E043", "`lora.rank`", &["from 1"]),
        case("rounds: [3, 2]", "rounds: [3, 0]", "E043", "`rounds`", &["found 0"]),
        // Names.
        case(
            "columns: [geneval, ocr, looks]",
            "columns: [geneval, ocr, geneval]",
            "E043",
            "`columns.2`",
            &["`geneval` is there already, as number 1"],
        ),
        case(
            "columns: [geneval, ocr, looks]",
            "columns: [geneval, ocr]\n      average: [looks]",
            "E043",
            "`average.0`",
            &["`looks` is not among `columns`", "geneval, ocr"],
        ),
        case(rows, "{scores: base, title: student}", "E043", "`rows.1.title`", &["as number 1", "call it otherwise"]),
        case(rows, "{scores: base, title: \"\"}", "E043", "`rows.0.title`", &["found an empty text"]),
        case(
            "columns: [geneval, ocr, looks]",
            "columns: [geneval, ocr, looks, nosuch]",
            "E045",
            "`columns.3`",
            &["no scores have a column `nosuch`", "looks.contrast"],
        ),
        case(
            rows,
            "{scores: bse, title: base}",
            "E044",
            "`rows.0.scores`",
            &["nothing is connected as `scores.bse`", "connected are base"],
        ),
        case(
            "scores: student_rounds_2",
            "scores: student",
            "E044",
            "`rows.1.scores`",
            &["2 cells of a matrix", "student_rounds_2, student_rounds_3", "scores[rounds=2].scores"],
        ),
        case(
            "seconds: [[teacher]]",
            "seconds: [[techer]]",
            "E044",
            "`rows.1.seconds.0.0`",
            &["timings.techer", "connected are teacher"],
        ),
        case("alarms: {reward:", "alarms: {rewrd:", "E043", "`alarms.rewrd`", &["no metric `rewrd`", "reward_std"]),
        case("maximize: ocr", "maximize: nosuch", "E044", "`maximize`", &["no reward is named `nosuch`"]),
        case(
            "prompts: {ocr: words.train, geneval: shapes.train}",
            "prompts: {ocr: words.train}",
            "E044",
            "what `student[rounds=2]` reads as `teachers.geneval`",
            &["no `prompts.geneval`", "the same names"],
        ),
        case(
            "rollout: {num_inference_steps: 4,",
            "teacher_guidance_scale: {looks: 2.0}, rollout: {num_inference_steps: 4,",
            "E044",
            "`teacher_guidance_scale.looks`",
            &["no teacher is named `looks`", "geneval, ocr"],
        ),
        // What the model says.
        case(
            lora,
            "lora: {target_modules: [attn.to_q, nosuch]}",
            "E045",
            "`lora.target_modules.1`",
            &["`nosuch`", "attn.to_q"],
        ),
        case(lora, "lora: {rank: 97}", "E045", "`lora.rank`", &["is 96 wide", "at most 96"]),
        case("size: 64", "size: 72", "E045", "`size`", &["multiple of 16", "write `size: 80`"]),
        case("size: 64", "size: 256", "E045", "`size`", &["up to 128", "write `size: 128`"]),
        // What the prompts say.
        case(
            own,
            "needs: {base: base.model, prompts: scenes.train}",
            "E045",
            "`reward` of stage `teacher`",
            &["has no text between double quotes, which `ocr` reads"],
        ),
        case(
            "{ocr: words.validation}",
            "{ocr: scenes.validation}",
            "E045",
            "`maximize` of stage `best`",
            &["`prompts.ocr`: prompt 1 of the set"],
        ),
        case(
            "reward: {ocr: 1.0}",
            "reward: {ocr: 1.0, geneval: 1.0}",
            "E045",
            "`reward` of stage `teacher`",
            &["none of the 8 prompts has GenEval metadata", "take `geneval` out"],
        ),
        case(
            own,
            "needs: {base: base.model, prompts: own.test}",
            "E045",
            "what `teacher` reads as `prompts`",
            &["`own` will leave no `test`", "files: {test: PATH}"],
        ),
        case(
            "prompts: {ocr: words.test, geneval: shapes.test, looks: scenes.test}}\n    with",
            "prompts: {ocr: shapes.test}}\n    with",
            "E045",
            "what `base_scores` reads as `prompts.ocr`",
            &["no text between double quotes"],
        ),
        case(
            "  table:\n    uses: table\n",
            "  curve: {uses: score_candidates, needs: {base: base.model, candidates: \"student[rounds=2].candidates\", prompts: {ocr: words.validation}}}\n  table:\n    uses: table\n",
            "E045",
            "what `curve` reads as `candidates`",
            &["will leave no `candidates`", "candidates_every: N"],
        ),
    ]
}

fn diagnostics(space: &TestSpace, recipe: &str) -> Vec<Value> {
    let ran = space.run(&["check", recipe, "--json"]);
    assert!([0, 2].contains(&ran.code), "{ran:?}");
    ran.json()["diagnostics"].as_array().cloned().unwrap_or_default()
}

fn space() -> TestSpace {
    let space = TestSpace::new();
    space.write("own.txt", OWN);
    space.write("sound.yaml", SOUND);
    space
}

#[test]
fn a_sound_recipe_has_no_mistakes() {
    let found = diagnostics(&space(), "sound.yaml");
    assert!(found.iter().all(|d| d["code"].as_str().unwrap().starts_with('W')), "{found:#?}");
}

#[test]
fn each_mistake_is_found_at_its_place_with_the_way_out() {
    let space = space();
    for Case { from, to, code, place, says } in cases() {
        assert_eq!(SOUND.matches(from).count(), 1, "{from}");
        space.write("r.yaml", &SOUND.replace(from, to));
        let found = diagnostics(&space, "r.yaml");
        let fits = |d: &&Value| {
            let text = d.to_string();
            d["code"] == code
                && d["title"].as_str().unwrap().starts_with(place)
                && says.iter().all(|s| text.contains(&Value::from(*s).to_string().trim_matches('"').to_owned()))
        };
        assert!(found.iter().any(|d| fits(&d)), "{to}: {code} {place} {says:?} is not in {found:#?}");
    }
}

/// One line among many that the reward cannot judge is named with its file and number.
#[test]
fn a_line_of_a_file_is_named() {
    let space = space();
    let recipe = SOUND
        .replace("needs: {base: base.model, prompts: words.train}", "needs: {base: base.model, prompts: own.train}");
    space.write("r.yaml", &recipe);
    assert!(diagnostics(&space, "r.yaml").iter().all(|d| d["code"].as_str().unwrap().starts_with('W')));
    let mut lines = OWN.repeat(30);
    lines.push_str("a dog\n");
    space.write("own.txt", &lines);
    let found = diagnostics(&space, "r.yaml");
    assert!(found.iter().any(|d| d["code"] == "E045" && d.to_string().contains("own.txt:61: ")), "{found:#?}");
    // GenEval's own lines: a class that the detector lacks, and a count of none.
    let line = |class: &str, count: u8| {
        format!(
            "{{\"tag\": \"counting\", \"include\": [{{\"class\": \"{class}\", \"count\": {count}}}], \"prompt\": \"x\"}}\n"
        )
    };
    space.write("own.txt", &[line("circle", 1), line("cow", 1)].concat());
    let recipe = recipe.replace("reward: {ocr: 1.0}", "reward: {geneval: 1.0}");
    space.write("r.yaml", &recipe);
    let found = || diagnostics(&space, "r.yaml").iter().map(Value::to_string).collect::<String>();
    let cow = found();
    assert!(cow.contains("own.txt:2: ") && cow.contains("`cow`"), "{cow}");
    space.write("own.txt", &[line("circle", 1), line("square", 0)].concat());
    let none = found();
    assert!(none.contains("own.txt:2: ") && none.contains("`include[0].count` is 0"), "{none}");
}

/// An adapter's header says for which network it is.
#[test]
fn an_adapter_of_a_deeper_model_is_told_by_its_header() {
    let space = space();
    let header = |block: u8| {
        format!(
            "{{\"transformer.transformer_blocks.{block}.attn.to_q.lora_A.weight\": {{\"dtype\": \"F32\", \"shape\": [1, 96], \"data_offsets\": [0, 384]}}}}"
        )
    };
    let recipe = SOUND.replace(
        "  teacher:\n",
        "  mine: {uses: import_lora, needs: {base: base.model}, with: {source: mine.safetensors}}\n  teacher:\n",
    );
    space.write("r.yaml", &recipe);
    let put = |block: u8| {
        let header = header(block);
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 384]].concat();
        std::fs::write(space.path("mine.safetensors"), bytes).unwrap();
    };
    put(23);
    let found = diagnostics(&space, "r.yaml");
    let fits = |d: &Value| d["code"] == "E045" && d.to_string().contains("block 23, but the base has 4");
    assert!(found.iter().any(fits), "{found:#?}");
    put(3);
    assert!(diagnostics(&space, "r.yaml").iter().all(|d| d["code"].as_str().unwrap().starts_with('W')));
}

/// What is found is found before a run begins, by all three commands; a stage that is not asked for holds nothing up.
#[test]
fn nothing_is_run_of_a_recipe_that_a_stage_would_refuse() {
    let space = space();
    space.write("r.yaml", &SOUND.replace("size: 64", "size: 72"));
    let ran = space.run(&["run", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("E045") && ran.stderr.contains("r.yaml:"), "{}", ran.stderr);
    assert!(!space.path(".opdflow").exists(), "nothing was run");
    let plan = space.run(&["plan", "r.yaml"]).expect(2);
    assert!(plan.stdout.contains("teacher") && plan.stderr.contains("E045"), "{plan:?}");
    space.run(&["run", "r.yaml", "--until", "words"]).expect(0);
}
