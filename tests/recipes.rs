//! The recipes that are shipped: they hold no mistake, and a change that would change a key shows in the golden file.
//!
//! `OPDFLOW_GOLDEN=write cargo test --test recipes` writes the golden file anew. Do that only when the keys are meant
//! to change: everybody's stored results of those stages are then computed again.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod shipped;

use opdflow::plan::{NumericFacts, Plan};
use opdflow::recipe::{self, Overrides, StageSpec};
use opdflow_cache::{Digest, Memo};
use shipped::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

#[test]
fn keys_are_those_of_the_golden_file() {
    let text = golden();
    let file = root().join("tests/golden/keys.txt");
    if std::env::var_os("OPDFLOW_GOLDEN").is_some_and(|v| v == "write") {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap();
    for (now, then) in text.lines().zip(kept.lines()) {
        assert_eq!(now, then, "if this is meant: OPDFLOW_GOLDEN=write cargo test --test recipes");
    }
    assert_eq!(text.lines().count(), kept.lines().count());
}

/// What is compared is not starved: nothing in a shipped recipe is doubted, such as a schedule that ends long before the rounds do.
#[test]
fn nothing_in_the_shipped_recipes_is_doubted() {
    for path in shipped() {
        let plan = plan(&path, &Overrides::default());
        for (stage, doubts) in plan.stages.iter().zip(plan.doubts()) {
            assert!(doubts.is_empty(), "{}, `{}`: {doubts:?}", path.display(), stage.spec.name);
        }
    }
}

/// Ways to distil get as many gradients each, at one learning rate from the first to the last; Flow-OPD is as in its code. DMD's student
/// gets half as many, and its second network, whose steps are many, five times those of the student.
#[test]
fn the_ways_to_distil_are_compared_as_equals() {
    let plan = plan(&root().join("recipes/paper/distillation.yaml"), &Overrides::default());
    let students: Vec<_> = plan.stages.iter().filter(|s| s.spec.name.starts_with("student[")).collect();
    assert_eq!(students.len(), 6);
    for student in students {
        let (name, params) = (&student.spec.name, &student.spec.params);
        assert!(params["lr_schedule"]["until"].is_null(), "{name}: {params}");
        // All steps of a rollout but the last, which no training takes, or one.
        let one = ["one_state", "dmd", "tdm"].iter().any(|way| name.contains(way));
        let levels = if one { 1 } else { params["rollout"]["num_inference_steps"].as_u64().unwrap() - 1 };
        let wanted = if name.contains("dmd") { 420 } else { 840 };
        assert_eq!(params["rounds"].as_u64().unwrap() * levels, wanted, "{name}");
        if name.contains("flow_opd") {
            assert_eq!(params["objective"]["ppo"]["reduction"], "mean");
        }
    }
}

/// What is tuned is tuned with a seed or on prompts of its own.
fn is_tuning(path: &Path) -> bool {
    path.file_name().unwrap().to_str().unwrap().starts_with("tuning")
}

/// The paper's teachers are trained as the main recipe's, and longer: what the main recipe has trained is the beginning.
#[test]
fn the_papers_recipes_share_their_teachers_and_go_on_from_the_main_ones() {
    let main = root().join("recipes/multitask.yaml");
    let (mains, main_lineages): (BTreeMap<String, Digest>, BTreeMap<String, Digest>) =
        (keys(&main).into_iter().collect(), lineages(&main).into_iter().collect());
    let tasks = ["geneval", "ocr", "preference"];
    let of = |what: &str| tasks.map(|task| format!("{task}_{what}"));
    // What is tuned is tuned on prompts of its own, which is held below.
    let papers = shipped().into_iter().filter(|p| p.parent().unwrap().ends_with("paper") && !is_tuning(p));
    let papers: Vec<PathBuf> = papers.collect();
    assert!(papers.len() >= 8);
    let (mut teachers, mut students) = (BTreeSet::new(), BTreeSet::<Digest>::new());
    for path in papers {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let own: BTreeMap<String, Digest> = keys(&path).into_iter().collect();
        let lineages: BTreeMap<String, Digest> = lineages(&path).into_iter().collect();
        for stage in of("prompts").into_iter().chain(["base".to_owned()]) {
            assert_eq!(mains[&stage], own[&stage], "{name}: {stage}");
        }
        // The guards of one recipe need two of the three.
        let there: Vec<String> = of("teacher").into_iter().filter(|t| own.contains_key(t)).collect();
        assert!(there.len() >= 2, "{name}");
        for stage in &there {
            assert_eq!(main_lineages[stage], lineages[stage], "{name}: {stage}");
            assert_ne!(mains[stage], own[stage], "{name}: {stage}");
            teachers.insert((stage.clone(), own[stage]));
        }
        // What the comparisons of students call the main recipe's way: one student for all of them.
        students.extend(own.get("ode_student"));
        if let Some(scores) = own.get("base_scores").filter(|_| name != "figure1") {
            assert_eq!(mains["base_scores"], *scores, "{name}: base_scores");
        }
    }
    assert_eq!((teachers.len(), students.len()), (tasks.len(), 1), "{teachers:?} {students:?}");
}

/// The plan of a recipe of recipes/paper, as it is shipped.
fn of_paper(name: &str) -> Plan {
    plan(&root().join("recipes/paper").join(name), &Overrides::default())
}

/// The stage of a plan that has this name.
fn stage(plan: &Plan, name: &str) -> StageSpec {
    plan.stages.iter().find(|s| s.spec.name == name).unwrap().spec.clone()
}

/// The stages of a plan whose names begin so.
fn stages<'a>(plan: &'a Plan, start: &str) -> Vec<&'a StageSpec> {
    plan.stages.iter().map(|s| &s.spec).filter(|s| s.name.starts_with(start)).collect()
}

