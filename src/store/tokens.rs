//! The named tokens of the configuration, as they were seen last: what changed since is in the audit log.
//!
//! Those of the admin API and those of identity providers. A token is no row, so nobody's act in the store adds or removes it. At its start a bridge compares the configuration with the
//! names, roles and keyed hashes that the last start of any replica left.
//!
//! Before: [`crate::app`] starts. After: the tables `shared` and `audit`.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::audit::{self, AuditRow};
use super::db::{DbFault, Executor};
use super::error::Error;
use super::handle::Store;
use super::shared_state;
use super::transaction::{Transaction, Write};
use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry, AuditReason, AuditTarget, TargetKind};
use crate::domain::identity::{Actor, Role};

/// The key of the shared value of the tokens of the admin API.
const TOKENS: &str = "tokens";

/// The key of the shared value of the tokens of identity providers.
const SCIM_TOKENS: &str = "scim_tokens";

/// A token as it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SeenToken {
    /// Its role; `None`: it is an identity provider's, which has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// A keyed hash of the secret.
    digest: String,
}

impl Store {
    /// Compares the tokens of the admin API (name, role, secret) with those that were seen last, and records what was added, changed
    /// or removed.
    pub async fn note_tokens<'a>(
        &self,
        tokens: impl IntoIterator<Item = (&'a str, Role, &'a str)>,
    ) -> Result<(), Error> {
        let seen = |(name, role, secret): (&str, Role, &str)| {
            (name.to_owned(), SeenToken { role: Some(role), digest: self.inner.key.digest(secret) })
        };
        self.note(TOKENS, tokens.into_iter().map(seen).collect()).await
    }

    /// As [`Store::note_tokens`], of the tokens of identity providers (name, secret). Their rows name them like their actors: `scim:NAME`.
    pub async fn note_scim_tokens<'a>(
        &self,
        tokens: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Error> {
        let seen = |(name, secret): (&str, &str)| {
            (Actor::Scim(name.to_owned()).to_string(), SeenToken { role: None, digest: self.inner.key.digest(secret) })
        };
        self.note(SCIM_TOKENS, tokens.into_iter().map(seen).collect()).await
    }

    async fn note(&self, key: &'static str, tokens: BTreeMap<String, SeenToken>) -> Result<(), Error> {
        // The replica that comes second looks again.
        while !self.write(NoteTokens { key, tokens: tokens.clone(), clock: self.clock.clone() }).await? {}
        Ok(())
    }
}

/// The roles of the tokens that were seen last.
pub(super) async fn seen_roles(on: impl Executor) -> Result<BTreeSet<Role>, DbFault> {
    let (seen, _) = shared_state::read::<BTreeMap<String, SeenToken>>(on, TOKENS).await?;
    Ok(seen.unwrap_or_default().into_values().filter_map(|token| token.role).collect())
}

struct NoteTokens {
    key: &'static str,
    tokens: BTreeMap<String, SeenToken>,
    clock: Clock,
}

impl Write for NoteTokens {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let (known, version) = shared_state::read::<BTreeMap<String, SeenToken>>(&mut *tx, self.key).await?;
        let known = known.unwrap_or_default();
        if known == self.tokens {
            return Ok(true);
        }
        if !shared_state::set(&mut *tx, self.key, &self.tokens, version).await? {
            return Ok(false);
        }
        let rows: Vec<AuditRow> = changes(&known, &self.tokens).map(|change| change.row(&self.clock)).collect();
        audit::record(tx, rows.iter()).await?;
        Ok(true)
    }
}

/// A change of one token.
struct TokenChange<'a> {
    name: &'a str,
    was: Option<&'a SeenToken>,
    is: Option<&'a SeenToken>,
}

fn changes<'a>(
    known: &'a BTreeMap<String, SeenToken>,
    tokens: &'a BTreeMap<String, SeenToken>,
) -> impl Iterator<Item = TokenChange<'a>> {
    let gone = known.iter().filter(|(name, _)| !tokens.contains_key(*name));
    let gone = gone.map(|(name, was)| TokenChange { name, was: Some(was), is: None });
    let there = tokens.iter().map(|(name, is)| TokenChange { name, was: known.get(name), is: Some(is) });
    gone.chain(there.filter(|change| change.was != change.is))
}

impl TokenChange<'_> {
    fn row(&self, clock: &Clock) -> AuditRow {
        let action = match (self.was, self.is) {
            (None, _) => Action::TokenAdd,
            (Some(_), Some(_)) => Action::TokenChange,
            (Some(_), None) => Action::TokenRemove,
        };
        let role = |token: Option<&SeenToken>| token?.role.map(|role| role.name().to_owned());
        let (from, to) = (role(self.was), role(self.is));
        let is_rotated = self.was.zip(self.is).is_some_and(|(was, is)| was.digest != is.digest);
        let reason = is_rotated.then(|| AuditReason::Rotated.into());
        let entry =
            AuditEntry::done(clock.now(), Actor::Bridge, action, AuditTarget::new(TargetKind::Token, self.name));
        AuditRow::new(AuditEntry { reason, from, to, ..entry }, clock)
    }
}
