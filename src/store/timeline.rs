//! The operator's views: events, customers, heat pumps and alerts.
//!
//! Reads only, outside the writer, bounded in rows. Lists carry ids and states. Personal data is in two views, which only the
//! admin API requests: the original bytes in [`StoreView::event`], and the state in [`StoreView::customer`].
//!
//! Before: the tables. After: [`crate::admin`], [`crate::metrics`].

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::closed_sets::{NoticeState, RowKind};
use super::db::{Cell, FromCell, ours, query, row};
use super::error::Error;
use super::handle::StoreView;
use super::{customers, outages, pumps, standing};
use crate::domain::alert::{BLIND_DEDUP_KEY, Knowledge, Outage, Severity, dedup_key};
use crate::domain::customer::Customer;
use crate::domain::event::EventState;
use crate::domain::notice::Topic;
use crate::domain::{EventId, Timestamp};

/// Limit of the rows of one list: an operator reads a page, a tool narrows its question.
pub const ROWS_MAX: i64 = 1_000;

row! {
    /// An event in a list.
    #[derive(Debug, Clone, Serialize, JsonSchema)]
    pub struct EventSummary {
        /// The bridge's own.
        pub id: EventId = "id",
        /// The utility's own; null for an event of a member of the team.
        pub customer_id: Option<String> = "CASE WHEN lane LIKE 'member\t%' THEN NULL ELSE lane END",
        /// The utility's own, of a member of its team.
        pub member_id: Option<String> = "CASE WHEN lane LIKE 'member\t%' THEN substr(lane, 8) END",
        /// The configured source it came by.
        pub source: String = "source",
        /// Its identity, first half: CloudEvents `source`.
        pub origin: String = "origin",
        /// Second half: CloudEvents `id`.
        pub origin_id: String = "origin_id",
        /// `webhook`, `amqp`, `import` or `internal`.
        #[serde(rename = "door")]
        pub transport: String = "transport",
        /// As its sender wrote it.
        #[serde(rename = "type")]
        #[schemars(with = "String")]
        pub kind: RowKind = "type",
        /// Its place in the customer's order: when it happened, or takes effect.
        pub time: Timestamp = "time",
        /// When it arrived.
        pub received_at: Timestamp = "received_at",
        /// See The admin API in docs/OPERATIONS.md.
        pub state: EventState = "state",
        /// When it is worked on next.
        pub due_at: Timestamp = "due_at",
        /// In a row.
        pub failures: u32 = "failures",
        /// Why it is parked, tried again, or superseded.
        pub reason: Option<String> = "reason",
        /// More about it, without personal data.
        pub detail: Option<String> = "detail",
        /// When it reached its end.
        pub settled_at: Option<Timestamp> = "settled_at",
    }
}

row! {
    /// One call made to Podero.
    #[derive(Debug, Clone, Serialize, JsonSchema)]
    pub struct CallView {
        /// When it was made.
        pub at: Timestamp = "at",
        /// Its name.
        pub operation: String = "operation",
        /// Podero's answer, in a few words.
        pub outcome: String = "outcome",
        /// Milliseconds.
        pub took_ms: i64 = "took_ms",
        /// The same on every repeat.
        pub idempotency_key: Option<String> = "idempotency_key",
    }
}

row! {
    /// One outgoing event.
    #[derive(Debug, Clone, Serialize, JsonSchema)]
    pub struct NoticeView {
        /// The same each time it is sent.
        pub id: Uuid = "id",
        /// Its type.
        #[serde(rename = "type")]
        #[schemars(with = "Topic")]
        pub topic: String = "topic",
        /// `amqp` or `webhook`.
        pub target: String = "target",
        /// `pending` or `published`.
        #[schemars(with = "String")]
        pub state: NoticeState = "state",
        /// When it was made.
        pub created_at: Timestamp = "created_at",
        /// In a row.
        pub failures: u32 = "failures",
        /// Why it is not out yet.
        pub outcome: Option<String> = "outcome",
        /// When its receiver confirmed it.
        pub published_at: Option<Timestamp> = "published_at",
        /// Its data. Absent for a viewer.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(with = "Option<Map<String, Value>>")]
        pub data: Option<NoticeData> = "body",
    }
}

