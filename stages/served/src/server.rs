//! A reward as a server: docs/reference/reward_server.md. Whatever comes in is bounded: bytes, images, sides, time, and how many
//! wait.

use crate::protocol::{Form, HEALTH, Health, Question, SCORE, Verdict};
use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use base64::Engine as _;
use opdflow_rewards::{Image, Reward, RewardError, Score, Subject};
use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// What a request may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a body.
    pub bytes: usize,
    /// Images.
    pub images: usize,
    /// Pixels along a side.
    pub side: usize,
    /// For its body to arrive.
    pub time: Duration,
    /// Requests that are judged or wait for it; more are told to come again.
    pub waiting: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 20, images: 64, side: 4096, time: Duration::from_secs(60), waiting: 64 }
    }
}

/// A reward that is served.
pub struct Served {
    /// The reward.
    pub reward: Arc<dyn Reward>,
    /// What it says of itself.
    pub health: Health,
    /// What every request must bring, if there is one.
    pub token: Option<String>,
    /// What a request may have.
    pub limits: Limits,
}

/// How long requests that have begun may take when the server is to end.
const LAST: Duration = Duration::from_secs(30);

struct Shared {
    served: Served,
    /// One request is judged at a time: a network takes the whole machine by itself.
    judging: Semaphore,
    waiting: Semaphore,
}

/// Serves until `stop` says so; what has begun is answered first.
///
/// # Errors
/// The system has no means for it.
pub fn serve(served: Served, listener: TcpListener, stop: impl Fn() -> bool + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    listener.set_nonblocking(true)?;
    let waiting = Semaphore::new(served.limits.waiting);
    let shared = Arc::new(Shared { served, judging: Semaphore::new(1), waiting });
    let app = Router::new()
        .route(HEALTH, get(health))
        .route(SCORE, post(score))
        .fallback(|| async { no(StatusCode::NOT_FOUND, format!("there are {HEALTH} and {SCORE}")) })
        .method_not_allowed_fallback(|| async {
            no(StatusCode::METHOD_NOT_ALLOWED, format!("GET {HEALTH}, POST {SCORE}"))
        })
        .with_state(shared);
    let ended = runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (tell, told) = tokio::sync::watch::channel(());
        let stopped = async move {
            while !stop() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            drop(tell);
        };
        let late = async move {
            let mut told = told;
            let _ = told.changed().await;
            tokio::time::sleep(LAST).await;
        };
        let serving = axum::serve(listener, app).with_graceful_shutdown(stopped);
        tokio::select! {
            ended = serving => ended,
            () = late => Ok(()),
        }
    });
    runtime.shutdown_background();
    ended
}

/// A refusal, in words.
fn no(status: StatusCode, why: impl Into<String>) -> Response {
    json(status, &serde_json::json!({"error": why.into()}))
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}

/// Whether a request may ask. Digests are compared, which takes the same time whatever differs.
fn may_ask(shared: &Shared, headers: &HeaderMap) -> bool {
    let Some(token) = &shared.served.token else { return true };
    let given = headers.get(header::AUTHORIZATION).map_or(&b""[..], |value| value.as_bytes());
    let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
    blake3::hash(given) == blake3::hash(token.as_bytes())
}

fn unknown() -> Response {
    no(StatusCode::UNAUTHORIZED, "this server wants its token: `Authorization: Bearer TOKEN`")
}

async fn health(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    if may_ask(&shared, &headers) { json(StatusCode::OK, &shared.served.health) } else { unknown() }
}

