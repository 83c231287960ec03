//! Every name of an earlier version, of every kind, is answered with the name that it has now.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

use opdflow::recipe::{self, Overrides};
use opdflow_api::{Kind, Registry, every_former, former_names};
use serde_json::{Value, json};
use std::path::Path;

fn registry() -> Registry {
    opdflow_kinds::registry()
}

/// What is wrong with a recipe of one stage: codes and titles.
fn mistakes(stage: &Value) -> Vec<(String, String)> {
    let source = json!({"uses": "base_model", "with": {"source": "bundled:mini"}});
    let whole = json!({"opdflow": 1, "name": "x", "stages": {"s": stage, "other": source}});
    let found = recipe::parse(Path::new("r.yaml"), whole.to_string(), &registry(), &Overrides::default());
    let Err(found) = found else { panic!("{stage} has no mistake") };
    let found = found.to_json();
    let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
    found["diagnostics"].as_array().unwrap().iter().map(|one| (text(one, "code"), text(one, "title"))).collect()
}

/// Parameters with `null` under a former name: in each map of free names one that is called `x`, in each list one item.
fn holding(path: &[String], lists: u32) -> Value {
    match path {
        [] => Value::Null,
        [step, rest @ ..] => {
            let seen = rest.iter().filter(|s| *s == "*").count();
            match step.as_str() {
                "*" if lists >> seen & 1 == 1 => json!([holding(rest, lists)]),
                "*" => json!({"x": holding(rest, lists)}),
                name => json!({name: holding(rest, lists)}),
            }
        }
    }
}

/// The former parameter names of a kind: what to write, and what it is called now.
fn parameters(kind: &dyn Kind) -> Vec<(Value, String)> {
    let schema = kind.schema();
    let mut found = Vec::new();
    every_former(&schema, &mut Vec::new(), &mut |old, now| {
        let old: Vec<String> = match old.strip_prefix('/') {
            Some(path) => path.split('/').map(ToOwned::to_owned).collect(),
            None => now[..now.len() - 1].iter().cloned().chain([old.to_owned()]).collect(),
        };
        let forms = (0..1 << old.iter().filter(|s| *s == "*").count()).map(|lists| holding(&old, lists));
        let with = forms.into_iter().find(|with| !former_names(&schema, with).is_empty());
        let with = with.unwrap_or_else(|| panic!("{}: {old:?} is not found", kind.describe().kind));
        let now = former_names(&schema, &with)[0].now.join(".");
        found.push((with, now));
    });
    found
}

#[test]
fn every_former_parameter_is_answered_with_its_name_of_now() {
    let mut count = 0;
    for kind in registry().kinds() {
        let name = kind.describe().kind;
        for (with, now) in parameters(kind.as_ref()) {
            let found = mistakes(&json!({"uses": name, "with": with}));
            let says = format!("is called `{now}` now");
            assert!(
                found.iter().any(|(code, title)| code == "E046" && title.contains(&says)),
                "{name} {with}: {found:?}"
            );
            count += 1;
        }
    }
    assert!(count >= 60, "{count}");
}

#[test]
fn every_former_port_and_kind_is_answered_with_its_name_of_now() {
    let mut answered = Vec::new();
    let mut expect = |stage: &Value, says: String| {
        let found = mistakes(stage);
        assert!(found.iter().any(|(code, title)| code == "E046" && title.contains(&says)), "{says}: {found:?}");
        answered.push(says);
    };
    for kind in registry().kinds() {
        let about = kind.describe();
        for old in kind.formerly() {
            expect(&json!({"uses": old}), format!("the stage kind `{old}` is called `{}` now", about.kind));
        }
        for input in about.inputs {
            for old in input.formerly {
                let says = format!("the input `{old}` of `s` is called `{}` now", input.name);
                expect(&json!({"uses": about.kind, "needs": {*old: "other.model"}}), says);
            }
        }
        for output in about.outputs {
            assert_eq!(output.formerly.iter().filter(|old| kind.output(old).is_some()).count(), 0, "{}", about.kind);
        }
    }
    assert!(answered.iter().any(|a| a.contains("`critic`")) && answered.len() >= 6, "{answered:?}");
}

/// What people are likely to have in their recipes, with its place and the way out.
#[test]
fn the_names_of_the_first_versions() {
    for (kind, with, old, now) in [
        ("train_teacher", json!({"optimiser": {"lr": 1}}), "optimiser", "optimizer"),
        ("train_teacher", json!({"optimizer": {"clip": 1}}), "optimizer.clip", "optimizer.max_grad_norm"),
        ("train_teacher", json!({"pace": {"warmup": 3}}), "pace", "lr_schedule"),
        ("train_teacher", json!({"sampling": {"group": 4}}), "sampling.group", "sampling.group_size"),
        ("train_teacher", json!({"sampling": {"steps": 4}}), "sampling.steps", "sampling.num_inference_steps"),
        ("train_teacher", json!({"lora": {"targets": []}}), "lora.targets", "lora.target_modules"),
        ("train_teacher", json!({"recompute": true}), "recompute", "gradient_checkpointing"),
        ("distill", json!({"rollout": {"guidance": 1}}), "rollout.guidance", "rollout.guidance_scale"),
        ("distill", json!({"teacher_guidance": {}}), "teacher_guidance", "teacher_guidance_scale"),
        (
            "distill",
            json!({"objective": {"dmd": {"along": "pictures"}}}),
            "objective.dmd.along.pictures",
            "objective.dmd.along.images",
        ),
        ("evaluate", json!({"shot": {"num_inference_steps": 4}}), "shot", "sampling"),
        ("select_checkpoint", json!({"maximise": "ocr"}), "maximise", "maximize"),
        ("pretrain_vae", json!({"training": {"pictures": 4}}), "training.pictures", "training.images"),
    ] {
        let found = mistakes(&json!({"uses": kind, "with": with}));
        let says = format!("`{old}` of stage `s` is called `{now}` now");
        assert!(found.iter().any(|(_, title)| *title == says), "{says}: {found:?}");
    }
}
