//! Erasing a customer, or a member of the team: all their data goes except a tombstone, a keyed hash of the id and a time.
//!
//! The erasure is one transaction, which refuses while an applier works on the customer. Afterwards an event that happened until
//! then and comes again, or late, is answered and kept as a row without content, so no personal data comes back and no erased
//! customer is made again; a later event belongs to a new customer (docs/adr/0012). The erasure never touches Podero.
//!
//! Before: [`crate::cli`]. After: [`crate::store::inbox`], which looks for the tombstone with each insert.

use super::audit::{self, AuditOf, AuditRow, Person};
use super::customers;
use super::db::{DbFault, query};
use super::duties::{self, STAFF_DUTY};
use super::error::Error;
use super::handle::Store;
use super::mentions::{KeptMessage, Mention, Sought, mention_in};
use super::moments;
use super::scrub;
use super::team_brake;
use super::tombstones::{ERASED, TombstoneKey};
use super::transaction::{Transaction, Write};
use crate::domain::audit::{Action, AuditReason, TargetKind};
use crate::domain::customer::Customer;
use crate::domain::event::EventState;
use crate::domain::identity::Actor;
use crate::domain::team::MemberId;
use crate::domain::{EventId, Timestamp};

/// Limit of the rows read at once in the search for unreadable messages that mention the customer: each may be as large as a
/// message can be.
const LOOK_MAX: usize = 20;

/// The result of an erasure.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct Erased {
    pub erased_at: Timestamp,
    pub events: u64,
    /// The number of messages that never became an event and were about the customer: emptied, and skipped if they were parked;
    /// from a batch, only the customer's own events were cut out.
    pub messages: u64,
    /// Messages, by the bridge's id, in which the customer's id occurs as a word: left as they are, for a person to look at.
    pub mentions: Vec<EventId>,
    pub notices: u64,
    pub heat_pumps: u64,
}

/// The reasons why a customer is not erased.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InTheWay {
    /// `true` if the customer signed up and has not churned: they are still at Podero.
    pub is_active: bool,
    /// The number of events without an end, by state.
    pub unsettled: Vec<(EventState, i64)>,
    /// The number of outgoing events that are not out.
    pub unpublished: i64,
    /// The number of alerts whose end would not be announced.
    pub open_alerts: i64,
    /// The ids that the operator named as messages and that are none.
    pub no_messages: Vec<EventId>,
    /// `true` if no table and no tombstone knows the id: mistyped, or erased under another id.
    pub is_unknown: bool,
    /// `true` if an applier works on the customer, or died over it: the only obstacle that cannot be forced.
    pub is_claimed: bool,
}

impl InTheWay {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// The reason of a refusal in the audit log: the first that applies.
    fn code(&self) -> AuditReason {
        match self {
            Self { is_claimed: true, .. } => AuditReason::InProgress,
            Self { is_unknown: true, .. } => AuditReason::UnknownCustomer,
            Self { is_active: true, .. } => AuditReason::Active,
            Self { no_messages, .. } if !no_messages.is_empty() => AuditReason::NoMessage,
            Self { unsettled, .. } if !unsettled.is_empty() => AuditReason::Unsettled,
            Self { unpublished, .. } if *unpublished > 0 => AuditReason::Unpublished,
            Self { .. } => AuditReason::OpenAlerts,
        }
    }
}

impl Store {
    /// Removes all data of a customer from every table and leaves a tombstone. Refuses while an obstacle exists; with `force`
    /// only for a claim. `also` are messages that an operator looked at: emptied as well. After `Ok(Ok(_))` the data is gone from
    /// the tables; see [`Store::scrub`]. The audit log tells that a customer was erased, and not which; nor does it tell of whom an
    /// erasure was refused if nothing is stored about them.
    pub async fn erase(
        &self,
        customer: &str,
        also: &[EventId],
        force: bool,
        by: &Actor,
    ) -> Result<Result<Erased, InTheWay>, Error> {
        let messages = self.messages_of(Sought::Customer(customer)).await?;
        let act = self.act(by, Action::CustomerErase, TargetKind::Customer, customer);
        let (id, lane) = (customer.to_owned(), customer.to_owned());
        self.erase_person(Person { kind: TargetKind::Customer, id, lane }, messages, Order { also, force, act }).await
    }

