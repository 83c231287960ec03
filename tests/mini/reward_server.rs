//! Rewards of other programs: one in Python, and one of this program's own behind `opdflow reward-server`.

use crate::common::{Ran, finish, pid, signal};
use crate::space::Mini;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A server that ends with the test.
struct Running {
    child: Child,
    url: String,
    digest: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    line
}

/// A server in Python, of a script of the examples; what it imports is looked for in `modules` first.
fn python(script: &str, args: &[&str], modules: &Path) -> Running {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(script);
    let mut child = Command::new("python3")
        .arg(script)
        .args(args)
        .env("PYTHONPATH", modules)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("python3");
    let line = first_line(&mut child);
    let (url, digest) = line.trim().split_once(' ').expect("address and digest");
    let (url, digest) = (url.to_owned(), digest.to_owned());
    Running { child, url, digest }
}

fn served(mini: &Mini, args: &[&str], token: &str) -> Running {
    let mut command = mini.command(&[&["reward-server", "--json", "-j1"], args].concat());
    command.env_remove("OPDFLOW_FAKE_STAGES").env("OPDFLOW_REWARD_SERVER_TOKEN", token).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let about: Value = serde_json::from_str(&first_line(&mut child)).unwrap();
    let of = |name: &str| about[name].as_str().unwrap().to_owned();
    Running { url: of("url"), digest: of("digest"), child }
}

fn recipe(judge: &str, reward: &str, measures: &str, digest: &str) -> String {
    let connected =
        if judge.is_empty() { String::new() } else { format!(", reward_models: {{{judge}: judge.reward_model}}") };
    let stage = if judge.is_empty() {
        String::new()
    } else {
        format!(
            "  judge: {{uses: served_reward, with: {{reward: {judge}, protocol: {{opdflow: {{digest: \"{digest}\", measures: [{measures}]}}}}}}}}\n"
        )
    };
    let whole = reward.split('.').next().unwrap();
    format!(
        r#"opdflow: 1
name: far
seed: 1
stages:
  base: {{uses: base_model, with: {{source: "bundled:mini"}}}}
  words: {{uses: prompts, with: {{files: {{train: words.txt}}}}}}
{stage}  teacher:
    uses: train_teacher
    needs: {{base: base.model, prompts: words.train{connected}}}
    with:
      algorithm: {{diffusion_nft: {{timesteps: 1}}}}
      reward: {{{reward}: 1.0}}
      iterations: 4
      candidates_every: 4
      sampling: {{prompts: 2, group_size: 2, num_inference_steps: 2}}
      lora: {{rank: 1, alpha: 1}}
      requests: {{patience_seconds: 1, timeout_seconds: 5}}
  scores:
    uses: evaluate
    needs: {{base: base.model, lora: teacher.lora, prompts: {{words: words.train}}{connected}}}
    with: {{rewards: {{words: [{whole}]}}, sampling: {{num_inference_steps: 1}}, keep: 2}}
"#
    )
}

fn run(mini: &Mini, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    finish(start(mini, args, variables))
}

fn start(mini: &Mini, args: &[&str], variables: &[(&str, &str)]) -> Child {
    mini.prepared(args).envs(variables.iter().copied()).spawn().unwrap()
}

