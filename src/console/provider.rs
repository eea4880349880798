//! The identity provider: its metadata and keys, the address of a login, and who has logged in there.
//!
//! Nothing is asked of it before a person wants to log in, so that the bridge starts without it. It is reached under the configured
//! issuer and the addresses that it publishes there; no redirect is followed, and no answer is read beyond its bound. Its words, and
//! tokens, codes and secrets, never reach the log.
//!
//! Before: `oidc.rs` asks. After: the provider, by HTTP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use chrono::{DateTime, Utc};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreErrorResponseType, CoreIdToken, CoreProviderMetadata,
};
use openidconnect::{
    AuthType, AuthorizationCode, ClaimsVerificationError, ClientId, ClientSecret, CsrfToken, DiscoveryError,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IssuerUrl, Nonce, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope, TokenResponse,
};
use serde_json::{Map, Value};
use tokio::sync::{Mutex, Semaphore};

use super::login_state::{LoginState, Seal};
use crate::config;
use crate::domain::Timestamp;
use crate::domain::identity::Role;

/// Timeout of a request to the provider, and of its connection: a person waits for the page.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(10);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Limit of an answer of the provider, in bytes: keys and tokens are some kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Life of the provider's metadata and keys in memory: a key that is withdrawn counts for no longer.
const METADATA_LIFE: Duration = Duration::from_hours(1);

/// Age at which keys are asked for again when none of them made a token: a provider changes them at any time, and a stranger's tokens
/// must not ask for them with each request.
const KEYS_AGE_MIN: Duration = Duration::from_secs(30);

/// Time after a failure in which the metadata is not asked for again.
const PAUSE: Duration = Duration::from_secs(5);

/// Limit of the codes that are exchanged at once. A browser that comes meanwhile is asked to come again.
const EXCHANGES_MAX: usize = 8;

/// Tolerance for a provider whose clock differs, at the issue and at the end of a token.
const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);

/// Limit of the name of a person, in characters: that of a subject (OpenID Connect Core, section 2).
const PERSON_CHARS_MAX: usize = 255;

/// The client of the library, with the provider's addresses.
type ProviderClient =
    CoreClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointMaybeSet, EndpointMaybeSet>;

/// The reason for which the provider led to no login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProviderFailure {
    /// It does not answer, or not usably.
    Away,
    /// Too many logins end at once.
    Crowded,
    /// It refused the code: it was used, or is too old.
    CodeRefused,
    /// Its token is not valid, for this reason, or names nobody.
    WrongToken(&'static str),
}

/// A person, as the provider proved it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PersonAtProvider {
    /// The value of the configured claim.
    pub(super) name: String,
    /// The highest role of the configuration that the person has.
    pub(super) role: Option<Role>,
}

/// The settings do not make a client.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// The issuer or `console.base_url` is no address.
    #[error("console.oidc.issuer or console.base_url is unusable")]
    Address(#[source] url::ParseError),
    /// The HTTP client was not made.
    #[error("the HTTP client of console.oidc was not made")]
    Http,
}

/// The identity provider of `[console.oidc]`.
pub struct IdentityProvider {
    settings: config::Oidc,
    issuer: IssuerUrl,
    redirect: RedirectUrl,
    pub(super) seal: Seal,
    http: reqwest::Client,
    known: Mutex<Known>,
    exchanges: Semaphore,
}

/// The last answer about metadata and keys.
#[derive(Default)]
struct Known {
    metadata: Option<(Timestamp, Arc<CoreProviderMetadata>)>,
    failed_at: Option<Timestamp>,
}

