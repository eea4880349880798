//! What an operator may see: events, customers, parked work, heat pumps, alerts, and the numbers of it all.
//!
//! Reads only, beside the writer, bounded in rows. Lists carry ids and states. Personal data is in two views, which
//! only the operator's door asks for: the original bytes in [`Store::event`], and what is known in [`Store::customer`].
//!
//! Before: the tables. After: [`crate::admin`], [`crate::metrics`].

use serde::Serialize;
use serde_json::{Value, json};

use super::db::{Fault, Row, ours, query};
use super::parking::{RetryRequest, is_at_work};
use super::{Error, Store, outages, roster, standing};
use crate::domain::alert::{BLIND_DEDUP_KEY, Outage, dedup_key};
use crate::domain::customer::Customer;
use crate::domain::verdict::Reason;
use crate::domain::{EventId, Timestamp};

/// Rows of one list at most: an operator reads a page, a tool narrows its question.
pub const ROWS_MAX: i64 = 1_000;

/// An event in a list.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of the inbox, described in the migration")]
pub struct EventSummary {
    pub id: String,
    pub customer_id: Option<String>,
    pub source: String,
    pub origin: String,
    pub origin_id: String,
    pub door: String,
    #[serde(rename = "type")]
    pub type_name: String,
    pub time: Timestamp,
    pub received_at: Timestamp,
    pub state: String,
    pub due_at: Timestamp,
    pub failures: i64,
    pub reason: Option<String>,
    pub detail: Option<String>,
    pub settled_at: Option<Timestamp>,
}

/// One call made to Podero.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of `calls`, described in the migration")]
pub struct CallView {
    pub at: Timestamp,
    pub operation: String,
    pub outcome: String,
    pub took_ms: i64,
    pub idempotency_key: Option<String>,
}

/// One outgoing event.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "the columns of `notices`, described in the migration")]
pub struct NoticeView {
    pub id: String,
    #[serde(rename = "type")]
    pub topic: String,
    pub target: String,
    pub state: String,
    pub created_at: Timestamp,
    pub failures: i64,
    pub outcome: Option<String>,
    pub published_at: Option<Timestamp>,
    pub data: Value,
}

/// An event with all that came of it.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct EventView {
    #[serde(flatten)]
    pub event: EventSummary,
    pub calls: Vec<CallView>,
    /// Of what never became an event: what came beside its bytes.
    pub envelope: Option<Value>,
    pub raw: String,
    pub raw_encoding: String,
}

/// A customer with all that happened.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct CustomerView {
    pub customer_id: String,
    pub state: Value,
    pub events: Vec<EventSummary>,
    pub notices: Vec<NoticeView>,
    pub heat_pumps: Vec<PumpView>,
}

/// What is remembered of a heat pump.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct PumpView {
    pub heat_pump_id: String,
    pub podero_user_id: String,
    pub customer_id: Option<String>,
    pub building_id: Option<String>,
    pub manufacturer: Option<String>,
    pub model: Option<String>,
    pub region: Option<String>,
    pub state: String,
    pub reason: Option<String>,
    pub is_retired: bool,
    pub outage_id: Option<String>,
    pub bad_since: Option<Timestamp>,
    pub checked_at: Timestamp,
    pub alert: Option<AlertView>,
}

/// An open alert.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct AlertView {
    pub dedup_key: String,
    pub occurrence_id: String,
    pub cause: String,
    pub severity: String,
    pub since: Timestamp,
    pub detected_at: Timestamp,
}

/// An open outage.
#[derive(Debug, Clone, Serialize)]
#[expect(missing_docs, reason = "named for what they hold")]
pub struct OutageView {
    #[serde(flatten)]
    pub alert: AlertView,
    pub scope: Value,
    pub affected: u64,
    pub watched: u64,
    pub heat_pumps: String,
}

/// Which heat pumps a list has.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named for what they narrow")]
pub struct PumpFilter {
    pub state: Option<String>,
    pub manufacturer: Option<String>,
    pub region: Option<String>,
    pub has_alert: bool,
    /// Only those whose ids come later.
    pub after: Option<String>,
    /// At most [`ROWS_MAX`].
    pub limit: i64,
}

