//! What a user can get wrong: a message that names it, the documented exit code, and nothing lost.

use crate::common;
use crate::space::Mini;
use opdflow_cache::{Digest, Store};
use std::path::Path;

#[test]
fn an_adapter_of_another_base_is_refused() {
    let mini = Mini::new();
    let ran = mini.run(&["run", "two_bases.yaml", "--json"]).expect(1);
    assert_eq!((ran.verdicts()["teacher"].as_str(), ran.verdicts()["student"].as_str()), ("run", "failed"));
    let message = ran.json()["stages"]["student"]["message"].to_string();
    assert!(message.contains("teachers.geneval") && message.contains("was trained on base"), "{message}");
    assert!(ran.stderr.contains("help: give the stage the base that the adapter was trained on"), "{}", ran.stderr);
    // The right base mends it, and the teacher was kept.
    mini.edit("two_bases.yaml", "base: there.model", "base: here.model");
    let ran = mini.run(&["run", "two_bases.yaml", "--json", "--until", "student"]).expect(0);
    assert_eq!((ran.verdicts()["teacher"].as_str(), ran.verdicts()["student"].as_str()), ("hit", "run"));
}

/// A teacher's candidates as another program might have left them: whole files, but a tensor short.
#[test]
fn an_adapter_that_lacks_tensors_is_refused() {
    let mini = Mini::new();
    let run = ["run", "multitask.yaml", "--json", "--until", "looks_best"];
    let ran = mini.run(&[&run[..3], &["--until", "looks_teacher"]].concat()).expect(0);
    let key: Digest = ran.json()["stages"]["looks_teacher"]["key"].as_str().unwrap().parse().unwrap();
    mini.run(&["get", "multitask.yaml", "looks_teacher.candidates", "-o", "candidates"]).expect(0);
    change(&mini.path("candidates/step-000002/adapter_model.safetensors"), |mut bytes| {
        // Another name of the same length leaves the rest of the header as it was.
        let (from, to) = (b".0.attn.to_q.lora_A.weight", b".0.attn.to_x.lora_A.weight");
        let at = bytes.windows(from.len()).position(|w| w == from).unwrap();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    });
    let store = Store::open(&mini.store()).unwrap();
    let mut record = store.action(&key).unwrap().unwrap();
    record.outputs.get_mut("candidates").unwrap().object = store.put_path(&mini.path("candidates")).unwrap();
    let files = common::files(&mini.store().join("actions"));
    let own = files.iter().find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().contains(&key.to_string()[2..])));
    std::fs::remove_file(own.expect("the teacher's record")).unwrap();
    store.publish(&record).unwrap();

    let ran = mini.run(&run).expect(1);
    assert_eq!((ran.verdicts()["looks_teacher"].as_str(), ran.verdicts()["looks_best"].as_str()), ("hit", "failed"));
    let message = ran.json()["stages"]["looks_best"]["message"].to_string();
    for part in ["candidates", "step-000002/adapter_model.safetensors", "transformer_blocks.0.attn.to_"] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }
}

