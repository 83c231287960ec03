//! A real HTTP server on loopback that answers, and that lies, hangs, breaks off, refuses, floods and drips.

#![allow(dead_code, missing_docs, reason = "each test program uses a part of it")]

use std::io::{BufRead as _, BufReader, Read as _, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does with one request.
#[derive(Clone, Debug)]
pub enum Does {
    /// An answer of this status with a body.
    Says(u16, String),
    /// The same with one more header.
    With(u16, &'static str, String),
    /// Nothing, for so long, and then it closes.
    Hangs(Duration),
    /// It says that more is to come than does.
    Half,
    /// It closes without a word.
    Closes,
    /// A body of so many bytes.
    Floods(usize),
    /// A byte each so often.
    Drips(Duration),
    /// Something that is no HTTP.
    Garbage,
    /// Chunks whose sizes are no numbers.
    BadChunks,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

pub struct Server {
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    most: Arc<AtomicUsize>,
}

impl Server {
    /// A server that does with the n-th POST what `does` says of it; a GET is answered well.
    pub fn new(does: impl Fn(usize, &Request) -> Does + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let seen: Arc<Mutex<Vec<Request>>> = Arc::default();
        let (most, now, posts) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let does = Arc::new(does);
        let shared = (seen.clone(), most.clone(), Arc::new(posts));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (does, (seen, most, posts), now) = (does.clone(), shared.clone(), now.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                    while let Some(request) = read(&mut reader) {
                        seen.lock().expect("whole").push(request.clone());
                        let doing = if request.line.starts_with("POST") {
                            does(posts.fetch_add(1, Ordering::SeqCst), &request)
                        } else {
                            Does::Says(200, r#"{"data": [{"id": "m"}]}"#.to_owned())
                        };
                        most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                        let on = act(&stream, &doing);
                        now.fetch_sub(1, Ordering::SeqCst);
                        if !on {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, seen, most }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("whole").clone()
    }

    /// How many of them were POSTs.
    pub fn asked(&self) -> usize {
        self.seen().iter().filter(|r| r.line.starts_with("POST")).count()
    }

    /// The most that were answered at a time.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let length = lines.iter().find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    let (line, headers) = lines.split_first()?;
    Some(Request { line: line.clone(), headers: headers.to_vec(), body: String::from_utf8_lossy(&body).into_owned() })
}

/// Whether the connection goes on.
fn act(mut stream: &TcpStream, does: &Does) -> bool {
    let head = |status: u16, length: usize| format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n");
    let mut say = |bytes: &[u8]| stream.write_all(bytes).is_ok();
    match does {
        Does::Says(status, body) => say((head(*status, body.len()) + "\r\n" + body).as_bytes()),
        Does::With(status, header, body) => say((head(*status, body.len()) + header + "\r\n\r\n" + body).as_bytes()),
        Does::Hangs(time) => {
            std::thread::sleep(*time);
            false
        }
        Does::Half => {
            say((head(200, 1000) + "\r\n{\"choices\": [{\"mess").as_bytes());
            false
        }
        Does::Closes => false,
        Does::Floods(bytes) => {
            say((head(200, *bytes) + "\r\n").as_bytes());
            let block = vec![b' '; 1 << 16];
            (0..bytes / block.len()).all(|_| say(&block))
        }
        Does::Drips(pause) => {
            say((head(200, 10_000) + "\r\n").as_bytes());
            for _ in 0..10_000 {
                std::thread::sleep(*pause);
                if !say(b" ") {
                    return false;
                }
            }
            true
        }
        Does::Garbage => {
            say(b"\0\xff\xfenot http at all\r\n\r\n");
            false
        }
        Does::BadChunks => {
            say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n");
            false
        }
    }
}

/// An answer of a chat model with these words.
pub fn chat(words: &str) -> Does {
    let body =
        serde_json::json!({"choices": [{"message": {"role": "assistant", "content": words}, "finish_reason": "stop"}]});
    Does::Says(200, body.to_string())
}
