//! Rewards behind a server that a test runs: a chat model trains, chooses and scores, goes away and comes back.

use crate::common::{Ran, finish};
use crate::hostile::{Does, Request, Server, chat};
use crate::space::{Mini, lasting};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const TOKEN: &str = "sk-nobody-may-see-this";

const RECIPE: &str = r#"opdflow: 1
name: served
seed: 1
vars: {iterations: 4}
stages:
  base: {uses: base_model, with: {source: "bundled:mini"}}
  words: {uses: prompts, with: {files: {train: words.txt}}}
  judge:
    uses: served_reward
    with: {reward: my_judge, protocol: {chat: {model: m, template: "Rate [{prompt}]", parser: unified_reward, image_size: 24}}}
  teacher:
    uses: train_teacher
    needs: {base: base.model, prompts: words.train, reward_models: {my_judge: judge.reward_model}}
    with:
      algorithm: {diffusion_nft: {timesteps: 1}}
      reward: {my_judge: 1.0, looks: 0.5}
      iterations: "${iterations}"
      candidates_every: 2
      sampling: {prompts: 2, group_size: 2, num_inference_steps: 2}
      lora: {rank: 1, alpha: 1}
      requests: {patience_seconds: 1, timeout_seconds: 5}
  best:
    uses: select_checkpoint
    needs: {base: base.model, candidates: teacher.candidates, prompts: {my_judge: words.train}, reward_models: {my_judge: judge.reward_model}}
    with: {maximize: my_judge, sampling: {num_inference_steps: 1}}
  scores:
    uses: evaluate
    needs: {base: base.model, lora: best.lora, prompts: {words: words.train}, reward_models: {my_judge: judge.reward_model}, held_out: {my_judge: judge.reward_model}}
    with: {rewards: {words: [my_judge, looks]}, sampling: {num_inference_steps: 1}, keep: 0, requests: {patience_seconds: 1}}
"#;

fn space() -> Mini {
    let mini = Mini::new();
    mini.write("words.txt", "a red dot\na sea\n");
    mini.write("r.yaml", RECIPE);
    mini
}

/// A command with the variables of the reward `my_judge`.
fn run(mini: &Mini, args: &[&str], variables: &[(&str, &str)]) -> Ran {
    finish(mini.prepared(args).envs(variables.iter().copied()).spawn().expect("the program starts"))
}

fn at(mini: &Mini, args: &[&str], url: &str) -> Ran {
    run(mini, args, &[("OPDFLOW_REWARD_MY_JUDGE_URL", url), ("OPDFLOW_REWARD_MY_JUDGE_TOKEN", TOKEN)])
}

/// A score that hangs on what was asked, and on nothing else.
fn number(request: &Request) -> String {
    let sum = request.body.bytes().fold(7_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(b)));
    format!("Final Score: {:.3}", 1.0 + (sum % 4001) as f64 / 1000.0)
}

/// Whether some file below this folder holds these bytes.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(folder).into_iter().flatten().flatten().any(|entry| {
        let path = entry.path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        std::fs::read(&path).is_ok_and(|found| found.windows(bytes.len()).any(|w| w == bytes))
    })
}

