//! How long a training lasts: by a rule on its own validation score, or by the operations of others.

use crate::common::{Ran, finish, pid, signal};
use crate::space::{Mini, lasting};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Settings under which no score counts as a gain after the first, so that training ends at round 1 + `patience`.
const RULE: &str = "until: {gain: 1000.0, patience: 2, every: 1, sampling: {num_inference_steps: 2}}";

/// The base and the prompts of `multitask.yaml`, which are in the store, and these stages.
fn recipe(mini: &Mini, name: &str, stages: &str) {
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    let head = text.split("  geneval_teacher:").next().unwrap();
    let own = "defaults:\n  train_teacher: {algorithm: {grpo_guard: {clip_range: 0.0001, updates: 1}}, candidates_every: 1, sampling: {prompts: 2, group_size: 2, num_inference_steps: 3}, optimizer: {lr: 0.01}}\nstages:\n";
    let head = head.replace("vars: {iterations: 2, rounds: 3}\n", "").replace("stages:\n", own);
    mini.write(name, &(head + stages));
}

fn teacher(name: &str, more_needs: &str, with: &str) -> String {
    format!(
        "  {name}: {{uses: train_teacher, needs: {{base: base.model, prompts: looks_prompts.train{more_needs}}}, with: {{reward: {{looks: 1.0}}, {with}}}}}\n"
    )
}

fn ruled(most: u64, rule: &str) -> String {
    teacher("teacher", ", validation: looks_prompts.validation", &format!("iterations: {most}, {rule}"))
}

fn plain(most: u64) -> String {
    teacher("teacher", "", &format!("iterations: {most}"))
}

fn read(mini: &Mini, recipe: &str, output: &str) -> String {
    mini.run(&["get", recipe, output, "-o", "got"]).expect(0);
    let text = std::fs::read_to_string(mini.path("got")).unwrap();
    std::fs::remove_file(mini.path("got")).unwrap();
    text
}

fn cost(mini: &Mini, recipe: &str, stage: &str) -> Value {
    serde_json::from_str(&read(mini, recipe, &format!("{stage}.cost"))).unwrap()
}

fn said(mini: &Mini) -> Vec<String> {
    mini.events_of("said").iter().filter_map(|e| e["text"].as_str().map(str::to_owned)).collect()
}

/// The metrics of a training by step and name; without the scores, whose place among them hangs on when they were made.
fn metrics(mini: &Mini, recipe: &str) -> (Vec<String>, BTreeMap<u64, String>) {
    let text = read(mini, recipe, "teacher.metrics");
    let lines = text.lines().map(|l| (serde_json::from_str::<Value>(l).unwrap(), l.to_owned()));
    let (scores, others): (Vec<_>, Vec<_>) = lines.partition(|(v, _)| v["name"] == "validation");
    let by_step = scores.into_iter().map(|(v, l)| (v["step"].as_u64().unwrap(), l)).collect();
    (others.into_iter().map(|(_, line)| line).collect(), by_step)
}

#[track_caller]
fn alike(one: &Ran, other: &Ran) {
    for port in ["lora", "candidates", "cost"] {
        let name = format!("teacher.{port}");
        assert_eq!(one.outputs()[&name], other.outputs()[&name], "{name}");
    }
}

