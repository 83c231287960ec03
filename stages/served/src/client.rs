//! A server that is asked again for as long as one waits for it.

use crate::answers::Answers;
use crate::http::{self, Lost, Received};
use opdflow_spec::served::{Endpoint, Requests, token_variable, url_variable};
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Whether the stage was asked to stop.
pub type Stop = Arc<dyn Fn() -> bool + Send + Sync>;

/// How long the first wait between two tries is, and the longest.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(30);

/// The longest that a server's `Retry-After` is obeyed.
const OBEYED: Duration = Duration::from_secs(120);

/// How often an answer that is no answer of the protocol is asked for again.
const AGAIN: u32 = 2;

/// How long one looks for a server before the first image.
const PROBED: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The server was away or busy for longer than one waits; the words go after "the server of the reward".
    Away(String),
    /// It says no, or is not what it should be. The second words are the way out.
    Refused(String, String),
    /// No more may be asked.
    Spent(String),
    /// The stage was asked to stop.
    Stopped,
}

/// A server of one reward.
pub struct Client {
    reward: String,
    endpoint: Endpoint,
    agent: ureq::Agent,
    requests: Requests,
    answers: Arc<Answers>,
    stop: Stop,
}

/// Why an answer is none.
#[derive(Clone, Debug, PartialEq)]
pub enum Unread {
    /// It is not of the protocol: half of one, or of a proxy on the way. It is asked for twice more.
    Malformed(String),
    /// The server is not the one that it should be. The second words are the way out.
    Other(String, String),
}

/// What one try gave.
enum Try<T> {
    Got(T),
    /// Another try may help, no sooner than this.
    Again(String, Option<Duration>),
    /// It was no answer of the protocol.
    Odd(String),
    /// No other will.
    No(Failure),
}

impl Client {
    /// A client of the server at `endpoint`. What it asks is counted in `answers`.
    #[must_use]
    pub fn new(reward: &str, endpoint: Endpoint, requests: Requests, answers: Arc<Answers>, stop: Stop) -> Self {
        let timeout = Duration::from_secs_f64(requests.timeout_seconds.clamp(0.05, 86_400.0));
        let agent = http::agent(&endpoint, timeout, requests.concurrency.max(1));
        Self { reward: reward.to_owned(), endpoint, agent, requests, answers, stop }
    }

    /// The reward.
    #[must_use]
    pub fn reward(&self) -> &str {
        &self.reward
    }

    /// Host and port of the server.
    #[must_use]
    pub fn host(&self) -> &str {
        self.endpoint.host()
    }

