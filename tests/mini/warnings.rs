//! Every kind of warning, from the real program: found with its number, and nothing said where there is nothing.

use crate::common::Ran;
use crate::space::Mini;
use crate::tensors::{Spoil, each};
use serde_json::Value;
use std::collections::BTreeMap;

/// The warnings of a stage: code and count.
#[track_caller]
fn warned(ran: &Ran, stage: &str) -> BTreeMap<String, u64> {
    let json = ran.json();
    let all = json["stages"][stage]["warnings"].as_array().unwrap_or_else(|| panic!("{json}"));
    all.iter().map(|w| (w["code"].as_str().unwrap().to_owned(), w["count"].as_u64().unwrap())).collect()
}

fn codes<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(code, count)| (code.to_owned(), count)).into()
}

const HEAD: &str = "opdflow: 1
name: warned
seed: 3
stages:
  base: {uses: base_model, with: {source: \"bundled:mini\"}}
  scenes: {uses: prompts, with: {task: mix, train: 8, validation: 2, test: 4}}
";

/// A teacher of two rounds, in which only the two values differ.
fn teacher(algorithm: &str, rest: &str) -> String {
    format!(
        "  teacher:
    uses: train_teacher
    needs: {{base: base.model, prompts: scenes.train}}
    with: {{algorithm: {{{algorithm}}}, iterations: 2, candidates_every: 1, lora: {{rank: 2, alpha: 2}}, {rest}}}
"
    )
}

const SAMPLING: &str = "sampling: {prompts: 2, group_size: 2, num_inference_steps: 2}";
const GRPO: &str = "grpo_guard: {updates: 1, clip_range: 0.0001}";

#[test]
fn a_sound_training_is_warned_of_nothing() {
    let mini = Mini::new();
    let best = "  best: {uses: select_checkpoint, needs: {base: base.model, candidates: teacher.candidates, prompts: {looks: scenes.validation}}, with: {maximize: looks, sampling: {num_inference_steps: 1}}}\n";
    let student = "  student: {uses: distill, needs: {base: base.model, teachers: {looks: best.lora}, prompts: {looks: scenes.train}}, with: {rounds: 2, rollout: {num_inference_steps: 2, prompts: 2, guidance_scale: 1.0}, lora: {rank: 2, alpha: 2}, optimizer: {lr: 0.01}}}\n";
    let scores = "  scores: {uses: evaluate, needs: {base: base.model, lora: student.lora, prompts: {looks: scenes.test}}, with: {sampling: {num_inference_steps: 1}}}\n";
    let teacher = teacher(GRPO, &format!("{SAMPLING}, reward: {{looks: 1.0}}, optimizer: {{lr: 0.01}}"));
    mini.write("r.yaml", &[HEAD, &teacher, best, student, scores].concat());
    let ran = mini.run(&["run", "r.yaml", "--json", "--strict", "--until", "scores"]).expect(0);
    for stage in ["base", "scenes", "teacher", "best", "student", "scores"] {
        assert_eq!(warned(&ran, stage), codes([]), "{stage}");
    }
    assert!(!ran.stderr.contains("warning"), "{}", ran.stderr);
}

/// No square can be seen where the detector finds nothing: every image of a group earns the same.
#[test]
fn flat_rounds_and_an_alarm_are_counted() {
    let mini = Mini::new();
    let rest = format!("{SAMPLING}, reward: {{looks: 0.0}}, alarms: {{flat_groups: {{above: 0.5, rounds: 2}}}}");
    mini.write("r.yaml", &(HEAD.to_owned() + &teacher(GRPO, &rest)));
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    // The reward has no weight: all are 0. What is flat moves nothing, so the teacher is its base.
    assert_eq!(warned(&ran, "teacher"), codes([("W015", 1), ("W020", 2), ("W024", 1), ("W026", 1)]));
    let status = mini.run(&["status"]).expect(0).stdout;
    assert!(
        status.contains("W020: the rewards of every group were equal in a round: it taught nothing (2 times)"),
        "{status}"
    );
    let log = mini.run(&["logs", "teacher"]).expect(0).stdout;
    assert!(
        log.contains("warning W020") && log.contains("warning W015") && log.contains("`flat_groups` has been"),
        "{log}"
    );
    // Two rounds more, two times more.
    let text = std::fs::read_to_string(mini.path("r.yaml")).unwrap();
    mini.write("r.yaml", &text.replace("iterations: 2", "iterations: 4"));
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!((ran.verdicts()["teacher"].as_str(), warned(&ran, "teacher")["W020"]), ("resumed", 4));
    let hit = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!((hit.verdicts()["teacher"].as_str(), warned(&hit, "teacher")), ("hit", warned(&ran, "teacher")));
    // What stands in the recipe is refused before anything runs, what only shows at work in the stage.
    let ran = mini.run(&["run", "r.yaml", "--strict"]).expect(2);
    assert!(ran.stderr.contains("error[W015]"), "{}", ran.stderr);
}

/// An adapter of zeros as a teacher: nothing to learn from it, no gradient, and the student is the base. One whose
/// numbers are too small to matter is no better.
#[test]
fn a_teacher_that_is_the_base_is_told_of_at_each_step() {
    let mini = Mini::new();
    mini.write("first.yaml", &(HEAD.to_owned() + &teacher(GRPO, &format!("{SAMPLING}, reward: {{looks: 1.0}}"))));
    mini.run(&["run", "first.yaml"]).expect(0);
    mini.run(&["get", "first.yaml", "teacher.lora", "-o", "adapter"]).expect(0);
    let fill = |value: f32| {
        each(&mini.path("adapter/adapter_model.safetensors"), |name, values| {
            if name.contains("lora_B") {
                (0..values.len()).for_each(|i| values.set(i, Spoil::Number(value)));
            }
        });
    };
    let rest = "  zero: {uses: import_lora, needs: {base: base.model}, with: {source: adapter}}
  merged: {uses: merge_loras, needs: {base: base.model, loras: {a: zero.lora, b: zero.lora}}, with: {weights: {a: 0.0, b: 1.0}}}
  student: {uses: distill, needs: {base: base.model, teachers: {looks: zero.lora}, prompts: {looks: scenes.train}}, with: {rounds: 2, rollout: {num_inference_steps: 2, prompts: 2, guidance_scale: 1.0}, lora: {rank: 2, alpha: 2}}}
  scores: {uses: evaluate, needs: {base: base.model, lora: student.lora, prompts: {looks: scenes.test}}, with: {sampling: {num_inference_steps: 1}}}
";
    mini.write("r.yaml", &(HEAD.to_owned() + rest));
    fill(0.0);
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(warned(&ran, "zero"), codes([("W022", 1)]));
    assert_eq!(warned(&ran, "merged")["W015"], 1);
    assert!(warned(&ran, "merged").contains_key("W022"));
    assert_eq!(warned(&ran, "student"), codes([("W021", 2), ("W022", 1), ("W024", 1)]));
    assert_eq!(warned(&ran, "scores"), codes([("W022", 1)]));
    assert!(ran.stderr.contains("the student is its base"), "{}", ran.stderr);
    // The first stage that warns is the one that a strict run fails at.
    let text = std::fs::read_to_string(mini.path("r.yaml")).unwrap();
    mini.write("strict.yaml", &text.replace("weights: {a: 0.0, b: 1.0}", "weights: {a: 0.5, b: 1.0}"));
    let strict = mini.run(&["run", "strict.yaml", "--json", "--strict"]).expect(1);
    assert_eq!((strict.verdicts()["zero"].as_str(), strict.verdicts()["student"].as_str()), ("failed", "blocked"));
    fill(1e-12);
    let ran = mini.run(&["run", "r.yaml", "--json", "--until", "student"]).expect(0);
    assert_eq!((warned(&ran, "zero"), warned(&ran, "student")["W023"]), (codes([]), 1));
}

#[test]
fn prompts_that_are_cut_are_counted_once_each() {
    let mini = Mini::new();
    let long = "a photo of a red square and a blue circle and a green triangle and a yellow star and a grey sea";
    mini.write("own.txt", &format!("a dot\n{long}\n{long} too\na sea\n{long}\n"));
    let own = "  own: {uses: prompts, with: {files: {test: own.txt}}}\n";
    let scores =
        "  scores: {uses: evaluate, needs: {base: base.model, prompts: {looks: own.test}}, with: {sampling: {num_inference_steps: 1}}}
  kept: {uses: embed, needs: {base: base.model, prompts: {looks: own.test}}}
";
    mini.write("r.yaml", &[HEAD, own, scores].concat());
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    assert_eq!(warned(&ran, "own"), codes([("W010", 1)]));
    for stage in ["scores", "kept"] {
        let json = ran.json();
        let all: Vec<&Value> = json["stages"][stage]["warnings"].as_array().unwrap().iter().collect();
        assert_eq!(all.len(), 2, "{all:?}");
        for (w, encoder) in all.iter().zip(["10 tokens that CLIP reads", "9 tokens that T5 reads"]) {
            assert_eq!((w["code"].as_str(), w["count"].as_u64()), (Some("W013"), Some(2)), "{w}");
            assert!(w["message"].as_str().unwrap().contains(encoder), "{w}");
        }
    }
    let generate = mini
        .run(&["generate", "--base", "bundled:mini", "--prompt", long, "--num-inference-steps", "1", "-o", "out"])
        .expect(0);
    assert!(generate.stderr.contains("warning: W013"), "{}", generate.stderr);
}

/// What recipe and files tell, `check` tells.
#[test]
fn check_finds_what_files_and_numbers_tell() {
    let mini = Mini::new();
    mini.write("train.txt", "\"a\" dog\n\"a\" dog\n\"a\" cat\n\"a\" cow\n");
    mini.write(
        "test.txt",
        "{\"text\": \"\\\"a\\\" cat\", \"note\": 1}\n{\"text\": \"\\\"a\\\" cow\"}\n{\"text\": \"a bird\"}\n",
    );
    mini.write("more.txt", "\"a\" dog\na fish\n");
    std::fs::create_dir(mini.path("adapter")).unwrap();
    let config = "{\"r\": 2, \"lora_alpha\": 2, \"target_modules\": [\"attn.to_q\"]}";
    mini.write("adapter/adapter_config.json", config);
    let name = "base_model.model.transformer_blocks.0.attn.to_q.lora_";
    let header = format!(
        r#"{{"__metadata__": {{"bottleneck": "3"}}, "{name}A.weight": {{"dtype": "F32", "shape": [2, 96], "data_offsets": [0, 768]}}, "{name}B.weight": {{"dtype": "F32", "shape": [96, 2], "data_offsets": [768, 1536]}}}}"#
    );
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 1536]].concat();
    std::fs::write(mini.path("adapter/adapter_model.safetensors"), bytes).unwrap();
    mini.run(&["get", "multitask.yaml", "base.model", "-o", "folder"]).expect(0);
    let index = std::fs::read_to_string(mini.path("folder/model_index.json")).unwrap();
    std::fs::remove_file(mini.path("folder/model_index.json")).unwrap();
    let more = index.replacen('{', "{\"safety_checker\": [\"a\", \"B\"], \"image_encoder\": [null, null],", 1);
    mini.write("folder/model_index.json", &more);
    mini.write("r.yaml", "opdflow: 1
name: doubts
stages:
  base: {uses: base_model, with: {source: ./folder}}
  own: {uses: prompts, with: {files: {train: train.txt, test: test.txt}}}
  same: {uses: prompts, with: {files: {train: more.txt, validation: more.txt}}}
  mine: {uses: import_lora, needs: {base: base.model}, with: {source: adapter}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: own.train}
    with: {algorithm: {diffusion_nft: {}}, reward: {looks: 1.0, ocr: 0.0}, iterations: 2, sampling: {guidance_scale: 4.5}, lr_schedule: {warmup: 5}, ema: {every: 4}}
  best: {uses: select_checkpoint, needs: {base: base.model, candidates: teacher.candidates, prompts: {looks: same.validation}}, with: {maximize: looks}}
  scores: {uses: evaluate, needs: {base: base.model, lora: best.lora, prompts: {looks: same.train, own: own.test}}, with: {rewards: {own: [looks]}}}
  vae: {uses: pretrain_vae, with: {training: {steps: 40, lr_schedule: {hold: 2, until: 9}, ema: {every: 50}}}}
");
    let found = mini.run(&["check", "r.yaml", "--json"]).expect(0).json();
    let spot = |d: &Value| {
        let title = d["title"].as_str().unwrap().to_owned();
        assert!(d["help"].is_string() && d["line"].as_u64().unwrap() > 3, "{d}");
        (d["code"].as_str().unwrap().to_owned(), title)
    };
    let found: Vec<(String, String)> = found["diagnostics"].as_array().unwrap().iter().map(spot).collect();
    for (code, stage, words) in [
        ("W010", "own", "`train` is a copy"),
        ("W011", "own", "`train` is in `test` too, which should be held out from it (2 times)"),
        ("W011", "best", "a prompt of `prompts.looks`"),
        ("W011", "scores", "a prompt of `prompts.looks`"),
        ("W012", "same", "both `train` and `validation`, which come from the same file (2 times)"),
        ("W014", "teacher", "guidance 4.5"),
        ("W015", "teacher", "`ocr` has weight 0"),
        ("W016", "teacher", "still grows when the 2 rounds end"),
        ("W016", "teacher", "`every` is 4, of 2 steps"),
        ("W016", "vae", "a hundredth at round 9: the other 31 of 40 hardly learn"),
        ("W016", "vae", "`every` is 50, of 40 steps"),
        ("W017", "own", "the field `note`"),
        ("W017", "mine", "`bottleneck`"),
        ("W017", "base", "`safety_checker`"),
    ] {
        let there =
            |(c, t): &(String, String)| c == code && t.starts_with(&format!("stage `{stage}`: ")) && t.contains(words);
        assert_eq!(found.iter().filter(|f| there(f)).count(), 1, "{code} {stage} {words}: {found:#?}");
    }
    assert_eq!(found.iter().filter(|(code, _)| code.as_str() >= "W010").count(), 14, "{found:#?}");
    let strict = mini.run(&["check", "r.yaml", "--strict"]).expect(2);
    assert!(strict.stderr.contains("error[W014]") && strict.stderr.contains("14 errors"), "{}", strict.stderr);
}

/// More processes than there are batches for them, in each kind that shares its work; with the `micro_batch` that is named there are enough.
#[test]
fn processes_that_would_have_nothing_to_do_are_told_with_the_batch_that_gives_them_a_part() {
    let mini = Mini::new();
    let recipe = |ranks: usize, micro: [usize; 4]| {
        let teacher = teacher(GRPO, &format!("{SAMPLING}, reward: {{looks: 1.0}}, micro_batch: {}", micro[0]));
        let text = format!(
            "{HEAD}{teacher}    resources: {{ranks: {ranks}}}
  best: {{uses: select_checkpoint, needs: {{base: base.model, candidates: teacher.candidates, prompts: {{looks: scenes.validation}}}}, with: {{maximize: looks, micro_batch: {}}}, resources: {{ranks: {ranks}}}}}
  student: {{uses: distill, needs: {{base: base.model, teachers: {{a: best.lora, b: best.lora}}, prompts: {{a: scenes.train, b: scenes.train}}}}, with: {{rounds: 2, rollout: {{num_inference_steps: 2, prompts: 3, guidance_scale: 1.0}}, micro_batch: {}}}, resources: {{ranks: {ranks}}}}}
  scores: {{uses: evaluate, needs: {{base: base.model, lora: student.lora, prompts: {{looks: scenes.test}}}}, with: {{num_images_per_prompt: {{looks: 2}}, micro_batch: {}}}, resources: {{ranks: {ranks}}}}}
",
            micro[1], micro[2], micro[3]
        );
        mini.write("r.yaml", &text);
        let found = mini.run(&["check", "r.yaml", "--json"]).expect(0).json();
        let idle = |d: &Value| {
            let word = |key: &str| d[key].as_str().unwrap().to_owned();
            (word("code") == "W019").then(|| (word("title"), word("help")))
        };
        found["diagnostics"].as_array().unwrap().iter().filter_map(idle).collect::<Vec<_>>()
    };
    let told = recipe(2, [128; 4]);
    for (stage, images, fits) in [("teacher", 4, 2), ("best", 2, 1), ("student", 6, 3), ("scores", 8, 4)] {
        let title =
            format!("stage `{stage}`: 2 processes share {images} images in batches of up to 128: 1 of them would wait");
        let there =
            told.iter().filter(|(t, help)| t.starts_with(&title) && help.contains(&format!("micro_batch: {fits}`")));
        assert_eq!(there.count(), 1, "{title}: {told:#?}");
    }
    assert_eq!(told.len(), 4);
    assert_eq!(recipe(2, [2, 1, 3, 4]), []);
    assert_eq!(recipe(1, [128; 4]), []);
    let more = recipe(8, [1; 4]);
    assert!(more.len() == 3 && more.iter().all(|(_, help)| help == "fewer `ranks` or `gpus`"), "{more:#?}");
}
