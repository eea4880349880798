//! Sessions of operators at the console: opened by a login, asked for with each request, and ended.
//!
//! A session has two names: the secret that its browser holds, of which the store has the digest alone, and an id for lists. Its role is
//! the operator's at the moment of the request. It ends with the operator, by a demotion and by another password; one that has ended by
//! itself stays as a row until its operator logs in the next time, and counts for nothing. One who logged in at an identity provider has
//! no row of an operator: the session has the role of the login until it ends.
//!
//! Before: [`crate::console`] logs in and out. After: the tables `sessions` and `operators`.

use schemars::JsonSchema;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::audit::{self, AuditRow};
use super::db::{DbFault, Executor, ours, query, row};
use super::error::Error;
use super::handle::{Desk, StoreView};
use super::timeline::ROWS_MAX;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditReason, TargetKind};
use crate::domain::chain::hex;
use crate::domain::identity::{Actor, Role};
use crate::domain::session::SessionAge;

/// Limit of the sessions of one operator: more browsers than a person has. The next login ends the oldest.
pub const SESSIONS_PER_OPERATOR_MAX: usize = 20;

/// The secret by which a browser names its session.
#[derive(Clone)]
pub struct SessionSecret(String);

impl SessionSecret {
    /// The secret as the browser gave it; any text may come.
    pub fn given(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The secret as the browser keeps it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    fn digest(&self) -> String {
        hex(&Sha256::digest(&self.0).into())
    }
}

/// The one who has a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SessionHolder {
    /// The operator of this name.
    Operator(String),
    /// The one whom the identity provider calls so; the role is that of the login.
    Oidc(String, Role),
    /// The one who used the login link of a sandbox.
    LoginLink,
}

impl SessionHolder {
    /// The column `operator`. The name of an operator has no colon, so that nobody else is called as an [`Actor::Oidc`] is written.
    fn column(&self) -> String {
        match self {
            Self::Operator(name) => name.clone(),
            Self::Oidc(name, _) => Actor::Oidc(name.clone()).to_string(),
            Self::LoginLink => String::new(),
        }
    }

    /// The column `role`.
    fn own_role(&self) -> Option<Role> {
        match self {
            Self::Oidc(_, role) => Some(*role),
            Self::Operator(_) | Self::LoginLink => None,
        }
    }
}

/// A session that goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSession {
    /// Its id in lists.
    pub id: Uuid,
    /// Whose it is, with the operator's role now.
    pub holder: SessionHolder,
    /// The role of the operator now, or that of a login at the identity provider; `None` for a login link.
    pub role: Option<Role>,
    /// The moments by which it ends.
    pub age: SessionAge,
}

row! {
    struct SessionRow {
        id: Uuid = "sessions.id",
        operator: String = "sessions.operator",
        created_at: Timestamp = "sessions.created_at",
        seen_at: Timestamp = "sessions.seen_at",
        role: Option<Role> = "operators.role",
        own_role: Option<Role> = "sessions.role",
    }
}

/// A session in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SessionView {
    /// Names it for a revocation, and opens nothing.
    pub id: Uuid,
    /// The operator, or `oidc:NAME` after a login at the identity provider; null: the one who used the login link of a sandbox.
    pub operator: Option<String>,
    /// Rights of the operator now, or those of the login at the identity provider.
    pub role: Option<Role>,
    /// The login.
    pub created_at: Timestamp,
    /// The last request by a person, to the minute.
    pub seen_at: Timestamp,
    /// It ends then at the latest.
    pub ends_at: Timestamp,
}

impl SessionRow {
    fn age(&self) -> SessionAge {
        SessionAge { created_at: self.created_at, seen_at: self.seen_at }
    }

    /// The session; `None`: its operator is gone.
    fn session(self) -> Option<LiveSession> {
        let age = self.age();
        let Self { id, operator, role, own_role, .. } = self;
        let (holder, role) = if let Some(Actor::Oidc(name)) = Actor::parse(&operator) {
            let role = own_role?;
            (SessionHolder::Oidc(name, role), Some(role))
        } else if operator.is_empty() {
            (SessionHolder::LoginLink, None)
        } else {
            (SessionHolder::Operator(operator), Some(role?))
        };
        Some(LiveSession { id, holder, role, age })
    }

    fn view(self) -> SessionView {
        let (ends_at, Self { id, operator, role, own_role, created_at, seen_at }) = (self.age().ends_at(), self);
        let (operator, role) = (Some(operator).filter(|name| !name.is_empty()), own_role.or(role));
        SessionView { id, operator, role, created_at, seen_at, ends_at }
    }
}

impl StoreView {
    /// The session of this secret, if it goes on.
    pub async fn session(&self, secret: &SessionSecret) -> Result<Option<LiveSession>, Error> {
        let one = ours(format!(
            "SELECT {} FROM sessions LEFT JOIN operators ON operators.name = sessions.operator WHERE sessions.digest = $1",
            SessionRow::COLUMNS
        ));
        let found: Option<SessionRow> = query(one).bind(secret.digest()).fetch_optional(&self.readers).await?;
        let now = self.clock.now();
        Ok(found.filter(|row| !row.age().is_over(now)).and_then(SessionRow::session))
    }

