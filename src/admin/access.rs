//! The callers of the admin API: a token, an operator with a password, or anyone where neither is configured.
//!
//! Tokens come from the configuration and follow their files; operators are rows, so that one who is removed or demoted is so
//! with the next request. No answer of a password's check is remembered.
//!
//! Before: [`super::guard`] asks. After: [`crate::store`] knows operators, [`crate::password`] checks.

use std::future::{Ready, ready};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::{Error, FromRequest, HttpMessage, HttpRequest};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use tokio::sync::Semaphore;

use super::attempts::{Attempts, TooMany};
use super::error::ApiError;
use super::refused::{AccessRefusal, RefusedAccess};
use crate::clock::Clock;
use crate::config::{AdminToken, bytes_of_standard_base64};
use crate::domain::identity::{Actor, NO_TOKEN, Role, is_operator_name};
use crate::listener::peers::Peer;
use crate::password;
use crate::problem::ProblemKind;
use crate::store::{self, Desk, StoreView};

/// Limit of the checks of passwords that wait for their turn, one at a time: each takes 19 MiB and a processor for tens of
/// milliseconds. Beyond it the caller is asked to come again.
const CHECKS_WAITING_MAX: usize = 16;

/// The one who makes a request, as the guard has found it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The name under which it acts.
    pub actor: Actor,
    /// Its rights.
    pub role: Role,
}

impl Caller {
    /// `true` if it is shown what senders sent, facts about customers and links.
    pub fn sees_personal_data(&self) -> bool {
        self.role.allows(Role::Support)
    }
}

impl FromRequest for Caller {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let known = request.extensions().get::<Self>().cloned();
        // Every route with a role is behind the guard, which notes the caller.
        ready(known.ok_or_else(|| ApiError::new(ProblemKind::Unauthorized, "the caller is not known").into()))
    }
}

/// The credentials of a request.
pub(super) enum Credentials {
    /// None, or of a scheme that is not known.
    None,
    Token(String),
    Password {
        name: String,
        password: String,
    },
}

impl Credentials {
    /// Reads the value of `Authorization` (RFC 6750, RFC 7617).
    pub(super) fn read(value: Option<&str>) -> Self {
        let Some((scheme, given)) = value.and_then(|value| value.split_once(' ')) else { return Self::None };
        let given = given.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Self::Token(given.to_owned());
        }
        let pair = scheme.eq_ignore_ascii_case("basic").then(|| bytes_of_standard_base64(given)).flatten();
        let pair = pair.and_then(|bytes| String::from_utf8(bytes).ok());
        match pair.as_ref().and_then(|pair| pair.split_once(':')) {
            Some((name, password)) => Self::Password { name: name.to_owned(), password: password.to_owned() },
            None => Self::None,
        }
    }
}

/// The reason why a caller is not known.
#[derive(Debug)]
pub enum AuthError {
    /// No credentials, or wrong ones.
    Unknown {
        /// The reason.
        why: AccessRefusal,
        /// The operator whose name was given, where there is one.
        operator: Option<String>,
    },
    /// Too many wrong passwords; more are looked at after this time.
    Waits(Duration),
    /// Too many passwords wait to be checked, or are being checked for this name or address.
    Crowded,
    /// The store does not answer.
    NotAnswered(store::Error),
}

impl From<store::Error> for AuthError {
    fn from(error: store::Error) -> Self {
        Self::NotAnswered(error)
    }
}

/// The knowledge of who may call.
pub struct Access {
    tokens: Vec<AdminToken>,
    attempts: Attempts,
    /// Writes down those who are refused.
    pub(super) refused: RefusedAccess,
    /// Permits to wait for a check.
    permits: Semaphore,
    /// The permit to check.
    check: Arc<Semaphore>,
    /// `true` if it was open at the last request; `None`: nobody has looked yet.
    was_open: Mutex<Option<bool>>,
}