    /// As [`Store::erase`], of a member of the team. The list of the staff goes with it, and the bridge reads it again
    /// at once.
    pub async fn erase_member(
        &self,
        member: &MemberId,
        also: &[EventId],
        force: bool,
        by: &Actor,
    ) -> Result<Result<Erased, InTheWay>, Error> {
        let id = member.as_str();
        let messages = self.messages_of(Sought::Member(id)).await?;
        let act = self.act(by, Action::MemberErase, TargetKind::Member, id);
        let person = Person { kind: TargetKind::Member, id: id.to_owned(), lane: member.lane() };
        self.erase_person(person, messages, Order { also, force, act }).await
    }

    async fn erase_person(
        &self,
        person: Person,
        mut messages: Messages,
        order: Order<'_>,
    ) -> Result<Result<Erased, InTheWay>, Error> {
        messages.also = order.also.to_vec();
        messages.mentions.retain(|id| !messages.also.contains(id));
        let (key, now) = (self.inner.key.clone(), self.clock.now());
        let audit = audit::rows_of(self, person.kind, &person.id).await?;
        self.write(Erase { person, force: order.force, messages, audit, key, act: order.act, now }).await
    }

    /// Finds the messages that never became an event and mention the person. Reads outside the writer, page by page: their
    /// bytes belong to no lane.
    async fn messages_of(&self, sought: Sought<'_>) -> Result<Messages, Error> {
        let mut found = Messages::default();
        let mut after = String::new();
        loop {
            let sql = "SELECT id, raw, raw_encoding, envelope FROM events \
                 WHERE COALESCE(lane, '') = '' AND id > $1 AND raw <> '' ORDER BY id LIMIT $2";
            let rows: Vec<(EventId, String, String, Option<String>)> =
                query(sql).with((&after, LOOK_MAX)).fetch_all(&self.readers).await?;
            let is_last = rows.len() < LOOK_MAX;
            for (id, raw, encoding, envelope) in rows {
                after = id.to_string();
                let message = KeptMessage { raw: &raw, encoding: &encoding, envelope: envelope.as_deref() };
                match mention_in(message, sought) {
                    Mention::Nothing => {}
                    Mention::Mentions => found.mentions.push(id),
                    Mention::OnlyOf => found.emptied.push(id),
                    Mention::AlsoOf { rest, is_mentioned } => {
                        found.cut.push(Cut { id, raw, rest });
                        found.mentions.extend(is_mentioned.then_some(id));
                    }
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }
}

/// Messages, by their treatment.
#[derive(Default)]
struct Messages {
    emptied: Vec<EventId>,
    cut: Vec<Cut>,
    mentions: Vec<EventId>,
    /// The messages that an operator named.
    also: Vec<EventId>,
}

/// A batch from which a part is cut.
struct Cut {
    id: EventId,
    raw: String,
    rest: String,
}

/// How an erasure was ordered.
struct Order<'a> {
    also: &'a [EventId],
    force: bool,
    act: AuditRow,
}

struct Erase {
    person: Person,
    force: bool,
    messages: Messages,
    audit: AuditOf,
    key: TombstoneKey,
    act: AuditRow,
    now: Timestamp,
}

impl Write for Erase {
    type Output = Result<Erased, InTheWay>;

    /// The number of a customer's rows is unknown beforehand, so the erasure goes alone.
    fn weight(&self) -> usize {
        usize::MAX
    }

    fn lanes(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.person.lane.as_str())
    }

    async fn run(&self, tx: &mut Transaction<'_>) -> Result<Self::Output, DbFault> {
        if let Some(hold) = tx.db.hold_events() {
            tx.connection.batch(hold).await?;
        }
        let found = self.in_the_way(tx).await?;
        if found.is_claimed || (!self.force && !found.is_nothing()) {
            return self.refuse(tx, found).await;
        }
        let erased_at = self.until(tx).await?;
        // A claim that has begun since keeps its lane.
        self.delete(tx, "DELETE FROM lanes WHERE lane = $1 AND claimed = 0").await?;
        let left = query("SELECT lane FROM lanes WHERE lane = $1").bind(&self.person.lane);
        if left.finds(&mut *tx).await? {
            return self.refuse(tx, InTheWay { is_claimed: true, ..found }).await;
        }
        self.delete(tx, "DELETE FROM customers WHERE lane = $1").await?;
        self.delete(tx, "DELETE FROM members WHERE lane = $1").await?;
        self.delete(tx, "DELETE FROM scim_users WHERE lane = $1").await?;
        // Of a batch that is cut too: a note may be about any of its customers.
        let cut = self.messages.cut.iter().map(|cut| &cut.id);
        let messages = self.messages.emptied.iter().chain(&self.messages.also).chain(cut);
        audit::erase(tx, &self.person, messages, &self.audit, &self.act).await?;
        self.delete(tx, "DELETE FROM audit_notes WHERE lane = $1").await?;
        self.delete(tx, "DELETE FROM calls WHERE event_id IN (SELECT id FROM events WHERE lane = $1)").await?;
        if self.person.kind == TargetKind::Member {
            self.delete(tx, "DELETE FROM team_decisions WHERE event_id IN (SELECT id FROM events WHERE lane = $1)")
                .await?;
            team_brake::forget_staff(&mut *tx).await?;
            duties::make_due(STAFF_DUTY, &mut *tx).await?;
        }
        let events = self.delete(tx, "DELETE FROM events WHERE lane = $1").await?;
        let notices = self.delete(tx, "DELETE FROM notices WHERE customer = $1").await?;
        self.delete(
            tx,
            "DELETE FROM close_watches WHERE heat_pump IN (SELECT heat_pump FROM pumps WHERE customer = $1)",
        )
        .await?;
        let heat_pumps = self.delete(tx, "DELETE FROM pumps WHERE customer = $1").await?;
        self.delete(tx, "DELETE FROM watched WHERE customer = $1").await?;
        let messages = self.empty_messages(tx).await? + self.cut_messages(tx).await?;
        let mentions = self.messages.mentions.clone();
        query(
            "INSERT INTO tombstones (customer, erased_at) VALUES ($1, $2) ON CONFLICT (customer) DO UPDATE \
             SET erased_at = CASE WHEN tombstones.erased_at > $2 AND tombstones.erased_at <= $3 \
             THEN tombstones.erased_at ELSE $2 END",
        )
        .with((self.key.customer(&self.person.lane), erased_at))
        // A clock that was ahead wrote a tombstone beyond the ceiling: an erasure by a correct clock replaces it.
        .bind(moments::tombstone_ceiling(self.now))
        .execute(&mut *tx)
        .await?;
        scrub::owe(tx).await?;
        Ok(Ok(Erased { erased_at, events, messages, mentions, notices, heat_pumps }))
    }
}

impl Erase {
    async fn refuse(&self, tx: &mut Transaction<'_>, found: InTheWay) -> Result<Result<Erased, InTheWay>, DbFault> {
        let act = self.act.refused(found.code());
        // An id that no other table has may be an address or a name that was typed, or that of a customer who was erased.
        let act = if self.is_held(tx).await? { act } else { act.without_target_id() };
        audit::record(tx, [&act].into_iter()).await?;
        Ok(Err(found))
    }

