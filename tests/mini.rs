//! The whole path with the real program and real stages, from pretraining to the table, on models of a few steps:
//! nothing here is good at anything, but everything is computed.
//!
//! `OPDFLOW_KILLS` says how many times each part is killed (1 if it is not set).
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod common;
#[path = "../stages/served/tests/hostile/mod.rs"]
mod hostile;

#[path = "mini/aura.rs"]
mod aura;
#[path = "mini/bad_input.rs"]
mod bad_input;
#[path = "mini/embeddings.rs"]
mod embeddings;
#[path = "mini/figure.rs"]
mod figure;
#[path = "mini/finite.rs"]
mod finite;
#[path = "mini/flux1.rs"]
mod flux1;
#[path = "mini/flux1_schnell.rs"]
mod flux1_schnell;
#[path = "mini/how_long.rs"]
mod how_long;
#[path = "mini/kills.rs"]
mod kills;
#[path = "mini/memory.rs"]
mod memory;
#[path = "mini/over_seeds.rs"]
mod over_seeds;
#[path = "mini/own_files.rs"]
mod own_files;
#[path = "mini/own_reward_models.rs"]
mod own_reward_models;
#[path = "mini/publish.rs"]
mod publish;
#[path = "mini/ranks.rs"]
mod ranks;
#[path = "mini/reward_models.rs"]
mod reward_models;
#[path = "mini/reward_server.rs"]
mod reward_server;
#[path = "mini/score.rs"]
mod score;
#[path = "mini/sd35.rs"]
mod sd35;
#[path = "mini/served.rs"]
mod served;
#[path = "mini/space.rs"]
mod space;
#[path = "mini/tensors.rs"]
mod tensors;
#[path = "mini/tutorial.rs"]
mod tutorial;
#[path = "mini/user_text.rs"]
mod user_text;
#[path = "mini/warnings.rs"]
mod warnings;

use serde_json::Value;
use space::{Mini, TEACHERS, lasting};

#[test]
fn the_main_job_ends_in_a_table() {
    let mini = Mini::new();
    let first = mini.run(&["run", "multitask.yaml", "--json"]).expect(0);
    let json = first.json();
    assert_eq!((&json["recipe"], &json["ok"]), (&Value::from("mini"), &Value::from(true)));
    let stages = json["stages"].as_object().unwrap();
    assert_eq!(stages.len(), 19);
    for (name, stage) in stages {
        assert_eq!(stage["key"].as_str().map(str::len), Some(64), "{name}");
        assert!(stage["seconds"].as_f64().is_some_and(|s| s >= 0.0), "{name}");
        let outputs = stage["outputs"].as_object().unwrap();
        assert!(
            !outputs.is_empty() && outputs.values().all(|d| d.as_str().map(str::len) == Some(64)),
            "{name}: {outputs:?}"
        );
        let made = ["vae", "base"].contains(&name.as_str()) || name.ends_with("_prompts");
        assert_eq!(stage["verdict"], if made { "hit" } else { "run" }, "{name}");
    }

    mini.run(&["get", "multitask.yaml", "table1.csv", "-o", "t.csv"]).expect(0);
    let text = std::fs::read_to_string(mini.path("t.csv")).unwrap();
    let mut lines = text.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    assert_eq!(head[0], "model");
    let rows: Vec<_> = lines.collect();
    assert_eq!(
        rows.iter().map(|r| r[0]).collect::<Vec<_>>(),
        ["base", "geneval teacher", "ocr teacher", "looks teacher", "opd student"]
    );
    for column in ["geneval", "ocr", "looks"] {
        let at = head.iter().position(|h| *h == column).unwrap_or_else(|| panic!("no column {column} in {head:?}"));
        for row in &rows {
            assert!(row[at].parse::<f64>().is_ok_and(|v| (0.0..=1.0).contains(&v)), "{column}: {row:?}");
        }
    }
    for port in ["markdown", "latex", "json", "png"] {
        mini.run(&["get", "multitask.yaml", &format!("table1.{port}"), "-o", port]).expect(0);
        assert!(std::fs::metadata(mini.path(port)).unwrap().len() > 100, "{port}");
    }
    // The images and scores that it was made of differ between the models.
    let outputs = first.outputs();
    let scores: std::collections::BTreeSet<_> =
        ["base", "geneval", "ocr", "looks", "student"].map(|m| &outputs[&format!("{m}_scores.samples")]).into();
    assert_eq!(scores.len(), 5, "each model is one of its own");

    let second = mini.run(&["run", "multitask.yaml", "--json"]).expect(0);
    assert!(second.verdicts().values().all(|v| v == "hit"), "{:?}", second.verdicts());
    assert_eq!(second.outputs(), outputs);
    assert!(mini.events_of("started").is_empty(), "a run of hits starts no process");

    the_page_of_the_run_has_its_images(&mini);
    images_on_the_way_are_shown_and_change_nothing(&mini, &second);
    another_recipe_takes_the_same_teachers(&mini, &second);
    a_damaged_adapter_is_made_again(&mini, &second);
}

