//! Stages that read what `embed` kept, beside the same stages with the text encoders in them.

use crate::space::{Mini, lasting};

const EMBED: &str = "
  embed:
    uses: embed
    needs:
      base: base.model
      prompts: {a: geneval_prompts.train, b: ocr_prompts.train, c: looks_prompts.train, d: geneval_prompts.validation, e: ocr_prompts.validation, f: looks_prompts.validation, g: geneval_prompts.test, h: ocr_prompts.test, i: looks_prompts.test}
";

/// The recipe with the embeddings on every stage that takes them.
fn with_embeddings(text: &str) -> String {
    let text = text.replace("needs: {base: base.model, ", "needs: {base: base.model, embeddings: embed.embeddings, ");
    text.replace("      base: base.model\n", "      base: base.model\n      embeddings: embed.embeddings\n") + EMBED
}

#[test]
fn kept_embeddings_change_no_byte() {
    let mini = Mini::new();
    let plain = mini.run(&["run", "multitask.yaml", "--json"]).expect(0);
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    mini.write("kept.yaml", &with_embeddings(&text));
    let kept = mini.run(&["run", "kept.yaml", "--json"]).expect(0);
    let (plain_outputs, mut kept_outputs) = (lasting(&plain), lasting(&kept));
    assert!(kept_outputs.remove("embed.embeddings").is_some());
    for stage in ["geneval_teacher", "ocr_best", "student", "base_scores", "student_scores"] {
        let key = |ran: &crate::common::Ran| ran.json()["stages"][stage]["key"].clone();
        assert_ne!(key(&plain), key(&kept), "{stage}: it reads something else");
        // Only the table of equal scores is then found in the store.
        assert_eq!(kept.verdicts()[stage], "run", "{stage}");
    }
    assert_eq!(plain_outputs, kept_outputs);
}

#[test]
fn prompts_that_were_not_embedded_are_named() {
    let mini = Mini::new();
    let text = std::fs::read_to_string(mini.path("multitask.yaml")).unwrap();
    let less = with_embeddings(&text).replace("a: geneval_prompts.train, ", "");
    mini.write("less.yaml", &less);
    let ran = mini.run(&["run", "less.yaml", "--json", "--until", "geneval_teacher"]).expect(1);
    let message = ran.json()["stages"]["geneval_teacher"]["message"].to_string();
    assert!(message.contains("lack the prompt") && message.contains("all sets of prompts"), "{message}");
}
