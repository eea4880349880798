//! The settings of the client, and the errors in them.
//!
//! Before: the configuration. After: [`super::client`].

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::Url;
use reqwest::header::HeaderValue;
use uuid::Uuid;

use super::turnstile::SLOT_WAIT_MAX;

/// The operator's settings (contract §4, `podero.*`).
#[derive(Clone)]
pub struct Settings {
    /// Scheme and host; the paths are the API's own.
    pub base_url: String,
    /// The utility's organisation.
    pub org_id: Uuid,
    /// OAuth2 client credentials.
    pub client_id: String,
    /// The secret of the credentials, never shown.
    pub client_secret: String,
    /// Deadline of one HTTP request, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// A forward proxy for all calls; its URL may hold a password, and is never shown.
    pub proxy: Option<String>,
    /// Requests in flight at once, of all replicas together.
    pub max_in_flight: usize,
    /// Requests per second, of all replicas together.
    pub requests_per_second: u32,
}

impl Settings {
    /// The longest time of a probe: a token and the request, and both once more when the first token was rejected.
    pub fn probe_time_max(&self) -> Duration {
        self.timeout.saturating_mul(4)
    }

    /// The longest time of an urgent call: the wait for a slot, then a token and the request, and both once more when the first
    /// token was rejected. A claim's lease must outlive it.
    pub fn call_time_max(&self) -> Duration {
        SLOT_WAIT_MAX.saturating_add(self.timeout.saturating_mul(4))
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("base_url", &self.base_url)
            .field("org_id", &self.org_id)
            .field("client_id", &self.client_id)
            .field("timeout", &self.timeout)
            .field("max_in_flight", &self.max_in_flight)
            .field("requests_per_second", &self.requests_per_second)
            .finish_non_exhaustive()
    }
}

/// The reasons why no client can be made of the settings: the operator must change them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is unusable.
    #[error("podero.base_url is not an address of the form https://host[:port]")]
    BaseUrl,
    /// No request could ever be sent.
    #[error("podero.{0} must be at least 1")]
    NoBudget(&'static str),
    /// The proxy is unusable. Its URL is not shown.
    #[error("podero.proxy is not an address of a proxy")]
    Proxy,
    /// The credentials cannot be written into a header.
    #[error("podero.client_id and podero.client_secret must not be empty, and the id holds no colon")]
    Credentials,
    /// The HTTP client, such as its TLS, cannot be set up.
    #[error("the HTTP client cannot be set up")]
    Http(#[source] reqwest::Error),
}

/// Reduces an address to scheme, host and port, without a slash at the end.
pub(super) fn base_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    let is_anonymous = url.username().is_empty() && url.password().is_none();
    let is_http = matches!(url.scheme(), "https" | "http") && url.has_host();
    (is_bare && is_anonymous && is_http).then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// The header `Basic …` of RFC 7617: an id with a colon would be read as another id.
pub(super) fn credentials(settings: &Settings) -> Option<HeaderValue> {
    let (id, secret) = (&settings.client_id, &settings.client_secret);
    if id.is_empty() || secret.is_empty() || id.contains(':') {
        return None;
    }
    let pair = BASE64_STANDARD.encode(format!("{id}:{secret}"));
    let mut header = HeaderValue::from_str(&format!("Basic {pair}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_is_scheme_and_host_and_nothing_else() {
        for (text, expect) in [
            ("https://app.podero.com", Some("https://app.podero.com")),
            ("https://app.podero.com/", Some("https://app.podero.com")),
            ("http://127.0.0.1:8085", Some("http://127.0.0.1:8085")),
            ("https://app.podero.com/api/partners/v2.0/", None),
            ("https://user:secret@app.podero.com", None),
            ("https://app.podero.com?x", None),
            ("ftp://app.podero.com", None),
            ("app.podero.com", None),
            ("", None),
        ] {
            assert_eq!(base_of(text).as_deref(), expect, "{text}");
        }
    }
}
