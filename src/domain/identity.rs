//! Identities: who acts, and what they may do.
//!
//! An actor is what the audit log writes down; a role is what a token or an operator has at the admin API.
//!
//! Before: nothing. After: the audit log; [`crate::admin`], which checks the role of each request.

use super::names::names;

names! {
    /// The rights of a token or an operator at the admin API. Each role has the rights of the one before.
    pub enum Role {
        /// Sees ids and states.
        Viewer = "viewer",
        /// Also sees personal data and original bytes, and makes reconnection links.
        Support = "support",
        /// Also retries, skips, approves, erases, exports and reloads.
        Admin = "admin",
    }
}

impl Role {
    /// True if a caller of this role may do what `needed` stands for.
    pub fn allows(self, needed: Self) -> bool {
        self >= needed
    }
}

/// The name of the token that `admin.token` is.
pub const DEFAULT_TOKEN: &str = "default";

/// The name of the caller where no token and no operator is configured: the admin API is on loopback then, and open.
pub const NO_TOKEN: &str = "none";

/// The name of the caller who used the login link of a sandbox.
pub const LOGIN_LINK: &str = "login-link";

/// Limit of the name of a token, an operator or a user of the machine, in characters: a column of a list.
pub const NAME_CHARS_MAX: usize = 64;

/// Says whether an operator may have this name: 1 to [`NAME_CHARS_MAX`] of `a-z`, `0-9`, `.`, `_` and `-`. It stands in the log and
/// the audit log, so an e-mail address is none.
pub fn is_operator_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    (1..=NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(is_plain)
}

/// The one who changes something, or tries to. Written `kind:name`; the bridge itself is `bridge`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Actor {
    /// A configured source, by an event that it sent.
    Source(String),
    /// A named token of the admin API.
    Token(String),
    /// An operator with a password or a session.
    Operator(String),
    /// A user of the machine, by a command. The name is what the system says, and no proof.
    Cli(String),
    /// A SCIM client, by the name of its token.
    Scim(String),
    /// A person who logged in at the console by OpenID Connect, by the value of the configured claim.
    Oidc(String),
    /// The bridge by itself: a timer, a repair, a check.
    Bridge,
}

impl serde::Serialize for Actor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Actor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an actor"))
    }
}

/// The forms of an actor's name, as a person reads them.
pub const ACTOR_FORMS: &str =
    "`source:NAME`, `token:NAME`, `operator:NAME`, `cli:USER`, `scim:NAME`, `oidc:NAME` or `bridge`";

impl Actor {
    /// Reads what `Display` writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "bridge" {
            return Some(Self::Bridge);
        }
        let (kind, name) = text.split_once(':')?;
        let name = (!name.is_empty()).then(|| name.to_owned())?;
        match kind {
            "source" => Some(Self::Source(name)),
            "token" => Some(Self::Token(name)),
            "operator" => Some(Self::Operator(name)),
            "cli" => Some(Self::Cli(name)),
            "scim" => Some(Self::Scim(name)),
            "oidc" => Some(Self::Oidc(name)),
            _ => None,
        }
    }
}

impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Source(name) => write!(f, "source:{name}"),
            Self::Token(name) => write!(f, "token:{name}"),
            Self::Operator(name) => write!(f, "operator:{name}"),
            Self::Cli(name) => write!(f, "cli:{name}"),
            Self::Scim(name) => write!(f, "scim:{name}"),
            Self::Oidc(name) => write!(f, "oidc:{name}"),
            Self::Bridge => f.write_str("bridge"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_has_the_rights_of_the_one_before() {
        for (place, role) in Role::ALL.into_iter().enumerate() {
            for (needed_place, needed) in Role::ALL.into_iter().enumerate() {
                assert_eq!(role.allows(needed), place >= needed_place, "{role} for {needed}");
            }
        }
    }

    #[test]
    fn an_operators_name_is_plain() {
        for (name, expected) in [
            ("anna", true),
            ("anna.b-c_2", true),
            ("anna@example.com", false),
            ("", false),
            ("Anna", false),
            ("a:b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(is_operator_name(name), expected, "{name:?}");
        }
        assert!(is_operator_name(&"x".repeat(NAME_CHARS_MAX)) && !is_operator_name(&"x".repeat(NAME_CHARS_MAX + 1)));
    }

    #[test]
    fn an_actor_is_read_as_it_is_written() {
        let name = || "a:b".to_owned();
        for actor in [
            Actor::Source(name()),
            Actor::Token(name()),
            Actor::Operator(name()),
            Actor::Cli(name()),
            Actor::Scim(name()),
            Actor::Oidc(name()),
            Actor::Bridge,
        ] {
            assert_eq!(Actor::parse(&actor.to_string()), Some(actor));
        }
        for text in ["", "bridge:", "token:", "robot:x", "default"] {
            assert_eq!(Actor::parse(text), None, "{text:?}");
        }
    }
}