impl IdentityProvider {
    /// Checks the settings; asks for nothing. `callback` is the address to which the provider leads browsers back.
    pub fn new(settings: config::Oidc, callback: String) -> Result<Self, ProviderError> {
        let issuer = IssuerUrl::new(settings.issuer.clone()).map_err(ProviderError::Address)?;
        let redirect = RedirectUrl::new(callback).map_err(ProviderError::Address)?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("podero-bridge/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIME_MAX)
            .timeout(REQUEST_TIME_MAX)
            .no_proxy();
        let http = match &settings.proxy {
            Some(proxy) => http.proxy(reqwest::Proxy::all(proxy.expose()).map_err(|_| ProviderError::Http)?),
            None => http,
        };
        let http = http.build().map_err(|_| ProviderError::Http)?;
        let (seal, exchanges) = (Seal::of(settings.client_secret.expose()), Semaphore::new(EXCHANGES_MAX));
        Ok(Self { settings, issuer, redirect, seal, http, known: Mutex::default(), exchanges })
    }

    /// Its name on the login page.
    pub(super) fn name(&self) -> &str {
        &self.settings.name
    }

    /// The address at the provider where a browser goes on with this login.
    pub(super) async fn address_of(&self, login: &LoginState, now: Timestamp) -> Result<String, ProviderFailure> {
        let metadata = self.metadata(now, METADATA_LIFE).await?;
        let client = self.client(&metadata);
        let (state, nonce) = (login.state(&self.seal), login.nonce(&self.seal));
        let challenge =
            PkceCodeChallenge::from_code_verifier_sha256(&PkceCodeVerifier::new(login.verifier(&self.seal)));
        let request = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state),
                move || Nonce::new(nonce),
            )
            .add_scopes(self.settings.scopes.iter().cloned().map(Scope::new))
            .set_pkce_challenge(challenge);
        Ok(request.url().0.into())
    }

    /// Exchanges the code of a login for the person who logged in.
    pub(super) async fn person(
        &self,
        login: &LoginState,
        code: String,
        now: Timestamp,
    ) -> Result<PersonAtProvider, ProviderFailure> {
        let _permit = self.exchanges.try_acquire().map_err(|_| ProviderFailure::Crowded)?;
        let metadata = self.metadata(now, METADATA_LIFE).await?;
        let client = self.client(&metadata);
        let fetch = |request: HttpRequest| fetch(&self.http, request);
        let exchange = client.exchange_code(AuthorizationCode::new(code)).map_err(|_| ProviderFailure::Away)?;
        let exchange = exchange.set_pkce_verifier(PkceCodeVerifier::new(login.verifier(&self.seal)));
        let answer = exchange.request_async(&fetch).await.map_err(|error| match error {
            RequestTokenError::ServerResponse(refusal) if *refusal.error() == CoreErrorResponseType::InvalidGrant => {
                ProviderFailure::CodeRefused
            }
            RequestTokenError::ServerResponse(_) => away("the provider refused the exchange of a code"),
            RequestTokenError::Request(error) => away(error.told()),
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => away("an answer that cannot be read"),
        })?;
        let token = answer.id_token().ok_or(ProviderFailure::WrongToken("there is no ID token"))?;
        let nonce = Nonce::new(login.nonce(&self.seal));
        let mut verified = verify(&client, token, &nonce, now);
        if let Err(ClaimsVerificationError::SignatureVerification(_)) = verified {
            // The provider may have another key by now.
            let metadata = self.metadata(now, KEYS_AGE_MIN).await?;
            verified = verify(&self.client(&metadata), token, &nonce, now);
        }
        verified.map_err(|error| ProviderFailure::WrongToken(told(&error)))?;
        let claims = claims_of(token).ok_or(ProviderFailure::WrongToken("its claims cannot be read"))?;
        person_of(&self.settings, &claims).ok_or(ProviderFailure::WrongToken("it names nobody"))
    }

    /// Metadata and keys of at most this age.
    async fn metadata(&self, now: Timestamp, age_max: Duration) -> Result<Arc<CoreProviderMetadata>, ProviderFailure> {
        // One asks, and the others wait for its answer.
        let mut known = self.known.lock().await;
        let is_kept = |at: Timestamp, life: Duration| at.no_later_than(now).plus(life) > now;
        if let Some((at, metadata)) = &known.metadata
            && is_kept(*at, age_max)
        {
            return Ok(metadata.clone());
        }
        if known.failed_at.is_some_and(|at| is_kept(at, PAUSE)) {
            return Err(ProviderFailure::Away);
        }
        let fetch = |request: HttpRequest| fetch(&self.http, request);
        let found = CoreProviderMetadata::discover_async(self.issuer.clone(), &fetch).await;
        match found.map_err(|error| discovery_told(&error)).and_then(|metadata| self.fit(metadata)) {
            Ok(metadata) => {
                let metadata = Arc::new(metadata);
                *known = Known { metadata: Some((now, metadata.clone())), failed_at: None };
                Ok(metadata)
            }
            Err(why) => {
                known.failed_at = Some(now);
                Err(away(why))
            }
        }
    }

    /// The metadata, if all that is called after it is as safe as the issuer.
    fn fit(&self, metadata: CoreProviderMetadata) -> Result<CoreProviderMetadata, &'static str> {
        let token = metadata.token_endpoint().ok_or("the provider has no token endpoint")?;
        let addresses = [token.url(), metadata.authorization_endpoint().url(), metadata.jwks_uri().url()];
        let scheme = self.issuer.url().scheme();
        let is_safe = addresses.iter().all(|address| address.scheme() == "https" || address.scheme() == scheme);
        if is_safe { Ok(metadata) } else { Err("the provider has addresses without TLS") }
    }

    fn client(&self, metadata: &CoreProviderMetadata) -> ProviderClient {
        let methods = metadata.token_endpoint_auth_methods_supported();
        let has = |method| methods.is_some_and(|methods| methods.contains(&method));
        let is_posted = has(CoreClientAuthMethod::ClientSecretPost) && !has(CoreClientAuthMethod::ClientSecretBasic);
        let (id, secret) = (self.settings.client_id.clone(), self.settings.client_secret.expose().to_owned());
        CoreClient::from_provider_metadata(metadata.clone(), ClientId::new(id), Some(ClientSecret::new(secret)))
            .set_redirect_uri(self.redirect.clone())
            .set_auth_type(if is_posted { AuthType::RequestBody } else { AuthType::BasicAuth })
    }
}