#[test]
fn a_rule_ends_a_training_and_says_where() {
    let mini = Mini::new();
    recipe(&mini, "rule.yaml", &ruled(6, RULE));
    let by_rule = mini.run(&["run", "rule.yaml", "--json"]).expect(0);
    let words = said(&mini);
    assert!(words.iter().any(|w| w.starts_with("the rule ended it at round 3: best 0.")), "{words:?}");
    let (_, scores) = metrics(&mini, "rule.yaml");
    assert_eq!(scores.keys().copied().collect::<Vec<_>>(), [1, 2, 3]);
    let took = cost(&mini, "rule.yaml", "teacher");
    // Three rounds of two prompts with two images each, two levels trained of three steps; two validation images a scoring.
    assert_eq!((&took["rounds"], &took["gradients"]), (&3.into(), &24.into()));
    assert!(took["validation_operations"].as_f64().unwrap() > 0.0);

    // It changes no weight: three rounds by hand are the same.
    let other = Mini::new();
    recipe(&other, "plain.yaml", &plain(3));
    let by_hand = other.run(&["run", "plain.yaml", "--json"]).expect(0);
    for port in ["teacher.lora", "teacher.candidates"] {
        assert_eq!(by_rule.outputs()[port], by_hand.outputs()[port], "{port}");
    }
    assert_eq!(cost(&other, "plain.yaml", "teacher")["operations"], took["operations"]);
    assert_eq!(cost(&other, "plain.yaml", "teacher")["validation_operations"], 0.0);

    // A more patient rule goes on from there, and does not take the end of this one for its own.
    recipe(&mini, "more.yaml", &ruled(6, &RULE.replace("patience: 2", "patience: 4")));
    let ran = mini.run(&["run", "more.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["teacher"], "resumed");
    assert_eq!(cost(&mini, "more.yaml", "teacher")["rounds"], 5);
    // More rounds than the rule wants change nothing, and cost none.
    recipe(&mini, "longer.yaml", &ruled(8, RULE));
    alike(&mini.run(&["run", "longer.yaml", "--json"]).expect(0), &by_rule);
    // One that wants more than there are ends with them.
    recipe(&mini, "last.yaml", &ruled(2, RULE));
    mini.run(&["run", "last.yaml", "--json"]).expect(0);
    assert!(said(&mini).iter().any(|w| w.starts_with("the rule did not end it before its last round, 2: best 0.")));
}

#[test]
fn with_a_rule_and_without_it_is_one_lineage() {
    let straight = Mini::new();
    recipe(&straight, "rule.yaml", &ruled(6, RULE));
    let by_rule = straight.run(&["run", "rule.yaml", "--json"]).expect(0);

    // A training without the rule has gone further than the rule will.
    let mini = Mini::new();
    recipe(&mini, "plain.yaml", &plain(5));
    recipe(&mini, "rule.yaml", &ruled(6, RULE));
    let longer = mini.run(&["run", "plain.yaml", "--json"]).expect(0);
    let ran = mini.run(&["run", "rule.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["teacher"], "resumed");
    alike(&ran, &by_rule);
    assert_eq!(metrics(&mini, "rule.yaml"), metrics(&straight, "rule.yaml"));
    assert!(said(&mini).iter().any(|w| w.contains("taken from a run of 5 rounds")), "{:?}", said(&mini));

    // And from the rule's end on without it.
    recipe(&straight, "plain.yaml", &plain(5));
    let ran = straight.run(&["run", "plain.yaml", "--json"]).expect(0);
    assert_eq!(ran.verdicts()["teacher"], "resumed");
    alike(&ran, &longer);
    assert_eq!(metrics(&straight, "plain.yaml").0, metrics(&mini, "plain.yaml").0);

    // Scores on other prompts are not taken over.
    let other = ruled(6, RULE).replace("looks_prompts.validation", "looks_prompts.test");
    recipe(&straight, "other.yaml", &other);
    straight.run(&["run", "other.yaml", "--json"]).expect(0);
    assert_ne!(metrics(&straight, "other.yaml").1, metrics(&straight, "rule.yaml").1);
    recipe(&mini, "fresh.yaml", &other);
    mini.run(&["run", "fresh.yaml", "--json"]).expect(0);
    assert_eq!(metrics(&straight, "other.yaml").1, metrics(&mini, "fresh.yaml").1);
}

/// Killed, or asked to stop, at some moments, it ends at the same round with the same bytes, its metrics included.
#[test]
fn a_rule_survives_kills() {
    let rule = "until: {gain: 1000.0, patience: 6, every: 1, sampling: {num_inference_steps: 2}}";
    let calm = Mini::new();
    recipe(&calm, "rule.yaml", &ruled(9, rule));
    let calm = lasting(&calm.run(&["run", "rule.yaml", "--json"]).expect(0));
    let mini = Mini::new();
    recipe(&mini, "rule.yaml", &ruled(9, rule));
    for (with, checkpoints, more) in [(libc::SIGKILL, 1, 40), (libc::SIGINT, 1, 0), (libc::SIGKILL, 2, 15)] {
        let mut run = mini.start(&["run", "rule.yaml", "--json"]);
        let began = Instant::now();
        let made = |mini: &Mini, run: i32| {
            let ours = mini.events_of("run_started").iter().any(|e| e["pid"].as_i64() == Some(i64::from(run)));
            if ours { mini.events_of("checkpointed").len() } else { 0 }
        };
        while made(&mini, pid(&run)) < checkpoints
            && run.try_wait().is_ok_and(|ended| ended.is_none())
            && began.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(more));
        signal(pid(&run), with);
        if with == libc::SIGKILL {
            mini.children().into_iter().for_each(|child| signal(child, with));
        }
        finish(run);
    }
    let ran = mini.run(&["run", "rule.yaml", "--json"]).expect(0);
    assert_eq!(lasting(&ran), calm, "{}", ran.stderr);
    assert_eq!(cost(&mini, "rule.yaml", "teacher")["rounds"], 7);
}

#[test]
fn joint_training_is_scored_by_the_mean_of_its_tasks() {
    let mini = Mini::new();
    let joint = format!(
        "  teacher: {{uses: train_teacher, needs: {{base: base.model, tasks: {{ocr: ocr_prompts.train, looks: looks_prompts.train}}, validations: {{ocr: ocr_prompts.validation, looks: looks_prompts.validation}}}}, with: {{rewards: {{ocr: {{ocr: 1.0}}, looks: {{looks: 2.0}}}}, turns: [ocr, looks, looks], iterations: 4, {RULE}}}}}\n"
    );
    let candidates = "  curve: {uses: score_candidates, needs: {base: base.model, candidates: teacher.candidates, prompts: {ocr: ocr_prompts.validation, looks: looks_prompts.validation}}, with: {sampling: {num_inference_steps: 2}}}\n";
    recipe(&mini, "joint.yaml", &(joint + candidates));
    mini.run(&["run", "joint.yaml", "--json"]).expect(0);
    let (_, scores) = metrics(&mini, "joint.yaml");
    let curve: Value = serde_json::from_str(&read(&mini, "joint.yaml", "curve.curve")).unwrap();
    let points = curve["points"].as_array().unwrap();
    assert_eq!((points.len(), scores.len()), (3, 3), "it ends at round 3");
    for point in points {
        let mean = |set: &str| point["scores"]["sets"][set][set]["mean"].as_f64().unwrap();
        let line: Value = serde_json::from_str(&scores[&point["step"].as_u64().unwrap()]).unwrap();
        let expected = (mean("ocr") + 2.0 * mean("looks")) / 2.0;
        assert!((line["value"].as_f64().unwrap() - expected).abs() < 1e-9, "{line} {expected}");
    }
}

#[test]
fn a_budget_is_counted_in_operations() {
    let mini = Mini::new();
    let needs = |names: &[&str]| {
        let each: Vec<String> = names.iter().map(|n| format!("{n}: {n}.cost")).collect();
        format!(", budget: {{{}}}", each.join(", "))
    };
    let scores = |of: &str| {
        format!(
            "  {of}_scores: {{uses: evaluate, needs: {{base: base.model, lora: {of}.lora, prompts: {{looks: looks_prompts.test}}}}, with: {{sampling: {{num_inference_steps: 2}}}}}}\n"
        )
    };
    let stages = [
        teacher("a", "", "iterations: 2"),
        teacher("b", "", "iterations: 4"),
        // Half as many images a round.
        teacher("small", "", "iterations: 2, sampling: {prompts: 1, group_size: 2, num_inference_steps: 3}"),
        // 1.5 times the 4 and 2 rounds of a and b; 3 times the two rounds of `small`, in rounds of the double size.
        teacher("joint", &needs(&["a", "b"]), "budget: {times: 1.5, path: [[a, b], [a]]}"),
        teacher("capped", &needs(&["a", "b"]), "iterations: 3, budget: {times: 1.5, path: [[a, b], [a]]}"),
        teacher("half", &needs(&["small"]), "budget: {times: 3.0, path: [[small]]}"),
        teacher("least", &needs(&["small"]), "budget: {times: 0.01, path: [[small]]}"),
        "  student: {uses: distill, needs: {base: base.model, teachers: {looks: a.lora}, prompts: {looks: looks_prompts.train}}, with: {rollout: {num_inference_steps: 3, prompts: 2, guidance_scale: 1.0}, rounds: 3}}\n".to_owned(),
        "  again: {uses: distill, needs: {base: base.model, teachers: {looks: a.lora}, prompts: {looks: looks_prompts.train}, budget: {student: student.cost}}, with: {rollout: {num_inference_steps: 3, prompts: 2, guidance_scale: 1.0}, lr_schedule: {hold: 1, until: 3}, budget: {times: 2.0, path: [[student]]}}}\n".to_owned(),
        scores("a"),
        scores("joint"),
        // As `seconds` has it, `a` stands for the six rounds of the path, eight in all; the budget is the path's.
        "  table1: {uses: table, needs: {scores: {a: a_scores.scores, joint: joint_scores.scores}, timings: {a: a.timing, b: b.timing, joint: joint.timing}}, with: {columns: [looks], average: [looks], operations: true, multiples_of: a, rows: [{scores: a, title: a, seconds: [[a, b], [a]]}, {scores: joint, title: joint, seconds: [[joint]]}]}}\n".to_owned(),
    ];
    // A base that is known before the run, so that its plan can count.
    let bundled = |name: &str, stages: String| {
        recipe(&mini, name, &stages);
        let text = std::fs::read_to_string(mini.path(name)).unwrap();
        let (start, rest) = text.split_once("  vae:").unwrap();
        let rest = rest.split_once("  looks_prompts:").unwrap().1;
        let base = "  base: {uses: base_model, with: {source: \"bundled:mini\"}}\n  looks_prompts:";
        mini.write(name, &[start, base, rest].concat());
    };
    bundled("budget.yaml", stages.concat());
    let planned = |recipe: &str, stage: &str| {
        let plan = mini.run(&["plan", recipe, "--json"]).expect(0).json();
        let all = plan["stages"].as_array().unwrap().clone();
        all.into_iter().find(|s| s["stage"] == stage).unwrap()["operations"].as_f64()
    };
    let (two, four) = (planned("budget.yaml", "a").unwrap(), planned("budget.yaml", "b").unwrap());
    bundled("longer.yaml", stages.concat().replace("rounds: 3}", "rounds: 5}"));
    let [student, longer] = ["budget.yaml", "longer.yaml"].map(|recipe| planned(recipe, "student").unwrap());
    let ran = mini.run(&["run", "budget.yaml", "--json"]).expect(0).json();
    // Of rounds that only the budget knows `check` cannot say that the schedule ends too early.
    let warned = ran["stages"]["again"]["warnings"].to_string();
    assert!(warned.contains("W016") && warned.contains("at round 3: the other 3 of 6 hardly learn"), "{warned}");
    let rounds = |stage: &str| cost(&mini, "budget.yaml", stage)["rounds"].as_u64().unwrap();
    assert_eq!(["joint", "capped", "half", "least", "again"].map(rounds), [9, 3, 3, 1, 6]);
    assert!(said(&mini).iter().any(|w| w.contains("which is less than a round takes")), "{:?}", said(&mini));

    // What is counted is what was planned: prompts are encoded once, so that two rounds more are the rounds alone.
    let operations = |stage: &str| cost(&mini, "budget.yaml", stage)["operations"].as_f64().unwrap();
    let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-9, "{a:e} {b:e}");
    near(four - two, operations("b") - operations("a"));
    near(longer - student, operations("student") / 3.0 * 2.0);
    let timing: Value = serde_json::from_str(&read(&mini, "budget.yaml", "joint.timing")).unwrap();
    assert_eq!(timing["operations"].as_f64().unwrap(), operations("joint"));

    let table = read(&mini, "budget.yaml", "table1.markdown");
    let words = "Operations on the longest path, in multiples of the 9.8 GFLOP of `a`: `joint` 1.50.";
    assert!(table.contains("| GFLOP |") && table.contains(words), "{table}");
    let csv = read(&mini, "budget.yaml", "table1.csv");
    let of = |row: &str| -> f64 {
        let line = csv.lines().find(|l| l.starts_with(row)).unwrap();
        line.split(',')
            .find(|cell| cell.contains('e') && cell.starts_with(|c: char| c.is_ascii_digit()))
            .unwrap()
            .parse()
            .unwrap()
    };
    near(of("a,"), operations("a") * 4.0);
    near(of("joint,"), operations("joint"));

    // A teacher that is trained anew takes other seconds, and the same operations: nothing that hangs on it is.
    let ran = mini.run(&["run", "budget.yaml", "--json", "--force", "a"]).expect(0);
    let verdicts = ran.verdicts();
    assert_eq!(verdicts["a"], "run");
    for stage in ["joint", "capped", "student", "again"] {
        assert_eq!(verdicts[stage], "hit", "{stage}");
    }
}

/// Prompts of as many tokens as are asked for: fewer cost less and are seen otherwise, and the model's own number is what is
/// taken where nothing is said.
#[test]
fn a_training_sees_as_many_tokens_as_are_asked_for() {
    let mini = Mini::new();
    let of = |more: &str| {
        recipe(&mini, "tokens.yaml", &teacher("teacher", "", &format!("iterations: 1{more}")));
        let ran = mini.run(&["run", "tokens.yaml", "--json"]).expect(0);
        let operations = cost(&mini, "tokens.yaml", "teacher")["operations"].as_f64().unwrap();
        (ran.outputs()["teacher.lora"].clone(), operations)
    };
    let (own, all, few) = (of(""), of(", max_sequence_length: 9"), of(", max_sequence_length: 4"));
    assert_eq!(own, all);
    assert!(few.0 != own.0 && few.1 < own.1, "{few:?} {own:?}");
}