impl Access {
    /// Knows these tokens, and the operators of the store.
    pub fn new(tokens: Vec<AdminToken>, clock: Clock) -> Self {
        let (permits, check) = (Semaphore::new(CHECKS_WAITING_MAX), Arc::new(Semaphore::new(1)));
        let (attempts, refused) = (Attempts::new(clock.clone()), RefusedAccess::new(clock));
        Self { tokens, attempts, refused, permits, check, was_open: Mutex::default() }
    }

    /// `true` if a token is configured.
    pub(super) fn has_tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// `true` if every caller has the role admin: neither a token nor an operator is there to tell them apart. The log has a line when
    /// it becomes so, as at a start or when the last operator is removed, and when it ends.
    pub async fn is_open(&self, store: &StoreView) -> Result<bool, store::Error> {
        let is_open = !self.has_tokens() && !store.has_operators().await?;
        match (self.was_open.lock().expect("no code panics while it holds this").replace(is_open), is_open) {
            (None, true) => tracing::info!(
                "the admin API is open: every program on this machine has the role admin; admin.token, [[admin.tokens]] or an \
                 operator closes it"
            ),
            (Some(false), true) => tracing::warn!("the admin API is open again: its last operator was removed"),
            (Some(true), false) => tracing::info!("the admin API is closed: an operator was added"),
            (Some(_) | None, _) => {}
        }
        Ok(is_open)
    }

    /// Finds the caller.
    pub(super) async fn identify(
        &self,
        store: &StoreView,
        credentials: Credentials,
        peer: Peer,
    ) -> Result<Caller, AuthError> {
        if self.is_open(store).await? {
            return Ok(Caller { actor: Actor::Token(NO_TOKEN.to_owned()), role: Role::Admin });
        }
        match credentials {
            Credentials::None => Err(AuthError::Unknown { why: AccessRefusal::NoCredentials, operator: None }),
            Credentials::Token(given) => {
                self.holder(&given).ok_or(AuthError::Unknown { why: AccessRefusal::WrongToken, operator: None })
            }
            Credentials::Password { name, password } => self.log_in(store, name, password, peer).await,
        }
    }

    /// The holder of a token. It is compared with all of them, so that the time tells neither which it is nor whether it is one;
    /// as digests, so that it does not tell their lengths either.
    fn holder(&self, given: &str) -> Option<Caller> {
        let given = Sha256::digest(given);
        let mut found: Option<&AdminToken> = None;
        for token in &self.tokens {
            let mut is_same = Choice::from(0);
            for secret in token.secrets.now().iter() {
                is_same |= Sha256::digest(secret.expose()).ct_eq(&given);
            }
            // Files may come to hold the same token: then it has the lesser rights.
            if bool::from(is_same) && found.is_none_or(|known| token.role < known.role) {
                found = Some(token);
            }
        }
        found.map(|token| Caller { actor: Actor::Token(token.name.clone()), role: token.role })
    }

    /// The operator of this name, if the password is right. Wrong ones are limited for each address and each name.
    pub async fn log_in(
        &self,
        store: &StoreView,
        name: String,
        password: String,
        peer: Peer,
    ) -> Result<Caller, AuthError> {
        let possible = Some(name.as_str()).filter(|name| is_operator_name(name));
        let attempt = self.attempts.begin(peer, possible).map_err(|too_many| match too_many {
            TooMany::Failures(wait) => {
                tracing::warn!(
                    "too many wrong passwords at the admin API by one address or for one name; more must wait"
                );
                AuthError::Waits(wait)
            }
            TooMany::UnderWay => AuthError::Crowded,
        })?;
        match self.check(store, possible, password).await? {
            Checked { role: Some(role), is_right: true } => Ok(Caller { actor: Actor::Operator(name), role }),
            Checked { role, is_right: _ } => {
                attempt.fail();
                let operator = role.map(|_| name);
                Err(AuthError::Unknown { why: AccessRefusal::WrongPassword, operator })
            }
        }
    }

