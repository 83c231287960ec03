//! The miniature's own reward models: trained by a stage, or those of the program; and what only tables ask.

use crate::space::Mini;
use std::collections::BTreeMap;

const TINY: &str = "{hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2}";

/// A stage that trains this reward model for a few steps.
fn trained(name: &str, steps: usize, reward: &str, needs: &str) -> String {
    format!(
        "  {name}:
    uses: pretrain_reward_model
    needs: {{{needs}}}
    with:
      reward: {reward}
      network: {{vision: {TINY}, text: {TINY}, patch_size: 16, projection_dim: 8}}
      training: {{steps: {steps}, batch_size: 4, images: 12}}
      samples: {{prompts: 4, held_out: 4, of_each: 2, sampling: {{num_inference_steps: 1}}}}
      held_out: 8
"
    )
}

fn recipe(stages: &str) -> String {
    format!(
        "opdflow: 1\nname: own\nseed: 1\nstages:\n  base: {{uses: base_model, with: {{source: \"bundled:mini\"}}}}\n  \
         scenes: {{uses: prompts, with: {{task: scene, train: 4}}}}\n{stages}"
    )
}

/// Every kind is trained, opened by the code of the published ones, and judges.
#[test]
fn each_kind_is_trained_and_judges() {
    let mini = Mini::new();
    let start = "base: base.model, start: clip.reward_model";
    let stages = [
        trained("clip", 2, "clipscore", "base: base.model"),
        trained("pick", 2, "pickscore", start),
        trained("hps", 2, "hpsv2", "start: clip.reward_model"),
        trained("blip", 2, "imagereward", ""),
        trained("head", 2, "aesthetic", start),
        trained("whole", 2, "aesthetic", "base: base.model"),
        trained("niqe", 1, "niqe", "").replace("images: 12", "images: 60"),
        "  scores:
    uses: evaluate
    needs:
      base: base.model
      prompts: {scenes: scenes.train}
      reward_models: {clipscore: clip.reward_model, pickscore: pick.reward_model, hpsv2: hps.reward_model, imagereward: blip.reward_model, aesthetic: head.reward_model}
      held_out: {niqe: niqe.reward_model, aesthetic: whole.reward_model}
    with: {rewards: {scenes: [clipscore, pickscore, hpsv2, imagereward, aesthetic]}, sampling: {num_inference_steps: 1}, keep: 0}
"
        .to_owned(),
    ];
    mini.write("r.yaml", &recipe(&stages.concat()));
    mini.run(&["run", "r.yaml"]).expect(0);
    mini.run(&["get", "r.yaml", "scores.scores", "-o", "scores.json"]).expect(0);
    let scores = std::fs::read_to_string(mini.path("scores.json")).unwrap();
    for reward in ["clipscore", "pickscore", "hpsv2", "imagereward", "aesthetic", "held_out.niqe", "held_out.aesthetic"]
    {
        assert!(scores.contains(&format!("\"{reward}\"")), "no {reward} in {scores}");
    }
    mini.run(&["get", "r.yaml", "pick.accuracy", "-o", "accuracy.json"]).expect(0);
    let told: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&std::fs::read_to_string(mini.path("accuracy.json")).unwrap()).unwrap();
    for kind in ["all", "wrong", "other", "blank"] {
        let (share, pairs) = (told[kind]["accuracy"].as_f64().unwrap(), told[kind]["pairs"].as_u64().unwrap());
        assert!((0.0..=1.0).contains(&share) && pairs > 0, "{told:?}");
    }
}

/// The seed decides: the same bytes in another store, and others with another seed.
#[test]
fn a_training_gives_the_same_bytes_again() {
    let end = |seed: &str| {
        let mini = Mini::new();
        mini.write("r.yaml", &recipe(&trained("clip", 2, "clipscore", "")));
        let ran = mini.run(&["run", "r.yaml", "--json", "--until", "clip", "--seed", seed]).expect(0);
        ran.json()["stages"]["clip"]["outputs"]["reward_model"].to_string()
    };
    let first = end("1");
    assert_eq!(first, end("1"));
    assert_ne!(first, end("2"));
}

