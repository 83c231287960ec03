//! A table over several seeds, with differences seed by seed and what a student keeps of each; of one, with differences prompt by prompt.

use crate::space::Mini;
use serde_json::Value;

const RECIPE: &str = "opdflow: 1
name: over_seeds
vars: {seeds: [1, 2]}
defaults:
  train_teacher: {reward: {looks: 1.0}, iterations: 2, sampling: {prompts: 2, group_size: 2, num_inference_steps: 3}}
  evaluate: {sampling: {num_inference_steps: 2}}
stages:
  base: {uses: base_model, with: {source: \"bundled:mini\"}}
  scenes: {uses: prompts, with: {task: scene, train: 8, validation: 2, test: 4}}
  fast:
    uses: train_teacher
    matrix: {seed: \"${seeds}\"}
    seed: \"${matrix.seed}\"
    needs: {base: base.model, prompts: scenes.train}
    with: {algorithm: {diffusion_nft: {}}, optimizer: {lr: 0.05}}
  slow:
    uses: train_teacher
    matrix: {seed: \"${seeds}\"}
    seed: \"${matrix.seed}\"
    needs: {base: base.model, prompts: scenes.train}
    with: {algorithm: {diffusion_nft: {}}, optimizer: {lr: 0.01}}
  base_scores: {uses: evaluate, needs: {base: base.model, prompts: {looks: scenes.test}}}
  fast_scores: {uses: evaluate, matrix: {seed: \"${seeds}\"}, needs: {base: base.model, lora: fast.lora, prompts: {looks: scenes.test}}}
  slow_scores: {uses: evaluate, matrix: {seed: \"${seeds}\"}, needs: {base: base.model, lora: slow.lora, prompts: {looks: scenes.test}}}
  table:
    uses: table
    needs:
      scores: {base: base_scores.scores, fast: fast_scores.scores, slow: slow_scores.scores}
      samples: {base: base_scores.samples, fast: fast_scores.samples, slow: slow_scores.samples}
    with:
      columns: [looks]
      differences: fast
      kept: {base: base, student: slow, teachers: {looks: fast}}
      rows: [{scores: base, title: base}, {scores: fast, title: fast}, {scores: slow, title: slow}]
";

#[test]
fn differences_are_seed_by_seed() {
    let mini = Mini::new();
    mini.write("seeds.yaml", RECIPE);
    mini.run(&["run", "seeds.yaml", "--json"]).expect(0);
    let get = |output: &str| {
        mini.run(&["get", "seeds.yaml", output, "-o", "got", "--overwrite"]).expect(0);
        std::fs::read_to_string(mini.path("got")).unwrap()
    };
    let mean = |stage: &str| {
        let scores: Value = serde_json::from_str(&get(&format!("{stage}.scores"))).unwrap();
        scores["sets"]["looks"]["looks"]["mean"].as_f64().unwrap()
    };
    let of = |stage: &str| [1, 2].map(|seed| mean(&format!("{stage}[seed={seed}]")));
    let (base, fast, slow) = (mean("base_scores"), of("fast_scores"), of("slow_scores"));
    assert!(fast[0] != fast[1] && slow[0] != slow[1] && fast != slow);

    let table: Value = serde_json::from_str(&get("table.json")).unwrap();
    let rows = table["differences"]["rows"].as_array().unwrap();
    let told: Vec<_> = rows.iter().map(|r| (r["title"].as_str().unwrap(), r["pairs"].as_str())).collect();
    assert_eq!(told, [("base", None), ("slow", Some("seeds"))]);
    let near = |value: &Value, expected: f64| {
        let value = value.as_f64().unwrap();
        assert!((value - expected).abs() < 1e-9 * expected.abs().max(1.0), "{value} {expected}");
    };
    // Of two values the standard error is half of their difference; Student's t of one degree of freedom is 12.706.
    let each = [fast[0] - slow[0], fast[1] - slow[1]];
    near(&rows[1]["cells"][0]["mean"], (each[0] + each[1]) / 2.0);
    near(&rows[1]["cells"][0]["half"], 12.706_205 * (each[0] - each[1]).abs() / 2.0);
    near(&rows[0]["cells"][0]["mean"], (fast[0] + fast[1]) / 2.0 - base);
    for (i, kept) in table["kept_by_seed"]["looks"].as_array().unwrap().iter().enumerate() {
        if fast[i] > base {
            near(kept, (slow[i] - base) / (fast[i] - base));
        } else {
            assert!(kept.is_null(), "{kept}");
        }
    }
    let text = get("table.markdown");
    assert!(text.contains("| fast minus |") && text.contains("seed by seed"), "{text}");

    // A name that no row shows; samples that nothing reads, or under another name than the scores.
    let wrong = [
        ("differences: fast", "differences: quick", "no row shows the scores `quick`"),
        ("      differences: fast\n", "", "`samples` are connected, and only `differences` reads them"),
        (
            "fast: fast_scores.samples",
            "quick: fast_scores.samples",
            "`samples.quick` is connected, but no `scores.quick`",
        ),
    ];
    for (right, wrong, words) in wrong {
        mini.write("wrong.yaml", &RECIPE.replace(right, wrong));
        let found = mini.run(&["check", "wrong.yaml"]).expect(2).stderr;
        assert!(found.contains("`differences` of stage `table`") && found.contains(words), "{found}");
    }
}

#[test]
fn of_one_seed_differences_are_prompt_by_prompt() {
    let mini = Mini::new();
    mini.write("one.yaml", RECIPE);
    let alone = RECIPE.lines().filter(|line| !line.contains("samples:")).collect::<Vec<_>>().join("\n");
    mini.write("alone.yaml", &alone);
    let table = |recipe: &str| -> Value {
        mini.run(&["run", recipe, "--set", "seeds=[2]"]).expect(0);
        mini.run(&["get", recipe, "table.json", "--set", "seeds=[2]", "-o", "got", "--overwrite"]).expect(0);
        serde_json::from_str(&std::fs::read_to_string(mini.path("got")).unwrap()).unwrap()
    };
    let paired = table("one.yaml");
    let scores = |stage: &str| -> Vec<f64> {
        let output = format!("{stage}.samples");
        mini.run(&["get", "one.yaml", &output, "--set", "seeds=[2]", "-o", "lines", "--overwrite"]).expect(0);
        let text = std::fs::read_to_string(mini.path("lines")).unwrap();
        let score = |line: &str| serde_json::from_str::<Value>(line).unwrap()["scores"]["looks"].as_f64().unwrap();
        text.lines().map(score).collect()
    };
    let (base, fast) = (scores("base_scores"), scores("fast_scores[seed=2]"));
    let each: Vec<f64> = fast.iter().zip(&base).map(|(a, b)| a - b).collect();
    let (n, mean) = (each.len() as f64, each.iter().sum::<f64>() / each.len() as f64);
    let error = (each.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0) / n).sqrt();
    let row = &paired["differences"]["rows"][0];
    assert_eq!((row["title"].as_str(), row["pairs"].as_str()), (Some("base"), Some("prompts")));
    let cell = |name: &str| row["cells"][0][name].as_f64().unwrap();
    assert!(n == 4.0 && (cell("mean") - mean).abs() < 1e-9 && (cell("half") - 1.959_964 * error).abs() < 1e-9, "{row}");
    assert!(paired["kept_by_seed"].is_null(), "{paired}");

    // Without the samples the interval is made of both rows' own.
    let alone = &table("alone.yaml")["differences"]["rows"][0];
    assert!(alone["pairs"].is_null() && alone["cells"][0]["mean"] == row["cells"][0]["mean"], "{alone}");
    assert!(alone["cells"][0]["half"].as_f64().unwrap() > 0.0, "{alone}");

    // Another model's.
    mini.write("crossed.yaml", &RECIPE.replace("fast: fast_scores.samples", "fast: slow_scores.samples"));
    let ran = mini.run(&["run", "crossed.yaml", "--set", "seeds=[2]"]);
    let said = ran.stdout + &ran.stderr;
    assert!(ran.code != 0 && said.contains("`samples.fast` are not of the images that `scores.fast` is of"), "{said}");
}