/// The example in Python trains and scores; its scores are what its formula gives for the images that are kept.
#[test]
fn a_reward_in_python_trains_and_scores() {
    let server = python("reward_server.py", &["0"], Path::new(""));
    let mini = Mini::with_words(&recipe("redness", "redness.green", "green", &server.digest));
    let variables = [("OPDFLOW_REWARD_REDNESS_URL", server.url.as_str())];
    run(&mini, &["run", "r.yaml", "--json"], &variables).expect(0);
    for output in ["samples", "images"] {
        run(&mini, &["get", "r.yaml", &format!("scores.{output}"), "-o", output], &[]).expect(0);
    }
    let samples = std::fs::read_to_string(mini.path("samples")).unwrap();
    for (i, line) in samples.lines().enumerate() {
        let sample: Value = serde_json::from_str(line).unwrap();
        let file = std::fs::File::open(mini.path(&format!("images/words/{i:03}.png"))).unwrap();
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        let mean = |channel: usize| {
            let sum: u64 = rgb.iter().skip(channel).step_by(3).map(|b| u64::from(*b)).sum();
            sum as f64 / (255 * rgb.len() / 3) as f64
        };
        assert_eq!(sample["scores"]["redness"].as_f64().unwrap(), mean(0) - mean(1), "{sample}");
        assert_eq!(sample["scores"]["redness.green"].as_f64().unwrap(), mean(1), "{sample}");
    }
    assert_eq!(samples.lines().count(), 2);
    // `opdflow score` asks it too; the prompts lie beside the images.
    let protocol = format!("protocol: {{opdflow: {{digest: '{}', measures: [green]}}}}", server.digest);
    let asked = ["score", "--reward", "redness", "--with", &protocol, "--json", "images/words"];
    let scores = run(&mini, &asked, &variables).expect(0).stdout;
    for (score, sample) in scores.lines().zip(samples.lines()) {
        let [score, sample] = [score, sample].map(|line| serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(score["value"], sample["scores"]["redness"], "{score}");
        assert_eq!(score["parts"]["green"], sample["scores"]["redness.green"], "{score}");
    }
    assert_eq!(scores.lines().count(), 2);
    for (with, variables, parts) in [
        (protocol.as_str(), &[][..], &["OPDFLOW_REWARD_REDNESS_URL"][..]),
        ("protocol: {opdflow: {digest: '0123'}}", &variables, &["is another one", "`0123`"]),
        ("protocol: {opdflow: {digest: ''}}", &variables, &["there is no digest"]),
        ("protocol: {opdflow: {digst: a}}", &variables, &["digst"]),
        ("reward: looks", &variables, &["`reward` has an argument of its own"]),
        ("{a: 1, a: 2}", &variables, &["not a map in YAML"]),
        ("[1]", &variables, &["not a map in YAML"]),
        ("{protocol: {chat: {model: m, template: q, parser: {number: {min: .nan, max: 1}}}}}", &variables, &["min"]),
        ("@nowhere.yaml", &variables, &["nowhere.yaml"]),
    ] {
        let said = run(&mini, &["score", "--reward", "redness", "--with", with, "images/words"], variables);
        let said = said.expect(2).stderr;
        assert!(parts.iter().all(|part| said.contains(part)), "{with}: {said}");
    }
    // Offline the same recipe is checked and planned, and all of it is there.
    let again = run(&mini, &["run", "r.yaml", "--json"], &[]).expect(0);
    assert!(again.verdicts().values().all(|v| v == "hit"), "{:?}", again.verdicts());
    // Another program under that address is refused before the first step.
    mini.write("r.yaml", &recipe("redness", "redness.green", "green", "0123"));
    let said = run(&mini, &["run", "r.yaml", "--plain"], &variables).expect(1);
    let said = said.stdout + &said.stderr;
    assert!(said.contains("is another one") && said.contains("the recipe pins `0123`"), "{said}");
}

/// HPSv3 and DeQA-Score, in the words of their own packages: stand-ins of these give the mean and the number of bytes of what they are
/// handed, so that what reaches them, and what of theirs becomes the score, is seen. The networks themselves are not run here.
#[test]
fn networks_in_python_are_asked_as_their_packages_want_it() {
    let mini = Mini::with_words("");
    for folder in ["stand/PIL", "stand/hpsv3", "stand/transformers", "stand/torch", "weights"] {
        std::fs::create_dir_all(mini.path(folder)).unwrap();
    }
    for package in ["hpsv3", "transformers", "torch"] {
        let about = format!("stand/{package}-1.0.dist-info");
        std::fs::create_dir_all(mini.path(&about)).unwrap();
        mini.write(&format!("{about}/METADATA"), &format!("Name: {package}\nVersion: 1.0\n"));
    }
    mini.write("stand/torch/__init__.py", "import contextlib\nfloat16, no_grad = 'half', contextlib.nullcontext\n");
    let image = "class Image:\n    @staticmethod\n    def frombytes(mode, size, rgb):\n        assert mode == 'RGB' and size[0] * size[1] * 3 == len(rgb)\n        return rgb\n";
    mini.write("stand/PIL/__init__.py", image);
    mini.write("stand/hpsv3/__init__.py", "");
    let inferencer = "class Row(list):\n    tolist = list.copy\nclass HPSv3RewardInferencer:\n    def __init__(self, checkpoint_path, device):\n        assert checkpoint_path.endswith('weights') and device == 'cpu'\n    def reward(self, images, prompts):\n        assert prompts[0].startswith('a ')\n        return [Row([sum(i) / len(i), len(i)]) for i in images]\n";
    mini.write("stand/hpsv3/inference.py", inferencer);
    let transformers = "class Mark(float):\n    item = float.__float__\nclass Network:\n    def to(self, device):\n        return self\n    def score(self, images):\n        return [Mark(5 * sum(i) / len(i)) for i in images]\nclass AutoModelForCausalLM:\n    @staticmethod\n    def from_pretrained(path, **how):\n        assert how['torch_dtype'] == 'half' and how['trust_remote_code']\n        return Network()\n";
    mini.write("stand/transformers/__init__.py", transformers);
    mini.write("weights/model.bin", "1");
    let weights = mini.path("weights").display().to_string();
    let start =
        |name: &str| python("network_reward_server.py", &[name, "0", &weights, "--device", "cpu"], &mini.path("stand"));
    for (name, measure) in [("hpsv3", "spread"), ("deqa", "mark")] {
        let server = start(name);
        let recipe = recipe(name, name, measure, &server.digest);
        mini.write("r.yaml", &recipe.replace("iterations: 4", "iterations: 1"));
        let url = format!("OPDFLOW_REWARD_{}_URL", name.to_uppercase());
        run(&mini, &["run", "r.yaml", "--json"], &[(&url, &server.url)]).expect(0);
        run(&mini, &["get", "r.yaml", "scores.samples", "-o", name], &[]).expect(0);
        let samples = std::fs::read_to_string(mini.path(name)).unwrap();
        for line in samples.lines() {
            let scores = &serde_json::from_str::<Value>(line).unwrap()["scores"];
            let (value, part) =
                (scores[name].as_f64().unwrap(), scores[&format!("{name}.{measure}")].as_f64().unwrap());
            // The spread is the number of bytes of an image; a mark is five times the value.
            assert!(if name == "hpsv3" { part == 64.0 * 64.0 * 3.0 } else { value == part / 5.0 }, "{scores}");
            assert!(value > 0.0 && value < 255.0, "{scores}");
        }
        mini.write("weights/model.bin", name);
        assert_ne!(start(name).digest, server.digest, "other weights are another reward");
    }
}

/// Of two processes one is given what is no number for an image of its own. Both end for it at once, and the message is that one's.
#[test]
fn what_is_no_number_in_one_process_ends_all() {
    let mini = Mini::with_words("");
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let script = "import reward_server\ndef score(rgb, shape, subject):\n    return {'value': float('nan') if 'sea' in subject['text'] else rgb[0] / 255, 'parts': {}}\n\
                  reward_server.serve(0, {'name': 'x', 'version': '1', 'digest': 'd', 'measures': []}, score)\n";
    mini.write("broken.py", script);
    let server = python(&mini.path("broken.py").display().to_string(), &[], &examples);
    // Sixteen images, eight of each prompt: those of the second are the other process's.
    let recipe = recipe("broken", "broken", "", "d")
        .replace("prompts: 2, group_size: 2", "prompts: 2, group_size: 8")
        .replace("      lora: {rank", "      micro_batch: 8\n      lora: {rank")
        .replace("    uses: train_teacher\n", "    uses: train_teacher\n    resources: {ranks: 2, deadline: 600}\n");
    mini.write("r.yaml", &recipe);
    let began = std::time::Instant::now();
    let ran = run(&mini, &["run", "r.yaml", "--plain"], &[("OPDFLOW_REWARD_BROKEN_URL", &server.url)]).expect(1);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains(" of 2: the reward `broken` failed") && said.contains("what is no answer of it"), "{said}");
    assert!(began.elapsed().as_secs() < 120, "the other one waits for its deadline");
}