#[test]
fn mistakes_are_found_before_anything_runs() {
    let mini = Mini::new();
    for (stages, says) in [
        (trained("s", 1, "geneval", ""), "no reward model `geneval` can be trained here"),
        (
            trained("clip", 1, "clipscore", "") + &trained("s", 1, "imagereward", "start: clip.reward_model"),
            "`imagereward` has another network than `clipscore`",
        ),
        (
            trained("s", 1, "clipscore", "").replace("hidden_size: 16", "hidden_size: 15"),
            "15 is not a multiple of 2 heads",
        ),
        (
            "  s: {uses: reward_model, with: {reward: clipscore, files: {clip: \"bundled:maxi\"}}}\n".to_owned(),
            "the part `clip` of `clipscore` is not bundled as `bundled:maxi`",
        ),
        (
            "  s: {uses: reward_model, with: {reward: hpsv2, files: {model: \"bundled:mini-heldout\", tokenizer: \"bundled:mini\"}}}\n".to_owned(),
            "there is `bundled:mini`",
        ),
        (
            "  s: {uses: reward_model, with: {reward: geneval, files: {detector: \"bundled:mini\", clip: \"bundled:mini\"}}}\n".to_owned(),
            "there is `bundled:shapes`, as the detector",
        ),
    ] {
        mini.write("r.yaml", &recipe(&stages));
        let ran = mini.run(&["check", "r.yaml"]);
        let shown = ran.stdout.clone() + &ran.stderr;
        assert!(ran.code != 0 && shown.contains(says), "{says}: {shown}");
    }
    // A network of another kind is found when the stage runs.
    let stages = "  pick: {uses: reward_model, with: {reward: pickscore, files: {model: \"bundled:mini\", tokenizer: \"bundled:mini\"}}}\n".to_owned()
        + &trained("s", 1, "hpsv2", "start: pick.reward_model");
    mini.write("r.yaml", &recipe(&stages));
    let ran = mini.run(&["run", "r.yaml", "--until", "s"]);
    assert!((ran.stdout + &ran.stderr).contains("`start` is not a `clipscore`"));
}

/// The program's own, and a second CLIP that only the table asks.
#[test]
fn the_programs_own_judge_and_the_held_out_one_sees_how_far_apart_images_are() {
    let mini = Mini::new();
    mini.write("dot.txt", "a red circle\n");
    let stages = "  dot: {uses: prompts, with: {files: {train: dot.txt}}}
  pick: {uses: reward_model, with: {reward: pickscore, files: {model: \"bundled:mini\", tokenizer: \"bundled:mini\"}}}
  heldout: {uses: reward_model, with: {reward: clipscore, files: {clip: \"bundled:mini-heldout\"}}}
  scores:
    uses: evaluate
    needs: {base: base.model, prompts: {scenes: scenes.train, dot: dot.train, several: scenes.train}, reward_models: {pickscore: pick.reward_model}, held_out: {clipscore: heldout.reward_model}}
    with: {rewards: {scenes: [pickscore], dot: [looks], several: []}, num_images_per_prompt: {several: 2}, sampling: {num_inference_steps: 4}, keep: 0}
  table:
    uses: table
    needs: {scores: {base: scores.scores}}
    with: {columns: [pickscore, held_out.clipscore, held_out.prompt_diversity, held_out.diversity], average: [pickscore], rows: [{scores: base, title: base}]}
";
    mini.write("r.yaml", &recipe(stages));
    mini.run(&["run", "r.yaml"]).expect(0);
    mini.run(&["get", "r.yaml", "scores.scores", "-o", "scores.json"]).expect(0);
    let scores: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(mini.path("scores.json")).unwrap()).unwrap();
    let of = |set: &str, column: &str| scores["sets"][set][column]["mean"].as_f64().unwrap_or(f64::NAN);
    assert!(of("scenes", "held_out.diversity") > 0.01, "{scores}");
    // Two images of a prompt are nearer to each other than to those of other prompts. Where there is one, nobody can say.
    assert!(of("several", "held_out.prompt_diversity") > 0.001, "{scores}");
    assert!(of("several", "held_out.prompt_diversity") < of("several", "held_out.diversity"), "{scores}");
    assert!(of("scenes", "held_out.prompt_diversity").is_nan(), "{scores}");
    // Errors are over prompts: the two images of one are as far from each other as from each other.
    let counted = |set: &str| &scores["sets"][set]["held_out.diversity"];
    assert_eq!(counted("several")["n"], counted("scenes")["n"]);
    assert_eq!(counted("several")["images"].as_u64(), Some(2 * counted("scenes")["n"].as_u64().unwrap()));
    assert!(counted("scenes")["images"].is_null(), "{scores}");
    // One image alone is far from nothing.
    assert_eq!(of("dot", "held_out.diversity"), 0.0, "{scores}");
    assert!(of("scenes", "held_out.clipscore").is_finite() && of("scenes", "pickscore").is_finite(), "{scores}");
    mini.run(&["get", "r.yaml", "table.csv", "-o", "t.csv"]).expect(0);
    let table = std::fs::read_to_string(mini.path("t.csv")).unwrap();
    assert!(table.lines().next().unwrap().contains("held_out.diversity"), "{table}");
    // Under another name than that of its reward it is found before anything runs, as on the other port.
    mini.write("bad.yaml", &recipe(stages).replace("held_out: {clipscore:", "held_out: {hpsv2:"));
    let ran = mini.run(&["check", "bad.yaml"]).expect(2);
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("judges by `clipscore`, not by `hpsv2`") && said.contains("held_out: {clipscore:"), "{said}");
    let text = recipe(stages).replace("held_out.diversity]", "held_out.charm]");
    mini.write("r.yaml", &text);
    let ran = mini.run(&["check", "r.yaml"]);
    assert!((ran.stdout + &ran.stderr).contains("no scores have a column `held_out.charm`"));
}