/// The plan says how often it is asked, and so often it is: 4 rounds of 4 images, 2 candidates with 2, and 2 images, which are held
/// out too and asked about once.
#[test]
fn a_chat_model_trains_chooses_and_scores() {
    let mini = space();
    let server = Server::new(|_, request| chat(&number(request)));
    let plan = at(&mini, &["plan", "r.yaml"], &server.url).expect(0).stdout;
    assert!(plan.contains("requests to the server of `my_judge`: at most 24 (teacher 16, best 4, scores 4)"), "{plan}");
    let calls = at(&mini, &["plan", "r.yaml", "--json"], &server.url).expect(0).json();
    let of = |stage: &str| {
        calls["stages"].as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap()["calls"].clone()
    };
    assert_eq!(of("teacher"), serde_json::json!([{"of": "my_judge", "most": 16}]));
    assert!(server.seen().is_empty(), "a plan asks nobody");

    let ran = at(&mini, &["run", "r.yaml", "--json"], &server.url).expect(0);
    assert_eq!(server.asked(), 22);
    assert!(server.seen().iter().all(|r| r.headers.contains(&format!("authorization: Bearer {TOKEN}"))));
    for secret in [TOKEN, server.url.as_str()] {
        for place in [mini.store(), mini.path(".opdflow")] {
            assert!(!holds(&place, secret.as_bytes()), "{secret} is somewhere in {}", place.display());
        }
        assert!(!ran.stdout.contains(secret) && !ran.stderr.contains(secret));
    }
    at(&mini, &["get", "r.yaml", "scores.answers", "-o", "answers.jsonl"], &server.url).expect(0);
    let answers = std::fs::read_to_string(mini.path("answers.jsonl")).unwrap();
    assert_eq!(answers.lines().count(), 2);
    let mut mean = 0.0;
    for line in answers.lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let read: f64 = answer["answer"].as_str().unwrap().strip_prefix("Final Score: ").unwrap().parse().unwrap();
        assert_eq!(answer["value"].as_f64().unwrap(), read / 5.0);
        mean += read / 5.0 / 2.0;
    }
    at(&mini, &["get", "r.yaml", "scores.scores", "-o", "scores.json"], &server.url).expect(0);
    let scores: Value = serde_json::from_str(&std::fs::read_to_string(mini.path("scores.json")).unwrap()).unwrap();
    for column in ["my_judge", "held_out.my_judge"] {
        let found = scores["sets"]["words"][column]["mean"].as_f64().unwrap();
        assert!((found - mean).abs() < 1e-12, "{column}: {found} is not {mean}");
    }
    assert_eq!(mini.events_of("metric").iter().filter(|m| m["name"] == "reward.my_judge").count(), 4);
    // Where it is and what opens it are in no key.
    let again =
        run(&mini, &["run", "r.yaml", "--json"], &[("OPDFLOW_REWARD_MY_JUDGE_URL", "http://127.0.0.1:9/v1")]).expect(0);
    assert!(again.verdicts().values().all(|v| v == "hit"), "{:?}", again.verdicts());
    // The question is.
    mini.edit("r.yaml", "Rate [{prompt}]", "Judge [{prompt}]");
    let plan = at(&mini, &["plan", "r.yaml", "--json"], &server.url).expect(0).json();
    let verdict = |stage: &str| {
        plan["stages"].as_array().unwrap().iter().find(|s| s["stage"] == stage).unwrap()["verdict"].clone()
    };
    assert_eq!((verdict("base"), verdict("judge")), ("hit".into(), "run".into()));
}