/// The numbers of the tables at one moment.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named as the metrics of contract §7")]
pub struct Gauges {
    /// With those that wait for their sign-up.
    pub pending: i64,
    /// Of them, those that wait for their sign-up.
    pub waiting: i64,
    pub scheduled: i64,
    pub parked: i64,
    pub parked_unreadable: i64,
    /// Churns that the brake has parked.
    pub braked: i64,
    pub oldest_pending: Option<Timestamp>,
    pub outbox_pending: i64,
    /// With those of outages and of the bridge's own blindness.
    pub alerts_open: i64,
    pub outages_open: i64,
    /// Share of the watched users whose knowledge is no older than promised.
    pub polled_in_time: f64,
    pub heat_pumps: Vec<(String, i64)>,
    pub stalest_poll: Option<Timestamp>,
}

pub(super) const SUMMARY: &str = "SELECT id, lane, source, origin, origin_id, door, type, time, received_at, state, due_at, \
                       failures, reason, detail, settled_at FROM events";

/// Why an event was not taken out of parking.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Nobody knows it.
    #[error("no event has this id")]
    Unknown,
    /// It is in another state.
    #[error("it is not parked; its state is {0}")]
    NotParked(String),
    /// A retry of what is tried just now would be another one at the same time.
    #[error("the bridge works on it at this moment; look again in a minute")]
    InProgress,
    /// A message of which not all is there cannot be read again.
    #[error(
        "it never became an event, and not all of it was kept, so it cannot be read again: have it sent again, and skip this one"
    )]
    NotWhole,
    /// An approval was asked for, and its reason is none that an approval overrides.
    #[error("it is parked as {0}, which no approval overrides: retry it without one")]
    NotApprovable(String),
}

impl Store {
    /// Why [`Store::unpark`] has just changed nothing.
    pub async fn why_not_taken(&self, id: EventId, request: &RetryRequest) -> Result<NotTaken, Error> {
        let row = query("SELECT state, reason, COUNT(event) FROM events WHERE id = $1 GROUP BY state, reason")
            .bind(id.to_string())
            .fetch_optional(&self.0.readers)
            .await?;
        let Some(row) = row else { return Ok(NotTaken::Unknown) };
        let (state, is_event) = (row.try_get::<String>(0)?, row.try_get::<i64>(2)? > 0);
        let reason = row.try_get::<Option<String>>(1)?.unwrap_or_default();
        Ok(match (state.as_str(), is_event) {
            ("parked", _) if *request == RetryRequest::Approve => NotTaken::NotApprovable(reason),
            ("parked", false) => NotTaken::NotWhole,
            ("pending", _) if *request == RetryRequest::Retry && self.is_at_work_on(id).await? => NotTaken::InProgress,
            _ => NotTaken::NotParked(state),
        })
    }

    async fn is_at_work_on(&self, id: EventId) -> Result<bool, Error> {
        let id = id.to_string();
        let lane = query(
            "SELECT claimed, begun, ready_at FROM lanes WHERE lane = (SELECT lane FROM events WHERE events.id = $1)",
        );
        let lane = lane.bind(&id).fetch_optional(&self.0.readers).await?;
        let (now, ceilings) = (self.0.clock.now(), self.0.ceilings.get());
        Ok(lane.map(|lane| is_at_work((&lane, 0), &id, now, ceilings)).transpose()?.unwrap_or(false))
    }

    /// One event with its calls and original bytes.
    pub async fn event(&self, id: &str) -> Result<Option<EventView>, Error> {
        let pool = &self.0.readers;
        let summary = ours(format!("{SUMMARY} WHERE id = $1"));
        let Some(row) = query(summary).bind(id).fetch_optional(pool).await? else { return Ok(None) };
        let event = summary_of(&row)?;
        let calls = query(
            "SELECT at, operation, outcome, took_ms, idempotency_key FROM calls WHERE event_id = $1 \
             ORDER BY id LIMIT $2",
        )
        .bind(id)
        .bind(ROWS_MAX)
        .fetch_all(pool)
        .await?;
        let raw =
            query("SELECT raw, raw_encoding, envelope FROM events WHERE id = $1").bind(id).fetch_one(pool).await?;
        let envelope: Option<String> = raw.try_get(2)?;
        Ok(Some(EventView {
            event,
            calls: calls.iter().map(call_of).collect::<Result<_, _>>()?,
            envelope: envelope.and_then(|text| serde_json::from_str(&text).ok()),
            raw: raw.try_get(0)?,
            raw_encoding: raw.try_get(1)?,
        }))
    }