    /// Text of the server, fit for a message.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        self.endpoint.shown(text)
    }

    /// How it is asked.
    #[must_use]
    pub fn requests(&self) -> &Requests {
        &self.requests
    }

    /// The answers so far.
    #[must_use]
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// Whether the stage was asked to stop.
    #[must_use]
    pub fn stopped(&self) -> bool {
        (self.stop)()
    }

    /// Asks once whether somebody is there, before anything is worth waiting for: five seconds of tries. Of a server that does not
    /// know the path, that it answers is enough.
    ///
    /// # Errors
    /// Nobody is there, or the token does not fit.
    pub fn probe<T>(&self, path: &str, read: impl Fn(&[u8]) -> Result<T, Unread>) -> Result<Option<T>, Failure> {
        let patience = PROBED.min(Duration::from_secs_f64(self.requests.patience_seconds.clamp(0.0, 1e6)));
        let one = || match http::send(&self.agent, &self.endpoint, path, None) {
            Ok(Received { status: 404 | 405, .. }) => Try::Got(None),
            other => self.judged(other, &|body: &[u8]| read(body).map(Some)),
        };
        self.patiently(patience, one).map_err(|failure| match failure {
            Failure::Away(why) => {
                let help = format!("start it, or correct {}", url_variable(&self.reward));
                Failure::Refused(why, help)
            }
            other => other,
        })
    }

    /// Sends `body` until `read` has an answer of it.
    ///
    /// # Errors
    /// See [`Failure`].
    pub fn ask<T>(&self, path: &str, body: &[u8], read: impl Fn(&[u8]) -> Result<T, Unread>) -> Result<T, Failure> {
        let patience = Duration::from_secs_f64(self.requests.patience_seconds.clamp(0.0, 1e9));
        self.patiently(patience, || {
            if !self.answers.count(self.requests.max_calls) {
                let most = self.requests.max_calls.unwrap_or_default();
                return Try::No(Failure::Spent(format!("`requests.max_calls` of {most} is reached")));
            }
            self.judged(http::send(&self.agent, &self.endpoint, path, Some(body)), &read)
        })
    }

    fn patiently<T>(&self, patience: Duration, mut one: impl FnMut() -> Try<T>) -> Result<T, Failure> {
        let (began, mut wait, mut odd) = (Instant::now(), FIRST, 0);
        loop {
            if self.stopped() {
                return Err(Failure::Stopped);
            }
            let (why, least) = match one() {
                Try::Got(answer) => return Ok(answer),
                Try::No(failure) => return Err(failure),
                Try::Again(why, least) => (why, least),
                Try::Odd(why) if odd == AGAIN => {
                    let what = format!("sent what is no answer of it: {why}");
                    return Err(self.refused(&what, "see that it is the server of this reward"));
                }
                Try::Odd(why) => {
                    odd += 1;
                    (format!("sent what is no answer of it: {why}"), None)
                }
            };
            let next = jittered(wait).max(least.unwrap_or_default().min(OBEYED));
            if began.elapsed() + next > patience {
                let waited = began.elapsed().as_secs_f64();
                return Err(Failure::Away(format!("at {} {why}; {waited:.0} s were waited", self.host())));
            }
            if !self.slept(next) {
                return Err(Failure::Stopped);
            }
            wait = (wait * 2).min(LONGEST);
        }
    }

    /// Sleeps, unless the stage is asked to stop.
    fn slept(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if self.stopped() || left.is_zero() {
                return !self.stopped();
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// What an answer means.
    fn judged<T>(&self, sent: Result<Received, Lost>, read: &dyn Fn(&[u8]) -> Result<T, Unread>) -> Try<T> {
        let received = match sent {
            Ok(received) => received,
            Err(Lost::Broken(why)) => return Try::Again(why, None),
            Err(Lost::Unfit(why)) => return Try::No(self.refused(&why, "see that it is the server of this reward")),
        };
        let said = || self.shown(&String::from_utf8_lossy(&received.body));
        match received.status {
            200..=299 => match read(&received.body) {
                Ok(answer) => Try::Got(answer),
                Err(Unread::Malformed(why)) => Try::Odd(why),
                Err(Unread::Other(what, help)) => Try::No(self.refused(&what, &help)),
            },
            status @ (408 | 425 | 429 | 500..=599) => {
                let least = received.retry_after.map(Duration::from_secs);
                Try::Again(format!("answers {status}: {}", said()), least)
            }
            status @ (401 | 403) => {
                let help = format!("set {} to the token that it wants", token_variable(&self.reward));
                Try::No(self.refused(&format!("answers {status}: {}", said()), &help))
            }
            status @ 300..=399 => {
                let to = received.location.as_deref().map(|to| format!(" to {}", self.shown(to))).unwrap_or_default();
                let help =
                    format!("set {} to the address itself: a token goes to no other", url_variable(&self.reward));
                Try::No(self.refused(&format!("answers {status} and sends on{to}"), &help))
            }
            status => {
                let help =
                    format!("see what it says; {} ends before the path of the request", url_variable(&self.reward));
                Try::No(self.refused(&format!("answers {status}: {}", said()), &help))
            }
        }
    }

    fn refused(&self, what: &str, help: &str) -> Failure {
        Failure::Refused(format!("at {} {what}", self.host()), help.to_owned())
    }
}

/// Between half a time and the whole of it, so that many who wait do not come back at once.
fn jittered(time: Duration) -> Duration {
    let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
    hasher.write_u8(0);
    time.mul_f64(0.5 + (hasher.finish() % 1024) as f64 / 2048.0)
}