/// The public part of an outgoing event's body.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct NoticeData(pub Value);

impl FromCell for NoticeData {
    fn from_cell(cell: Cell) -> Option<Self> {
        let mut body: Value = serde_json::from_str(&String::from_cell(cell)?).ok()?;
        Some(Self(body.get_mut("data").map(Value::take).unwrap_or_default()))
    }
}

/// An event with all that came of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct EventView {
    /// The event.
    #[serde(flatten)]
    pub event: EventSummary,
    /// Calls to Podero that were made for it.
    pub calls: Vec<CallView>,
    /// The bytes that its sender sent.
    #[serde(flatten)]
    pub original: Option<OriginalBytes>,
}

/// The bytes of an event, which hold personal data.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OriginalBytes {
    /// Properties and headers that came with its bytes. Absent for a viewer.
    #[schemars(with = "Option<Map<String, Value>>")]
    pub envelope: Option<Value>,
    /// Its bytes. Absent for a viewer.
    pub raw: String,
    /// Of `raw`. Absent for a viewer.
    #[schemars(extend("enum" = ["utf8", "base64"]))]
    pub raw_encoding: String,
}

impl EventView {
    /// The view without personal data.
    #[must_use]
    pub fn impersonal(self) -> Self {
        Self { original: None, ..self }
    }
}

/// The present of a customer, without what happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CustomerCard {
    /// The utility's own.
    pub customer_id: String,
    /// The facts that are known; their form may change. Absent for a viewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<Map<String, Value>>")]
    pub state: Option<Value>,
    /// Heat pumps, by id.
    pub heat_pumps: Vec<PumpView>,
}

/// A customer with all that happened.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct CustomerView {
    /// The customer.
    #[serde(flatten)]
    pub card: CustomerCard,
    /// Events, the latest first.
    pub events: Vec<EventSummary>,
    /// Outgoing events, the latest first.
    pub notices: Vec<NoticeView>,
}

impl CustomerCard {
    /// The card without personal data.
    #[must_use]
    pub fn impersonal(self) -> Self {
        Self { state: None, ..self }
    }
}

impl CustomerView {
    /// The view without personal data, and without the links in outgoing events, which are their owner's alone.
    #[must_use]
    pub fn impersonal(self) -> Self {
        let notices = self.notices.into_iter().map(|notice| NoticeView { data: None, ..notice });
        Self { card: self.card.impersonal(), notices: notices.collect(), ..self }
    }
}

/// The record of a heat pump.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct PumpView {
    /// Podero's.
    #[schemars(with = "Uuid")]
    pub heat_pump_id: String,
    /// Podero's id of the owner.
    #[schemars(with = "Uuid")]
    pub podero_user_id: String,
    /// The utility's own id.
    pub customer_id: Option<String>,
    /// Podero's.
    pub building_id: Option<String>,
    /// As Podero writes it.
    pub manufacturer: Option<String>,
    /// As Podero writes it.
    pub model: Option<String>,
    /// Country and beginning of the ZIP code, if regions are watched.
    pub region: Option<String>,
    /// The state that is believed.
    #[schemars(extend("enum" = Knowledge::NAMES))]
    pub state: String,
    /// Why it is disconnected, or why nothing can be said.
    pub reason: Option<String>,
    /// Watched no more.
    pub is_retired: bool,
    /// The outage that it is lost in.
    pub outage_id: Option<String>,
    /// Since when it is seen disconnected.
    pub bad_since: Option<Timestamp>,
    /// When it was looked at last.
    pub checked_at: Timestamp,
    /// The open alert.
    pub alert: Option<AlertView>,
}

/// An open alert.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AlertView {
    /// A ticket's key.
    pub dedup_key: String,
    /// Names this one occurrence.
    #[schemars(with = "Uuid")]
    pub occurrence_id: String,
    /// Its cause.
    pub cause: String,
    /// How urgent it was when it was triggered.
    #[schemars(extend("enum" = Severity::ALL.map(Severity::name)))]
    pub severity: String,
    /// When it was first seen.
    pub since: Timestamp,
    /// When it became an alert.
    pub detected_at: Timestamp,
}