    /// Writes down that a login at the console was refused.
    pub async fn note_failed_login(&self, store: &Desk, why: AccessRefusal, operator: Option<String>, route: &str) {
        self.refused.login(store, why, operator, route.to_owned()).await;
    }

    /// Writes down that a login at the identity provider led to no session; `actor` is the person, where the provider proved who it is.
    pub async fn note_failed_oidc(&self, store: &Desk, why: AccessRefusal, actor: Option<Actor>, route: &str) {
        self.refused.oidc(store, why, actor, route.to_owned()).await;
    }

    /// Writes down that a request to the console was refused since another site's page makes it.
    pub async fn note_web_page(&self, store: &Desk, route: &str) {
        self.refused.stranger(store, AccessRefusal::WebPage, None, route.to_owned()).await;
    }

    /// Writes down that a caller was refused, since this role is needed.
    pub async fn note_missing_role(&self, store: &Desk, caller: &Caller, needed: Role, route: &str) {
        self.refused.role(store, caller.actor.clone(), needed, route.to_owned()).await;
    }

    /// Checks a password. An unknown name takes as long.
    async fn check(&self, store: &StoreView, name: Option<&str>, password: String) -> Result<Checked, AuthError> {
        let _permit = self.permits.try_acquire().map_err(|_| AuthError::Crowded)?;
        let turn = self.check.clone().acquire_owned().await.map_err(|_| AuthError::Crowded)?;
        let known = store.operator(name.unwrap_or_default()).await?;
        let (role, hash) = known.map(|operator| (operator.role, operator.password_hash)).unzip();
        let checking = tokio::task::spawn_blocking(move || {
            // The turn ends with the check, also where the caller has gone.
            let _turn = turn;
            password::is_right(&password, hash.as_deref())
        });
        let is_right = checking.await.unwrap_or(false);
        Ok(Checked { role, is_right })
    }
}

/// The result of a check of a password.
struct Checked {
    /// The role of the operator; `None`: there is none of this name.
    role: Option<Role>,
    is_right: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Secret, Secrets};
    use crate::domain::Timestamp;

    fn token(name: &str, role: Role, texts: &[&str]) -> AdminToken {
        let secrets = Secrets::fixed(texts.iter().map(|text| Secret::new(*text)).collect());
        AdminToken { name: name.to_owned(), role, secrets }
    }

    #[test]
    fn a_token_is_its_holders_and_one_that_two_have_has_the_lesser_rights() {
        let tokens = vec![
            token("a", Role::Admin, &["one", "same"]),
            token("b", Role::Viewer, &["two", "same"]),
            token("c", Role::Support, &["same"]),
        ];
        let access = Access::new(tokens, Clock::manual(Timestamp::from_micros(0), 1));
        for (given, expected) in [
            ("one", Some(("a", Role::Admin))),
            ("two", Some(("b", Role::Viewer))),
            ("same", Some(("b", Role::Viewer))),
            ("", None),
            ("on", None),
            ("onee", None),
        ] {
            let expected = expected.map(|(name, role)| Caller { actor: Actor::Token(name.to_owned()), role });
            assert_eq!(access.holder(given), expected, "{given:?}");
        }
    }

    #[test]
    fn credentials_are_read_by_their_scheme() {
        let read = |value: &str| match Credentials::read(Some(value)) {
            Credentials::None => "-".to_owned(),
            Credentials::Token(token) => format!("token {token}"),
            Credentials::Password { name, password } => format!("{name} {password}"),
        };
        for (value, expected) in [
            ("Bearer  abc ", "token abc"),
            ("bearer abc", "token abc"),
            ("Basic YW5uYTphOmI=", "anna a:b"),
            ("basic YW5uYTphOmI", "anna a:b"),
            ("Basic YW5uYQ==", "-"),
            ("Basic ???", "-"),
            ("Basic //79", "-"),
            ("Digest abc", "-"),
            ("Bearer", "-"),
            ("", "-"),
        ] {
            assert_eq!(read(value), expected, "{value:?}");
        }
        assert!(matches!(Credentials::read(None), Credentials::None));
    }
}