    /// What is known of a customer, and how many events of theirs are worked on before one that came now.
    pub async fn knowledge(&self, customer: &str) -> Result<(Customer, i64), Error> {
        let lane = query("SELECT customer FROM lanes WHERE lane = $1").bind(customer);
        let lane = lane.fetch_optional(&self.0.readers).await?;
        let text = lane.map(|row| row.try_get::<String>(0)).transpose()?.unwrap_or_default();
        let known = match text.as_str() {
            "" => Customer::default(),
            text => serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))?,
        };
        let pending = query("SELECT COUNT(*) FROM events WHERE lane = $1 AND state = 'pending'");
        let pending = pending.bind(customer).fetch_one(&self.0.readers).await?;
        Ok((known, pending.try_get(0)?))
    }

    /// The event of this identity within a source, if there is one: its id and state.
    pub async fn told_before(
        &self,
        source: &str,
        (origin, origin_id): (&str, &str),
    ) -> Result<Option<(String, String)>, Error> {
        let row =
            query("SELECT id, state FROM events WHERE origin = $1 AND origin_id = $2 AND COALESCE(NULLIF(scope, ''), $3) = $3")
                .bind(origin)
                .bind(origin_id)
                .bind(source)
                .fetch_optional(&self.0.readers)
                .await?;
        Ok(row.map(|row| Ok::<_, Fault>((row.try_get(0)?, row.try_get(1)?))).transpose()?)
    }

    /// One customer with events, notices and heat pumps, newest first; `None` if nothing was ever heard of it.
    pub async fn customer(&self, customer: &str) -> Result<Option<CustomerView>, Error> {
        let events = self.summaries("lane = $1 ORDER BY id DESC", customer).await?;
        let heat_pumps = self.pumps("customer = $1", vec![customer.to_owned()], ROWS_MAX).await?;
        let lane =
            query("SELECT customer FROM lanes WHERE lane = $1").bind(customer).fetch_optional(&self.0.readers).await?;
        if events.is_empty() && heat_pumps.is_empty() && lane.is_none() {
            return Ok(None);
        }
        let text = lane.map(|row| row.try_get::<String>(0)).transpose()?.unwrap_or_default();
        let state = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
        let notices = self.notices(customer).await?;
        Ok(Some(CustomerView { customer_id: customer.to_owned(), state, events, notices, heat_pumps }))
    }

    /// A page of heat pumps by id, retired ones left out.
    pub async fn heat_pumps(&self, filter: PumpFilter) -> Result<Vec<PumpView>, Error> {
        let mut conditions = vec!["is_retired = 0".to_owned()];
        let mut arguments = Vec::new();
        let wanted = [
            ("knowledge =", filter.state),
            ("manufacturer =", filter.manufacturer),
            ("region =", filter.region),
            ("heat_pump >", filter.after),
        ];
        for (condition, argument) in wanted {
            if let Some(argument) = argument {
                arguments.push(argument);
                conditions.push(format!("{condition} ${}", arguments.len()));
            }
        }
        if filter.has_alert {
            conditions.push("has_alert = 1".to_owned());
        }
        self.pumps(&conditions.join(" AND "), arguments, filter.limit.clamp(1, ROWS_MAX)).await
    }

    /// A heat pump that is watched.
    pub async fn heat_pump(&self, id: &str) -> Result<Option<PumpView>, Error> {
        let found = self.pumps("is_retired = 0 AND heat_pump = $1", vec![id.to_ascii_lowercase()], 1).await?;
        Ok(found.into_iter().next())
    }

    /// The open alerts of outages.
    pub async fn open_outages(&self) -> Result<Vec<OutageView>, Error> {
        let outages = outages::open_outages(&self.0.readers).await?;
        Ok(outages.0.iter().filter_map(outage_of).collect())
    }

    /// The open alert that the bridge cannot see.
    pub async fn open_blindness(&self) -> Result<Option<AlertView>, Error> {
        let blindness = standing::open_blindness(&self.0.readers).await?;
        Ok(blindness.map(|blindness| AlertView {
            dedup_key: BLIND_DEDUP_KEY.to_owned(),
            occurrence_id: blindness.occurrence.to_string(),
            cause: blindness.cause.name().to_owned(),
            severity: blindness.severity.name().to_owned(),
            since: blindness.since,
            detected_at: blindness.detected_at,
        }))
    }

    /// The numbers of the tables now; each is a count over a partial index of what is not yet settled. A user who was
    /// polled after `polled_since` was polled in time.
    pub async fn gauges(&self, polled_since: Timestamp) -> Result<Gauges, Error> {
        let pool = &self.0.readers;
        let mut gauges = Gauges::default();
        let unsettled = query(
            "SELECT state, COUNT(*), MIN(tries_from) FROM events \
             WHERE (state = 'pending' OR state = 'waiting' OR state = 'scheduled') GROUP BY state",
        )
        .fetch_all(pool)
        .await?;
        for row in &unsettled {
            let (state, count, oldest): (String, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            if state == "scheduled" {
                gauges.scheduled = count;
            } else {
                if state == "waiting" {
                    gauges.waiting = count;
                }
                gauges.pending += count;
                let oldest = Timestamp::from_micros(oldest);
                gauges.oldest_pending = Some(gauges.oldest_pending.map_or(oldest, |known| known.min(oldest)));
            }
        }
        gauges.parked = self.count("SELECT COUNT(*) FROM events WHERE state = 'parked'").await?;
        gauges.parked_unreadable =
            self.count("SELECT COUNT(*) FROM events WHERE state = 'parked' AND lane IS NULL").await?;
        let braked = query("SELECT COUNT(*) FROM events WHERE state = 'parked' AND reason = $1");
        let braked = braked.bind(Reason::ChurnBrake.name()).fetch_one(pool).await?;
        gauges.braked = braked.try_get(0)?;
        gauges.outbox_pending = self.outbox_pending().await?;
        gauges.outages_open = i64::try_from(self.open_outages().await?.len()).unwrap_or(i64::MAX);
        gauges.alerts_open = self.count("SELECT COUNT(*) FROM pumps WHERE has_alert = 1").await?
            + gauges.outages_open
            + i64::from(self.open_blindness().await?.is_some());
        let pumps = query("SELECT knowledge, COUNT(*) FROM pumps WHERE is_retired = 0 GROUP BY knowledge")
            .fetch_all(pool)
            .await?;
        for row in &pumps {
            gauges.heat_pumps.push((row.try_get(0)?, row.try_get(1)?));
        }
        let polls = query(
            "SELECT MIN(COALESCE(polled_at, since)), COUNT(*), \
             COALESCE(SUM(CASE WHEN COALESCE(polled_at, since) > $1 THEN 1 ELSE 0 END), 0) FROM watched",
        );
        let polls = polls.bind(polled_since.micros()).fetch_one(pool).await?;
        gauges.stalest_poll = polls.try_get::<Option<i64>>(0)?.map(Timestamp::from_micros);
        gauges.polled_in_time = share(polls.try_get(2)?, polls.try_get(1)?);
        Ok(gauges)
    }

    /// Notices that are not out yet. Rows of a target that is no longer configured wait for its return, and for nobody
    /// else.
    pub async fn outbox_pending(&self) -> Result<i64, Error> {
        let mut pending = 0;
        let rows = query("SELECT target, COUNT(*) FROM notices WHERE state = 'pending' GROUP BY target");
        for row in rows.fetch_all(&self.0.readers).await? {
            let target: String = row.try_get(0)?;
            if self.0.targets.iter().any(|known| known.name() == target) {
                pending += row.try_get::<i64>(1)?;
            }
        }
        Ok(pending)
    }

    async fn count(&self, statement: &'static str) -> Result<i64, Error> {
        Ok(query(statement).fetch_one(&self.0.readers).await?.try_get(0)?)
    }

    async fn summaries(&self, condition: &str, argument: &str) -> Result<Vec<EventSummary>, Error> {
        let sql = ours(format!("{SUMMARY} WHERE {condition} LIMIT $2"));
        let rows = query(sql).bind(argument).bind(ROWS_MAX).fetch_all(&self.0.readers).await?;
        rows.iter().map(summary_of).collect()
    }

    async fn notices(&self, customer: &str) -> Result<Vec<NoticeView>, Error> {
        let rows = query(
            "SELECT id, topic, target, state, created_at, failures, outcome, published_at, body FROM notices \
             WHERE customer = $1 ORDER BY place DESC LIMIT $2",
        )
        .bind(customer)
        .bind(ROWS_MAX)
        .fetch_all(&self.0.readers)
        .await?;
        rows.iter().map(notice_of).collect()
    }

    async fn pumps(&self, condition: &str, arguments: Vec<String>, limit: i64) -> Result<Vec<PumpView>, Error> {
        let sql = ours(format!(
            "SELECT seen, checked_at FROM pumps WHERE {condition} ORDER BY heat_pump LIMIT ${}",
            arguments.len() + 1
        ));
        let query = arguments.into_iter().fold(query(sql), |query, argument| query.bind(argument));
        let rows = query.bind(limit).fetch_all(&self.0.readers).await?;
        rows.iter().filter_map(|row| pump_of(row).transpose()).collect()
    }
}

