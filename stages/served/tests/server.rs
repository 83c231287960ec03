//! A reward as a server, asked over a real connection.
#![cfg(feature = "server")]

use base64::Engine as _;
use opdflow_rewards::{Image, Looks, Reward, RewardError, Score, Subject};
use opdflow_served::protocol::{Form, Health};
use opdflow_served::server::{Limits, Served, serve};
use opdflow_served::{Answers, Client, Judge};
use opdflow_spec::served::{Endpoint, Pinned, Protocol, Requests};
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

struct Running {
    url: String,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn running(reward: impl Reward + 'static, form: Form, token: Option<&str>, limits: Limits) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let measures = ["colourfulness", "contrast", "smoothness"].map(str::to_owned).to_vec();
    let health = Health { name: "looks".into(), version: "1".into(), digest: "d1".into(), measures, form };
    let served = Served { reward: Arc::new(reward), health, token: token.map(str::to_owned), limits };
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let thread = std::thread::spawn(move || serve(served, listener, move || flag.load(Ordering::SeqCst)).unwrap());
    Running { url, stop, thread: Some(thread) }
}

fn judge(url: &str, token: &str, digest: &str) -> Result<Judge, RewardError> {
    let (at, with) = (url.to_owned(), token.to_owned());
    let endpoint =
        Endpoint::from("far", |name| Some(if name.ends_with("_URL") { at.clone() } else { with.clone() })).unwrap();
    let requests = Requests { concurrency: 4, timeout_seconds: 10.0, patience_seconds: 2.0, max_calls: None };
    let client = Client::new("far", endpoint, requests, Arc::<Answers>::default(), Arc::new(|| false));
    let pinned = Pinned { digest: digest.to_owned(), measures: vec!["contrast".to_owned()] };
    let served = opdflow_spec::served::Served { reward: "far".to_owned(), protocol: Protocol::Opdflow(pinned) };
    Judge::open(served, client, |image, _, _| image.clone())
}

fn images(count: usize) -> Vec<Image> {
    let pixel = |i: usize, at: usize| (i * 37 + at * at * 13 + at * 7) as u8;
    (0..count)
        .map(|i| Image::new(5 + i % 3, 4, (0..(5 + i % 3) * 12).map(|at| pixel(i, at)).collect()).unwrap())
        .collect()
}

fn subject(text: &str) -> Subject<'_> {
    Subject { text, target: Some("x"), ..Subject::default() }
}

/// Scores through the server are those of the process itself, to the last bit, in both forms.
#[test]
fn scores_are_those_of_the_process_itself() {
    let (images, subjects) = (images(50), vec![subject("a \"dog\"\n\u{1F600}"); 50]);
    let here: Vec<Score> = Looks.score(&images, &subjects).unwrap();
    for form in [Form::Png, Form::Rgb] {
        let server = running(Looks, form, Some("s3cret"), Limits::default());
        let there = judge(&server.url, "s3cret", "d1").unwrap().score(&images, &subjects).unwrap();
        let bits = |scores: &[Score]| -> Vec<(u64, Vec<u64>)> {
            scores.iter().map(|s| (s.value.to_bits(), s.parts.values().map(|v| v.to_bits()).collect())).collect()
        };
        assert_eq!(bits(&here), bits(&there), "{form:?}");
    }
}

#[test]
fn another_digest_or_token_is_refused_before_the_first_image() {
    let server = running(Looks, Form::Png, Some("s3cret"), Limits::default());
    let said = |token: &str, digest: &str| judge(&server.url, token, digest).err().unwrap().to_string();
    assert!(said("s3cret", "d2").contains("its digest is `d1`, and the recipe pins `d2`"));
    for token in ["", "s3cre", "s3crets", "S3CRET"] {
        let words = said(token, "d1");
        assert!(words.contains("answers 401") && words.contains("OPDFLOW_REWARD_FAR_TOKEN"), "{words}");
    }
}

/// A request as bytes, and the status and body that come back.
fn raw(url: &str, request: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let _ = stream.write_all(request);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
    (status, text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned()))
}