async fn score(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !may_ask(&shared, request.headers()) {
        return unknown();
    }
    // Before the body is read: it is what takes memory.
    let Ok(_waits) = shared.waiting.try_acquire() else {
        let mut busy = no(StatusCode::SERVICE_UNAVAILABLE, "too many requests wait");
        busy.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
        return busy;
    };
    let Limits { bytes, time, .. } = shared.served.limits;
    let body = match tokio::time::timeout(time, to_bytes(request.into_body(), bytes)).await {
        Ok(Ok(body)) => body,
        Ok(Err(e)) => return no(StatusCode::PAYLOAD_TOO_LARGE, format!("a body of at most {bytes} bytes: {e}")),
        Err(_) => return no(StatusCode::REQUEST_TIMEOUT, format!("the body did not come in {} s", time.as_secs_f64())),
    };
    let Ok(_turn) = shared.judging.acquire().await else {
        return no(StatusCode::SERVICE_UNAVAILABLE, "the server ends");
    };
    let of = shared.clone();
    match tokio::task::spawn_blocking(move || judged(&of.served, &body)).await {
        Ok(Ok(scores)) => {
            let digest = shared.served.health.digest.clone();
            json(StatusCode::OK, &Verdict { digest, scores })
        }
        Ok(Err((status, why))) => no(status, why),
        // A panic of the reward: the server goes on.
        Err(e) => no(StatusCode::INTERNAL_SERVER_ERROR, format!("a bug: {e}")),
    }
}

type Refusal = (StatusCode, String);

fn bad(why: impl Into<String>) -> Refusal {
    (StatusCode::BAD_REQUEST, why.into())
}

/// The scores of what a body asks.
fn judged(served: &Served, body: &Bytes) -> Result<Vec<Score>, Refusal> {
    let question: Question = serde_json::from_slice(body).map_err(|e| bad(format!("no question: {e}")))?;
    let Question { form, images, shapes, subjects } = question;
    let count = images.len();
    if count > served.limits.images {
        return Err((
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("{count} images; at most {} at once", served.limits.images),
        ));
    }
    if subjects.len() != count || (form == Form::Rgb && shapes.len() != count) {
        return Err(bad(format!("{count} images, {} subjects, {} shapes", subjects.len(), shapes.len())));
    }
    let decode = |(i, text): (usize, &String)| {
        let bytes =
            base64::engine::general_purpose::STANDARD.decode(text).map_err(|e| bad(format!("image {i}: {e}")))?;
        let image = match form {
            Form::Png => crate::encode::read_png(&bytes, served.limits.side),
            Form::Rgb => raw(shapes[i], bytes, served.limits.side),
        };
        image.map_err(|why| bad(format!("image {i}: {why}")))
    };
    let images: Vec<Image> = images.iter().enumerate().map(decode).collect::<Result<_, _>>()?;
    let metadata = subjects.iter().map(|about| about.geneval.clone().map(serde_json::from_value).transpose());
    let metadata: Vec<_> = metadata.collect::<Result<_, _>>().map_err(|e| bad(format!("GenEval's metadata: {e}")))?;
    let subject = |(about, geneval)| -> Subject {
        let about: &crate::protocol::About = about;
        Subject { text: &about.text, target: about.target.as_deref(), geneval, ..Subject::default() }
    };
    let subjects: Vec<Subject> = subjects.iter().zip(metadata.iter().map(Option::as_ref)).map(subject).collect();
    let cannot = |e: RewardError| (StatusCode::UNPROCESSABLE_ENTITY, e.to_string());
    if let Some(subject) = subjects.iter().find(|s| !served.reward.applies(s)) {
        let why = format!("`{}` cannot judge the prompt {:?}", served.reward.name(), subject.text);
        return Err((StatusCode::UNPROCESSABLE_ENTITY, why));
    }
    let scores = served.reward.score(&images, &subjects).map_err(cannot)?;
    match scores.iter().position(|score| score.broken().is_some()) {
        Some(i) => Err((StatusCode::UNPROCESSABLE_ENTITY, format!("image {i} has a score that is not finite"))),
        None => Ok(scores),
    }
}

/// An image of its bytes.
fn raw([height, width, channels]: [usize; 3], bytes: Vec<u8>, most: usize) -> Result<Image, String> {
    if channels != 3 || height.max(width) > most || height.min(width) == 0 {
        return Err(format!(
            "the shape {height} x {width} x {channels}; it is height, width and 3, of at most {most} pixels a side"
        ));
    }
    let found = bytes.len();
    Image::new(width, height, bytes).ok_or_else(|| format!("{found} bytes for the shape {height} x {width} x 3"))
}