/// An open outage.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OutageView {
    /// The alert.
    #[serde(flatten)]
    pub alert: AlertView,
    /// The heat pumps that it is about.
    pub scope: ScopeView,
    /// Heat pumps that were away at once, at most.
    pub affected: u64,
    /// Heat pumps of the scope that something is known of.
    pub watched: u64,
    /// Where they are listed.
    pub heat_pumps: String,
}

/// The heat pumps that an outage is about.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ScopeView {
    /// `manufacturer` or `region`.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
}

/// The selection of heat pumps in a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they narrow")]
pub struct PumpFilter {
    pub state: Option<String>,
    pub manufacturer: Option<String>,
    pub region: Option<String>,
    pub has_alert: bool,
    /// The id after which the page begins.
    pub after: Option<String>,
    /// The limit of rows, at most [`ROWS_MAX`].
    pub limit: i64,
}

impl StoreView {
    /// One event with its calls and original bytes.
    pub async fn event(&self, id: EventId) -> Result<Option<EventView>, Error> {
        let readers = &self.readers;
        let event =
            ours(format!("SELECT {}, raw, raw_encoding, envelope FROM events WHERE id = $1", EventSummary::COLUMNS));
        let calls = ours(format!("SELECT {} FROM calls WHERE event_id = $1 ORDER BY id LIMIT $2", CallView::COLUMNS));
        let (event, calls) = tokio::try_join!(
            query(event).bind(id).fetch_optional(readers),
            query(calls).with((id, ROWS_MAX)).fetch_all(readers),
        )?;
        let Some((event, raw, raw_encoding, envelope)) = event else { return Ok(None) };
        let envelope: Option<String> = envelope;
        let envelope = envelope.and_then(|text| serde_json::from_str(&text).ok());
        let original = Some(OriginalBytes { envelope, raw, raw_encoding });
        Ok(Some(EventView { event, calls, original }))
    }

    /// The state of a customer, and the number of their events that go before one that arrives now.
    pub async fn knowledge(&self, customer: &str) -> Result<(Customer, u64), Error> {
        let known = match customers::state_of(&self.readers, customer).await?.unwrap_or_default().as_str() {
            "" => Customer::default(),
            text => serde_json::from_str(text).map_err(|error| Error::Unreadable(error.to_string()))?,
        };
        let pending = query("SELECT COUNT(*) FROM events WHERE lane = $1 AND state = (SELECT 'pending')");
        Ok((known, pending.bind(customer).fetch_one(&self.readers).await?))
    }

    /// The event of this identity within a source, if there is one: its id and state.
    pub async fn told_before(
        &self,
        source: &str,
        origin: &str,
        origin_id: &str,
    ) -> Result<Option<(EventId, EventState)>, Error> {
        let known = query(
            "SELECT id, state FROM events WHERE origin = $1 AND origin_id = $2 AND COALESCE(NULLIF(scope, ''), $3) = $3",
        );
        Ok(known.with((origin, origin_id, source)).fetch_optional(&self.readers).await?)
    }

    /// One customer with events, notices and heat pumps, newest first; `None` if the store has never heard of them.
    pub async fn customer(&self, customer: &str) -> Result<Option<CustomerView>, Error> {
        let Some(card) = self.customer_card(customer).await? else { return Ok(None) };
        let events =
            ours(format!("SELECT {} FROM events WHERE lane = $1 ORDER BY id DESC LIMIT $2", EventSummary::COLUMNS));
        let events = query(events).with((customer, ROWS_MAX)).fetch_all(&self.readers).await?;
        let notices =
            ours(format!("SELECT {} FROM notices WHERE customer = $1 ORDER BY seq DESC LIMIT $2", NoticeView::COLUMNS));
        let notices = query(notices).with((customer, ROWS_MAX)).fetch_all(&self.readers).await?;
        Ok(Some(CustomerView { card, events, notices }))
    }