/// The program's own reward through its own server gives the very weights and scores that it gives in the stage's process, also where
/// the server is killed in the middle and begun anew.
#[test]
fn a_served_reward_is_the_reward_itself_and_survives_its_server() {
    let here = Mini::with_words(&recipe("", "looks", "", ""));
    let here = run(&here, &["run", "r.yaml", "--json"], &[]).expect(0).outputs();

    let mini = Mini::new();
    let token = "s3cret";
    let mut server = served(&mini, &["looks", "--listen", "127.0.0.1:0"], token);
    mini.write("words.txt", "a red dot\na sea\n");
    mini.write("r.yaml", &recipe("far_looks", "far_looks", "contrast", &server.digest));
    let (url, host) = (server.url.clone(), server.url.strip_prefix("http://").unwrap().to_owned());
    let variables = [("OPDFLOW_REWARD_FAR_LOOKS_URL", url.as_str()), ("OPDFLOW_REWARD_FAR_LOOKS_TOKEN", token)];
    let running = start(&mini, &["run", "r.yaml", "--json"], &variables);
    mini.wait_for("checkpointed", |e| e["stage"] == "teacher");
    signal(pid(&server.child), libc::SIGKILL);
    let _ = server.child.wait();
    finish(running).expect(75);
    // The one that it left behind ends by itself, and gives its port back.
    server = loop {
        std::thread::sleep(std::time::Duration::from_millis(200));
        if std::net::TcpStream::connect(&host).is_err() {
            break served(&mini, &["looks", "--listen", &host], token);
        }
    };
    assert_eq!(server.url, url);
    let ran = run(&mini, &["run", "r.yaml", "--json"], &variables).expect(0);
    let there = ran.outputs();
    for output in ["teacher.lora", "teacher.candidates", "scores.images"] {
        assert_eq!(here[output], there[output], "{output}");
    }
    // Asked to end, it ends well.
    signal(pid(&server.child), libc::SIGTERM);
    assert_eq!(server.child.wait().unwrap().code(), Some(0));
}

/// What does not fit is said, and nothing is served.
#[test]
fn what_cannot_be_served_is_said() {
    let mini = Mini::new();
    for (args, parts) in [
        (&["looks", "--listen", "0.0.0.0:0"][..], &["no token", "OPDFLOW_REWARD_SERVER_TOKEN"][..]),
        (&["looks", "--listen", "here"], &["`here`", "127.0.0.1:7400"]),
        (&["loooks"], &["no reward is named `loooks`"]),
        (&["clipscore"], &["the part `clip`", "--part NAME=PATH"]),
        (&["clipscore", "--part", "clip=nowhere"], &["nowhere: there is no such file"]),
        (&["clipscore", "--part", "clip"], &["expected NAME=PATH"]),
        (&["looks", "--with", "protocol: {opdflow: {digest: a}}"], &["is a reward of another server"]),
        (&["ocr", "--with", "reader: {preset: nothing}"], &["nothing"]),
    ] {
        let said = run(&mini, &[&["reward-server"], args].concat(), &[]).expect(2).stderr;
        for part in parts {
            assert!(said.contains(part), "no `{part}` in\n{said}");
        }
    }
}