/// Of nobody all are served.
fn share(part: i64, whole: i64) -> f64 {
    if whole == 0 {
        return 1.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "nobody watches 2^53 users")]
    let share = part as f64 / whole as f64;
    share
}

pub(super) fn moment(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    row.try_get(column).map(Timestamp::from_micros)
}

pub(super) fn moment_or_none(row: &Row, column: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(row.try_get::<Option<i64>>(column)?.map(Timestamp::from_micros))
}

pub(super) fn summary_of(row: &Row) -> Result<EventSummary, Error> {
    Ok(EventSummary {
        id: row.try_get(0)?,
        customer_id: row.try_get(1)?,
        source: row.try_get(2)?,
        origin: row.try_get(3)?,
        origin_id: row.try_get(4)?,
        door: row.try_get(5)?,
        type_name: row.try_get(6)?,
        time: moment(row, 7)?,
        received_at: moment(row, 8)?,
        state: row.try_get(9)?,
        due_at: moment(row, 10)?,
        failures: row.try_get(11)?,
        reason: row.try_get(12)?,
        detail: row.try_get(13)?,
        settled_at: moment_or_none(row, 14)?,
    })
}

fn call_of(row: &Row) -> Result<CallView, Error> {
    Ok(CallView {
        at: moment(row, 0)?,
        operation: row.try_get(1)?,
        outcome: row.try_get(2)?,
        took_ms: row.try_get(3)?,
        idempotency_key: row.try_get(4)?,
    })
}

