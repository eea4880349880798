//! The bridge's own credentials: one client-credentials token, shared by all calls.
//!
//! One refresh is in flight at a time, and all callers that waited share its outcome, good or bad: an outage of the token
//! endpoint costs one deadline, not one per caller. While a token still holds, an early renewal that fails does no harm. All
//! callers that want a token keep a pause that the endpoint asks for. This file never logs, shows or stores a secret or a
//! token.
//!
//! Before: [`crate::podero`] needs a token. After: it goes into the `Authorization` header, nowhere else.

use std::fmt;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use serde_json::json;

use super::answer::{Bound, Received, SMALL_BYTES_MAX, fetch};
use super::{pruned, wire};
use crate::clock::Clock;
use crate::domain::Timestamp;
use crate::domain::call::RETRY_AFTER_MAX;
use crate::domain::call::{Instead, Reply, TOKEN_SERVER_ERROR};
use crate::pump;

/// Path outside the API's prefix, with the slash at its end (API page "get access token").
const PATH: &str = "/oauth2/token/";

/// Limit of the time before a token's end at which it is renewed; a tenth of its life if that is shorter. Podero's tokens live
/// 10 h; five minutes outlast any call that starts with the old one.
const RENEWAL_LEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// Lifetime of a token whose answer does not say it (RFC 6749 only recommends `expires_in`).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(10 * 60);

/// Delay after an early renewal that failed; the old token serves meanwhile.
const RENEWAL_PAUSE: Duration = Duration::from_secs(10);

/// Interval at which [`Tokens::keep`] looks whether the token is due; far below [`RENEWAL_LEAD_MAX`].
const KEEP_EVERY: Duration = Duration::from_secs(60);

/// The token that is held now.
#[derive(Clone)]
pub(super) struct Token {
    /// The value of the `Authorization` header, marked sensitive.
    pub(super) header: HeaderValue,
    /// The token's number, which identifies it without comparing secrets.
    pub(super) serial: u64,
    asked_at: Timestamp,
    renew_at: Timestamp,
    expires_at: Timestamp,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(#{}, until {})", self.serial, self.expires_at)
    }
}

/// The source of tokens.
pub(super) struct Tokens {
    http: reqwest::Client,
    url: String,
    /// `Basic …`, made once, marked sensitive.
    credentials: HeaderValue,
    clock: Clock,
    held: Mutex<Held>,
    refreshing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Held {
    token: Option<Token>,
    /// The number of refreshes that ended, well or not.
    refreshes: u64,
    /// The reply in place of a token, if the last refresh brought none.
    failure: Option<Instead>,
    /// The earliest time of an early renewal.
    renew_not_before: Option<Timestamp>,
    /// The pause that the endpoint asked for, with its start and end: no call asks for a token before its end.
    paused: Option<(Timestamp, Timestamp)>,
}

enum Usable {
    Fresh(Token),
    /// A token that is still good, although it is time for the next one.
    Due(Token),
    None,
}

impl Held {
    fn usable(&self, now: Timestamp, rejected: Option<u64>) -> Usable {
        // The clock was set back if a token was asked for in the future: its age is unknown.
        let is_past = |at: Timestamp| at == at.no_later_than(now);
        let token = self.token.as_ref().filter(|token| Some(token.serial) != rejected && now < token.expires_at);
        let token = token.filter(|token| is_past(token.asked_at));
        match token {
            None => Usable::None,
            Some(token)
                if now < token.renew_at || self.renew_not_before.is_some_and(|at| !at.has_come(now, RENEWAL_PAUSE)) =>
            {
                Usable::Fresh(token.clone())
            }
            Some(token) => Usable::Due(token.clone()),
        }
    }
}

impl Tokens {
    /// A source without a token yet. `credentials` is the whole `Basic …` header.
    pub(super) fn new(http: reqwest::Client, base_url: &str, credentials: HeaderValue, clock: Clock) -> Self {
        Self {
            http,
            url: format!("{base_url}{PATH}"),
            credentials,
            clock,
            held: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        }
    }

    /// `true` when a token that has not expired is at hand.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self.lock().usable(self.clock.now(), None), Usable::None)
    }

