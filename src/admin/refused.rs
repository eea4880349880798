//! Access that was refused, as the audit log has it: a row for each, within a bound that no caller can exceed.
//!
//! Nothing waits long for the row: the refusal stands also where the store does not answer, and the next row counts it. A name that
//! a stranger gives is written down only if an operator has it: people type passwords and addresses into that field.
//!
//! Before: [`super::guard`] refuses. After: [`crate::store`] writes the rows.

use crate::clock::Clock;
use crate::domain::audit::{Action, AuditEntry, AuditTarget, TargetKind};
use crate::domain::identity::{Actor, Role};
use crate::domain::names::names;
use crate::store::{Desk, RefusalRows};

names! {
    /// The reason for which access was refused.
    pub enum AccessRefusal {
        /// No token and no password.
        NoCredentials = "no_credentials",
        /// A token that nobody has.
        WrongToken = "wrong_token",
        /// A name and a password that do not belong together.
        WrongPassword = "wrong_password",
        /// A password that was not looked at, after too many wrong ones.
        TooManyAttempts = "too_many_attempts",
        /// A request that a web page makes.
        WebPage = "web_page",
        /// An answer to a login at the identity provider that this browser did not begin, or began too long ago.
        WrongLoginState = "wrong_login_state",
        /// The identity provider refused a login.
        ProviderRefused = "provider_refused",
        /// A token of the identity provider that is not valid, or names nobody.
        WrongIdToken = "wrong_id_token",
        /// A person whom the identity provider knows, and who has none of the roles of the configuration.
        NoMappedRole = "no_mapped_role",
        /// A known caller whose role is not enough.
        RoleRequired = "role_required",
    }
}

/// Writes down refused access.
pub(super) struct RefusedAccess {
    clock: Clock,
    /// Apart, so that strangers do not keep the rows about known callers out.
    strangers: RefusalRows,
    known: RefusalRows,
}

impl RefusedAccess {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, strangers: RefusalRows::default(), known: RefusalRows::default() }
    }

    /// Writes down that a stranger was refused. `operator` is the one whose name was given, where there is one.
    pub(super) async fn stranger(&self, store: &Desk, why: AccessRefusal, operator: Option<String>, route: String) {
        // The bridge acts: it refuses a caller whom it does not know.
        let actor = operator.map_or(Actor::Bridge, Actor::Operator);
        self.strangers.note(store, [self.row(actor, route)], why.name()).await;
    }

    /// Writes down that a login at the console was refused. `operator` is the one whose name was given, where there is one.
    pub(super) async fn login(&self, store: &Desk, why: AccessRefusal, operator: Option<String>, route: String) {
        let actor = operator.map_or(Actor::Bridge, Actor::Operator);
        let row = AuditEntry { action: Action::SessionOpen, ..self.row(actor, route) };
        self.strangers.note(store, [row], why.name()).await;
    }

    /// Writes down that a login at the identity provider led to no session. `actor` is the person, where the provider proved who it is.
    pub(super) async fn oidc(&self, store: &Desk, why: AccessRefusal, actor: Option<Actor>, route: String) {
        let rows = if actor.is_some() { &self.known } else { &self.strangers };
        let row = AuditEntry { action: Action::SessionOpen, ..self.row(actor.unwrap_or(Actor::Bridge), route) };
        rows.note(store, [row], why.name()).await;
    }

    /// Writes down that a known caller was refused, since this role is needed.
    pub(super) async fn role(&self, store: &Desk, actor: Actor, needed: Role, route: String) {
        let row = AuditEntry { to: Some(needed.name().to_owned()), ..self.row(actor, route) };
        self.known.note(store, [row], AccessRefusal::RoleRequired.name()).await;
    }

    fn row(&self, actor: Actor, route: String) -> AuditEntry {
        AuditEntry::done(self.clock.now(), actor, Action::AccessUse, AuditTarget::new(TargetKind::Route, route))
    }
}
