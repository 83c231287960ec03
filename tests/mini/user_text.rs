//! Prompts and folders as users bring them: understood, or refused at once with the way out.

use crate::common::{Ran, TestSpace};
use crate::space::Mini;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

fn pipe(path: &Path) {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path is NUL-terminated.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
}

/// Runs a command that would hang if it read what it must not.
#[track_caller]
fn quickly(space: &TestSpace, args: &[&str]) -> Ran {
    let began = Instant::now();
    let mut command = space.command(args);
    command.env_remove("OPDFLOW_FAKE_STAGES").env("OMP_NUM_THREADS", "1");
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            panic!("{args:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    crate::common::finish(child)
}

fn prompts(with: &str) -> String {
    format!("opdflow: 1\nname: p\nstages:\n  words: {{uses: prompts, with: {{{with}}}}}\n")
}

#[test]
fn check_says_how_prompts_were_understood_and_names_every_bad_line() {
    let space = TestSpace::new();
    space.write("r.yaml", &prompts("files: {train: p.txt, test: t.jsonl}"));
    space.write("p.txt", "\u{feff}a 6\" sign that says \"HELLO\"\r\na dog\r\na dog\r\n");
    space.write("t.jsonl", "{\"prompt\": \"a dog\"}\n");
    let ran = quickly(&space, &["check", "r.yaml"]).expect(0);
    let said = "words: train: 3 prompts of p.txt; 1 have a target, such as `HELLO` in line 1, and none is in line 2, 3; 1 have the text of an earlier one\n";
    assert!(ran.stdout.contains(said), "{}", ran.stdout);
    assert!(ran.stdout.contains("words: train and test share 1 texts\n"), "{}", ran.stdout);
    let remarks = quickly(&space, &["check", "r.yaml", "--json"]).expect(0).json()["remarks"]["words"].clone();
    assert_eq!(remarks.as_array().unwrap().len(), 3, "{remarks}");

    let mut lines = "a dog\n".repeat(60);
    lines.insert_str(0, "a sign that says \"\"\n{\"txt\": \"x\"}\n");
    lines.push_str(
        "{\"tag\": \"counting\", \"include\": [{\"class\": \"cow\", \"count\": 0}], \"prompt\": \"no cow\"}\n",
    );
    space.write("p.txt", &lines);
    let ran = quickly(&space, &["check", "r.yaml"]).expect(2);
    for part in ["p.txt:1: not a prompt: nothing stands between", "p.txt:2: ", "p.txt:63: ", "count` is 0", "E050"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {}", ran.stderr);
    }

    // Fifty megabytes of bad JSON are not repeated.
    space.write("p.txt", &format!("{{\"prompt\": [\"{}\"]}}\n", "x".repeat(50_000_000)));
    let ran = quickly(&space, &["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.len() < 5000 && ran.stderr.contains("p.txt:1: not a prompt: 50000016 bytes"), "{}", ran.stderr);
}

#[test]
fn repeated_lines_that_leave_too_little_to_train_on_are_refused() {
    let space = TestSpace::new();
    space.write("p.txt", "dog\ndog\ndog\ncat\n");
    let verdicts: Vec<(i32, String)> = (0..6)
        .map(|seed| {
            let draw = format!("files: {{train: p.txt}}, draw: {{train: 3, validation: 1}}, seed: {seed}");
            space.write("r.yaml", &prompts(&draw));
            let ran = quickly(&space, &["check", "r.yaml"]);
            (ran.code, ran.stderr)
        })
        .collect();
    // Whichever is drawn for validation: all that was asked for, or a word.
    for (code, stderr) in &verdicts {
        assert!(
            *code == 0 || stderr.contains("1 different prompts are left for `train`, where 3 are asked for"),
            "{stderr}"
        );
    }
    assert!(verdicts.iter().any(|(code, _)| *code == 2));
}

#[test]
fn special_files_are_refused_wherever_they_lie() {
    let mini = Mini::new();
    mini.run(&["get", "multitask.yaml", "base.model", "-o", "whole"]).expect(0);
    mini.write("r.yaml", "opdflow: 1\nname: b\nstages:\n  base: {uses: base_model, with: {source: folder}}\n");
    pipe(&mini.path("pipe"));
    let fifo = "is a named pipe (FIFO), expected a regular file";
    for (file, to, word) in [
        ("model_index.json", "pipe", fifo),
        ("scheduler/scheduler_config.json", "pipe", fifo),
        ("tokenizer/merges.txt", "pipe", fifo),
        ("transformer/config.json", "pipe", fifo),
        ("transformer/diffusion_pytorch_model.safetensors", "pipe", fifo),
        ("vae/diffusion_pytorch_model.safetensors", "/dev/zero", "is a device, expected a regular file"),
        ("text_encoder/model.safetensors", "../blobs/none", "is a symbolic link to ../blobs/none, where nothing is"),
        ("tokenizer_2/vocab.json", "vocab.json", "leads round in a circle"),
        ("tokenizer_3/up", "..", "this link leads back to a folder that it lies in"),
    ] {
        let _ = std::fs::remove_dir_all(mini.path("folder"));
        copy(&mini.path("whole"), &mini.path("folder"));
        let path = mini.path("folder").join(file);
        let _ = std::fs::remove_file(&path);
        symlink(if to == "pipe" { mini.path("pipe") } else { to.into() }, &path).unwrap();
        let ran = quickly(&mini, &["check", "r.yaml"]).expect(2);
        assert!(ran.stderr.contains(word) && ran.stderr.contains(file), "{file}: {}", ran.stderr);
        let ran = quickly(
            &mini,
            &["generate", "--base", "folder", "--prompt", "x", "-o", "out", "--num-inference-steps", "1"],
        )
        .expect(2);
        assert!(ran.stderr.contains(word), "generate, {file}: {}", ran.stderr);
    }
    // As prompts, and as an adapter.
    mini.write("p.yaml", &prompts("files: {train: pipe}"));
    assert!(quickly(&mini, &["check", "p.yaml"]).expect(2).stderr.contains(fifo));
    let generate = ["generate", "--base", "bundled:mini", "-o", "out", "--num-inference-steps", "1"];
    let ran = quickly(&mini, &[&generate[..], &["--prompts", "pipe"]].concat()).expect(2);
    assert!(ran.stderr.contains("pipe is a named pipe"), "{}", ran.stderr);
    let ran = quickly(&mini, &[&generate[..], &["--prompt", "x", "--lora", "pipe"]].concat()).expect(2);
    assert!(ran.stderr.contains(fifo), "{}", ran.stderr);
    let lora = "opdflow: 1\nname: l\nstages:\n  base: {uses: base_model, with: {source: \"bundled:mini\"}}\n  lora: {uses: import_lora, needs: {base: base.model}, with: {source: pipe}}\n";
    mini.write("l.yaml", &lora.replace("source: pipe", "source: adapter"));
    std::fs::create_dir(mini.path("adapter")).unwrap();
    pipe(&mini.path("adapter/adapter_config.json"));
    pipe(&mini.path("adapter/adapter_model.safetensors"));
    let ran = quickly(&mini, &["check", "l.yaml"]).expect(2);
    assert!(ran.stderr.contains(fifo) && ran.stderr.contains("adapter_config.json"), "{}", ran.stderr);
    std::fs::remove_file(mini.path("adapter/adapter_config.json")).unwrap();
    mini.write("adapter/adapter_config.json", r#"{"r": 2, "lora_alpha": 2}"#);
    let ran = quickly(&mini, &["check", "l.yaml"]).expect(2);
    assert!(ran.stderr.contains(fifo) && ran.stderr.contains("adapter_model.safetensors"), "{}", ran.stderr);
}

#[test]
fn generate_reads_what_it_needs_and_nothing_else() {
    let mini = Mini::new();
    mini.run(&["get", "multitask.yaml", "base.model", "-o", "whole"]).expect(0);
    copy(&mini.path("whole"), &mini.path("folder"));
    // A download holds more than the model; none of it is opened.
    pipe(&mini.path("folder/README.md"));
    symlink("/dev/zero", mini.path("folder/sd3.5_medium.safetensors")).unwrap();
    pipe(&mini.path("folder/transformer/other.fp16.bin"));
    let generate = |base: &str, out: &str, more: &[&str]| {
        let args = ["generate", "--base", base, "--prompt", "x", "-o", out, "--num-inference-steps", "1", "-j", "1"];
        quickly(&mini, &[&args[..], more].concat())
    };
    generate("whole", "a", &[]).expect(0);
    generate("folder", "b", &[]).expect(0);
    let texts = |path: &str| {
        let file = std::io::BufReader::new(std::fs::File::open(mini.path(path)).unwrap());
        let reader = png::Decoder::new(file).read_info().unwrap();
        let texts = reader.info().utf8_text.iter().map(|t| (t.keyword.clone(), t.get_text().unwrap()));
        texts.collect::<std::collections::BTreeMap<_, _>>()
    };
    assert_eq!(texts("a/0000.png")["base_digest"], texts("b/0000.png")["base_digest"]);
    // Without T5 its files are not needed; with it, their absence is no matter of taste.
    std::fs::remove_dir_all(mini.path("folder/text_encoder_3")).unwrap();
    let ran = generate("folder", "c", &[]).expect(2);
    assert!(
        ran.stderr.contains("text_encoder_3: this folder is missing") && ran.stderr.contains("--no-t5"),
        "{}",
        ran.stderr
    );
    generate("folder", "d", &["--no-t5"]).expect(0);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap();
        }
    }
}
