//! Operators: people with a name, a role and the hash of a password.
//!
//! Names are unique, and a write that finds none of its name, or one already, changes nothing. The admin API asks for an operator
//! with each request, so that a removal counts from then on.
//!
//! Before: [`crate::cli`] adds, changes and removes. After: [`crate::admin`] asks who calls.

use serde::Serialize;

use super::db::{DbFault, ours, query, row};
use super::error::Error;
use super::handle::{Desk, StoreView};
use super::timeline::ROWS_MAX;
use super::transaction::{Transaction, Write};
use crate::domain::Timestamp;
use crate::domain::audit::Action;
use crate::domain::identity::{Actor, Role};

row! {
    /// An operator in a list.
    #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
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
        let Operator { role, password_hash } = operator;
        let (name, by, now) = (name.to_owned(), by.clone(), self.clock.now());
        self.write(AddOperator { name, role, password_hash, by, now }).await
    }

    /// Changes an operator. Returns the role before; `None`: there is none of this name.
    pub async fn change_operator(&self, name: &str, change: OperatorChange, by: &Actor) -> Result<Option<Role>, Error> {
        let (name, by, now) = (name.to_owned(), by.clone(), self.clock.now());
        self.write(ChangeOperator { name, change, by, now }).await
    }

    /// Removes an operator. Returns their role; `None`: there is none of this name.
    pub async fn remove_operator(&self, name: &str, by: &Actor) -> Result<Option<Role>, Error> {
        self.write(RemoveOperator { name: name.to_owned(), by: by.clone(), now: self.clock.now() }).await
    }
}

struct AddOperator {
    name: String,
    role: Role,
    password_hash: String,
    by: Actor,
    now: Timestamp,
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
        if is_added {
            let act = OperatorAct { action: Action::OperatorAdd, by: &self.by, name: &self.name, at: self.now };
            act.record(tx, None, Some(self.role)).await?;
        }
        Ok(is_added)
    }
}

struct ChangeOperator {
    name: String,
    change: OperatorChange,
    by: Actor,
    now: Timestamp,
}

impl Write for ChangeOperator {
    type Output = Option<Role>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<Role>, DbFault> {
        // Locked until the end of the transaction, so that the role before is that of this change.
        let before = ours(format!("SELECT role FROM operators WHERE name = $1{}", tx.db.for_update()));
        let before: Option<Role> = query(before).bind(&self.name).fetch_optional(&mut *tx).await?;
        let Some(before) = before else { return Ok(None) };
        let change = query(
            "UPDATE operators SET role = COALESCE($2, role), password_hash = COALESCE($3, password_hash), \
             changed_at = $4 WHERE name = $1",
        );
        let OperatorChange { role, password_hash } = &self.change;
        change.with((&self.name, *role, password_hash.clone(), self.now)).execute(&mut *tx).await?;
        let act = OperatorAct { action: Action::OperatorChange, by: &self.by, name: &self.name, at: self.now };
        act.record(tx, Some(before), Some(role.unwrap_or(before))).await?;
        Ok(Some(before))
    }
}

struct RemoveOperator {
    name: String,
    by: Actor,
    now: Timestamp,
}

impl Write for RemoveOperator {
    type Output = Option<Role>;

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Option<Role>, DbFault> {
        let remove = query("DELETE FROM operators WHERE name = $1 RETURNING role");
        let role: Option<Role> = remove.bind(&self.name).fetch_optional(&mut *tx).await?;
        if role.is_some() {
            let act = OperatorAct { action: Action::OperatorRemove, by: &self.by, name: &self.name, at: self.now };
            act.record(tx, role, None).await?;
        }
        Ok(role)
    }
}

/// An act on an operator.
struct OperatorAct<'a> {
    action: Action,
    by: &'a Actor,
    name: &'a str,
    at: Timestamp,
}

impl OperatorAct<'_> {
    /// Records the act, from one role to another, in the transaction that carries it out.
    async fn record(&self, _: &mut Transaction<'_>, from: Option<Role>, to: Option<Role>) -> Result<(), DbFault> {
        let name_of = |role: Option<Role>| role.map(Role::name);
        let Self { action, by, name, at } = self;
        tracing::debug!(%action, %by, name, %at, from = name_of(from), to = name_of(to), "an operator is changed");
        Ok(())
    }
}