    /// The present of a customer; `None` if the store has never heard of them.
    pub async fn customer_card(&self, customer: &str) -> Result<Option<CustomerCard>, Error> {
        let heat_pumps = self.pumps("customer = $1", vec![customer.to_owned()], ROWS_MAX);
        let lane = async { Ok(customers::state_of(&self.readers, customer).await?) };
        let (heat_pumps, lane) = tokio::try_join!(heat_pumps, lane)?;
        let has_events = query("SELECT 1 FROM events WHERE lane = $1 LIMIT 1").bind(customer);
        if heat_pumps.is_empty() && lane.is_none() && !has_events.finds(&self.readers).await? {
            return Ok(None);
        }
        let state = Some(serde_json::from_str(&lane.unwrap_or_default()).unwrap_or(Value::Null));
        Ok(Some(CustomerCard { customer_id: customer.to_owned(), state, heat_pumps }))
    }

    /// A page of heat pumps by id, retired ones left out.
    pub async fn heat_pumps(&self, filter: PumpFilter) -> Result<Vec<PumpView>, Error> {
        let mut conditions = vec!["is_retired = 0".to_owned()];
        let mut arguments = Vec::new();
        // The state and one of the others are looked for by their index, which has the order of the page. Any other filter is
        // compared as a value that no index has, so that SQLite takes no index that it would have to sort by.
        let mut is_indexed = filter.has_alert;
        let wanted = [("region", filter.region), ("manufacturer", filter.manufacturer), ("knowledge", filter.state)];
        for (column, argument) in wanted {
            let Some(argument) = argument else { continue };
            arguments.push(argument);
            let place = arguments.len();
            let by_index =
                if column == "knowledge" { !filter.has_alert } else { !std::mem::replace(&mut is_indexed, true) };
            conditions.push(match by_index {
                true => format!("{column} = ${place}"),
                false => format!("COALESCE({column}, '') = ${place}"),
            });
        }
        if let Some(after) = filter.after {
            arguments.push(after);
            conditions.push(format!("heat_pump > ${}", arguments.len()));
        }
        if filter.has_alert {
            conditions.push("has_alert <> 0".to_owned());
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
        let outages = outages::open_outages(&self.readers).await?;
        Ok(outages.0.iter().filter_map(outage_of).collect())
    }

    /// The open alert that the bridge has lost its visibility.
    pub async fn open_blindness(&self) -> Result<Option<AlertView>, Error> {
        let blindness = standing::open_blindness(&self.readers).await?;
        Ok(blindness.map(|blindness| AlertView {
            dedup_key: BLIND_DEDUP_KEY.to_owned(),
            occurrence_id: blindness.occurrence.to_string(),
            cause: blindness.cause.name().to_owned(),
            severity: blindness.severity.name().to_owned(),
            since: blindness.since,
            detected_at: blindness.detected_at,
        }))
    }

    async fn pumps(&self, condition: &str, arguments: Vec<String>, limit: i64) -> Result<Vec<PumpView>, Error> {
        let sql = ours(format!(
            "SELECT record, checked_at FROM pumps WHERE {condition} ORDER BY heat_pump LIMIT ${}",
            arguments.len() + 1
        ));
        let rows: Vec<(String, Timestamp)> =
            query(sql).with_each(arguments).bind(limit).fetch_all(&self.readers).await?;
        Ok(rows.iter().filter_map(|(seen, checked_at)| pump_of(seen, *checked_at)).collect())
    }
}

/// `None`: this version cannot read it, which is logged; the others are shown.
pub(super) fn pump_of(seen: &str, checked_at: Timestamp) -> Option<PumpView> {
    let seen = pumps::legible(seen)?;
    Some(PumpView {
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
        checked_at,
        alert: seen.alert.map(|alert| AlertView {
            dedup_key: dedup_key(seen.heat_pump, alert.cause),
            occurrence_id: alert.occurrence.to_string(),
            cause: alert.cause.name().to_owned(),
            severity: alert.severity().name().to_owned(),
            since: alert.since,
            detected_at: alert.detected_at,
        }),
    })
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
        scope: ScopeView { kind: outage.scope.kind().name(), name: outage.scope.name().to_owned() },
        affected: told.affected,
        watched: told.watched,
        heat_pumps: outage.list(),
    })
}