/// Checks signature, issuer, audience, times and nonce of a token.
fn verify(
    client: &ProviderClient,
    token: &CoreIdToken,
    nonce: &Nonce,
    now: Timestamp,
) -> Result<(), ClaimsVerificationError> {
    let at = |moment: Timestamp| DateTime::<Utc>::from_timestamp_micros(moment.micros()).unwrap_or_default();
    let (earliest, latest) = (at(now.minus(CLOCK_SKEW_MAX)), at(now.plus(CLOCK_SKEW_MAX)));
    let verifier = client.id_token_verifier().set_time_fn(move || earliest).set_issue_time_verifier_fn(move |issued| {
        if issued <= latest { Ok(()) } else { Err("it is of the future".to_owned()) }
    });
    token.claims(&verifier, nonce).map(|_| ())
}

/// The claims of a token that was verified.
fn claims_of(token: &CoreIdToken) -> Option<Map<String, Value>> {
    let token = token.to_string();
    let payload = BASE64.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn person_of(settings: &config::Oidc, claims: &Map<String, Value>) -> Option<PersonAtProvider> {
    let name = claim(claims, &settings.name_claim)?.as_str()?.trim().to_owned();
    let is_name = (1..=PERSON_CHARS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
    let role = claim(claims, &settings.roles_claim).and_then(|value| highest(&settings.roles, value));
    is_name.then_some(PersonAtProvider { name, role })
}

/// The claim of this name. A dot leads into an object, unless a claim has the whole name.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    claims.get(name).or_else(|| {
        let (object, rest) = name.split_once('.')?;
        claim(claims.get(object)?.as_object()?, rest)
    })
}

/// The highest role among the values of a claim: a text, or a list of texts.
fn highest(roles: &BTreeMap<String, Role>, value: &Value) -> Option<Role> {
    let one = value.as_str().into_iter();
    let several = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    one.chain(several).filter_map(|value| roles.get(value).copied()).max()
}

/// A request without a usable answer.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer")]
    NoAnswer,
    #[error("no answer in time")]
    Late,
    #[error("an answer that is too large")]
    TooLarge,
}

impl FetchError {
    fn told(&self) -> &'static str {
        match self {
            Self::NoAnswer => "no answer",
            Self::Late => "no answer in time",
            Self::TooLarge => "an answer that is too large",
        }
    }
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        if error.is_timeout() { Self::Late } else { Self::NoAnswer }
    }
}

/// Sends a request of the library, and reads the answer up to its bound.
async fn fetch(http: &reqwest::Client, request: HttpRequest) -> Result<HttpResponse, FetchError> {
    let mut answer = http.execute(reqwest::Request::try_from(request)?).await?;
    let mut read = HttpResponse::new(Vec::new());
    *read.status_mut() = answer.status();
    *read.headers_mut() = answer.headers().clone();
    while let Some(chunk) = answer.chunk().await? {
        if read.body().len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        read.body_mut().extend_from_slice(&chunk);
    }
    Ok(read)
}

