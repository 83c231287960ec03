//! Scores against training time: candidates of teachers and student, their curves, and the figure of them; and a joint
//! training whose tasks have learning rates and optimizer steps of their own.

use crate::space::Mini;
use std::path::Path;

const CURVES: &str = "
  joint:
    uses: train_teacher
    needs: {base: base.model, tasks: {ocr: ocr_prompts.train, looks: looks_prompts.train}}
    with:
      algorithm: {grpo_guard: {clip_range: 0.0001, updates: 1}}
      rewards: {ocr: {ocr: 1.0}, looks: {looks: 1.0}}
      per_task: {looks: {lr: 0.02, updates: 2}}
      iterations: 2
      candidates_every: 1
      sampling: {prompts: 2, group_size: 2, num_inference_steps: 3}
      optimizer: {lr: 0.01}
  joint_curve:
    uses: score_candidates
    needs: {base: base.model, candidates: joint.candidates, prompts: {ocr: ocr_prompts.validation, looks: looks_prompts.validation}}
    with: {sampling: {num_inference_steps: 2}}
  student_curve:
    uses: score_candidates
    needs: {base: base.model, candidates: student.candidates, prompts: {ocr: ocr_prompts.validation, looks: looks_prompts.validation}}
    with: {sampling: {num_inference_steps: 2}}
  start:
    uses: evaluate
    needs: {base: base.model, prompts: {ocr: ocr_prompts.validation, looks: looks_prompts.validation}}
    with: {sampling: {num_inference_steps: 2}}
  figure1:
    uses: figure
    needs:
      base: start.scores
      curves: {joint: joint_curve.curve, student: student_curve.curve}
      timings: {joint: joint.timing, student: student.timing, geneval: geneval_teacher.timing, ocr: ocr_teacher.timing}
    with:
      columns: [ocr, looks]
      lines:
        - {title: joint, curves: [joint]}
        - {title: student, curves: [student], after: [[geneval, ocr]]}
";

fn adapter(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_figure_is_made_of_candidates() {
    let mini = Mini::new();
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    let kept =
        text.replace("      rounds: \"${rounds}\"\n", "      rounds: \"${rounds}\"\n      candidates_every: 2\n");
    mini.write("figure.yaml", &(kept + CURVES));
    let ran = mini.run(&["run", "figure.yaml", "--json", "--until", "figure1"]).expect(0);
    let get = |output: &str, to: &str| mini.run(&["get", "figure.yaml", output, "-o", to]).expect(0);

    // Three rounds, a candidate every two: the last is kept too, and is the student.
    get("student.candidates", "candidates");
    get("student.lora", "student");
    let candidates = mini.path("candidates");
    let mut names: Vec<_> =
        std::fs::read_dir(&candidates).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["step-000002", "step-000003"]);
    assert_eq!(adapter(&candidates.join("step-000003")), adapter(&mini.path("student")));
    assert_ne!(adapter(&candidates.join("step-000002")), adapter(&mini.path("student")));
    // Keeping them changes nothing of the student.
    let plain = mini.run(&["run", "multitask.yaml", "--json", "--until", "student"]).expect(0);
    assert_eq!(plain.outputs()["student.lora"], ran.outputs()["student.lora"]);

    get("figure1.csv", "f.csv");
    let csv = std::fs::read_to_string(mini.path("f.csv")).unwrap();
    let rows: Vec<Vec<&str>> = csv.lines().map(|l| l.split(',').collect()).collect();
    assert_eq!(rows[0], ["method", "step", "seconds", "gradients", "operations", "ocr", "looks"]);
    let of = |title: &str| rows.iter().filter(|r| r[0] == title).map(|r| r[1]).collect::<Vec<_>>();
    assert_eq!((of("joint"), of("student")), (vec!["0", "1", "2"], vec!["0", "2", "3"]));
    assert_eq!(rows[1][5..], rows[4][5..], "all lines begin at the base");
    let number = |row: usize, column: usize| rows[row][column].parse::<f64>().unwrap();
    for (column, name) in [(2, "seconds"), (3, "gradients"), (4, "operations")] {
        assert!(number(4, column) > 0.0, "the student begins after its teachers, in {name}: {csv}");
        assert!(number(6, column) > number(5, column) && number(1, column) == 0.0, "{name}: {csv}");
    }
    get("figure1.png", "f.png");
    get("figure1.svg", "f.svg");
    assert!(std::fs::read(mini.path("f.png")).unwrap().starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(mini.path("f.svg")).unwrap().contains(">training time, s</text>"));
    let counted = ["run", "figure.yaml", "--json", "--until", "figure1", "--set", "figure1.with.against=operations"];
    let counted = mini.run(&counted).expect(0);
    assert_eq!(counted.outputs()["figure1.csv"], ran.outputs()["figure1.csv"]);
    assert_ne!(counted.outputs()["figure1.svg"], ran.outputs()["figure1.svg"]);

    // The first turn is that of looks, with two optimizer steps; that of OCR has one.
    get("joint.metrics", "joint.jsonl");
    let metrics = std::fs::read_to_string(mini.path("joint.jsonl")).unwrap();
    let steps = |round: u64| {
        let wanted = |l: &&str| l.contains("\"grad_norm\"") && l.contains(&format!("\"step\":{round},"));
        metrics.lines().filter(wanted).count()
    };
    assert_eq!((steps(1), steps(2)), (2, 1), "{metrics}");
}

#[test]
fn a_task_s_own_numbers_are_checked() {
    let mini = Mini::new();
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap() + CURVES;
    let refused = |from: &str, to: &str, says: &str| {
        assert!(text.contains(from));
        mini.write("wrong.yaml", &text.replace(from, to));
        let ran = mini.run(&["check", "wrong.yaml"]).expect(2);
        assert!(ran.stderr.contains(says), "{}", ran.stderr);
    };
    let own = "per_task: {looks: {lr: 0.02, updates: 2}}";
    refused(own, "per_task: {loks: {lr: 0.02}}", "`loks` has no rewards");
    refused(own, "per_task: {looks: {lr: 0}}", "found 0, expected a number above 0");
    refused(
        own,
        "per_task: {looks: {updates: 5}}",
        "`updates` is 5, but the images of a round, which they share, are 4",
    );
    // The student of this recipe keeps no candidates.
    mini.write("none.yaml", &text);
    let ran = mini.run(&["run", "none.yaml", "--until", "student_curve"]).expect(2);
    assert!(ran.stderr.contains("`student` will leave no `candidates`"), "{}", ran.stderr);
}