/// A server that goes away in the middle: the stage waits, stops at a checkpoint, and the same command goes on to the bytes of a run
/// that nobody disturbed, asking nothing twice.
#[test]
fn a_server_that_goes_away_stops_the_run_at_a_checkpoint() {
    let calm = {
        let (mini, server) = (space(), Server::new(|_, request| chat(&number(request))));
        lasting(&at(&mini, &["run", "r.yaml", "--json"], &server.url).expect(0))
    };
    let mini = space();
    let good: Arc<AtomicUsize> = Arc::new(AtomicUsize::new(6));
    let (left, answered) = (good.clone(), Arc::new(AtomicUsize::new(0)));
    let count = answered.clone();
    let server = Server::new(move |_, request| {
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_err() {
            return Does::Says(503, "out for lunch".to_owned());
        }
        count.fetch_add(1, Ordering::SeqCst);
        chat(&number(request))
    });
    let stopped = at(&mini, &["run", "r.yaml", "--plain"], &server.url).expect(75);
    let said = stopped.stdout + &stopped.stderr;
    for part in ["`my_judge`", "answers 503: out for lunch", "127.0.0.1:", "run the same command again"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    // Once more in the middle of the scoring, where there is no round to go back to.
    good.store(10 + 4 + 1, Ordering::SeqCst);
    at(&mini, &["run", "r.yaml", "--json"], &server.url).expect(75);
    assert!(mini.events_of("done").iter().any(|e| e["stage"] == "best"));
    good.store(1000, Ordering::SeqCst);
    let ran = at(&mini, &["run", "r.yaml", "--json"], &server.url).expect(0);
    assert_eq!(lasting(&ran), calm);
    assert_eq!(answered.load(Ordering::SeqCst), 22, "nothing is asked twice");
}

/// Two processes of a stage ask for an image each, and leave what one leaves; all answers are kept, and where the server goes away both
/// stop at the checkpoint.
#[test]
fn several_processes_ask_for_their_own_images() {
    let server = Server::new(|_, request| chat(&number(request)));
    let alone = space();
    let calm = lasting(&at(&alone, &["run", "r.yaml", "--json"], &server.url).expect(0));
    let mini = space();
    for kind in ["train_teacher", "evaluate"] {
        mini.edit("r.yaml", &format!("uses: {kind}\n"), &format!("uses: {kind}\n    resources: {{ranks: 2}}\n"));
    }
    let left = Arc::new(AtomicUsize::new(7));
    let count = left.clone();
    let goes = Server::new(move |_, request| {
        match count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) {
            Ok(_) => chat(&number(request)),
            Err(_) => Does::Says(503, String::new()),
        }
    });
    at(&mini, &["run", "r.yaml", "--json"], &goes.url).expect(75);
    left.store(100, Ordering::SeqCst);
    let ran = at(&mini, &["run", "r.yaml", "--json"], &goes.url).expect(0);
    assert_eq!(lasting(&ran), calm);
    assert_eq!(100 - left.load(Ordering::SeqCst), 22 - 7, "nothing is asked twice");
    for (space, name) in [(&alone, "one"), (&mini, "two")] {
        at(space, &["get", "r.yaml", "teacher.answers", "-o", name], &server.url).expect(0);
    }
    let read = |space: &Mini, name: &str| std::fs::read_to_string(space.path(name)).unwrap();
    assert_eq!(read(&alone, "one"), read(&mini, "two"));
    assert_eq!(read(&alone, "one").lines().count(), 16);
}

/// The shipped recipe asks in the published words, with images of the published size, and shows the scale from 1 to 5.
#[test]
fn the_full_size_recipe_asks_unified_reward_as_published() {
    let mini = Mini::new();
    let server = Server::new(|_, _| chat("Final Score: 4.5"));
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/sd35");
    let (recipe, vars) = (shipped.join("unified_reward.yaml"), shipped.join("tiny.vars.yaml"));
    let (recipe, vars) = (recipe.to_str().unwrap(), vars.to_str().unwrap());
    let variables = [("OPDFLOW_REWARD_UNIFIEDREWARD_URL", server.url.as_str())];
    run(&mini, &["run", recipe, "--vars", vars, "--until=base_scores"], &variables).expect(0);
    run(&mini, &["get", recipe, "--vars", vars, "base_scores.scores", "-o", "s.json"], &variables).expect(0);
    let scores: Value = serde_json::from_str(&std::fs::read_to_string(mini.path("s.json")).unwrap()).unwrap();
    let of = |column: &str| scores["sets"]["drawbench"][column]["mean"].as_f64().unwrap();
    assert_eq!((of("unifiedreward"), of("unifiedreward.raw")), (0.9, 4.5));
    let asked = server.seen().into_iter().find(|r| r.line.starts_with("POST")).unwrap();
    assert!(asked.line.starts_with("POST /v1/chat/completions "), "{}", asked.line);
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((&body["model"], &body["temperature"]), (&"UnifiedReward-7b-v1.5".into(), &0.into()));
    let content = &body["messages"][0]["content"];
    let words = content[1]["text"].as_str().unwrap();
    assert!(
        words.starts_with("<image>\nYou are given a text caption") && words.contains("after 'Final Score:'"),
        "{words}"
    );
    // The head of the PNG: width and height as four bytes each, from the 16th on.
    let url = content[0]["image_url"]["url"].as_str().unwrap();
    let head = url.strip_prefix("data:image/png;base64,").unwrap();
    assert!(head.starts_with("iVBORw0KGgoAAAANSUhEUgAAAgAAAAIA"), "{head:.40}");
}