/// Says in the log that the provider is away.
fn away(why: &'static str) -> ProviderFailure {
    tracing::warn!(why, "the identity provider of the console led to no login");
    ProviderFailure::Away
}

fn discovery_told(error: &DiscoveryError<FetchError>) -> &'static str {
    match error {
        DiscoveryError::Request(error) => error.told(),
        DiscoveryError::Response(..) => "it does not answer with its metadata or its keys",
        DiscoveryError::Parse(_) => "its metadata or keys cannot be read",
        DiscoveryError::Validation(_) => "it calls itself by another issuer",
        DiscoveryError::Other(_) | DiscoveryError::UrlParse(_) | _ => "its metadata cannot be asked for",
    }
}

/// The reason for which a token is not valid; nothing of it.
fn told(error: &ClaimsVerificationError) -> &'static str {
    match error {
        ClaimsVerificationError::Expired(_) => "it has expired, or is of the future",
        ClaimsVerificationError::InvalidAudience(_) => "it is for another client",
        ClaimsVerificationError::InvalidIssuer(_) => "another issuer made it",
        ClaimsVerificationError::InvalidNonce(_) => "it is for another login",
        ClaimsVerificationError::SignatureVerification(_) => "its signature is of no key of the provider",
        ClaimsVerificationError::InvalidAuthContext(_)
        | ClaimsVerificationError::InvalidAuthTime(_)
        | ClaimsVerificationError::InvalidSubject(_)
        | ClaimsVerificationError::Other(_)
        | ClaimsVerificationError::Unsupported(_)
        | _ => "it is not valid",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Secret;

    fn settings(name_claim: &str, roles_claim: &str) -> config::Oidc {
        let roles = [("a", Role::Viewer), ("b", Role::Admin), ("c", Role::Support)];
        config::Oidc {
            issuer: "https://login.example".to_owned(),
            name: "login.example".to_owned(),
            client_id: "bridge".to_owned(),
            client_secret: Secret::new("secret"),
            scopes: Vec::new(),
            name_claim: name_claim.to_owned(),
            roles_claim: roles_claim.to_owned(),
            roles: roles.into_iter().map(|(value, role)| (value.to_owned(), role)).collect(),
            proxy: None,
        }
    }

    #[test]
    fn the_highest_mapped_role_counts_wherever_the_claim_lies() {
        for (roles_claim, claims, expected) in [
            ("roles", json!({"roles": ["a", "b", "c"]}), Some(Role::Admin)),
            ("roles", json!({"roles": ["c", "x", "a"]}), Some(Role::Support)),
            ("roles", json!({"roles": "a"}), Some(Role::Viewer)),
            ("roles", json!({"roles": ["A", "a ", "ab", ""]}), None),
            ("roles", json!({"roles": []}), None),
            ("roles", json!({"roles": {"a": true}}), None),
            ("roles", json!({"roles": [["a"], {"b": "a"}, 1, null]}), None),
            ("roles", json!({}), None),
            ("realm_access.roles", json!({"realm_access": {"roles": ["b"]}}), Some(Role::Admin)),
            ("realm_access.roles", json!({"roles": ["b"]}), None),
            ("https://a.example/roles", json!({"https://a.example/roles": ["c"]}), Some(Role::Support)),
        ] {
            let mut claims = claims.as_object().expect("an object").clone();
            claims.insert("sub".to_owned(), json!("248289761001"));
            let person = person_of(&settings("sub", roles_claim), &claims).expect("a person");
            assert_eq!((person.name.as_str(), person.role), ("248289761001", expected), "{claims:?}");
        }
    }

    #[test]
    fn a_token_without_a_usable_name_names_nobody() {
        for (name, is_good) in [
            (json!("anna@utility.example"), true),
            (json!("x".repeat(PERSON_CHARS_MAX)), true),
            (json!("x".repeat(PERSON_CHARS_MAX + 1)), false),
            (json!(""), false),
            (json!(" "), false),
            (json!("a\nb"), false),
            (json!(["anna"]), false),
            (json!(null), false),
        ] {
            let claims = json!({"email": name, "sub": "1"}).as_object().expect("an object").clone();
            assert_eq!(person_of(&settings("email", "roles"), &claims).is_some(), is_good, "{claims:?}");
        }
    }
}
