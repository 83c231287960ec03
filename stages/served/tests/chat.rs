//! A chat model as a reward, against a server that answers and one that does all else.

mod hostile;

use hostile::{Does, Server, chat};
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject};
use opdflow_served::{Answers, Client, Judge};
use opdflow_spec::served::{Endpoint, Requests, Served};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TOKEN: &str = "sk-very-secret";

fn served() -> Served {
    let text = r#"{"reward": "judge", "protocol": {"chat": {"model": "m", "template": "Rate [{prompt}]", "parser": "unified_reward"}}}"#;
    serde_json::from_str(text).unwrap()
}

fn quick() -> Requests {
    Requests { concurrency: 3, timeout_seconds: 0.4, patience_seconds: 1.5, max_calls: None }
}

struct Asked {
    answers: Arc<Answers>,
    stop: Arc<AtomicBool>,
    judge: Result<Judge, RewardError>,
}

fn open(url: &str, requests: Requests, answers: Arc<Answers>) -> Asked {
    let (url, stop) = (url.to_owned(), Arc::new(AtomicBool::new(false)));
    let endpoint =
        Endpoint::from("judge", |name| Some(if name.ends_with("_URL") { url.clone() } else { TOKEN.to_owned() }))
            .unwrap();
    let flag = stop.clone();
    let client =
        Client::new("judge", endpoint, requests, answers.clone(), Arc::new(move || flag.load(Ordering::SeqCst)));
    let judge = Judge::open(served(), client, |image, _, _| image.clone());
    Asked { answers, stop, judge }
}

fn images(count: usize) -> Vec<Image> {
    (0..count).map(|i| Image::new(2, 1, vec![i as u8; 6]).unwrap()).collect()
}

fn ask(asked: &Asked, count: usize) -> Result<Vec<Score>, RewardError> {
    let subject = |text| Subject { text, ..Subject::default() };
    let subjects: Vec<Subject> = (0..count).map(|i| subject(["a dog", "a cat"][i % 2])).collect();
    asked.judge.as_ref().unwrap().score(&images(count), &subjects)
}

/// The words of a failure; the token is in none.
#[track_caller]
fn words(url: &str, requests: Requests, count: usize) -> String {
    let asked = open(url, requests, Arc::default());
    let error = match &asked.judge {
        Ok(_) => ask(&asked, count).unwrap_err(),
        Err(_) => return asked.judge.err().unwrap().to_string(),
    };
    let words = error.to_string();
    assert!(!words.contains(TOKEN) && !format!("{error:?}").contains(TOKEN), "{words}");
    words
}

/// Each image has its own score, in order, whatever the order of the answers; the token goes in the header, and no more
/// are asked at a time than may be.
#[test]
fn scores_come_in_order_and_the_token_in_the_header() {
    let server = Server::new(|n, request| {
        std::thread::sleep(Duration::from_millis(if n % 3 == 0 { 40 } else { 5 }));
        let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
        chat(if body["messages"][0]["content"][1]["text"] == "Rate [a dog]" {
            "Final Score: 5"
        } else {
            "Final Score: 2.5"
        })
    });
    let asked = open(&server.url, quick(), Arc::default());
    let scores: Vec<f64> = ask(&asked, 12).unwrap().iter().map(|s| s.value).collect();
    assert_eq!(scores, [1.0, 0.5].repeat(6));
    assert_eq!(server.asked(), 12);
    assert!(server.most() <= 3, "{}", server.most());
    assert!(server.seen().iter().all(|r| r.headers.iter().any(|h| h == &format!("authorization: Bearer {TOKEN}"))));
    // What was answered is not asked again, and lies beside the number with the raw words.
    assert_eq!(ask(&asked, 12).unwrap().len(), 12);
    assert_eq!((server.asked(), asked.answers.len()), (12, 12));
    let folder = tempfile::tempdir().unwrap();
    asked.answers.write(&folder.path().join("a")).unwrap();
    let text = std::fs::read_to_string(folder.path().join("a")).unwrap();
    assert!(text.lines().count() == 12 && text.contains("\"answer\":\"Final Score: 2.5\"") && !text.contains(TOKEN));
    // Another attempt goes on from the file, and counts what was asked.
    let again: Arc<Answers> = Arc::default();
    again.read(&folder.path().join("a")).unwrap();
    let asked = open(&server.url, Requests { max_calls: Some(12), ..quick() }, again);
    assert_eq!(ask(&asked, 12).unwrap().iter().map(|s| s.value).collect::<Vec<_>>(), scores);
    assert_eq!(server.asked(), 12);
    let more = ask(&asked, 13).unwrap_err();
    assert!(matches!(&more, RewardError::Spent { why, .. } if why.contains("`requests.max_calls` of 12")), "{more}");
}

/// Two equal images of one prompt are one question.
#[test]
fn equal_questions_are_asked_once() {
    let server = Server::new(|_, _| chat("Final Score: 4"));
    let asked = open(&server.url, quick(), Arc::default());
    let image = images(1).remove(0);
    let subject = Subject { text: "a dog", ..Subject::default() };
    let scores = asked.judge.as_ref().unwrap().score(&vec![image; 5], &[subject; 5]).unwrap();
    assert!(scores.iter().all(|s| s.value == 0.8) && server.asked() == 1, "{}", server.asked());
}