/// A server that is not there, or not named, is said before the first step; a limit of calls stops at what was paid for.
#[test]
fn what_is_missing_is_said_first_and_a_limit_stops() {
    let mini = space();
    let said = run(&mini, &["run", "r.yaml"], &[]).expect(2).stderr;
    for part in ["E051", "OPDFLOW_REWARD_MY_JUDGE_URL", "`my_judge` is asked of a server"] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
    run(&mini, &["check", "r.yaml"], &[]).expect(0);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = at(&mini, &["run", "r.yaml", "--plain"], &format!("http://{free}/v1")).expect(1);
    let said = said.stdout + &said.stderr;
    assert!(said.contains("takes no connection") && said.contains("OPDFLOW_REWARD_MY_JUDGE_URL"), "{said}");
    assert!(mini.events_of("metric").is_empty());

    let server = Server::new(|_, request| chat(&number(request)));
    mini.edit("r.yaml", "{patience_seconds: 1, timeout_seconds: 5}", "{max_calls: 5}");
    let said = at(&mini, &["run", "r.yaml", "--plain"], &server.url).expect(1);
    let said = said.stdout + &said.stderr;
    assert!(said.contains("`requests.max_calls` of 5 is reached") && server.asked() == 5, "{said}");
    mini.edit("r.yaml", "max_calls: 5", "max_calls: 16");
    at(&mini, &["run", "r.yaml", "--until=teacher"], &server.url).expect(0);
    assert_eq!(server.asked(), 16, "what was answered is not asked again");
}

/// An answer without a number ends the stage with the image, its prompt and the words.
#[test]
fn an_answer_without_a_number_is_no_nought() {
    let mini = space();
    let server =
        Server::new(|n, request| chat(&if n < 5 { number(request) } else { "I would rather not.".to_owned() }));
    let said = at(&mini, &["run", "r.yaml", "--plain", "--until=teacher"], &server.url).expect(1);
    let said = said.stdout + &said.stderr;
    for part in ["`my_judge` has no score for image", "of the prompt \"a ", "I would rather not."] {
        assert!(said.contains(part), "no `{part}` in\n{said}");
    }
}

/// Ctrl-C does not wait for a server that hangs.
#[test]
fn an_interrupt_does_not_wait_for_the_server() {
    let mini = space();
    let server =
        Server::new(|n, request| if n < 4 { chat(&number(request)) } else { Does::Hangs(Duration::from_secs(60)) });
    mini.edit("r.yaml", "timeout_seconds: 5", "timeout_seconds: 50");
    let mut command = mini.prepared(&["run", "r.yaml", "--json", "--until=teacher"]);
    let run = command.env("OPDFLOW_REWARD_MY_JUDGE_URL", &server.url).spawn().unwrap();
    mini.wait_for("checkpointed", |e| e["stage"] == "teacher");
    while server.asked() < 5 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let began = std::time::Instant::now();
    crate::common::signal(crate::common::pid(&run), libc::SIGINT);
    finish(run).expect(75);
    assert!(began.elapsed() < Duration::from_secs(20));
}

