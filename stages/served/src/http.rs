//! One request: sent once, its answer read in bounded memory.

use opdflow_spec::served::Endpoint;
use std::time::Duration;
use ureq::Agent;
use ureq::config::Config;

/// The most bytes of an answer.
pub(crate) const MOST: u64 = 1 << 20;

/// What a server sent.
pub(crate) struct Received {
    pub status: u16,
    /// `Retry-After` in seconds, where it is a number.
    pub retry_after: Option<u64>,
    /// `Location`.
    pub location: Option<String>,
    pub body: Vec<u8>,
}

/// Why nothing came that could be read.
pub(crate) enum Lost {
    /// Nobody there, cut off, too slow: another try may help.
    Broken(String),
    /// It cannot be asked like this.
    Unfit(String),
}

/// An agent for an endpoint. Proxies are those of the environment, but none for this machine itself. Redirections are not followed: a
/// token would go with them.
pub(crate) fn agent(endpoint: &Endpoint, timeout: Duration, connections: usize) -> Agent {
    let mut config = Config::builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(timeout))
        .max_idle_connections(connections)
        .max_idle_connections_per_host(connections)
        .user_agent(concat!("opdflow/", env!("CARGO_PKG_VERSION")));
    if endpoint.is_loopback() {
        config = config.proxy(None);
    }
    config.build().into()
}

/// Sends one request, with a body of JSON if there is one.
pub(crate) fn send(agent: &Agent, endpoint: &Endpoint, path: &str, body: Option<&[u8]>) -> Result<Received, Lost> {
    let url = endpoint.at(path);
    let bearer = endpoint.token().map(|token| format!("Bearer {token}"));
    let sent = match body {
        Some(body) => {
            let request = agent.post(&url).header("content-type", "application/json");
            match &bearer {
                Some(bearer) => request.header("authorization", bearer).send(body),
                None => request.send(body),
            }
        }
        None => match &bearer {
            Some(bearer) => agent.get(&url).header("authorization", bearer).call(),
            None => agent.get(&url).call(),
        },
    };
    let mut response = sent.map_err(lost)?;
    let text = |name: &str| Some(response.headers().get(name)?.to_str().ok()?.trim().to_owned());
    let retry_after = text("retry-after").and_then(|t| t.parse().ok());
    let location = text("location");
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(MOST).read_to_vec().map_err(lost)?;
    Ok(Received { status, retry_after, location, body })
}

/// What an error of the library means. Its words name host and cause, and no header.
fn lost(error: ureq::Error) -> Lost {
    use ureq::Error;
    match error {
        Error::BodyExceedsLimit(_) => Lost::Unfit(format!("sent more than {} KiB", MOST >> 10)),
        Error::Timeout(_) => Lost::Broken("gave no whole answer in time".to_owned()),
        Error::HostNotFound => Lost::Broken("has a name that nobody knows".to_owned()),
        Error::ConnectionFailed => Lost::Broken("takes no connection".to_owned()),
        Error::Io(e) => Lost::Broken(broken(&e)),
        Error::Protocol(e) => Lost::Broken(format!("sent what is not HTTP: {e}")),
        Error::BadUri(_) | Error::InvalidProxyUrl => Lost::Unfit(format!("cannot be asked: {error}")),
        other => Lost::Broken(format!("cannot be asked: {other}")),
    }
}

/// What the system says of a connection.
fn broken(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::ConnectionRefused => "takes no connection".to_owned(),
        ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe => "broke the connection off".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "gave no whole answer in time".to_owned(),
        _ => format!("cannot be reached: {error}"),
    }
}
