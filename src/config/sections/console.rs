//! `[console]`: the pages for people on the admin listener.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::console`].

use std::collections::BTreeMap;

use url::Url;

use super::admin::Admin;
use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules::{self, is_loopback};
use crate::config::secret::Secret;
use crate::domain::identity::Role;
use crate::domain::zone::Zone;

section! {
    /// The console for people, under `/console` of the admin listener; see docs/CONSOLE.md. It always wants the login of an operator.
    CONSOLE = "console" {
        /// Whether there is a console. Without it: `true` where `admin.listen` is loopback, else `false`.
        ENABLED: bool = "enabled", rules::flag(), example "true";
        /// Address by which browsers reach the console: scheme and host, without a path. Required unless `admin.listen` is loopback, and
        /// with `console.oidc.issuer`.
        /// With `https` the session's cookie is `Secure` and has the prefix `__Host-`.
        BASE_URL: String = "base_url", rules::origin(), example r#""https://bridge.utility.example""#;
        /// Time zone in which the pages show times until a reader chooses another, such as `Europe/Berlin`.
        TIME_ZONE: Zone = "time_zone", rules::time_zone(), default "UTC";
    }
}

section! {
    /// Login at the console by OpenID Connect, next to that by password: authorization code with PKCE. There is none without `issuer`; see
    /// docs/CONSOLE.md. The redirect URI is `console.base_url` and `/console/login/oidc/callback`.
    OIDC = "console.oidc" {
        /// Issuer of the identity provider, exactly as it calls itself; `/.well-known/openid-configuration` lies below it.
        ISSUER: String = "issuer", rules::issuer(), example r#""https://login.utility.example/realms/staff""#;
        /// Name of the provider on the login page. Without it: the host of the issuer.
        SHOWN_NAME: String = "name", rules::shown_name(), example r#""Utility SSO""#;
        /// Id of the bridge at the provider. Required with `console.oidc.issuer`.
        CLIENT_ID: String = "client_id", rules::client_id(), example r#""podero-bridge""#;
        /// Secret of the bridge at the provider. Required with `console.oidc.issuer`.
        CLIENT_SECRET: Secret = "client_secret", rules::any_secret(), example r#""example-secret-of-the-provider""#;
        /// Scopes that are asked for next to `openid`: those that put the claims below into the ID token.
        SCOPES: Vec<String> = "scopes", rules::scopes(), default "profile";
        /// Claim of the ID token that names the person in the audit log and the log, as `oidc:VALUE`. It should be one that no person can
        /// change and that is given to nobody else later.
        NAME_CLAIM: String = "name_claim", rules::claim(), default "sub";
        /// Claim of the ID token whose text or list of texts is looked up in `console.oidc.roles`. A dot leads into an object, unless a
        /// claim has the whole name.
        ROLES_CLAIM: String = "roles_claim", rules::claim(), default "roles";
        /// Role of each value of `console.oidc.roles_claim`; the highest counts, and one who has none of the values is refused. Required with
        /// `console.oidc.issuer`.
        ROLES: BTreeMap<String, Role> = "roles", rules::roles(), example r#"{ "bridge-support" = "support", "bridge-admins" = "admin" }"#;
        /// Forward proxy for calls to the provider. The variables `HTTP_PROXY`, `HTTPS_PROXY` and `ALL_PROXY` are ignored.
        PROXY: Secret = "proxy", rules::proxy_url(), example r#""http://proxy.utility.example:3128""#;
    }
}

/// Section `[console]`.
#[derive(Debug, Clone)]
pub struct ConsoleSection {
    /// Scheme and host by which browsers reach it, without a slash at the end; `None`: by the names of this machine.
    pub base_url: Option<String>,
    /// The time zone of the pages.
    pub time_zone: Zone,
    /// The login by OpenID Connect; `None`: there is none.
    pub oidc: Option<Oidc>,
}

/// Section `[console.oidc]`.
#[derive(Debug, Clone)]
pub struct Oidc {
    /// Issuer of the identity provider, as it calls itself.
    pub issuer: String,
    /// Name of the provider on the login page.
    pub name: String,
    /// Id of the bridge at the provider.
    pub client_id: String,
    /// Secret of the bridge at the provider.
    pub client_secret: Secret,
    /// Scopes next to `openid`.
    pub scopes: Vec<String>,
    /// The claim that names a person.
    pub name_claim: String,
    /// The claim whose values have roles.
    pub roles_claim: String,
    /// The role of each value.
    pub roles: BTreeMap<String, Role>,
    /// URL of a forward proxy.
    pub proxy: Option<Secret>,
}

pub(in crate::config) fn read(r: &mut Reader, admin: &Admin) -> Option<ConsoleSection> {
    let is_private = is_loopback(admin.listen);
    let is_enabled = r.optional(&ENABLED).unwrap_or(is_private);
    let when = if r.is_given(&ISSUER) {
        Some("with console.oidc.issuer, whose provider leads browsers back to it")
    } else {
        (is_enabled && !is_private).then_some("because there is a console and admin.listen is not loopback")
    };
    let base_url = r.required(&BASE_URL, when);
    let (time_zone, oidc) = (r.value(&TIME_ZONE), read_oidc(r));
    is_enabled.then_some(ConsoleSection { base_url, time_zone, oidc })
}

fn read_oidc(r: &mut Reader) -> Option<Oidc> {
    let needs_issuer = r.is_given(&CLIENT_ID) || r.is_given(&CLIENT_SECRET) || r.is_given(&ROLES);
    let issuer = r.required(&ISSUER, needs_issuer.then_some("with any other key of console.oidc"));
    let when = r.is_given(&ISSUER).then_some("with console.oidc.issuer");
    let client_id = r.required(&CLIENT_ID, when);
    let client_secret = r.required_secret(&CLIENT_SECRET, when);
    let roles = r.required(&ROLES, when);
    let host = issuer.as_ref().and_then(|issuer| Some(Url::parse(issuer).ok()?.host_str()?.to_owned()));
    let (name, proxy) = (r.optional(&SHOWN_NAME).or(host), r.secret(&PROXY));
    let (scopes, name_claim, roles_claim) = (r.value(&SCOPES), r.value(&NAME_CLAIM), r.value(&ROLES_CLAIM));
    let (issuer, name, client_id, client_secret, roles) = (issuer?, name?, client_id?, client_secret?, roles?);
    Some(Oidc { issuer, name, client_id, client_secret, scopes, name_claim, roles_claim, roles, proxy })
}