/// Names: a misspelt one, a taken one, and a measure that there is not.
#[test]
fn what_does_not_fit_is_said_before_anything_runs() {
    for (from, to, parts) in [
        (
            "{my_judge: 1.0, looks: 0.5}",
            "{my_jugde: 1.0}",
            &["E044", "no reward is named `my_jugde`", "of servers there is `my_judge` here", "there are geneval"][..],
        ),
        (
            "{my_judge: 1.0, looks: 0.5}",
            "{my_judge.style: 1.0}",
            &["E045", "`my_judge` has no measure `style`", "it has raw"],
        ),
        (
            "reward: my_judge,",
            "reward: pickscore,",
            &["E043", "`pickscore` is a name of the program's own", "pickscore_served"],
        ),
        ("reward: my_judge,", "reward: My-Judge,", &["E043", "no name of a served reward", "small letter"]),
        ("reward: my_judge,", "reward: other,", &["E045", "judges by `other`, not by `my_judge`"]),
        ("parser: unified_reward", "parser: {number: {min: 5, max: 1}}", &["E043", "no number lies between 5 and 1"]),
        ("\"Rate [{prompt}]\"", "\"bundled:unified\"", &["E043", "no template is bundled as `bundled:unified`"]),
        ("patience_seconds: 1,", "patience_seconds: -1,", &["E043", "requests.patience_seconds"]),
    ] {
        let mini = space();
        mini.edit("r.yaml", from, to);
        let ran = run(&mini, &["check", "r.yaml"], &[]);
        assert!(ran.code == 2 || ran.code == 3, "{}{}", ran.stdout, ran.stderr);
        for part in parts {
            assert!(ran.stderr.contains(part), "no `{part}` in\n{}", ran.stderr);
        }
    }
}

/// What docs/how-to/served-reward.md shows is taken as it stands there: each block of stages, in a recipe that has the base and the
/// words.
#[test]
fn the_page_s_stages_are_taken_as_they_stand() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/how-to/served-reward.md");
    let page = std::fs::read_to_string(page).unwrap();
    let blocks: Vec<&str> = page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let stages: Vec<&&str> = blocks.iter().filter(|block| block.starts_with("  judge:")).collect();
    assert_eq!((blocks.len(), stages.len()), (5, 3));
    for block in stages {
        let mini = space();
        let head = "opdflow: 1\nname: page\nseed: 1\nstages:\n  base: {uses: base_model, with: {source: \"bundled:mini\"}}\n  \
                    words: {uses: prompts, with: {files: {train: words.txt, test: words.txt}}}\n";
        mini.write("page.yaml", &format!("{head}{block}"));
        run(&mini, &["check", "page.yaml"], &[]).expect(0);
    }
    // The last belongs to a stage that judges.
    let requests =
        blocks.iter().find(|block| block.contains("requests")).unwrap().trim().strip_prefix("with: {").unwrap();
    let mini = space();
    mini.edit("r.yaml", "requests: {patience_seconds: 1, timeout_seconds: 5}", requests.strip_suffix("}").unwrap());
    run(&mini, &["check", "r.yaml"], &[]).expect(0);
}

