//! Curves, scores and images of real stages in TensorBoard's files and MLflow's, and an adapter ready to publish.

use crate::space::Mini;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

/// The files below a folder, with their sizes.
fn sizes(folder: &Path) -> BTreeMap<String, u64> {
    let name = |path: &Path| path.strip_prefix(folder).unwrap().display().to_string();
    crate::common::files(folder).iter().map(|p| (name(p), p.metadata().unwrap().len())).collect()
}

fn contains(folder: &Path, stage: &str, tag: &str) -> bool {
    let files = crate::common::files(&folder.join(stage));
    files.iter().any(|path| std::fs::read(path).unwrap().windows(tag.len()).any(|w| w == tag.as_bytes()))
}

#[test]
fn a_training_has_its_scores_beside_its_curves_and_its_adapter_a_card() {
    let mini = Mini::new();
    mini.run(&["run", "multitask.yaml", "--until", "ocr_scores", "--until", "base_scores"]).expect(0);
    let live = mini.path(".opdflow/runs/latest/tensorboard");
    // The score of what was chosen of its candidates stands with the teacher.
    for tag in ["reward", "scores/ocr/ocr", "standard_error/ocr/ocr", "optimizer.lr", "_hparams_/session_end_info"] {
        assert!(contains(&live, "ocr_teacher", tag), "no {tag}");
    }
    assert!(contains(&live, "ocr_scores", "images/ocr/001") && !contains(&live, "base_scores", "_hparams_"));
    mini.run(&["export", "--format", "tensorboard", "-o", "board"]).expect(0);
    let exported = sizes(&mini.path("board"));
    assert_eq!(exported, sizes(&live));
    mini.run(&["export", "--format", "mlflow", "-o", "ml"]).expect(0);
    let files = sizes(&mini.path("ml"));
    for wanted in ["metrics/scores/ocr/ocr", "params/optimizer.lr", "artifacts/images/ocr/001.png"] {
        assert!(files.keys().any(|name| name.ends_with(wanted)), "no {wanted} in {files:?}");
    }

    let get = ["get", "multitask.yaml", "ocr_best.lora", "-o", "out", "--card", "--format", "diffusers"];
    mini.run(&get).expect(0);
    let card = std::fs::read_to_string(mini.path("out/README.md")).unwrap();
    for wanted in [
        "library_name: diffusers",
        "- licence: not stated by its files",
        "pipe.load_lora_weights(\"FOLDER\")",
        "| ocr (4)",
        "![](images/base-01.png) | ![](images/adapter-01.png)",
        "- ocr_teacher: looks 0.1, ocr 1.0",
        "- ocr_prompts: drawn by the program",
    ] {
        assert!(card.contains(wanted), "no `{wanted}` in\n{card}");
    }
    assert!(mini.path("out/pytorch_lora_weights.safetensors").is_file());
    let ran = mini.run(&["run", "out/recipe.lock.yaml"]).expect(0);
    assert!(ran.stderr.contains("ocr_best.lora: the bytes of the lock"), "{}", ran.stderr);
}

const TABLE: &str = r##"
  table2:
    uses: table
    needs: {scores: {base: base_scores.scores, ocr: ocr_scores.scores}}
    with:
      title: 'A % of & $x_1$ \input{canary} #'
      rows:
        - {scores: base, title: '[2] base & \input{canary} % _'}
        - {scores: ocr, title: "} two\nlines ^ ~ \\end{tabular} é 你好"}
"##;

#[test]
fn a_table_of_hostile_titles_compiles() {
    let mini = Mini::new();
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    mini.write("table.yaml", &(text + TABLE));
    mini.run(&["run", "table.yaml", "--until", "table2"]).expect(0);
    mini.run(&["get", "table.yaml", "table2.latex", "-o", "table.tex"]).expect(0);
    let table = std::fs::read_to_string(mini.path("table.tex")).unwrap();
    assert!(table.contains("\\toprule") && table.contains("\\textbf{"), "{table}");
    if !Command::new("pdflatex").arg("--version").output().is_ok_and(|ran| ran.status.success()) {
        return println!("skipped: no pdflatex here (Debian: texlive-latex-base and texlive-latex-recommended)");
    }
    mini.write("canary.tex", "\\typeout{CANARY}\n");
    mini.write(
        "paper.tex",
        "\\documentclass{article}\n\\usepackage{booktabs}\n\\begin{document}\n\\input{table}\n\\end{document}\n",
    );
    let ran = Command::new("pdflatex")
        .args(["-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper"])
        .current_dir(mini.path(""))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && mini.path("paper.pdf").is_file(), "{log}\n{table}");
    assert!(!log.contains("CANARY"), "{log}");
}