    /// A token, other than the `rejected` one. The error is the reply of the call that cannot be made:
    /// `Held`, `Busy` or `Unsent`, since nothing of it was sent.
    pub(super) async fn token(&self, rejected: Option<u64>) -> Result<Token, Instead> {
        let (usable, refreshes) = {
            let held = self.lock();
            (held.usable(self.clock.now(), rejected), held.refreshes)
        };
        match usable {
            Usable::Fresh(token) => return Ok(token),
            Usable::Due(token) if self.pause().is_some() => return Ok(token),
            Usable::Due(token) => {
                let Ok(_alone) = self.refreshing.try_lock() else {
                    return Ok(token);
                };
                return Ok(self.refresh().await.unwrap_or(token));
            }
            Usable::None => {}
        }
        let _alone = self.refreshing.lock().await;
        {
            let held = self.lock();
            match (held.usable(self.clock.now(), rejected), &held.failure) {
                (Usable::Fresh(token) | Usable::Due(token), _) => return Ok(token),
                (Usable::None, Some(failure)) if held.refreshes != refreshes => return Err(failure.clone()),
                (Usable::None, _) => {}
            }
        }
        match self.pause() {
            Some(left) => Err(Reply::Busy { after: Some(left) }),
            None => self.refresh().await,
        }
    }