/// Baselines are tuned with the table's settings but for prompts a round and learning rate, in as many trials as the student, on prompts and
/// with a seed that the table does not have.
#[test]
fn the_baselines_are_tuned_on_other_prompts_and_another_seed() {
    let [table, tuning] = ["table1.yaml", "tuning.yaml"].map(of_paper);
    for task in ["geneval", "ocr", "preference"] {
        let [theirs, ours] = [&table, &tuning].map(|plan| stage(plan, &format!("prompts[task={task}]")).params);
        assert_ne!(theirs["seed"], ours["seed"], "{task}");
        let but_the_seed = |mut params: serde_json::Value| {
            params.as_object_mut().unwrap().remove("seed");
            params
        };
        assert_eq!(but_the_seed(theirs), but_the_seed(ours), "{task}");
    }
    let trainings = [
        ("joint[seed={},by=guard", "as_teachers"),
        ("joint[seed={},by=nft", "small"),
        ("cascade_1[seed={}", "as_teachers"),
        ("cascade_5[seed={}", "as_teachers"),
    ];
    for (training, chosen) in trainings {
        let theirs = stage(&table, &format!("{}]", training.replace("{}", "42")));
        let of = |trial: &str| stage(&tuning, &format!("{},trial={trial}]", training.replace("{}", "7")));
        for name in ["optimizer", "sampling"] {
            assert_eq!(theirs.params[name], of(chosen).params[name], "{training}: {name}");
        }
        let images = |params: &serde_json::Value| {
            let number = |at: &str| params.pointer(at).unwrap().as_u64().unwrap();
            number("/iterations") * number("/sampling/prompts")
        };
        let trials = stages(&tuning, &training.replace("{}", "7"));
        assert_eq!(trials.len(), stages(&of_paper("tuning_student.yaml"), "student[").len(), "{training}");
        for ours in trials {
            let trial = &ours.name;
            assert!(ours.seed == 7 && theirs.seed == 42);
            assert_eq!(images(&ours.params), images(&of(chosen).params), "{trial}");
            for (name, value) in theirs.params.as_object().unwrap() {
                if !["optimizer", "sampling", "candidates_every", "budget", "iterations"].contains(&name.as_str()) {
                    assert_eq!(Some(value), ours.params.get(name), "{trial}: {name}");
                }
            }
            for (name, value) in theirs.params["sampling"].as_object().unwrap() {
                if name != "prompts" {
                    assert_eq!(*value, ours.params["sampling"][name], "{trial}: sampling.{name}");
                }
            }
        }
    }
}

/// The student is tuned with the table's settings but for prompts a round and learning rate, one of the trials is what the table has, and
/// no table has the prompts that judge them.
#[test]
fn the_student_is_tuned_on_other_prompts() {
    let [table, tuning] = ["table1.yaml", "tuning_student.yaml"].map(of_paper);
    for task in ["geneval", "ocr", "preference"] {
        let theirs = stage(&table, &format!("prompts[task={task}]")).params;
        let ours = stage(&tuning, &format!("fresh[task={task}]")).params;
        assert_ne!(theirs["seed"], ours["seed"], "{task}");
        assert_eq!((&theirs["task"], &theirs["mix"]), (&ours["task"], &ours["mix"]), "{task}");
    }
    let student = stage(&table, "student[seed=42]").params;
    let trials: Vec<_> = stages(&tuning, "student[").into_iter().map(|spec| spec.params.clone()).collect();
    let settled = |params: &serde_json::Value| (params["rollout"].clone(), params["optimizer"].clone());
    assert!(trials.iter().any(|trial| settled(trial) == settled(&student)));
    let but_those = |mut params: serde_json::Value| {
        params["rollout"]["prompts"].take();
        params["optimizer"]["lr"].take();
        params["candidates_every"].take();
        params
    };
    for trial in trials {
        assert_eq!(but_those(trial), but_those(student.clone()));
    }
}

