//! Nothing that is not finite is scored, chosen or saved.

use crate::common::{self, Ran};
use crate::space::Mini;
use crate::tensors::{Spoil, each, replace_output};
use serde_json::Value;
use std::path::Path;

/// The class of a stage's failure in the newest run, and its words.
#[track_caller]
fn failure(mini: &Mini, ran: &Ran, stage: &str) -> (String, String) {
    let failed = mini.events_of("failed").into_iter().find(|f| f["stage"] == stage);
    let failed = failed.unwrap_or_else(|| panic!("`{stage}` did not fail: {}\n{}", ran.stdout, ran.stderr));
    (failed["class"].as_str().unwrap().to_owned(), failed["message"].as_str().unwrap().to_owned())
}

/// With what code the process of a stage ends when its job is run again.
fn code_of(mini: &Mini, stage: &str) -> Option<i32> {
    let program = Path::new(env!("CARGO_BIN_EXE_opdflow")).with_file_name("opdflow-stage");
    let job = mini.path(&format!(".opdflow/runs/latest/jobs/{stage}.json"));
    std::process::Command::new(program)
        .arg("__stage")
        .arg(job)
        .current_dir(mini.path(""))
        .output()
        .unwrap()
        .status
        .code()
}

#[test]
fn a_base_with_one_number_that_is_none_is_refused_whatever_part_it_is_in() {
    let mini = Mini::new();
    mini.run(&["get", "multitask.yaml", "base.model", "-o", "folder"]).expect(0);
    mini.write("prompts.txt", "a red square\n");
    let parts = [
        ("transformer/diffusion_pytorch_model", Spoil::Nan),
        ("vae/diffusion_pytorch_model", Spoil::Infinite),
        ("text_encoder/model", Spoil::Nan),
        ("text_encoder_2/model", Spoil::Nan),
        ("text_encoder_3/model", Spoil::Infinite),
    ];
    for (part, spoil) in parts {
        let file = mini.path(&format!("folder/{part}.safetensors"));
        let whole = std::fs::read(&file).unwrap();
        let mut named = String::new();
        each(&file, |name, values| {
            if named.is_empty() && values.len() > 3 {
                values.set(3, spoil);
                named = name.to_owned();
            }
        });
        let ran = mini.run(&["run", "own.yaml", "--json", "--until", "base"]).expect(1);
        let (class, message) = failure(&mini, &ran, "base");
        assert_eq!(class, "not_finite", "{part}: {message}");
        let word = if matches!(spoil, Spoil::Nan) { "NaN" } else { "inf" };
        for wanted in
            [&format!("{part}.safetensors: tensor `{named}` holds {word} at ["), "help: download or export it again"]
        {
            assert!(message.contains(wanted), "no `{wanted}` in {message}");
        }
        assert_eq!(code_of(&mini, "base"), Some(66), "{part}");
        let generate = mini.run(&[
            "generate",
            "--base",
            "folder",
            "--prompt",
            "a dot",
            "--num-inference-steps",
            "1",
            "-o",
            "images",
        ]);
        assert_ne!(generate.code, 0, "{part}");
        assert!(generate.stderr.contains(&named) && generate.stderr.contains(word), "{part}: {}", generate.stderr);
        std::fs::remove_file(&file).unwrap();
        std::fs::write(&file, whole).unwrap();
    }
    mini.run(&["run", "own.yaml", "--json", "--until", "base"]).expect(0);
}

