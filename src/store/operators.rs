//! Operators: people with a name, a role and the hash of a password.
//!
//! Names are unique, and a write that finds none of its name, or one already, changes nothing. The admin API asks for an operator
//! with each request, so that a removal counts from then on. A removal, a demotion and another password end the sessions of the
//! operator.
//!
//! Before: [`crate::cli`] adds, changes and removes. After: [`crate::admin`] asks who calls.

use schemars::JsonSchema;
use serde::Serialize;

use super::audit::{self, AuditRow};
use super::db::{DbFault, ours, query, row};
use super::error::Error;
use super::handle::{Desk, StoreView};
use super::sessions;
use super::timeline::ROWS_MAX;
use super::tokens;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::audit::{Action, AuditReason, TargetKind};
use crate::domain::identity::{Actor, Role};

row! {
    /// An operator in a list.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
    pub struct OperatorView {
        /// Unique.
        pub name: String = "name",
        /// Rights.
        pub role: Role = "role",
        /// When they were added.
        pub created_at: Timestamp = "created_at",
        /// When role or password was changed last.
        pub changed_at: Timestamp = "changed_at",
    }
}

/// An operator as their password is checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Operator {
    /// Rights.
    pub role: Role,
    /// PHC string.
    pub password_hash: String,
}

/// A change of an operator: what is `None` stays.
#[derive(Clone, Default)]
pub struct OperatorChange {
    /// The new rights.
    pub role: Option<Role>,
    /// PHC string of the new password.
    pub password_hash: Option<String>,
}

/// The result of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The operator is gone, who had this role.
    Done(Role),
    /// The last operator is gone, by force, who had this role: everything is open.
    Forced(Role),
    /// There is none of this name.
    Unknown,
    /// Nothing changed: no other operator is there, nor a token that a bridge was started with, so that everything would be open.
    Last,
}

impl StoreView {
    /// All operators, by name.
    pub async fn operators(&self) -> Result<Vec<OperatorView>, Error> {
        let all = ours(format!("SELECT {} FROM operators ORDER BY name LIMIT $1", OperatorView::COLUMNS));
        Ok(query(all).bind(ROWS_MAX).fetch_all(&self.readers).await?)
    }

    /// `true` if there is an operator.
    pub async fn has_operators(&self) -> Result<bool, Error> {
        Ok(query("SELECT 1 FROM operators LIMIT 1").finds(&self.readers).await?)
    }

    /// `true` if neither an operator nor a token that a bridge was started with has the role admin.
    pub async fn lacks_admin(&self) -> Result<bool, Error> {
        let admin = query("SELECT 1 FROM operators WHERE role = $1 LIMIT 1").bind(Role::Admin);
        let is_there = admin.finds(&self.readers).await?;
        Ok(!is_there && !tokens::seen_roles(&self.readers).await?.contains(&Role::Admin))
    }

    /// The operator of this name.
    pub async fn operator(&self, name: &str) -> Result<Option<Operator>, Error> {
        let one = query("SELECT role, password_hash FROM operators WHERE name = $1");
        let found: Option<(Role, String)> = one.bind(name).fetch_optional(&self.readers).await?;
        Ok(found.map(|(role, password_hash)| Operator { role, password_hash }))
    }
}

impl Desk {
    /// Adds an operator. `false`: there is one of this name, and nothing changed.
    pub async fn add_operator(&self, name: &str, operator: Operator, by: &Actor) -> Result<bool, Error> {
        let (name, row) = self.on_operator(name, Action::OperatorAdd, by);
        let Operator { role, password_hash } = operator;
        self.write(AddOperator { name, role, password_hash, now: self.clock.now(), row }).await
    }

    /// Writes down that an operator was not added, since there is one of this name.
    pub async fn refuse_operator(&self, name: &str, by: &Actor) -> Result<(), Error> {
        let (_, row) = self.on_operator(name, Action::OperatorAdd, by);
        self.record(vec![row.refused(AuditReason::OperatorExists).entry]).await
    }

    /// Changes an operator. Returns the role before; `None`: there is none of this name.
    pub async fn change_operator(&self, name: &str, change: OperatorChange, by: &Actor) -> Result<Option<Role>, Error> {
        let (name, row) = self.on_operator(name, Action::OperatorChange, by);
        self.write(ChangeOperator { name, change, now: self.clock.now(), row }).await
    }

    /// Removes an operator; the last one, without whom the admin API would be open, only by force.
    pub async fn remove_operator(&self, name: &str, is_forced: bool, by: &Actor) -> Result<Removal, Error> {
        let (name, row) = self.on_operator(name, Action::OperatorRemove, by);
        self.write(RemoveOperator { name, is_forced, row }).await
    }