/// The figure is of the table's trainings.
#[test]
fn the_figure_is_of_the_tables_trainings() {
    let of = |name: &str| keys(&root().join("recipes/paper").join(name)).into_iter().collect::<BTreeMap<_, _>>();
    let (table, figure) = (of("table1.yaml"), of("figure1.yaml"));
    let trained = ["guard_joint", "nft_joint", "cascade_1", "cascade_2", "cascade_3", "cascade_4", "cascade_5"];
    for stage in trained.into_iter().chain(["geneval_teacher", "ocr_teacher", "preference_teacher", "student"]) {
        assert_eq!(table[stage], figure[stage], "{stage}");
    }
}

/// More seeds add cells and change nothing of what is there; whatever draws has a cell for each.
#[test]
fn the_papers_recipes_take_seeds() {
    let papers = shipped().into_iter().filter(|p| p.parent().unwrap().ends_with("paper") && !is_tuning(p));
    for path in papers {
        let names = |seeds: &str| {
            let overrides =
                Overrides { vars: BTreeMap::from([("seeds".to_owned(), seeds.to_owned())]), ..Overrides::default() };
            let recipe = recipe::load(&path, &opdflow_kinds::registry(), &overrides)
                .unwrap_or_else(|e| panic!("{}", e.render(false)));
            recipe.stages.iter().map(|s| (s.name.clone(), s.seed, s.kind.describe())).collect::<Vec<_>>()
        };
        let (one, three) = (names("[42]"), names("[42, 43, 44]"));
        for (name, seed, kind) in &one {
            assert!(three.iter().any(|(n, s, _)| n == name && s == seed), "{}: {name}", path.display());
            assert!(!kind.seeded || name.contains("seed=42"), "{}: {name} draws, and has no seed", path.display());
            let others = ["43", "44"].map(|s| name.replace("seed=42", &format!("seed={s}")));
            assert!(others.iter().all(|o| three.iter().any(|(n, ..)| n == o)), "{}: {name}", path.display());
        }
        let cells = one.iter().filter(|(n, ..)| n.contains("seed=42")).count();
        assert_eq!(three.len(), one.len() + 2 * cells, "{}", path.display());
    }
}

/// Lines that a fourth teacher takes in the main recipe, with its prompts, its choice, its place in the student and its row.
const FOURTH: &str = "    contrast:
      prompts: {task: scene}
      algorithm: {grpo_guard: {solver: {flow: {noise_level: 0.7}}, clip_range: 0.0001, updates: 2}}
      reward: {looks.contrast: 1.0}
      iterations: 40
      best: {maximize: looks.contrast}
      validation: {looks: \"prompts[task=contrast].validation\"}
      test: \"prompts[task=contrast].test\"
      judged: [looks]
";

#[test]
fn a_fourth_teacher_is_twelve_lines_in_one_place() {
    assert!(FOURTH.lines().count() <= 12);
    let path = root().join("recipes/multitask.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, tail) = text.split_once("\n  # Of all tasks.").unwrap();
    let text = format!("{head}{FOURTH}\n  # Of all tasks.{tail}");
    let read = |text: String| recipe::parse(&path, text, &opdflow_kinds::registry(), &Overrides::default());
    let made = read(text).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let names: Vec<&str> = made.stages.iter().map(|s| s.name.as_str()).collect();
    for stage in ["prompts", "teacher", "best", "teacher_scores"] {
        assert!(names.contains(&format!("{stage}[task=contrast]").as_str()), "{names:?}");
    }
    let plan = Plan::survey(made, NumericFacts::default(), &Memo::none());
    plan.whole(&(0..plan.stages.len()).collect::<Vec<_>>()).unwrap_or_else(|e| panic!("{}", e.render(false)));
    let of = |name: &str| plan.stages.iter().find(|s| s.spec.name == name).unwrap();
    for port in ["teachers.contrast", "prompts.contrast"] {
        assert!(of("student").needs.contains_key(port), "{port}");
    }
    assert!(of("table1").spec.params.to_string().contains("contrast teacher"));
    // What was there stays as it is, down to its keys, but for what reads all tasks.
    for stage in ["teacher[task=ocr]", "best[task=preference]", "prompts[task=geneval]"] {
        let i = plan.stages.iter().position(|s| s.spec.name == stage).unwrap();
        let was = self::plan(&path, &Overrides::default()).stages.into_iter().find(|s| s.spec.name == stage).unwrap();
        assert_eq!(was.spec.params, plan.stages[i].spec.params, "{stage}");
    }
}