/// A teacher that goes on from an adapter whose numbers are finite, but whose product with its other half is not.
#[test]
fn a_training_that_is_not_finite_keeps_nothing_of_it() {
    let mini = Mini::new();
    mini.run(&["run", "multitask.yaml", "--json", "--until", "looks_teacher"]).expect(0);
    mini.run(&["get", "multitask.yaml", "looks_teacher.lora", "-o", "huge"]).expect(0);
    each(&mini.path("huge/adapter_model.safetensors"), |_, values| {
        (0..values.len()).for_each(|i| values.set(i, Spoil::Number(1e30)));
    });
    let own = "  huge: {uses: import_lora, needs: {base: base.model}, with: {source: huge}}\n  looks_teacher:\n";
    mini.edit("multitask.yaml", "  looks_teacher:\n", own);
    let needs = "{base: base.model, prompts: looks_prompts.train}";
    mini.edit("multitask.yaml", needs, "{base: base.model, prompts: looks_prompts.train, start: huge.lora}");
    let run = ["run", "multitask.yaml", "--json", "--until", "looks_teacher", "--set", "iterations=6"];
    let before: Vec<_> = common::files(&mini.store().join("checkpoints"));
    let ran = mini.run(&run).expect(1);
    let (class, message) = failure(&mini, &ran, "looks_teacher");
    assert_eq!(class, "not_finite", "{message}");
    for part in
        ["round 0", "is not finite", "nothing of this round is kept, there is no checkpoint before it", "help: "]
    {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
    assert!(message.contains("the latent of image 0, of the prompt"), "{message}");
    assert_eq!(code_of(&mini, "looks_teacher"), Some(66));
    // Nothing was added that holds other than numbers.
    for state in common::files(&mini.store().join("checkpoints")).iter().filter(|p| !before.contains(p)) {
        if state.extension().is_some_and(|e| e == "safetensors") {
            each(state, |name, values| assert!(values.finite(), "{name} of {}", state.display()));
        }
    }
}

/// An imported adapter, and the candidates of a teacher, with values of the tests' own.
#[test]
fn a_candidate_that_is_not_finite_is_never_chosen_and_is_named() {
    let mini = Mini::new();
    let teach = ["run", "multitask.yaml", "--json", "--set", "iterations=6", "--until", "looks_teacher"];
    let ran = mini.run(&teach).expect(0);
    mini.run(&["get", "multitask.yaml", "looks_teacher.candidates", "-o", "candidates", "--set", "iterations=6"])
        .expect(0);
    let file = |step: u32| mini.path(&format!("candidates/step-{step:06}/adapter_model.safetensors"));
    // One with a NaN, one whose numbers are finite and whose images are not.
    let mut first = true;
    each(&file(2), |_, values| {
        if std::mem::take(&mut first) {
            values.set(0, Spoil::Nan);
        }
    });
    each(&file(6), |_, values| (0..values.len()).for_each(|i| values.set(i, Spoil::Number(1e30))));
    replace_output(&mini, &ran, "looks_teacher", "candidates", "candidates");
    let choose = ["run", "multitask.yaml", "--json", "--set", "iterations=6", "--until", "looks_best"];
    let ran = mini.run(&choose).expect(0);
    let warned: Vec<Value> = ran.json()["stages"]["looks_best"]["warnings"].as_array().unwrap().clone();
    let words = |w: &Value| w["message"].as_str().unwrap().to_owned();
    let left_out: Vec<String> = warned.iter().filter(|w| w["code"] == "W025").map(words).collect();
    assert_eq!(left_out.len(), 2, "{warned:?}");
    assert!(left_out[0].contains("step-000002") && left_out[0].contains("holds NaN"), "{left_out:?}");
    assert!(left_out[1].contains("step-000006") && left_out[1].contains("of image 0, of the prompt"), "{left_out:?}");
    mini.run(&["get", "multitask.yaml", "looks_best.choice", "-o", "choice", "--set", "iterations=6"]).expect(0);
    let choice: Value = serde_json::from_slice(&std::fs::read(mini.path("choice")).unwrap()).unwrap();
    assert_eq!(choice["chosen"], "step-000004");
    mini.run(&["get", "multitask.yaml", "looks_best.candidates", "-o", "table", "--set", "iterations=6"]).expect(0);
    let table = std::fs::read_to_string(mini.path("table")).unwrap();
    assert!(table.contains("| step-000002 | n/a | not finite |") && !table.contains("NaN"), "{table}");
    // A hit tells them again.
    let again = mini.run(&choose).expect(0);
    assert_eq!(
        (again.verdicts()["looks_best"].as_str(), &again.json()["stages"]["looks_best"]["warnings"]),
        ("hit", &Value::from(warned))
    );
    // A curve does not leave one out in silence.
    let curve = "  curve:\n    uses: score_candidates\n    needs: {base: base.model, candidates: looks_teacher.candidates, prompts: {looks: looks_prompts.validation}}\n    with: {sampling: {num_inference_steps: 2}}\n";
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    mini.write("curve.yaml", &text.replace("  student:\n", &format!("{curve}  student:\n")));
    let ran = mini.run(&["run", "curve.yaml", "--json", "--set", "iterations=6", "--until", "curve"]).expect(1);
    let (class, message) = failure(&mini, &ran, "curve");
    assert!(class == "not_finite" && message.contains("candidate step-000002"), "{class}: {message}");
    // None is left.
    each(&file(4), |_, values| values.set(0, Spoil::Infinite));
    replace_output(&mini, &ran, "looks_teacher", "candidates", "candidates");
    let ran = mini.run(&choose).expect(1);
    let (class, message) = failure(&mini, &ran, "looks_best");
    assert!(
        class == "not_finite" && message.contains("no candidate is finite (step-000002, step-000004, step-000006)"),
        "{message}"
    );
    assert_eq!(code_of(&mini, "looks_best"), Some(66));
}

#[test]
fn an_adapter_of_the_user_s_that_is_not_finite_is_refused_and_one_that_breaks_images_is_not_scored() {
    let mini = Mini::new();
    mini.run(&["run", "multitask.yaml", "--until", "looks_teacher"]).expect(0);
    mini.run(&["get", "multitask.yaml", "looks_teacher.lora", "-o", "adapter"]).expect(0);
    let head = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    let head = head.split("  geneval_teacher:").next().unwrap();
    let scores = "needs: {base: base.model, lora: mine.lora, prompts: {looks: looks_prompts.test}}";
    mini.write("mine.yaml", &format!("{}  mine: {{uses: import_lora, needs: {{base: base.model}}, with: {{source: adapter}}}}\n  scores: {{uses: evaluate, {scores}, with: {{sampling: {{num_inference_steps: 2}}}}}}\n", head.replace("vars: {iterations: 2, rounds: 3}\n", "")));
    let file = mini.path("adapter/adapter_model.safetensors");
    each(&file, |_, values| (0..values.len()).for_each(|i| values.set(i, Spoil::Number(1e30))));
    let ran = mini.run(&["run", "mine.yaml", "--json", "--until", "scores"]).expect(1);
    let (class, message) = failure(&mini, &ran, "scores");
    assert_eq!(class, "not_finite", "{message}");
    for part in ["the latent of image 0, of the prompt \"", "is not finite", "help: "] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
    assert_eq!(code_of(&mini, "scores"), Some(66));
    each(&file, |_, values| values.set(1, Spoil::Nan));
    let ran = mini.run(&["run", "mine.yaml", "--json", "--until", "scores"]).expect(1);
    let (class, message) = failure(&mini, &ran, "mine");
    assert_eq!(class, "not_finite", "{message}");
    assert!(
        message.contains("adapter_model.safetensors: tensor `") && message.contains("holds NaN at [0, 1]"),
        "{message}"
    );
    assert!(message.contains("from before it diverged") && !message.contains("another adapter"), "{message}");
}