    fn on_operator(&self, name: &str, action: Action, by: &Actor) -> (String, AuditRow) {
        (name.to_owned(), self.act(by, action, TargetKind::Operator, name))
    }
}

struct AddOperator {
    name: String,
    role: Role,
    password_hash: String,
    now: Timestamp,
    row: AuditRow,
}

impl Write for AddOperator {
    type Output = bool;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let add = query(
            "INSERT INTO operators (name, role, password_hash, created_at, changed_at) VALUES ($1, $2, $3, $4, $4) \
             ON CONFLICT DO NOTHING",
        );
        let add = add.with((&self.name, self.role, &self.password_hash, self.now));
        let is_added = add.execute(&mut *tx).await? == 1;
        let row = match is_added {
            true => with_roles(&self.row, None, Some(self.role)),
            false => self.row.refused(AuditReason::OperatorExists),
        };
        audit::record(tx, [&row].into_iter()).await?;
        Ok(is_added)
    }
}

struct ChangeOperator {
    name: String,
    change: OperatorChange,
    now: Timestamp,
    row: AuditRow,
}

impl Write for ChangeOperator {
    type Output = Option<Role>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<Role>, DbFault> {
        let before = locked_role(tx, &self.name).await?;
        let OperatorChange { role, password_hash } = &self.change;
        let row = match before {
            // With the role that was to be, by which an export tells it from a change of the password.
            None => with_roles(&self.row, None, *role).refused(AuditReason::UnknownOperator),
            Some(before) => {
                let change = query(
                    "UPDATE operators SET role = COALESCE($2, role), password_hash = COALESCE($3, password_hash), \
                     changed_at = $4 WHERE name = $1",
                );
                change.with((&self.name, *role, password_hash.clone(), self.now)).execute(&mut *tx).await?;
                if role.is_some_and(|role| role < before) || password_hash.is_some() {
                    sessions::end_all_of(&mut *tx, &self.name).await?;
                }
                let mut row = with_roles(&self.row, Some(before), Some(role.unwrap_or(before)));
                row.entry.reason = password_hash.as_ref().map(|_| AuditReason::Rotated.into());
                row
            }
        };
        audit::record(tx, [&row].into_iter()).await?;
        Ok(before)
    }
}

struct RemoveOperator {
    name: String,
    is_forced: bool,
    row: AuditRow,
}

impl Write for RemoveOperator {
    type Output = Removal;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Removal, DbFault> {
        let removal = self.removal(tx).await?;
        let row = match removal {
            Removal::Done(role) | Removal::Forced(role) => {
                query("DELETE FROM operators WHERE name = $1").bind(&self.name).execute(&mut *tx).await?;
                sessions::end_all_of(&mut *tx, &self.name).await?;
                let mut row = with_roles(&self.row, Some(role), None);
                row.entry.reason = matches!(removal, Removal::Forced(_)).then(|| AuditReason::Forced.into());
                row
            }
            Removal::Unknown => self.row.refused(AuditReason::UnknownOperator),
            Removal::Last => self.row.refused(AuditReason::LastOperator),
        };
        audit::record(tx, [&row].into_iter()).await?;
        Ok(removal)
    }
}

impl RemoveOperator {
    /// The result, by all operators. Each is locked until the end of the transaction: of the last two that are removed at the same
    /// time, one stays.
    async fn removal(&self, tx: &mut Transaction<'_>) -> Result<Removal, DbFault> {
        let locked = ours(format!("SELECT name, role FROM operators ORDER BY name LIMIT $1{}", tx.db.for_update()));
        let all: Vec<(String, Role)> = query(locked).bind(ROWS_MAX).fetch_all(&mut *tx).await?;
        let Some((_, role)) = all.iter().find(|(name, _)| *name == self.name) else { return Ok(Removal::Unknown) };
        let is_last = all.len() == 1 && tokens::seen_roles(tx).await?.is_empty();
        Ok(match (is_last, self.is_forced) {
            (false, _) => Removal::Done(*role),
            (true, true) => Removal::Forced(*role),
            (true, false) => Removal::Last,
        })
    }
}

/// The role of an operator, which no other transaction changes until the end of this one.
async fn locked_role(tx: &mut Transaction<'_>, name: &str) -> Result<Option<Role>, DbFault> {
    let locked = ours(format!("SELECT role FROM operators WHERE name = $1{}", tx.db.for_update()));
    query(locked).bind(name).fetch_optional(tx).await
}

/// The row of an act from one role to another.
fn with_roles(row: &AuditRow, from: Option<Role>, to: Option<Role>) -> AuditRow {
    let name_of = |role: Option<Role>| role.map(|role| role.name().to_owned());
    row.clone().with_change(name_of(from), name_of(to))
}