fn notice_of(row: &Row) -> Result<NoticeView, Error> {
    let body: Value =
        serde_json::from_str(&row.try_get::<String>(8)?).map_err(|error| Error::Unreadable(error.to_string()))?;
    Ok(NoticeView {
        id: row.try_get(0)?,
        topic: row.try_get(1)?,
        target: row.try_get(2)?,
        state: row.try_get(3)?,
        created_at: moment(row, 4)?,
        failures: row.try_get(5)?,
        outcome: row.try_get(6)?,
        published_at: moment_or_none(row, 7)?,
        data: body["data"].clone(),
    })
}

/// `None`: this version cannot read it, which is logged; the others are shown.
fn pump_of(row: &Row) -> Result<Option<PumpView>, Error> {
    let Some(seen) = roster::legible(&row.try_get::<String>(0)?) else { return Ok(None) };
    Ok(Some(PumpView {
        heat_pump_id: seen.heat_pump.to_string(),
        podero_user_id: seen.user.to_string(),
        customer_id: seen.customer,
        building_id: seen.building.map(|id| id.to_string()),
        manufacturer: seen.manufacturer,
        model: seen.model,
        region: seen.region,
        state: seen.knowledge.name().to_owned(),
        reason: seen.knowledge.reason().map(str::to_owned),
        is_retired: seen.is_retired,
        outage_id: seen.outage.map(|id| id.to_string()),
        bad_since: seen.bad_since,
        checked_at: moment(row, 1)?,
        alert: seen.alert.map(|alert| AlertView {
            dedup_key: dedup_key(seen.heat_pump, alert.cause),
            occurrence_id: alert.occurrence.to_string(),
            cause: alert.cause.name().to_owned(),
            severity: alert.severity().name().to_owned(),
            since: alert.since,
            detected_at: alert.detected_at,
        }),
    }))
}

fn outage_of(outage: &Outage) -> Option<OutageView> {
    let told = outage.told.as_ref()?;
    Some(OutageView {
        alert: AlertView {
            dedup_key: outage.scope.dedup_key(),
            occurrence_id: outage.occurrence.to_string(),
            cause: outage.scope.cause().name().to_owned(),
            severity: told.severity.name().to_owned(),
            since: outage.since,
            detected_at: told.detected_at,
        },
        scope: json!({ "kind": outage.scope.kind().name(), "name": outage.scope.name() }),
        affected: told.affected,
        watched: told.watched,
        heat_pumps: outage.list(),
    })
}
