//! `opdflow score`: the scores of images that lie in files are those that an evaluation gave them.

use crate::space::Mini;
use serde_json::Value;

/// The scores that are printed, a JSON object a line.
fn scored(mini: &Mini, args: &[&str]) -> Vec<Value> {
    let ran = mini.run(&[&["score", "--json"], args].concat()).expect(0);
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn images_in_files_have_the_scores_of_their_evaluation() {
    let mini = Mini::new();
    mini.run(&["run", "multitask.yaml", "--until", "base_scores"]).expect(0);
    mini.run(&["get", "multitask.yaml", "base_scores.images", "-o", "images"]).expect(0);
    mini.run(&["get", "multitask.yaml", "base_scores.samples", "-o", "samples.jsonl"]).expect(0);
    let text = std::fs::read_to_string(mini.path("samples.jsonl")).unwrap();
    let samples: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for reward in ["ocr", "looks"] {
        // The prompts lie beside the images.
        let found = scored(&mini, &["--reward", reward, &format!("images/{reward}"), "--batch", "1"]);
        let wanted: Vec<&Value> = samples.iter().filter(|s| s["set"] == reward).collect();
        assert!(!found.is_empty() && found.len() <= wanted.len());
        for (found, wanted) in found.iter().zip(wanted) {
            assert_eq!(found["value"], wanted["scores"][reward], "{found} {wanted}");
        }
    }
    // One prompt for all, or one for each; and another reward, by a network.
    mini.write("one.txt", "a picture of the word \"CAT\"\n");
    let part = ["--reward", "pickscore", "--part", "model=bundled:mini", "--part", "tokenizer=bundled:mini"];
    let all = scored(&mini, &[&part[..], &["--prompts", "one.txt", "images/ocr"]].concat());
    assert!(all.iter().all(|s| s["value"].as_f64().is_some_and(f64::is_finite) && s["parts"]["raw"].is_number()));
    let alone = scored(&mini, &[&part[..], &["--prompts", "one.txt", "images/ocr/000.png"]].concat());
    // Its neighbours change no more than the last digits of a network in 32 bits.
    let value = |score: &Value| score["value"].as_f64().unwrap();
    assert!((value(&alone[0]) - value(&all[0])).abs() < 1e-6, "{} {}", alone[0], all[0]);

    let csv = mini.run(&["score", "--reward", "looks", "--format", "csv", "images/looks"]).expect(0).stdout;
    let head = csv.lines().next().unwrap();
    assert_eq!(head, "image,prompt,value,colourfulness,contrast,smoothness");
    let table = mini.run(&["score", "--reward", "looks", "images/looks", "images/ocr"]).expect(0).stdout;
    assert!(table.contains(" images, mean "), "{table}");
    refused(&mini);
}

fn refused(mini: &Mini) {
    let refuses = |args: &[&str], wanted: &str| {
        let ran = mini.run(&[&["score"], args].concat()).expect(2);
        assert!(ran.stderr.contains(wanted), "no `{wanted}` in {}", ran.stderr);
        assert_eq!(ran.stdout, "");
    };
    let copy = |to: &str| std::fs::copy(mini.path("images/ocr/000.png"), mini.path(to)).unwrap();
    // What an image is, its content says.
    copy("alone.jpg");
    assert_eq!(scored(mini, &["--reward", "looks", "alone.jpg"]).len(), 1);
    refuses(&["--reward", "ocr", "alone.jpg"], "has none beside it");
    mini.write("two.txt", "one\ntwo\n");
    refuses(&["--reward", "ocr", "--prompts", "two.txt", "alone.jpg"], "2 prompts, and there are 1 images");
    refuses(&["--reward", "ocr", "--prompts", "two.txt", "alone.jpg", "alone.jpg"], "cannot judge");
    mini.write("text.png", "not an image");
    refuses(&["--reward", "looks", "text.png"], "text.png is no image");
    refuses(&["--reward", "looks", "nowhere.png"], "nowhere.png");
    refuses(&["--reward", "nothing", "alone.jpg"], "no reward is named `nothing`");
    refuses(&["--reward", "pickscore", "alone.jpg", "--prompts", "two.txt"], "2 prompts");
    mini.write("one.txt", "a cat\n");
    refuses(&["--reward", "pickscore", "alone.jpg", "--prompts", "one.txt"], "--part NAME=PATH");
    std::fs::create_dir(mini.path("empty")).unwrap();
    refuses(&["--reward", "looks", "empty"], "no image in");
    let bytes = std::fs::read(mini.path("alone.jpg")).unwrap();
    std::fs::write(mini.path("cut.png"), &bytes[..bytes.len() / 2]).unwrap();
    refuses(&["--reward", "looks", "cut.png"], "cut.png is no image that can be read");
}

#[test]
fn the_page_about_it_runs_as_it_stands() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/how-to/score.md");
    let mini = Mini::new();
    let blocks = crate::tutorial::blocks(&std::fs::read_to_string(page).unwrap());
    let commands: Vec<&str> =
        blocks.iter().flat_map(|(_, text)| text.lines().filter_map(|l| l.strip_prefix("$ "))).collect();
    assert_eq!(commands.len(), 6);
    let said: Vec<String> = commands.iter().map(|command| crate::tutorial::typed(&mini, command)).collect();
    assert!(said[1].contains("2 images, mean ") && said[3].lines().next().unwrap().contains("exact"), "{said:?}");
    let lines = |name: &str| std::fs::read_to_string(mini.path(name)).unwrap().lines().count();
    assert_eq!((lines("scores.csv"), lines("scores.jsonl")), (3, 2));
}
