//! Networks that judge, of the user's own files: taken in by content, connected by the name of their reward.

use crate::space::Mini;
use std::path::{Path, PathBuf};

/// Small random networks of the published classes (`make_fixtures.py` there).
pub fn networks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("stages/reward_models/tests/rewards")
}

/// A recipe with one reward model, and something that judges by it.
fn recipe(reward_model: &str, rest: &str) -> String {
    let reward_model = reward_model.replace("NETWORKS", &networks().display().to_string());
    format!(
        "opdflow: 1\nname: reward_models\nseed: 1\nstages:\n  base: {{uses: base_model, with: {{source: \"bundled:mini\"}}}}\n  \
         words: {{uses: prompts, with: {{files: {{train: words.txt}}}}}}\n  judge: {{uses: reward_model, with: {reward_model}}}\n{rest}"
    )
}

const PICK: &str = "{reward: pickscore, files: {model: NETWORKS/pick, tokenizer: NETWORKS/pick_processor}}";
const SCORES: &str = "  scores:
    uses: evaluate
    needs: {base: base.model, prompts: {words: words.train}, reward_models: {pickscore: judge.reward_model}}
    with: {rewards: {words: [pickscore]}, sampling: {num_inference_steps: 1}, keep: 0}
";

#[test]
fn a_network_trains_chooses_and_scores() {
    let rest = "  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: words.train, reward_models: {pickscore: judge.reward_model}}
    with:
      algorithm: {diffusion_nft: {}}
      reward: {pickscore: 1.0, looks: 0.5}
      iterations: 1
      candidates_every: 1
      sampling: {prompts: 2, group_size: 2, num_inference_steps: 2}
      lora: {rank: 1, alpha: 1}
  best:
    uses: select_checkpoint
    needs: {base: base.model, candidates: teacher.candidates, prompts: {pickscore: words.train}, reward_models: {pickscore: judge.reward_model}}
    with: {maximize: pickscore.raw, sampling: {num_inference_steps: 1}}
";
    let mini = Mini::with_words(&recipe(PICK, &(rest.to_owned() + SCORES)));
    let ran = mini.run(&["run", "r.yaml", "--json"]).expect(0);
    assert!(ran.verdicts().values().any(|v| v == "run"), "{}", ran.stdout);
    mini.run(&["get", "r.yaml", "scores.scores", "-o", "scores.json"]).expect(0);
    let scores = std::fs::read_to_string(mini.path("scores.json")).unwrap();
    for column in ["\"pickscore\"", "\"pickscore.raw\"", "\"pickscore.reward\""] {
        assert!(scores.contains(column), "no {column} in {scores}");
    }
    let log = std::fs::read_to_string(mini.path(".opdflow/runs/latest/events.jsonl")).unwrap();
    assert!(log.contains("pickscore") && log.contains("looks"), "each reward is a metric of the training");
}

#[test]
fn a_network_is_its_content_and_not_its_path() {
    let mini = Mini::with_words(&recipe(PICK, ""));
    mini.run(&["run", "r.yaml"]).expect(0);
    let copy = mini.path("copy");
    std::fs::create_dir(&copy).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(networks().join("pick").join(file), copy.join(file)).unwrap();
    }
    std::fs::write(copy.join("README.md"), "a card").unwrap();
    mini.write("r.yaml", &recipe(&PICK.replace("NETWORKS/pick,", "copy,"), ""));
    assert_eq!(mini.run(&["run", "r.yaml", "--json"]).expect(0).verdicts()["judge"], "hit");
    let config = std::fs::read_to_string(copy.join("config.json")).unwrap();
    std::fs::write(copy.join("config.json"), config + "\n").unwrap();
    assert_eq!(mini.run(&["run", "r.yaml", "--json"]).expect(0).verdicts()["judge"], "run");
}