fn posted(url: &str, body: &str) -> (u16, String) {
    let head =
        format!("POST /v1/score HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    raw(url, (head + body).as_bytes())
}

/// What does not fit is refused by name, and the server goes on.
#[test]
fn what_does_not_fit_is_refused_by_name() {
    let limits = Limits { bytes: 4096, images: 2, side: 8, time: Duration::from_millis(300), waiting: 4 };
    let server = running(Looks, Form::Png, None, limits);
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let png = |w, h| encode(&opdflow_served::png(&Image::new(w, h, vec![9; w * h * 3]).unwrap()).unwrap());
    let one = |image: String, shape: Value| {
        json!({"form": if shape.is_null() { "png" } else { "rgb" }, "images": [image],
        "shapes": if shape.is_null() { json!([]) } else { json!([shape]) }, "subjects": [{"text": "a"}]})
        .to_string()
    };
    for (body, status, word) in [
        ("".to_owned(), 400, "no question"),
        ("[[[[".to_owned(), 400, "no question"),
        (json!({"images": ["x"], "subjects": []}).to_string(), 400, "1 images, 0 subjects"),
        (
            json!({"images": ["", "", ""], "subjects": [{"text": ""}, {"text": ""}, {"text": ""}]}).to_string(),
            413,
            "at most 2 at once",
        ),
        (one("*".to_owned(), Value::Null), 400, "image 0"),
        (one(encode(b"no png"), Value::Null), 400, "image 0"),
        (one(png(9, 2), Value::Null), 400, "9x2; a side has at most 8"),
        (one(encode(&[0; 12]), json!([2, 3, 3])), 400, "12 bytes for the shape 2 x 3 x 3"),
        (one(encode(&[0; 12]), json!([2, 2, 4])), 400, "2 x 2 x 4"),
        (one(encode(&[0; 12]), json!([u64::MAX, 2, 3])), 400, "pixels a side"),
        ("x".repeat(5000), 413, "at most 4096 bytes"),
    ] {
        let (found, text) = posted(&server.url, &body);
        assert_eq!(found, status, "{body:.60}: {text}");
        assert!(text.contains(word), "{body:.60}: {text}");
    }
    assert_eq!(posted(&server.url, &one(png(4, 4), Value::Null)).0, 200);
    let get = |path: &str| {
        raw(&server.url, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
    };
    assert_eq!((get("/v1/health").0, get("/v1/score").0, get("/").0), (200, 405, 404));
    // A body that does not come.
    let (status, text) =
        raw(&server.url, b"POST /v1/score HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 100\r\n\r\n{");
    assert!(status == 408 && text.contains("did not come"), "{status} {text}");
    assert_eq!(posted(&server.url, &one(png(4, 4), Value::Null)).0, 200);
}

/// A reward that takes its time.
struct Slow(Duration);

impl Reward for Slow {
    fn name(&self) -> &str {
        "slow"
    }
    fn applies(&self, _: &Subject) -> bool {
        true
    }
    fn score(&self, images: &[Image], _: &[Subject]) -> Result<Vec<Score>, RewardError> {
        std::thread::sleep(self.0);
        Ok(vec![Score::new(1.0, [("contrast", 0.5)]); images.len()])
    }
}

/// When it is to end, what has begun is answered, and nothing more is taken; those who wait in excess are told to come again.
#[test]
fn it_ends_gracefully_and_turns_away_what_is_too_much() {
    let server = running(Slow(Duration::from_millis(700)), Form::Png, None, Limits { waiting: 2, ..Limits::default() });
    let body = json!({"images": [], "subjects": []}).to_string();
    let ask = |url: String, body: String| std::thread::spawn(move || posted(&url, &body));
    let all: Vec<_> = (0..5).map(|_| ask(server.url.clone(), body.clone())).collect();
    let mut found: Vec<u16> = all.into_iter().map(|t| t.join().unwrap().0).collect();
    found.sort_unstable();
    assert_eq!(found, [200, 200, 503, 503, 503]);
    let last = ask(server.url.clone(), body);
    std::thread::sleep(Duration::from_millis(200));
    let (url, began) = (server.url.clone(), Instant::now());
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(last.join().unwrap().0, 200);
    assert!(TcpStream::connect(url.strip_prefix("http://").unwrap()).is_err());
}