fn the_page_of_the_run_has_its_images(mini: &Mini) {
    mini.run(&["report", "-o", "page.html"]).expect(0);
    let html = std::fs::read_to_string(mini.path("page.html")).unwrap();
    // Three sets of two prompts, of five models each.
    let images = html.split("<section id=\"images\">").nth(1).and_then(|rest| rest.split("</section>").next()).unwrap();
    assert_eq!(images.matches("<td data-model=").count(), 30);
    assert_eq!(images.matches("aria-label=\"compare ").count(), 30, "an image in each cell");
    assert!(html.contains("<div class=\"scores\">geneval "), "each with its scores");
    assert!(html.contains("step 2 chosen by geneval_best") && html.contains("geneval teacher"));
    // The numbers are those of the table's CSV, each with the stages that it was made of.
    let csv = std::fs::read_to_string(mini.path("t.csv")).unwrap();
    let mut lines = csv.lines().map(|l| l.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let table = html.split("<table class=\"numbers\">").nth(1).and_then(|t| t.split("</table>").next()).unwrap();
    let shown: Vec<&str> = table.split("<tr><th scope=\"row\">").skip(1).collect();
    let rows: Vec<_> = lines.collect();
    assert_eq!(shown.len(), rows.len());
    for (row, shown) in rows.iter().zip(shown) {
        assert!(shown.contains(&format!(">{}</a>", row[0])), "{shown}");
        for column in ["geneval", "ocr", "looks", "looks.contrast"] {
            let wanted: f64 = row[head.iter().position(|h| *h == column).unwrap()].parse().unwrap();
            let cell = shown.split(&format!("data-column=\"{column}\" data-value=\"")).nth(1).unwrap();
            let found: f64 = cell.split('"').next().unwrap().parse().unwrap();
            assert!((found - wanted).abs() <= 5e-7, "{column} of {}: {found} and {wanted}", row[0]);
        }
    }
    let student = html.split("class=\"from\"><summary>opd student</summary>").nth(1).unwrap();
    let student = student.split("</details>").next().unwrap();
    for stage in ["student_scores", "student", "ocr_best", "ocr_teacher", "base"] {
        assert!(student.contains(&format!(">{stage}</a>")), "no {stage} in {student}");
    }
    assert!(html.contains("Gained and forgotten, against base"));
    // Images that find no room lie beside the page.
    let args = ["report", "--image-mb", "0", "-o", "small page.html"];
    mini.run(&args).expect(0);
    let html = std::fs::read_to_string(mini.path("small page.html")).unwrap();
    let links: Vec<&str> =
        html.split("href=\"small%20page_images/").skip(1).map(|l| l.split('"').next().unwrap()).collect();
    assert_eq!(links.len(), 30);
    for name in links {
        let bytes = std::fs::read(mini.path("small page_images").join(name)).unwrap();
        assert!(bytes.starts_with(b"\x89PNG"), "{name}");
    }
    std::fs::remove_file(mini.path("small page.html")).unwrap();
    assert!(mini.run(&args).expect(2).stderr.contains("small page_images"), "nothing is written into a folder unasked");
    // The two runs of hits and of work have the same results.
    let runs: Vec<String> = common::runs(&mini.path(".opdflow/runs"));
    mini.run(&["report", &runs[0], &runs[1], "-o", "two.html"]).expect(0);
    let html = std::fs::read_to_string(mini.path("two.html")).unwrap();
    assert!(html.contains(" are the same result in both runs") && html.contains("data-model=\"A: base_scores\""));
    assert!(!html.contains("class=\"better\"") && !html.contains("class=\"worse\""), "nothing differs");
}

fn images_on_the_way_are_shown_and_change_nothing(mini: &Mini, before: &common::Ran) {
    let runs = common::runs(&mini.path(".opdflow/runs"));
    let folder = mini.path(".opdflow/runs").join(&runs[0]).join("samples");
    let stages: Vec<_> = common::files(&folder).into_iter().filter(|f| f.ends_with("samples.jsonl")).collect();
    assert_eq!(stages.len(), 4, "three teachers and a student: {stages:?}");
    let text = std::fs::read_to_string(folder.join("ocr_teacher/samples.jsonl")).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let steps: std::collections::BTreeSet<u64> = lines.iter().map(|l| l["step"].as_u64().unwrap()).collect();
    assert_eq!(steps, [0, 1, 2].into(), "before the first round and after each");
    for line in &lines {
        assert!(line["reward"].as_f64().is_some_and(f64::is_finite) && !line["prompt"].as_str().unwrap().is_empty());
        let png = format!(
            "ocr_teacher/step-{:06}/{:02}.png",
            line["step"].as_u64().unwrap(),
            line["image"].as_u64().unwrap()
        );
        assert!(std::fs::read(folder.join(&png)).unwrap().starts_with(b"\x89PNG"), "{png}");
    }
    // A student has no reward of its own; those that look on judge the prompts that they apply to.
    let text = std::fs::read_to_string(folder.join("student/samples.jsonl")).unwrap();
    let lines_of_student: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut judged = std::collections::BTreeSet::new();
    for line in &lines_of_student {
        assert!(line["reward"].is_null(), "{line}");
        let beside = line["beside"].as_object().unwrap();
        assert!(beside["held_out.clipscore"].as_f64().is_some_and(f64::is_finite), "{line}");
        assert_eq!(beside.contains_key("ocr"), line["prompt"].as_str().unwrap().contains('"'), "{line}");
        judged.extend(beside.keys().cloned());
    }
    assert_eq!(judged, ["geneval", "held_out.clipscore", "ocr"].map(str::to_owned).into());
    // The newest run has nothing but hits, and shows what the one left that computed them.
    let html = std::fs::read_to_string(mini.path("page.html")).unwrap();
    let way = html.split("id=\"samples\"").nth(1).and_then(|rest| rest.split("</section>").next()).unwrap();
    assert_eq!(way.matches("<table class=\"images\">").count(), 4);
    let images = lines.len();
    let own = way.split("<h3>ocr_teacher</h3>").nth(1).unwrap().split("</table>").next().unwrap();
    assert_eq!(own.matches("<img ").count(), images);
    assert!(own.contains("data-model=\"step 2\"") && !way.contains("There are none of"));
    let of_student = way.split("<h3>student</h3>").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(of_student.contains("held_out.clipscore"), "their scores stand beside them");
    // With its folder gone there are none, and the page says so.
    std::fs::rename(mini.path(".opdflow/runs").join(&runs[0]), mini.path("moved")).unwrap();
    mini.run(&["report", "-o", "page.html", "--overwrite"]).expect(0);
    let html = std::fs::read_to_string(mini.path("page.html")).unwrap();
    assert!(html.contains("There are none of <code>"));
    std::fs::rename(mini.path("moved"), mini.path(".opdflow/runs").join(&runs[0])).unwrap();
    // What only looks on is in no key: without it all is a hit.
    let recipe = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    let without = recipe.replace("      held_out: {clipscore: clipscore.reward_model}\n", "");
    let without = without.replace("      samples: {rewards: [geneval, ocr]}\n", "");
    assert_ne!(without, recipe);
    std::fs::write(mini.path("without.yaml"), without).unwrap();
    let ran = mini.run(&["run", "without.yaml", "--json"]).expect(0);
    assert!(ran.verdicts().values().all(|verdict| verdict == "hit"), "{:?}", ran.verdicts());
    // Without them the adapter is the same.
    let set = "ocr_teacher.with.samples={prompts: 0}";
    let ran = mini.run(&[
        "run",
        "multitask.yaml",
        "--until",
        "ocr_teacher",
        "--force",
        "ocr_teacher",
        "--set",
        set,
        "--json",
    ]);
    let ran = ran.expect(0);
    assert_eq!(ran.verdicts()["ocr_teacher"], "run");
    assert_eq!(ran.outputs()["ocr_teacher.lora"], before.outputs()["ocr_teacher.lora"]);
    let runs = common::runs(&mini.path(".opdflow/runs"));
    assert!(
        !mini.path(".opdflow/runs").join(runs.last().unwrap()).join("samples").exists(),
        "no images were asked for"
    );
}

fn another_recipe_takes_the_same_teachers(mini: &Mini, before: &common::Ran) {
    let ran = mini.run(&["run", "noise.yaml", "--json"]).expect(0);
    let verdicts = ran.verdicts();
    for (stage, verdict) in &verdicts {
        assert_eq!(verdict, if stage == "student" { "run" } else { "hit" }, "{stage}");
    }
    assert_eq!(ran.outputs()["words_teacher.lora"], before.outputs()["ocr_teacher.lora"]);
    assert_ne!(ran.outputs()["student.lora"], before.outputs()["student.lora"]);
}

fn a_damaged_adapter_is_made_again(mini: &Mini, before: &common::Ran) {
    mini.run(&["get", "multitask.yaml", "looks_teacher.candidates", "-o", "candidates"]).expect(0);
    let adapter = std::fs::read(mini.path("candidates/step-000002/adapter_model.safetensors")).unwrap();
    let blobs: Vec<_> = common::files(&mini.store().join("blobs"))
        .into_iter()
        .filter(|p| std::fs::read(p).is_ok_and(|b| b == adapter))
        .collect();
    assert_eq!(blobs.len(), 1);
    mini.damage(&blobs[0], &adapter[..adapter.len() / 2]);
    let ran = mini.run(&["run", "multitask.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["looks_teacher"], "resumed", "its checkpoint is whole: {}", ran.stderr);
    assert_eq!(ran.verdicts()["ocr_teacher"], "hit");
    assert!(ran.stderr.contains("damaged"), "{}", ran.stderr);
    assert_eq!(lasting(&ran), lasting(before));
}

#[test]
fn a_longer_run_goes_on_from_the_shorter_one() {
    let until = TEACHERS.iter().flat_map(|t| ["--until", t]).collect::<Vec<_>>();
    let teachers = |mini: &Mini, n: &str| {
        mini.run(&[&["run", "multitask.yaml", "--json", "--set", &format!("iterations={n}")], &until[..]].concat())
            .expect(0)
    };
    let student = |mini: &Mini, n: &str| {
        mini.run(&["run", "multitask.yaml", "--json", "--until", "student", "--set", &format!("rounds={n}")]).expect(0)
    };
    let (short, long) = (Mini::new(), Mini::new());
    // Three is no multiple of the two rounds between candidates: its last candidate must not stay on the way to four.
    for (n, verdict) in [("2", "run"), ("3", "resumed"), ("4", "resumed")] {
        let ran = teachers(&short, n);
        for teacher in TEACHERS {
            assert_eq!(ran.verdicts()[teacher], verdict, "{teacher} to {n}");
        }
    }
    let (there, straight) = (teachers(&short, "4"), teachers(&long, "4"));
    for teacher in TEACHERS {
        assert_eq!(straight.verdicts()[teacher], "run");
        for port in ["lora", "candidates", "metrics"] {
            let name = format!("{teacher}.{port}");
            assert_eq!(there.outputs()[&name], straight.outputs()[&name], "{name}");
        }
    }
    let (_, there) = (student(&short, "1"), student(&short, "3"));
    assert_eq!(there.verdicts()["student"], "resumed");
    let straight = student(&long, "3");
    // Two iterations were not computed in the long space: its teachers are run anew, the checkpoints at four are too far.
    assert_eq!(straight.verdicts()["student"], "run");
    assert_eq!(there.outputs()["student.lora"], straight.outputs()["student.lora"]);
    let shorter = student(&short, "2");
    assert_ne!(shorter.outputs()["student.lora"], there.outputs()["student.lora"]);
}

#[test]
fn seeds_count_and_threads_do_not() {
    let mini = Mini::new();
    let args = ["run", "multitask.yaml", "--json", "--until", "geneval_teacher", "--until", "looks_teacher"];
    let first = mini.run(&args).expect(0);
    let other = mini.run(&[&args[..], &["--seed", "4"]].concat()).expect(0);
    for stage in ["vae", "base", "geneval_teacher", "looks_teacher"] {
        assert_ne!(first.json()["stages"][stage]["key"], other.json()["stages"][stage]["key"], "{stage}");
    }
    for output in ["vae.vae", "base.model", "geneval_teacher.lora", "looks_teacher.lora", "looks_teacher.candidates"] {
        assert_ne!(first.outputs()[output], other.outputs()[output], "{output}");
    }
    assert_eq!(other.verdicts()["looks_prompts"], "hit", "prompts have a seed of their own");

    mini.edit(
        "multitask.yaml",
        "optimizer: {lr: 0.01}",
        "optimizer: {lr: 0.01}\n      threads: 2\n      micro_batch: 2",
    );
    let threads = mini.run(&args).expect(0);
    assert!(threads.verdicts().values().all(|v| v == "hit"), "{:?}", threads.verdicts());
    assert_eq!(first.json()["stages"]["looks_teacher"]["key"], threads.json()["stages"]["looks_teacher"]["key"]);
}

#[test]
fn pretraining_goes_on_from_another_model() {
    let mini = Mini::new();
    let training =
        |steps: u64| format!("layout: \"bundled:mini\", training: {{steps: {steps}, batch_size: 4, images: 16}}");
    let stage = |name: &str, start: &str, steps: u64| {
        let with = training(steps);
        format!("  {name}:\n    uses: pretrain_base\n    needs: {{vae: vae.vae{start}}}\n    with: {{{with}}}\n")
    };
    let vae = format!("  vae:\n    uses: pretrain_vae\n    with: {{{}}}\n", training(2));
    let from = ", start: first.model";
    let stages = [vae, stage("first", "", 2), stage("same", from, 0), stage("more", from, 1), stage("alone", "", 1)];
    mini.write("courses.yaml", &format!("opdflow: 1\nname: courses\nseed: 3\nstages:\n{}", stages.concat()));
    let ran = mini.run(&["run", "courses.yaml", "--json"]).expect(0).json();
    let model = |name: &str| ran["stages"][name]["outputs"]["model"].clone();
    assert!(model("first").is_string());
    assert_eq!(model("same"), model("first"), "no step is taken, so that nothing changes");
    assert_ne!(model("more"), model("first"));
    assert_ne!(model("more"), model("alone"));
}
