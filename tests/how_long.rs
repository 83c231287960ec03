//! How long a training lasts, as a recipe says it: what `check` finds wrong with a rule or a budget, and what a plan says of it.
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

const HEAD: &str = r#"opdflow: 1
name: how_long
seed: 1
defaults:
  train_teacher: {algorithm: {grpo_guard: {}}, sampling: {prompts: 2, group_size: 2, num_inference_steps: 4}}
stages:
  base: {uses: base_model, with: {source: "bundled:mini"}}
  scenes: {uses: prompts, with: {task: scene, train: 8, validation: 4, test: 4}}
  words: {uses: prompts, with: {task: ocr, train: 8, validation: 4, test: 4}}
  first: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train}, with: {reward: {looks: 1.0}, iterations: 40}}
"#;

fn space(stages: &str) -> TestSpace {
    let space = TestSpace::new();
    space.write("r.yaml", &format!("{HEAD}{stages}"));
    space
}

#[test]
fn numbers_of_rules_and_budgets_that_do_not_fit() {
    let space = space(
        r#"
  endless: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train}, with: {reward: {looks: 1.0}}}
  rare: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validation: scenes.validation}, with: {reward: {looks: 1.0}, iterations: 60, until: {gain: 0.01, patience: 3, every: 70}}}
  short: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validation: scenes.validation}, with: {reward: {looks: 1.0}, iterations: 10, until: {gain: 0.01, patience: 3}}}
  impatient: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validation: scenes.validation}, with: {reward: {looks: 1.0}, iterations: 60, until: {gain: -1, patience: 0}}}
  nothing: {uses: distill, needs: {base: base.model, teachers: {looks: first.lora}, prompts: {looks: scenes.train}}}
  timed: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, budget: {first: first.timing}}, with: {reward: {looks: 1.0}, budget: {times: 1.3, path: [[first]]}}}
"#,
    );
    let found = space.run(&["check", "r.yaml"]).expect(2);
    insta::assert_snapshot!("numbers", found.stderr);
}

#[test]
fn rules_and_budgets_without_what_they_read() {
    let space = space(
        r#"
  blind: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train}, with: {reward: {looks: 1.0}, iterations: 60, until: {gain: 0.01, patience: 3}}}
  ruleless: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validation: scenes.validation}, with: {reward: {looks: 1.0}, iterations: 60}}
  single: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validations: {scenes: scenes.validation}}, with: {reward: {looks: 1.0}, iterations: 60, until: {gain: 0.01, patience: 3}}}
  joint: {uses: train_teacher, needs: {base: base.model, tasks: {ocr: words.train, looks: scenes.train}, validations: {ocr: words.validation}}, with: {rewards: {ocr: {ocr: 1.0}, looks: {looks: 1.0}}, iterations: 60, until: {gain: 0.01, patience: 3}}}
  poor: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train}, with: {reward: {looks: 1.0}, budget: {times: 1.3, path: [[first], [student]]}}}
  rich: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, budget: {first: first.cost}}, with: {reward: {looks: 1.0}, iterations: 60}}
"#,
    );
    let found = space.run(&["check", "r.yaml"]).expect(2);
    insta::assert_snapshot!("connections", found.stderr);
}

#[test]
fn validation_prompts_must_be_judged_by_the_rewards() {
    let space = space(
        "  blind: {uses: train_teacher, needs: {base: base.model, prompts: words.train, validation: scenes.validation}, with: {reward: {ocr: 1.0}, iterations: 60, until: {gain: 0.01, patience: 3}}}\n",
    );
    let found = space.run(&["check", "r.yaml"]).expect(2).stderr;
    assert!(found.contains("E045") && found.contains("`validation`") && found.contains("`ocr` reads"), "{found}");
}

/// Of a rule the most is told, of a budget nothing, until what it reads is there.
#[test]
fn a_plan_says_by_what_a_training_ends() {
    let space = space(
        r#"
  ruled: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, validation: scenes.validation}, with: {reward: {looks: 1.0}, iterations: 40, until: {gain: 0.01, patience: 3, sampling: {num_inference_steps: 10}}}}
  paid: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, budget: {first: first.cost}}, with: {reward: {looks: 1.0}, budget: {times: 1.3, path: [[first]]}}}
  capped: {uses: train_teacher, needs: {base: base.model, prompts: scenes.train, budget: {first: first.cost}}, with: {reward: {looks: 1.0}, iterations: 300, budget: {times: 1.3, path: [[first]]}}}
  student: {uses: distill, needs: {base: base.model, teachers: {looks: first.lora}, prompts: {looks: scenes.train}, budget: {first: first.cost}}, with: {budget: {times: 0.5, path: [[first]]}}}
"#,
    );
    let plan = space.run(&["plan", "r.yaml"]).expect(0).stdout;
    for line in [
        "\nrounds: by its rule, at most 40: ruled\n",
        "\nrounds: by its budget: paid, student\n",
        "\nrounds: by its budget, at most 300: capped\n",
    ] {
        assert!(plan.contains(line), "{line}\n{plan}");
    }
    let json = space.run(&["plan", "r.yaml", "--json"]).expect(0).json();
    let stage = |name: &str| -> Value {
        json["stages"].as_array().unwrap().iter().find(|s| s["stage"] == name).unwrap().clone()
    };
    let of = |name: &str| (stage(name)["steps"].as_u64(), stage(name)["ends"].as_str().map(str::to_owned));
    assert_eq!(of("first"), (Some(40), None));
    assert_eq!(of("ruled"), (Some(40), Some("rounds: by its rule, at most 40".to_owned())));
    assert_eq!(of("paid"), (None, Some("rounds: by its budget".to_owned())));
    for name in ["paid", "capped", "student"] {
        assert!(stage(name)["operations"].is_null() && stage(name)["seconds"].is_null(), "{name}");
    }
    // Scoring is counted into the plan, beside the rounds: two scorings of four images.
    let more = stage("ruled")["operations"].as_f64().unwrap() / stage("first")["operations"].as_f64().unwrap();
    assert!(more > 1.0 && more < 1.2, "{more}");
}