/// What passes is waited out: busy, broken, cut, slow, not HTTP, half an answer.
#[test]
fn what_passes_is_waited_out() {
    let html = || Does::Says(200, "<html>busy</html>".to_owned());
    let bad = [
        Does::Says(500, "oops".to_owned()),
        Does::Says(503, String::new()),
        Does::With(429, "retry-after: 0", "slow down".to_owned()),
        Does::Half,
        Does::Closes,
        Does::Garbage,
        Does::BadChunks,
        html(),
        Does::Hangs(Duration::from_secs(2)),
        Does::Drips(Duration::from_millis(150)),
    ];
    for bad in bad {
        let shown = format!("{bad:?}");
        let server = Server::new(move |n, _| if n == 0 { bad.clone() } else { chat("Final Score: 3") });
        let asked = open(&server.url, Requests { patience_seconds: 5.0, ..quick() }, Arc::default());
        let scores = ask(&asked, 1).unwrap_or_else(|e| panic!("{shown}: {e}"));
        assert_eq!((scores[0].value, server.asked()), (0.6, 2), "{shown}");
    }
}

/// What does not pass within the patience is said with the host and the last words, and is no fault of what was asked.
#[test]
fn a_server_that_stays_away_is_said_to_be_away() {
    for (does, word) in [
        (Does::Says(500, format!("broken {TOKEN}")), "answers 500: broken ***"),
        (Does::Says(429, "slow down".to_owned()), "answers 429"),
        (Does::Closes, "broke the connection off"),
        (Does::Hangs(Duration::from_secs(9)), "gave no whole answer in time"),
        (Does::Drips(Duration::from_millis(100)), "gave no whole answer in time"),
    ] {
        let server = Server::new(move |_, _| does.clone());
        let asked = open(&server.url, quick(), Arc::default());
        let began = Instant::now();
        let error = ask(&asked, 2).unwrap_err();
        assert!(matches!(error, RewardError::Away { .. }), "{error}");
        let words = error.to_string();
        assert!(words.contains(word) && words.contains("127.0.0.1:") && !words.contains(TOKEN), "{words}");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

/// What no other try would change is refused at once, with the way out.
#[test]
fn what_does_not_pass_is_refused_at_once() {
    for (does, word, tries) in [
        (Does::Says(401, format!("no such key {TOKEN}")), "OPDFLOW_REWARD_JUDGE_TOKEN", 1),
        (Does::Says(400, "unknown model \u{1b}[2J".to_owned()), "unknown model \\u{1b}", 1),
        (
            Does::With(302, "location: http://elsewhere.example/", String::new()),
            "sends on to http://elsewhere.example/",
            1,
        ),
        (Does::Floods(50 << 20), "more than 1024 KiB", 1),
        (Does::Says(200, "[]".to_owned()), "what is no answer of it", 3),
        (Does::Says(200, r#"{"choices": []}"#.to_owned()), "0 answers to one question", 3),
    ] {
        let server = Server::new(move |_, _| does.clone());
        let words =
            words(&server.url, Requests { concurrency: 1, patience_seconds: 20.0, timeout_seconds: 5.0, ..quick() }, 1);
        assert!(words.contains(word), "{words}");
        assert_eq!(server.asked(), tries, "{words}");
    }
}

/// An answer without a number is never a nought: the first such image is named with its prompt and the answer.
#[test]
fn an_answer_without_a_number_names_the_sample() {
    let server = Server::new(|_, request| {
        chat(if request.body.contains("a cat") { "I cannot say\u{7}." } else { "Final Score: 3" })
    });
    let words = words(&server.url, quick(), 4);
    assert!(words.contains("no score for image 1, of the prompt \"a cat\""), "{words}");
    assert!(words.contains("no number after `Final Score:`: \"I cannot say\\u{7}.\""), "{words}");
}

/// Nobody there: said when the judge is opened, before anything is worth waiting for.
#[test]
fn nobody_there_is_said_before_the_first_image() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let began = Instant::now();
    let words = words(&format!("http://{free}/v1"), quick(), 1);
    assert!(words.contains("takes no connection") && words.contains("OPDFLOW_REWARD_JUDGE_URL"), "{words}");
    assert!(began.elapsed() < Duration::from_secs(5));
}

/// A stage that is asked to stop does not wait for a server that hangs.
#[test]
fn to_stop_does_not_wait_for_the_server() {
    let server = Server::new(|_, _| Does::Hangs(Duration::from_secs(30)));
    let asked = open(&server.url, Requests { timeout_seconds: 25.0, ..quick() }, Arc::default());
    let (stop, began) = (asked.stop.clone(), Instant::now());
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::SeqCst);
    });
    assert!(matches!(ask(&asked, 5).unwrap_err(), RewardError::Stopped(_)));
    assert!(began.elapsed() < Duration::from_secs(2));
}
