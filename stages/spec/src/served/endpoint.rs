//! Where a server is, and the token that opens it: from the environment alone, never written anywhere.

use super::name::{token_variable, url_variable};
use std::fmt;

/// A server, as this machine reaches it.
#[derive(Clone)]
pub struct Endpoint {
    /// Scheme, host, port and path, without a slash at the end.
    url: String,
    host: String,
    token: Option<String>,
}

/// The token is left out.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint").field("host", &self.host).finish_non_exhaustive()
    }
}

/// A variable that is missing or does not fit. The value is never part of the words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct EndpointFault {
    /// What is wrong.
    pub what: String,
    /// The way out.
    pub help: String,
}

impl Endpoint {
    /// The server of a reward, by the variables that are named after it.
    ///
    /// # Errors
    /// The variable is not set, or is no address.
    pub fn of(reward: &str) -> Result<Self, EndpointFault> {
        Self::from(reward, |name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The same with other variables.
    ///
    /// # Errors
    /// As for [`Self::of`].
    pub fn from(reward: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, EndpointFault> {
        let (at, with) = (url_variable(reward), token_variable(reward));
        let help = format!("set {at} to its address, such as http://127.0.0.1:8000/v1");
        let Some(url) = variable(&at).map(|u| u.trim().to_owned()).filter(|u| !u.is_empty()) else {
            let what = format!("`{reward}` is asked of a server, and {at} does not say where it is");
            return Err(EndpointFault { what, help });
        };
        let host =
            host(&url).map_err(|why| EndpointFault { what: format!("{at} is no address of a server: {why}"), help })?;
        let token = variable(&with).map(|t| t.trim().to_owned()).filter(|t| !t.is_empty());
        if token.as_ref().is_some_and(|t| !t.bytes().all(|b| b.is_ascii_graphic())) {
            let what = format!("{with} has characters that no header can hold");
            let help = "a token is of visible ASCII characters, without blanks".to_owned();
            return Err(EndpointFault { what, help });
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), host, token })
    }

    /// Host and port, for messages.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, port)| {
            if port.bytes().all(|b| b.is_ascii_digit()) { name } else { self.host.as_str() }
        });
        let name = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The address of a path below the server's own.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// The token, if there is one. It goes into the header of a request and nowhere else.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Text of the server, for a message: without the token, as one line, and cut.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        const MOST: usize = 300;
        let text = match self.token() {
            Some(token) => text.replace(token, "***"),
            None => text.to_owned(),
        };
        let text = text.trim();
        let mut cut: String = text.chars().take(MOST).collect();
        if cut.len() < text.len() {
            cut.push('…');
        }
        opdflow_io::terminal::line(&cut).into_owned()
    }
}

/// Host and port of an address that a request can go to.
fn host(url: &str) -> Result<String, &'static str> {
    let lower = url.to_ascii_lowercase();
    let scheme = ["http://", "https://"].into_iter().find(|scheme| lower.starts_with(scheme));
    let rest = url.get(scheme.ok_or("it begins with neither http:// nor https://")?.len()..).unwrap_or_default();
    if rest.contains(['?', '#']) {
        return Err("it has a query or a fragment");
    }
    if !rest.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("it has blanks, or characters beyond ASCII");
    }
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err("it has a name or a password in it, which goes into the variable of the token");
    }
    if host.is_empty() || host.starts_with(':') {
        return Err("it has no host");
    }
    Ok(host.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(url: &str, token: &str) -> Result<Endpoint, EndpointFault> {
        let (url, token) = (url.to_owned(), token.to_owned());
        Endpoint::from("my_judge", move |name| match name {
            "OPDFLOW_REWARD_MY_JUDGE_URL" => Some(url.clone()),
            "OPDFLOW_REWARD_MY_JUDGE_TOKEN" => Some(token.clone()),
            other => panic!("{other}"),
        })
    }

    #[test]
    fn an_address_is_taken_apart() {
        let found = of(" http://127.0.0.1:17140/v1/ ", "").unwrap();
        assert_eq!(
            (found.host(), found.at("/models").as_str()),
            ("127.0.0.1:17140", "http://127.0.0.1:17140/v1/models")
        );
        assert!(found.is_loopback() && found.token().is_none());
        for (url, here) in [
            ("http://localhost/v1", true),
            ("https://[::1]:8", true),
            ("http://[::1]", true),
            ("https://judge.example:443", false),
            ("http://127.0.0.1.example", false),
        ] {
            assert_eq!(of(url, "").unwrap().is_loopback(), here, "{url}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_without_showing_it() {
        for (url, word) in [
            ("", "OPDFLOW_REWARD_MY_JUDGE_URL does not say"),
            ("127.0.0.1:8000", "neither http"),
            ("ftp://x", "neither http"),
            ("http://", "no host"),
            ("http://:80/v1", "no host"),
            ("http://me:secret@x/v1", "password"),
            ("http://x/v1?key=secret", "query"),
            ("http://x /v1", "blanks"),
            ("http://x/\u{e9}secret", "beyond ASCII"),
        ] {
            let fault = of(url, "").unwrap_err();
            assert!(fault.what.contains(word), "{url}: {}", fault.what);
            assert!(!format!("{fault:?}").contains("secret") && fault.help.contains("_URL"), "{fault:?}");
        }
        let fault = of("http://x", "se\ncret").unwrap_err();
        assert!(fault.what.contains("_TOKEN") && !format!("{fault:?}").contains("cret"), "{fault:?}");
    }

    #[test]
    fn the_token_is_in_no_words() {
        let found = of("https://x/v1", "sk-12345").unwrap();
        assert!(!format!("{found:?}").contains("12345"));
        assert_eq!(found.shown("bad key sk-12345!\u{1b}[2J\nx"), "bad key ***!\\u{1b}[2J\\u{a}x");
        assert!(found.shown(&"a".repeat(1000)).chars().count() == 301);
    }
}
