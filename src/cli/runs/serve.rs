//! `opdflow report --serve`: the page of a run for a browser of this machine, made anew for each that asks.

use super::pages::{Of, made};
use crate::cli::{Exit, Failure, Session};
use crate::render::page::Options;
use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use opdflow_cache::Store;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

/// Most bytes of images in a page that comes from this machine. What is beyond is a link to nowhere.
const MOST_BYTES: usize = 1 << 30;

/// What the server knows.
struct Served {
    /// Asks for the page; pages are made where the session is.
    asks: Mutex<Sender<Sender<Result<String, String>>>>,
    /// The logs of the runs that are shown.
    logs: Vec<PathBuf>,
    /// The names under which a browser of this machine asks for it.
    hosts: [String; 2],
}

/// Serves the page on the loopback address until the program is told to end.
pub(super) fn serve(session: &Session, of: &[Of], store: &Store, options: Options, port: u16) -> Result<Exit, Failure> {
    // What cannot be shown is said here, and not first in the browser.
    let options = Options { image_bytes: MOST_BYTES, ..options };
    made(session, of, store, options, (true, ""))?;
    let usage = |e: anyhow::Error| Failure::Usage(format!("{e:#}\nhelp: `--port` names another one"));
    let listener = listen(port).map_err(usage)?;
    let port = listener.local_addr().context("the socket has no address").map_err(usage)?.port();
    session.print(&format!("http://127.0.0.1:{port}/ (for this machine alone; ctrl-c ends it)"));
    let (asks, asked) = channel::<Sender<Result<String, String>>>();
    let log = |of: &Of| if let Of::Run(folder) = of { Some(folder.events()) } else { None };
    let served = Arc::new(Served {
        asks: Mutex::new(asks),
        logs: of.iter().filter_map(log).collect(),
        hosts: [format!("127.0.0.1:{port}"), format!("localhost:{port}")],
    });
    std::thread::scope(|scope| {
        let server = scope.spawn(move || answer(listener, &served));
        for answer in asked {
            let page = made(session, of, store, options, (true, ""));
            let page = page.map(|(html, _)| html).map_err(|failure| failure.words());
            // A browser that has gone meanwhile does not want it any more.
            let _ = answer.send(page);
        }
        server.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the server's thread ended")))
    })
    .map_err(|e| Failure::Bug(format!("{e:#}")))?;
    Ok(Exit::Done)
}

fn listen(port: u16) -> Result<TcpListener> {
    let listener =
        TcpListener::bind((Ipv4Addr::LOCALHOST, port)).with_context(|| format!("cannot listen on port {port}"))?;
    listener.set_nonblocking(true).context("cannot set up the socket")?;
    Ok(listener)
}

fn answer(listener: TcpListener, served: &Arc<Served>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot start a server")?;
    let routes = Router::new()
        .route("/", get(page))
        .route("/news", get(news))
        .layer(from_fn_with_state(Arc::clone(served), guarded))
        .with_state(Arc::clone(served));
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener).context("cannot set up the socket")?;
        axum::serve(listener, routes).await.context("the server ended")
    })
}

/// A page of somebody's in the same browser reaches this address too, by a name of its own: only our names are answered. What is
/// answered is not kept, and not taken for anything else.
async fn guarded(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|h| h.to_str().ok()).unwrap_or_default();
    if !served.hosts.iter().any(|known| known == host) {
        return (StatusCode::FORBIDDEN, "this page is for 127.0.0.1 alone\n").into_response();
    }
    let mut response = next.run(request).await;
    let headers: [(HeaderName, &str); 4] = [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ];
    for (name, value) in headers {
        response.headers_mut().insert(name, header::HeaderValue::from_static(value));
    }
    response
}

async fn page(State(served): State<Arc<Served>>) -> Response {
    let made = tokio::task::spawn_blocking(move || {
        let (answer, page) = channel();
        let asks = served.asks.lock().map_err(|e| e.to_string())?.clone();
        asks.send(answer).map_err(|e| e.to_string())?;
        page.recv().map_err(|e| e.to_string())?
    });
    match made.await.unwrap_or_else(|e| Err(e.to_string())) {
        Ok(html) => axum::response::Html(html).into_response(),
        Err(why) => (StatusCode::INTERNAL_SERVER_ERROR, why).into_response(),
    }
}

/// Another text whenever the page may be another one.
async fn news(State(served): State<Arc<Served>>) -> String {
    let sizes = served.logs.iter().map(|log| log.metadata().map_or(0, |m| m.len()).to_string());
    sizes.collect::<Vec<_>>().join(" ")
}
