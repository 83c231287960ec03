//! Stages on a base of 16 bits, through the real programs: keys, what is learnt, and what is refused.
#![cfg(feature = "torch")]
#![allow(missing_docs)]

mod common;

use common::TestSpace;
use serde_json::Value;

/// A teacher, a student and their scores on the bundled miniature; `more` goes to the stages that take it.
fn recipe(space: &TestSpace, name: &str, precision: &str, more: &str) {
    space.recipe(
        name,
        &format!(
            r#"
base: {{uses: base_model, with: {{source: "bundled:mini"}}}}
p: {{uses: prompts, with: {{task: mix, train: 4, validation: 2, test: 2}}}}
t: {{uses: train_teacher, needs: {{base: base.model, prompts: p.train}}, with: {{algorithm: {{diffusion_nft: {{timesteps: 2}}}}, reward: {{looks: 1.0}}, iterations: 3, candidates_every: 3, sampling: {{prompts: 2, group_size: 3, num_inference_steps: 4}}, optimizer: {{lr: 0.01}}{precision}{more}}}}}
best: {{uses: select_checkpoint, needs: {{base: base.model, candidates: t.candidates, prompts: {{looks: p.validation}}}}, with: {{maximize: looks, sampling: {{num_inference_steps: 2}}{precision}}}}}
s: {{uses: distill, needs: {{base: base.model, teachers: {{looks: best.lora}}, prompts: {{looks: p.train}}}}, with: {{rounds: 3, rollout: {{num_inference_steps: 4, prompts: 4, guidance_scale: 1.5}}, optimizer: {{lr: 0.01}}{precision}{more}}}}}
e: {{uses: evaluate, needs: {{base: base.model, lora: s.lora, prompts: {{looks: p.test}}}}, with: {{sampling: {{num_inference_steps: 2}}, keep: 1{precision}}}}}
"#
        ),
    );
}

/// The `lora_B` numbers of an adapter, which start at zero; all must be f32.
fn learnt(space: &TestSpace, recipe: &str, stage: &str) -> Vec<f32> {
    let to = format!("{recipe}-{stage}");
    space.run(&["get", recipe, &format!("{stage}.lora"), "-o", &to, "--overwrite"]).expect(0);
    let bytes = std::fs::read(space.path(&to).join("adapter_model.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("lora_B.weight"));
    tensors
        .flat_map(|(name, about)| {
            assert_eq!(about["dtype"], "F32", "{name}");
            let at = |i: usize| 8 + length + about["data_offsets"][i].as_u64().unwrap() as usize;
            bytes[at(0)..at(1)].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect::<Vec<_>>()
        })
        .collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

#[test]
fn a_rounded_base_teaches_nearly_the_same() {
    let space = TestSpace::new();
    recipe(&space, "full.yaml", "", "");
    recipe(&space, "half.yaml", ", precision: bf16", "");
    recipe(&space, "named.yaml", ", precision: f32", ", gradient_checkpointing: true");
    space.run(&["run", "full.yaml", "--json"]).expect(0);
    // The default written out, and what is outside the key, change nothing.
    let named = space.run(&["run", "named.yaml", "--json"]).expect(0).verdicts();
    assert!(named.values().all(|v| v == "hit"), "{named:?}");
    let half = space.run(&["run", "half.yaml", "--json"]).expect(0).verdicts();
    for stage in ["t", "best", "s", "e"] {
        assert_eq!(half[stage], "run", "{stage}");
    }
    for stage in ["t", "s"] {
        let (exact, rough) = (learnt(&space, "full.yaml", stage), learnt(&space, "half.yaml", stage));
        assert!(exact.iter().any(|x| *x != 0.0), "{stage}: nothing was learnt");
        let alike = cosine(&exact, &rough);
        println!("{stage}: cosine {alike:.4}");
        assert!(alike < 1.0 && alike > 0.8, "{stage}: cosine {alike}");
    }
    // Computed once more rather than kept: the same bytes.
    recipe(&space, "again.yaml", "", ", gradient_checkpointing: true");
    let again = space.run(&["run", "again.yaml", "--force", "t", "--force", "s", "--json"]).expect(0);
    let differs = again.stderr.contains("kept as attempt");
    assert!(!differs, "{}", again.stderr);
    assert_eq!(learnt(&space, "again.yaml", "s"), learnt(&space, "full.yaml", "s"));
}

#[test]
fn what_cannot_be_trained_is_refused_with_its_place() {
    let space = TestSpace::new();
    recipe(&space, "r.yaml", ", precision: f16", "");
    let ran = space.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("E043") && ran.stderr.contains("too small for `f16`"), "{}", ran.stderr);
    assert!(ran.stderr.contains("use `bf16`"), "{}", ran.stderr);
    recipe(&space, "r.yaml", ", precision: bf61", "");
    let ran = space.run(&["check", "r.yaml"]).expect(2);
    assert!(ran.stderr.contains("E042") && ran.stderr.contains("bf16"), "{}", ran.stderr);
}