    async fn in_the_way(&self, tx: &mut Transaction<'_>) -> Result<InTheWay, DbFault> {
        let mut found = InTheWay { is_unknown: !self.is_known(tx).await?, ..InTheWay::default() };
        for id in &self.messages.also {
            let message = query("SELECT id FROM events WHERE id = $1 AND lane IS NULL").bind(*id);
            if !message.finds(&mut *tx).await? {
                found.no_messages.push(*id);
            }
        }
        let lane = query("SELECT claimed FROM lanes WHERE lane = $1").bind(&self.person.lane);
        if let Some(is_claimed) = lane.fetch_optional(&mut *tx).await? {
            found.is_active = self.is_active(tx).await?;
            found.is_claimed = is_claimed;
        } else {
            // The user was at Podero before the bridge, or signed up past it: the watch found them.
            found.is_active = self.count(tx, "SELECT COUNT(*) FROM watched WHERE customer = $1").await? > 0;
        }
        let unsettled = query(
            "SELECT state, COUNT(*) FROM events WHERE lane = $1 \
             AND state IN ('pending', 'waiting', 'scheduled', 'parked') GROUP BY state ORDER BY state",
        );
        found.unsettled = unsettled.bind(&self.person.lane).fetch_all(&mut *tx).await?;
        let unpublished = "SELECT COUNT(*) FROM notices WHERE customer = $1 AND state = (SELECT 'pending')";
        found.unpublished = self.count(tx, unpublished).await?;
        let open_alerts = "SELECT COUNT(*) FROM pumps WHERE customer = $1 AND has_alert + 0 = 1";
        found.open_alerts = self.count(tx, open_alerts).await?;
        Ok(found)
    }

    async fn is_active(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        if self.person.kind == TargetKind::Member {
            return Ok(self.count(tx, "SELECT COUNT(*) FROM members WHERE lane = $1 AND active = 1").await? > 0);
        }
        let state = customers::state_of(&mut *tx, &self.person.lane).await?.unwrap_or_default();
        Ok(serde_json::from_str::<Customer>(&state).unwrap_or_default().facts.is_active())
    }

