//! `[scim]` and `[[scim.token]]`: identity providers that provision the team.
//!
//! Before: [`crate::config`]'s reader. After: [`crate::inbound::scim`].

use super::team;
use crate::config::key::section;
use crate::config::reader::Reader;
use crate::config::rules;
use crate::config::secret::{Secret, Secrets};
use crate::domain::scim::RoleFrom;

section! {
    /// SCIM 2.0 under `/scim/v2` of the webhook listener, by which Entra ID or Okta provisions the team; see docs/SCIM.md. There is none
    /// without a `[[scim.token]]`.
    SCIM = "scim" {
        /// Attribute that sets a member's role: membership in `groups` (`staff` and `admin`), or the attribute `roles`. The other is
        /// kept, and not used.
        ROLE_FROM: RoleFrom = "role_from", rules::one_of(RoleFrom::names(), RoleFrom::from_name), default "groups";
    }
}

section! {
    /// Tokens of identity providers, one `[[scim.token]]` table each. They need `team.enabled`.
    SCIM_TOKEN = "scim.token" {
        /// Name of the token. The log and the audit log show it as `scim:NAME`.
        SCIM_TOKEN_NAME: String = "name", rules::token_name(), example r#""entra""#;
        /// The bearer token, unlike every other. A file may have several, one a line, for rotation, and is read again when it changes.
        SCIM_SECRET: Secret = "secret", rules::token(), example r#""example-token-for-entra-id""#;
    }
}

/// Section `[scim]`.
#[derive(Debug, Clone)]
pub struct Scim {
    /// The attribute that sets the role.
    pub role_from: RoleFrom,
    /// The tokens; none: there is no SCIM.
    pub tokens: Vec<ScimToken>,
}

/// One of `[[scim.token]]`.
#[derive(Debug, Clone)]
pub struct ScimToken {
    /// Name of the provider; unique.
    pub name: String,
    /// The token; several while it is rotated.
    pub secrets: Secrets,
}

pub(in crate::config) fn read(r: &mut Reader, has_team: bool) -> Scim {
    let role_from = r.value(&ROLE_FROM);
    let mut tokens: Vec<ScimToken> = Vec::new();
    for label in r.labels(SCIM_TOKEN.name).to_vec() {
        let key = SCIM_SECRET.of(&label);
        let secrets = r.rotating_secret(&key, Some("for every token"));
        let is_same = |other: &&ScimToken| {
            other.secrets.now().iter().any(|known| secrets.now().iter().any(|new| new.expose() == known.expose()))
        };
        if let Some(other) = tokens.iter().find(is_same) {
            let hint = format!("the token {} is the same; allowed: a token of its own", other.name);
            r.refuse(&*key.place, "a value that is not shown", hint);
        }
        tokens.push(ScimToken { name: label, secrets });
    }
    if !tokens.is_empty() && !has_team && r.is_sound(&team::ENABLED) {
        r.refuse("scim.token", "given", "a request would change the team: set team.enabled = true");
    }
    Scim { role_from, tokens }
}