    /// The sessions that go on, those first that began last; of one operator, or of all.
    pub async fn sessions(&self, operator: Option<&str>) -> Result<Vec<SessionView>, Error> {
        let all = ours(format!(
            "SELECT {} FROM sessions LEFT JOIN operators ON operators.name = sessions.operator ORDER BY sessions.id DESC LIMIT $1",
            SessionRow::COLUMNS
        ));
        let rows: Vec<SessionRow> = query(all).bind(ROWS_MAX).fetch_all(&self.readers).await?;
        let now = self.clock.now();
        let is_shown = |row: &SessionRow| !row.age().is_over(now) && operator.is_none_or(|name| name == row.operator);
        Ok(rows.into_iter().filter(is_shown).map(SessionRow::view).collect())
    }
}

impl Desk {
    /// Opens a session, and ends the one of `before`: a login never goes on under a secret that was there before it.
    pub async fn open_session(
        &self,
        holder: &SessionHolder,
        by: &Actor,
        role: Role,
        before: Option<&SessionSecret>,
    ) -> Result<SessionSecret, Error> {
        let (id, secret) = (self.clock.fresh_id(), SessionSecret(hex(&self.clock.fresh_secret())));
        let row = self.act(by, Action::SessionOpen, TargetKind::Session, id.to_string());
        let row = row.with_change(None, Some(role.name().to_owned()));
        let (digest, before) = (secret.digest(), before.map(SessionSecret::digest));
        let now = self.clock.now();
        let (operator, own_role) = (holder.column(), holder.own_role());
        let open = OpenSession { id, digest, operator, own_role, before, now, row };
        self.write(open).await?;
        Ok(secret)
    }

    /// Writes down that a person uses a session.
    pub async fn note_session(&self, session: &LiveSession) -> Result<(), Error> {
        let note = query("UPDATE sessions SET seen_at = $2 WHERE id = $1").with((session.id, self.clock.now()));
        self.change(note).await?;
        Ok(())
    }

    /// Ends the session of the one who logs out.
    pub async fn close_session(&self, session: &LiveSession, by: &Actor) -> Result<(), Error> {
        self.end_session(session.id, by, Action::SessionClose).await.map(|_| ())
    }

    /// Ends a session. `false`: none that goes on has this id.
    pub async fn revoke_session(&self, id: Uuid, by: &Actor) -> Result<bool, Error> {
        self.end_session(id, by, Action::SessionRevoke).await
    }

    async fn end_session(&self, id: Uuid, by: &Actor, action: Action) -> Result<bool, Error> {
        let row = self.act(by, action, TargetKind::Session, id.to_string());
        self.write(EndSession { id, row }).await
    }
}

struct OpenSession {
    id: Uuid,
    digest: String,
    operator: String,
    own_role: Option<Role>,
    before: Option<String>,
    now: Timestamp,
    row: AuditRow,
}

impl Write for OpenSession {
    type Output = ();

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<(), DbFault> {
        if let Some(before) = &self.before {
            query("DELETE FROM sessions WHERE digest = $1").bind(before).execute(&mut *tx).await?;
        }
        let of_operator = query("SELECT id, created_at, seen_at FROM sessions WHERE operator = $1 ORDER BY id DESC");
        let known: Vec<(Uuid, Timestamp, Timestamp)> = of_operator.bind(&self.operator).fetch_all(&mut *tx).await?;
        let mut going_on = 1;
        for (id, created_at, seen_at) in known {
            let is_over = SessionAge { created_at, seen_at }.is_over(self.now);
            if is_over || going_on >= SESSIONS_PER_OPERATOR_MAX {
                query("DELETE FROM sessions WHERE id = $1").bind(id).execute(&mut *tx).await?;
            } else {
                going_on += 1;
            }
        }
        let open = query(
            "INSERT INTO sessions (id, digest, operator, created_at, seen_at, role) VALUES ($1, $2, $3, $4, $4, $5) ON CONFLICT DO NOTHING",
        );
        open.with((self.id, &self.digest, &self.operator, self.now, self.own_role)).execute(&mut *tx).await?;
        audit::record(tx, [&self.row].into_iter()).await
    }
}

struct EndSession {
    id: Uuid,
    row: AuditRow,
}

impl Write for EndSession {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let is_ended = query("DELETE FROM sessions WHERE id = $1").bind(self.id).execute(&mut *tx).await? == 1;
        let row = if is_ended { self.row.clone() } else { self.row.refused(AuditReason::UnknownSession) };
        audit::record(tx, [&row].into_iter()).await?;
        Ok(is_ended)
    }
}

/// Ends all sessions of an operator, in the transaction of a change after which they must not go on.
pub(super) async fn end_all_of(on: impl Executor, operator: &str) -> Result<(), DbFault> {
    query("DELETE FROM sessions WHERE operator = $1").bind(operator).execute(on).await?;
    Ok(())
}