    /// `true` if there is anything to erase, or was.
    async fn is_known(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        let tombstones = query("SELECT COUNT(*) FROM tombstones WHERE customer = $1");
        let tombstones: i64 = tombstones.bind(self.key.customer(&self.person.lane)).fetch_one(&mut *tx).await?;
        Ok(tombstones > 0 || self.is_held(tx).await?)
    }

    /// `true` if there is anything to erase.
    async fn is_held(&self, tx: &mut Transaction<'_>) -> Result<bool, DbFault> {
        if !self.messages.emptied.is_empty() || !self.messages.cut.is_empty() {
            return Ok(true);
        }
        let rows = "SELECT (SELECT COUNT(*) FROM lanes WHERE lane = $1) + (SELECT COUNT(*) FROM events WHERE lane = $1) \
                    + (SELECT COUNT(*) FROM notices WHERE customer = $1) + (SELECT COUNT(*) FROM pumps WHERE customer = $1) \
                    + (SELECT COUNT(*) FROM watched WHERE customer = $1) \
                    + (SELECT COUNT(*) FROM scim_users WHERE lane = $1)";
        Ok(self.count(tx, rows).await? > 0 || self.audit.names(tx, &self.person).await?)
    }

    async fn count(&self, tx: &mut Transaction<'_>, sql: &'static str) -> Result<i64, DbFault> {
        query(sql).bind(&self.person.lane).fetch_one(tx).await
    }

    /// The present, or the time of the newest event if its sender's clock is ahead: none of the events may count as a later one.
    /// Takes the time at which an event happened, not the day on which it takes effect.
    async fn until(&self, tx: &mut Transaction<'_>) -> Result<Timestamp, DbFault> {
        let ahead = query("SELECT event FROM events WHERE lane = $1 AND time > $2 AND transport <> 'internal'");
        #[derive(serde::Deserialize)]
        struct Happened {
            time: Timestamp,
        }
        let texts: Vec<Option<String>> = ahead.with((&self.person.lane, self.now)).fetch_all(tx).await?;
        let mut until = self.now;
        for text in texts {
            let event = text.and_then(|text| serde_json::from_str::<Happened>(&text).ok());
            until = until.max(event.map_or(self.now, |event| event.time));
        }
        Ok(until)
    }

    async fn delete(&self, tx: &mut Transaction<'_>, statement: &'static str) -> Result<u64, DbFault> {
        query(statement).bind(&self.person.lane).execute(tx).await
    }

    /// Cuts the customer's events out of batches. The rest of a batch waits for a person as before.
    async fn cut_messages(&self, tx: &mut Transaction<'_>) -> Result<u64, DbFault> {
        let mut cut = 0;
        for Cut { id, raw, rest } in &self.messages.cut {
            let update =
                query("UPDATE events SET raw = $2, raw_encoding = 'utf8' WHERE id = $1 AND lane IS NULL AND raw = $3");
            let update = update.with((*id, rest, raw));
            if update.execute(&mut *tx).await? == 0 {
                // Another erasure has cut the message since it was read: the rest must be checked again.
                return Err(DbFault::Missing);
            }
            cut += 1;
        }
        Ok(cut)
    }

    /// Empties messages. The row stays, so that the same message does not come back, but its content goes.
    async fn empty_messages(&self, tx: &mut Transaction<'_>) -> Result<u64, DbFault> {
        let mut emptied = 0;
        for id in self.messages.emptied.iter().chain(&self.messages.also) {
            let row = query("SELECT origin, origin_id, digest FROM events WHERE id = $1 AND lane IS NULL");
            let row: Option<(String, String, String)> = row.bind(*id).fetch_optional(&mut *tx).await?;
            let Some((origin, origin_id, digest)) = row else { continue };
            if origin == ERASED {
                continue;
            }
            let sql = "UPDATE events SET origin = $2, origin_id = $3, digest = $4, raw = '', raw_encoding = 'utf8', envelope = NULL, \
                 state = CASE WHEN state = 'parked' OR state = 'pending' THEN 'skipped' ELSE state END, settled_at = $5 \
                 WHERE id = $1";
            emptied += query(sql)
                .with((*id, ERASED, self.key.identity(&origin, &origin_id), self.key.digest(&digest), self.now))
                .execute(&mut *tx)
                .await?;
        }
        Ok(emptied)
    }
}