#[test]
fn what_does_not_fit_is_said_before_anything_runs() {
    let unconnected = SCORES.replace(", reward_models: {pickscore: judge.reward_model}", "");
    for (text, parts) in [
        (
            recipe(PICK, &unconnected),
            &["E044", "`pickscore` is judged by a network", "reward_models: {pickscore: STAGE.reward_model}"][..],
        ),
        (
            recipe("{reward: pickscore, files: {model: NETWORKS/pick}}", SCORES),
            &["E043", "the part `tokenizer`", "CLIP-ViT-H-14"],
        ),
        (
            recipe("{reward: pickscore, files: {model: a, tokenizer: b, head: c}}", SCORES),
            &["E043", "no part `head`", "model, tokenizer"],
        ),
        (recipe("{reward: picksore, files: {}}", SCORES), &["E043", "no reward is named `picksore`", "pickscore"]),
        (recipe("{reward: looks, files: {}}", SCORES), &["E043", "`looks` needs no network"]),
        (
            recipe("{reward: pickscore, files: {model: nowhere, tokenizer: NETWORKS/pick_processor}}", SCORES),
            &["E050", "nowhere: there is no such file or folder", "yuvalkirstain/PickScore_v1"],
        ),
        (
            recipe(PICK, &SCORES.replace("[pickscore]", "[picksore]")),
            &["E044", "no reward is named `picksore`", "pickscore"],
        ),
        (recipe(PICK, &SCORES.replace("{rewards: {words: [pickscore]}, ", "{")), &["E044", "set of prompts `words`"]),
        (recipe(PICK, &SCORES.replace("{words: [pickscore]}", "{other: [pickscore]}")), &["E044", "`prompts.other`"]),
    ] {
        let said = Mini::with_words(&text).run(&["check", "r.yaml"]).expect(2).stderr;
        for part in parts {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
}

#[test]
fn a_broken_or_misnamed_network_is_the_users_fault() {
    let mini = Mini::with_words(&recipe(
        "{reward: pickscore, files: {model: broken, tokenizer: NETWORKS/pick_processor}}",
        SCORES,
    ));
    std::fs::create_dir(mini.path("broken")).unwrap();
    std::fs::copy(networks().join("pick/config.json"), mini.path("broken/config.json")).unwrap();
    mini.write("broken/model.safetensors", "short");
    let said = mini.run(&["run", "r.yaml", "--json"]).expect(1).json()["stages"]["judge"]["message"].to_string();
    assert!(said.contains("model.safetensors") && !said.contains("bug"), "{said}");

    let other = "{reward: clipscore, files: {clip: NETWORKS/clip}}";
    let mini = Mini::with_words(&recipe(other, SCORES));
    let said = mini.run(&["run", "r.yaml"]).expect(2).stderr;
    assert!(
        said.contains("reward_models.pickscore") && said.contains("judges by `clipscore`, not by `pickscore`"),
        "{said}"
    );
}

/// A reader of text is the user's pair of ONNX files with published or own numbers, in the place of the program's own `ocr`.
#[test]
fn a_reader_of_text_is_a_preset_and_the_user_s_files() {
    let deps = std::env::var_os("OPDFLOW_DEPS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".deps"), PathBuf::from)
        .join("ppocr");
    let files = format!("{{det: {0}/det.onnx, rec: {0}/rec.onnx}}", deps.display());
    let with = |reader: &str, files: &str| {
        format!(
            "opdflow: 1\nname: own\nseed: 1\nstages:\n  base: {{uses: base_model, with: {{source: \"bundled:mini\"}}}}\n  words: \
             {{uses: prompts, with: {{task: ocr, train: 2, validation: 0, test: 2}}}}\n  judge: {{uses: reward_model, with: \
             {{reward: ocr, files: {files}{reader}}}}}\n  scores: {{uses: evaluate, needs: {{base: base.model, prompts: {{ocr: \
             words.test}}, reward_models: {{ocr: judge.reward_model}}}}, with: {{sampling: {{num_inference_steps: 2}}}}}}\n"
        )
    };
    let mini = Mini::new();
    let key = |reader: &str| -> String {
        mini.write("r.yaml", &with(reader, &files));
        let plan = mini.run(&["plan", "r.yaml", "--json"]).expect(0).json();
        let judge = plan["stages"].as_array().unwrap().iter().find(|s| s["stage"] == "judge").unwrap().clone();
        judge["key"].as_str().unwrap_or_else(|| panic!("{judge}")).to_owned()
    };
    let english = ", reader: {preset: paddleocr_en}";
    let keys = [
        key(""),
        key(english),
        key(", reader: {preset: paddleocr_en, drop_score: 0.2}"),
        key(", reader: {preset: ppocr_v5}"),
    ];
    assert_eq!(keys.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{keys:?}");
    mini.write("r.yaml", &with(english, &files));
    mini.run(&["run", "r.yaml"]).expect(0);
    mini.run(&["get", "r.yaml", "judge.reward_model", "-o", "judge"]).expect(0);
    let reader = std::fs::read_to_string(mini.path("judge/ocr/reader.json")).unwrap();
    assert!(reader.contains("paddleocr_en"), "{reader}");
    mini.run(&["get", "r.yaml", "scores.scores", "-o", "scores.json"]).expect(0);
    assert!(std::fs::read_to_string(mini.path("scores.json")).unwrap().contains("\"ocr.exact\""));
    // What is not there is named before anything runs, and so is what cannot be.
    for (text, said) in [
        (
            with(english, "{det: en_PP-OCRv3_det_infer.onnx, rec: en_PP-OCRv4_rec_infer.onnx}"),
            "en_PP-OCRv3_det_infer.onnx",
        ),
        (with(english, "{rec: en_PP-OCRv4_rec_infer.onnx}"), "the part `det` of `ocr` is missing"),
        (with(", reader: {preset: paddleocr_fr}", &files), "paddleocr_en"),
        (with(", reader: {drop_score: 1.5}", &files), "from 0 to 1"),
        (
            recipe(&PICK.replace("{reward: pickscore,", "{reward: pickscore, reader: {},"), SCORES),
            "`pickscore` reads no text",
        ),
    ] {
        mini.write("words.txt", "a red dot\n");
        mini.write("bad.yaml", &text);
        let ran = mini.run(&["check", "bad.yaml"]).expect(2);
        let all = ran.stdout + &ran.stderr;
        assert!(all.contains(said), "no `{said}` in {all}");
    }
}