/// GenEval 2 and DPG-Bench: the user's files as published, a chat model that is asked each question, the published rules.
#[test]
fn benchmarks_of_questions_are_evaluated() {
    // Whoever is asked about a dog is told no, and all else is so with a probability of 0.8.
    let server = Server::new(|_, request| {
        if !request.body.contains("top_logprobs") {
            return chat(if request.body.contains("dog") { "no" } else { "yes" });
        }
        let right = if request.body.contains("How many") { "two" } else { "Yes" };
        let p: f64 = if request.body.contains("dog") { 0.1 } else { 0.8 };
        let top = serde_json::json!([{"token": right, "logprob": p.ln()}, {"token": "what", "logprob": -5.0}]);
        let body = serde_json::json!({"choices": [{"message": {"content": right}, "finish_reason": "length",
            "logprobs": {"content": [{"token": right, "logprob": p.ln(), "top_logprobs": top}]}}]});
        Does::Says(200, body.to_string())
    });
    let mini = Mini::new();
    let geneval2 = r#"{"prompt": "two cats", "atom_count": 1, "vqa_list": [["How many cats are in the image?", "two"], ["Are there any cats in the image?", "Yes"]], "skills": ["count", "object"]}
{"prompt": "a red dog", "atom_count": 1, "vqa_list": [["Is the dog red?", "Yes"]], "skills": ["attribute"]}
"#;
    mini.write("geneval2.jsonl", geneval2);
    let head = "item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language\n";
    let rows = "a,a dog with a red hat,,1,0,entity,whole,,Is there a dog?\na,a dog with a red hat,,2,1,entity,part,,Is there a hat?\na,a dog with a red hat,,3,0,global,,,Is there something red?\n";
    mini.write("dpg.csv", &(head.to_owned() + rows));
    let recipe = r#"opdflow: 1
name: questions
stages:
  base: {uses: base_model, with: {source: "bundled:mini"}}
  two: {uses: prompts, with: {files: {test: geneval2.jsonl}}}
  dense: {uses: prompts, with: {files: {test: dpg.csv}}}
  tifa: {uses: served_reward, with: {reward: geneval2, protocol: {chat: {model: m, template: "{prompt} Answer in one word.", parser: soft_tifa}}}}
  dpg: {uses: served_reward, with: {reward: dpg, protocol: {chat: {model: m, template: "{prompt}", parser: dpg_bench}}}}
  scores:
    uses: evaluate
    needs: {base: base.model, prompts: {geneval2: two.test, dpg: dense.test}, reward_models: {geneval2: tifa.reward_model, dpg: dpg.reward_model}}
    with: {sampling: {num_inference_steps: 1}, keep: 0, num_images_per_prompt: {dpg: 2}}
  table1:
    uses: table
    needs: {scores: {base: scores.scores}}
    with: {rows: [{scores: base, title: base}]}
"#;
    mini.write("r.yaml", recipe);
    let variables =
        [("OPDFLOW_REWARD_GENEVAL2_URL", server.url.as_str()), ("OPDFLOW_REWARD_DPG_URL", server.url.as_str())];
    // Three questions of GenEval 2, and three of DPG-Bench about each of two images.
    let plan = run(&mini, &["plan", "r.yaml"], &variables).expect(0).stdout;
    for says in ["of `geneval2`: at most 3 (scores 3)", "of `dpg`: at most 6 (scores 6)"] {
        assert!(plan.contains(&format!("requests to the server {says}")), "{plan}");
    }
    run(&mini, &["run", "r.yaml", "--json"], &variables).expect(0);
    assert_eq!(server.asked(), 9);
    run(&mini, &["get", "r.yaml", "scores.scores", "-o", "scores.json"], &[]).expect(0);
    let scores: Value = serde_json::from_str(&std::fs::read_to_string(mini.path("scores.json")).unwrap()).unwrap();
    let mean = |set: &str, column: &str| scores["sets"][set][column]["mean"].as_f64().unwrap();
    // 0.8 twice and 0.1 once: the mean of two prompts.
    assert!(
        (mean("geneval2", "geneval2") - 0.45).abs() < 1e-9 && (mean("geneval2", "geneval2.mean") - 0.45).abs() < 1e-9
    );
    // No dog, and so no hat: one of three, where two were answered with yes.
    assert!(
        (mean("dpg", "dpg") - 1.0 / 3.0).abs() < 1e-9 && (mean("dpg", "dpg.unconditional") - 2.0 / 3.0).abs() < 1e-9
    );
    // Prompts without questions are found before anything runs.
    mini.write("geneval2.jsonl", "a red dog\n");
    let said = run(&mini, &["check", "r.yaml"], &variables).expect(2).stderr;
    assert!(said.contains("has no questions about its image") && said.contains("GenEval 2"), "{said}");
    mini.write("geneval2.jsonl", &geneval2.replace(r#", "skills": ["attribute"]"#, r#", "skills": []"#));
    let said = run(&mini, &["check", "r.yaml"], &variables).expect(2).stderr;
    assert!(said.contains("geneval2.jsonl:2") && said.contains("`skills` is not as long"), "{said}");
    mini.write("geneval2.jsonl", geneval2);
    mini.write("dpg.csv", &(head.to_owned() + &rows.replace(",2,1,", ",2,7,")));
    let said = run(&mini, &["check", "r.yaml"], &variables).expect(2).stderr;
    assert!(said.contains("row 3 of DPG-Bench") && said.contains("`dependency` names 7"), "{said}");
}