    /// The reason why the last refresh brought no token, if an answer came.
    pub(super) fn trouble(&self) -> Option<&'static str> {
        match self.lock().failure {
            Some(Reply::Unsent { why } | Reply::Unknown { why }) => Some(why),
            Some(Reply::Done(_) | Reply::Refused(_) | Reply::Busy { .. } | Reply::Held { .. }) | None => None,
        }
    }

    /// The rest of the pause that the endpoint asked for.
    fn pause(&self) -> Option<Duration> {
        let now = self.clock.now();
        let (asked_at, until) = self.lock().paused?;
        (until > now && asked_at == asked_at.no_later_than(now)).then(|| until.since(now))
    }

    /// Keeps a token at hand also while no call is made, so that readiness is right. Never ends.
    pub(super) async fn keep(&self) {
        loop {
            let wait = match self.token(None).await {
                Err(Reply::Busy { after }) => after.unwrap_or_default().max(KEEP_EVERY),
                Ok(_) | Err(_) => KEEP_EVERY,
            };
            pump::sleep(wait).await;
        }
    }

    /// One refresh; the caller holds `refreshing`.
    async fn refresh(&self) -> Result<Token, Instead> {
        let asked_at = self.clock.now();
        let request = self
            .http
            .post(&self.url)
            .header(AUTHORIZATION, self.credentials.clone())
            .header(CACHE_CONTROL, "no-cache")
            .json(&json!({"grant_type": "client_credentials"}));
        // A token's answer is a few hundred bytes.
        let received = fetch(request, Bound { bytes_max: SMALL_BYTES_MAX, pool: None }).await;
        let now = self.clock.now();
        let read = match received {
            Ok(received) => read(&received, now),
            Err(lost) => Err(Reply::Unsent { why: lost.while_authenticating() }),
        };
        let mut held = self.lock();
        held.refreshes += 1;
        match read {
            Ok((header, lifetime)) => {
                let lead = RENEWAL_LEAD_MAX.min(lifetime / 10);
                // Counted from the request: the token's life began before the answer came.
                let token = Token {
                    header,
                    serial: held.refreshes,
                    asked_at,
                    renew_at: asked_at.plus(lifetime.saturating_sub(lead)),
                    expires_at: asked_at.plus(lifetime),
                };
                tracing::debug!(until = %token.expires_at, "token renewed");
                held.token = Some(token.clone());
                held.failure = None;
                held.renew_not_before = None;
                Ok(token)
            }
            Err(failure) => {
                tracing::warn!(reply = ?failure, "no token from Podero");
                held.failure = Some(failure.clone());
                held.renew_not_before = Some(now.plus(RENEWAL_PAUSE));
                if let Reply::Busy { after: Some(wish) } = &failure {
                    held.paused = Some((now, now.plus((*wish).min(RETRY_AFTER_MAX))));
                }
                Err(failure)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no code panics while it holds the token")
    }
}

/// Reads the token endpoint's answer for the calls that wait for it. Nothing of them was sent, so an endpoint in trouble is
/// `Unsent`; one that says no, or is not there (wrong address), holds the bridge.
fn read(received: &Received, now: Timestamp) -> Result<(HeaderValue, Duration), Instead> {
    let after = received.retry_after.as_deref().and_then(|text| wire::retry_after(text, now));
    match received.status {
        200 if received.coding.is_some() => {
            Err(Reply::Unsent { why: "token answer is coded; it was asked for without a coding" })
        }
        200 => parse(received.body()).ok_or(Reply::Unsent { why: "token answer is garbage" }),
        408 | 425 | 429 => Err(Reply::Busy { after }),
        503 if after.is_some() => Err(Reply::Busy { after }),
        status @ 300..=499 => Err(Reply::Held { status }),
        500..=599 => Err(Reply::Unsent { why: TOKEN_SERVER_ERROR }),
        _ => Err(Reply::Unsent { why: "token endpoint answers with an unexpected status" }),
    }
}

fn parse(body: &[u8]) -> Option<(HeaderValue, Duration)> {
    let answer = pruned::one(body, |name| matches!(name, "access_token" | "expires_in")).ok()?;
    let is_whole = |token: &&str| (1..pruned::TEXT_BYTES_MAX).contains(&token.len());
    let value = answer.get("access_token")?.as_str().filter(is_whole)?;
    let mut header = HeaderValue::from_str(&format!("Bearer {value}")).ok()?;
    header.set_sensitive(true);
    let expires_in = answer.get("expires_in");
    let seconds = expires_in.and_then(|value| match value.as_str() {
        Some(text) => text.parse().ok(),
        None => value.as_u64(),
    });
    // A life of zero would make each call ask for a token again; a second is the shortest that makes sense.
    let lifetime = seconds.map_or(LIFETIME_DEFAULT, |seconds: u64| Duration::from_secs(seconds.max(1)));
    Some((header, lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, retry_after: Option<&str>, body: &str, expect: Result<(&str, u64), Instead>) {
        let retry_after = retry_after.map(str::to_owned);
        let received = Received { retry_after, ..Received::of(status, body.as_bytes()) };
        let read = read(&received, Timestamp::from_micros(0));
        let read = read.map(|(header, life)| (header.to_str().expect("ascii").to_owned(), life.as_secs()));
        assert_eq!(read, expect.map(|(header, life)| (header.to_owned(), life)), "{status} {body}");
    }

    #[test]
    fn what_the_token_endpoint_may_answer() {
        let garbage = || Err(Reply::Unsent { why: "token answer is garbage" });
        check(200, None, r#"{"access_token":"a","expires_in":36000,"scope":"read"}"#, Ok(("Bearer a", 36_000)));
        check(200, None, r#"{"access_token":"a","expires_in":"60"}"#, Ok(("Bearer a", 60)));
        check(200, None, r#"{"access_token":"a","expires_in":0}"#, Ok(("Bearer a", 1)));
        check(200, None, r#"{"access_token":"a"}"#, Ok(("Bearer a", 600)));
        for body in
            ["", "null", "<html>", r#"{"access_token":""}"#, r#"{"access_token":"a\nb"}"#, r#"{"expires_in":1}"#]
        {
            check(200, None, body, garbage());
        }
        for status in [301, 302, 400, 401, 403, 404, 405] {
            check(status, None, "", Err(Reply::Held { status }));
        }
        let after = Some(Duration::from_secs(3));
        check(429, Some("3"), "", Err(Reply::Busy { after }));
        check(429, None, "", Err(Reply::Busy { after: None }));
        check(503, Some("3"), "", Err(Reply::Busy { after }));
        for status in [500, 502, 503] {
            check(status, None, "", Err(Reply::Unsent { why: TOKEN_SERVER_ERROR }));
        }
        let why = "token endpoint answers with an unexpected status";
        check(204, None, "", Err(Reply::Unsent { why }));
    }

    #[test]
    fn a_token_does_not_show_its_value() {
        let (header, _) = parse(br#"{"access_token":"secret-value"}"#).expect("a token");
        let at = Timestamp::from_micros(0);
        let token = Token { header, serial: 1, asked_at: at, renew_at: at, expires_at: at };
        assert!(!format!("{token:?} {:?}", token.header).contains("secret"));
    }
}