/// Changes a file that `get` left read-only.
fn change(path: &Path, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let bytes = change(std::fs::read(path).unwrap());
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_folder_of_the_user_s_is_named_down_to_the_tensor() {
    let mini = Mini::new();
    mini.run(&["get", "multitask.yaml", "base.model", "-o", "folder"]).expect(0);
    mini.write("prompts.txt", "a photo of a red square\nthe word \"cat\"\n");
    let file = mini.path("folder/transformer/diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&file).unwrap();

    change(&file, |bytes| bytes[..bytes.len() - 1000].to_vec());
    let ran = mini.run(&["run", "own.yaml"]).expect(2);
    // In one line, wherever the terminal's width would break it.
    let message = ran.stderr.replace('\n', " ");
    for part in [
        "E050",
        "folder/transformer/diffusion_pytorch_model.safetensors",
        &whole.len().to_string(),
        &(whole.len() - 1000).to_string(),
        "cut off",
    ] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }

    change(&file, |_| {
        let at = whole.windows(17).position(|w| w == b"\"proj_out.weight\"").unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + 17].copy_from_slice(b"\"proj_out.weighs\"");
        bytes
    });
    let ran = mini.run(&["run", "own.yaml", "--json"]).expect(1);
    let message = ran.json()["stages"]["teacher"]["message"].to_string();
    for part in ["transformer/diffusion_pytorch_model.safetensors", "tensor `proj_out.weight` is missing", "[64, 96]"] {
        assert!(message.contains(part), "no `{part}` in {message}");
    }

    std::fs::rename(mini.path("folder/text_encoder_2"), mini.path("elsewhere")).unwrap();
    change(&file, |_| whole);
    let ran = mini.run(&["run", "own.yaml"]).expect(2);
    assert!(ran.stderr.contains("E050") && ran.stderr.contains("text_encoder_2"), "{}", ran.stderr);

    // Whole again, it is the base that it was copied from.
    std::fs::rename(mini.path("elsewhere"), mini.path("folder/text_encoder_2")).unwrap();
    let ran = mini.run(&["run", "own.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["own"], "hit");
    let base = mini.run(&["run", "multitask.yaml", "--json", "--until", "base"]).expect(0);
    assert_eq!(ran.outputs()["base.model"], base.outputs()["base.model"]);
}

#[test]
fn files_that_are_not_there_are_found_before_anything_runs() {
    let mini = Mini::new();
    let ran = mini.run(&["run", "own.yaml"]).expect(2);
    for part in ["E050", "own.yaml:6", "own.yaml:7", "prompts.txt", "folder"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
    }
    assert!(!mini.path(".opdflow").exists(), "nothing was run");
}

/// A teacher that goes on from an adapter whose numbers are finite, but whose product with its other half is not.
#[test]
fn numbers_that_are_not_finite_stop_a_teacher() {
    let mini = Mini::new();
    mini.run(&["run", "multitask.yaml", "--json", "--until", "looks_teacher"]).expect(0);
    mini.run(&["get", "multitask.yaml", "looks_teacher.lora", "-o", "huge"]).expect(0);
    change(&mini.path("huge/adapter_model.safetensors"), |mut bytes| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for number in bytes[8 + header..].chunks_exact_mut(4) {
            number.copy_from_slice(&1e30_f32.to_le_bytes());
        }
        bytes
    });
    mini.write(
        "huge.yaml",
        "opdflow: 1
name: huge
stages:
  base: {uses: base_model, with: {source: \"bundled:mini\"}}
  scenes: {uses: prompts, with: {task: scene, train: 8}}
  huge: {uses: import_lora, needs: {base: base.model}, with: {source: huge}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: scenes.train, start: huge.lora}
    with: {algorithm: diffusion_nft, reward: {looks: 1}, iterations: 2, sampling: {prompts: 2, group_size: 2, num_inference_steps: 3}}
",
    );
    let ran = mini.run(&["run", "huge.yaml", "--json"]).expect(1);
    let message = ran.json()["stages"]["teacher"]["message"].to_string();
    assert_eq!((ran.verdicts()["huge"].as_str(), ran.verdicts()["teacher"].as_str()), ("run", "failed"));
    assert!(message.contains("not finite"), "{message}");
    let started = mini.events_of("started");
    let of_teacher = started.iter().filter(|e| e.to_string().contains("\"teacher\"")).count();
    assert!(of_teacher <= 1, "another try would give the same: {started:#?}");
}

#[test]
fn a_store_that_cannot_be_written_to_is_named() {
    let mini = Mini::new();
    mini.write("file", "");
    let ran = mini.run(&["run", "multitask.yaml", "--store", "file/store"]).expect(3);
    assert!(ran.stderr.contains("cannot write to file") && ran.stderr.contains("OPDFLOW_STORE"), "{}", ran.stderr);
}

/// A disk that takes no file above 64 KiB: small records fit, weights do not.
#[test]
fn a_disk_that_is_full_loses_nothing() {
    use std::os::unix::process::CommandExt as _;
    let mini = Mini::new();
    let args = ["run", "multitask.yaml", "--json", "--until", "looks_teacher"];
    let mut command = mini.prepared(&args);
    // SAFETY: both calls are safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 1 << 16, rlim_max: libc::RLIM_INFINITY };
            // Otherwise the process is ended instead of told.
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            if libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) == 0 {
                Ok(())
            } else {
                Err(std::io::Error::last_os_error())
            }
        });
    }
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stdout}\n{stderr}");
    assert!(stderr.contains("File too large"), "{stderr}");
    let ran = mini.run(&args).expect(0);
    assert_eq!((ran.verdicts()["base"].as_str(), ran.verdicts()["looks_teacher"].as_str()), ("hit", "run"));
    assert!(common::files(&mini.store().join("tmp")).is_empty(), "nothing half written is left");
}

/// All that make images refuse the same settings of it, before anything runs.
#[test]
fn images_of_no_steps_are_refused() {
    let mini = Mini::new();
    let judged = "sampling: {num_inference_steps: 0, solver: {cps: {noise_level: 2.0}}}";
    let scenes = "prompts: {geneval: scenes.test}";
    let scored = format!("needs: {{base: base.model, candidates: teacher.candidates, {scenes}}}");
    let text = format!(
        "opdflow: 1
name: shots
seed: 3
stages:
  base: {{uses: base_model, with: {{source: \"bundled:mini\"}}}}
  scenes: {{uses: prompts, with: {{task: geneval, train: 8, validation: 2, test: 4}}}}
  teacher:
    uses: train_teacher
    needs: {{base: base.model, prompts: scenes.train}}
    with: {{algorithm: {{diffusion_nft: {{}}}}, reward: {{geneval: 1.0}}, iterations: 1}}
  best: {{uses: select_checkpoint, {scored}, with: {{maximize: geneval, {judged}}}}}
  curve: {{uses: score_candidates, {scored}, with: {{{judged}}}}}
  scores: {{uses: evaluate, needs: {{base: base.model, {scenes}}}, with: {{{judged}}}}}
"
    );
    mini.write("shots.yaml", &text);
    let faults = mini.run(&["check", "shots.yaml", "--json"]).expect(2).json();
    let titles: Vec<&str> =
        faults["diagnostics"].as_array().unwrap().iter().map(|d| d["title"].as_str().unwrap()).collect();
    for stage in ["best", "curve", "scores"] {
        for param in ["num_inference_steps", "solver.cps.noise_level"] {
            let title = format!("`sampling.{param}` of stage `{stage}` does not fit");
            assert!(titles.contains(&title.as_str()), "no {title}: {titles:?}");
        }
    }
}
