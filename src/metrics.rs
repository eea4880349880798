//! Every instrument once, with its doc comment as its help text. The only file that names the metrics library.
//!
//! Callers count and set the fields of [`Metrics`] directly. Label values are names of closed sets (those below, or the
//! domain's own), so that the number of series is bounded: the one open label, `source`, takes names from the configuration
//! only. It never decides anything and never asks for the time: ages and durations are handed in.
//!
//! Before: nothing. After: every stage, and the admin API, which shows [`Metrics::encode`].

use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::domain::alert::Knowledge;
use crate::domain::event::{EventKind, Transport, UNKNOWN};
use crate::domain::names::names;
use crate::domain::notice::Topic;
use crate::domain::reconnect::LinkRefusal;

/// Media type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Bounds of the seconds from arrival to effect. The quick end resolves the normal case, a few calls of a tenth of a second each;
/// then the steps follow the retry schedule (1 s to 15 min) up to its end of 72 h, after which an event is parked and no longer
/// counted here.
const EVENT_SECONDS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0];

/// Bounds of the seconds of one call. Dense around what an API across the internet takes; then one bound at the default deadline
/// (10 s) and one at the longest that can be configured (60 s), so that timeouts stand out.
const CALL_SECONDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The HTTP statuses with which webhooks are refused: every one of a problem has a series.
pub const REFUSED_STATUSES: [u16; 10] = [400, 401, 403, 404, 405, 408, 413, 415, 422, 503];

names! {
    /// The listener, as a label.
    pub enum Listener { Http = "http", Admin = "admin" }

    /// Reason for which a connection was closed before its time: its peer was at its limit, all together were too many, it owed a
    /// request for too long; or it ended by itself without a request that could be read.
    pub enum ConnectionEnd {
        PeerShare = "peer_share", Crowded = "crowded", Slow = "slow", NoRequest = "no_request", Hasty = "hasty",
    }

    /// End of an event: those of the promise that none is lost, and `skipped` by an operator.
    pub enum Outcome {
        Applied = "applied", Superseded = "superseded", Duplicate = "duplicate", Parked = "parked", Skipped = "skipped",
    }
}

/// The values of counters and gauges at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "named for what they hold; `None`: not counted")]
pub struct MetricsTally {
    pub received: u64,
    /// Events that reached their end and were not parked.
    pub settled: u64,
    /// Calls to Podero that were refused or got no answer.
    pub calls_refused: u64,
    pub pending: Option<u64>,
    pub parked: Option<u64>,
    /// Seconds.
    pub oldest_age: Option<u64>,
    pub alerts_open: Option<u64>,
}

/// Declares the instruments: doc comment = help text, `field: Type = maker(arguments) as "name"`.
macro_rules! instruments {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $make:ident($($argument:expr),*) as $name:literal;)+) => {
        /// All instruments, in a registry of their own. Clones share their values.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ pub $field: $kind,)+
        }

        /// The name of every instrument of our own.
        pub const NAMES: &[&str] = &[$($name),+];

        impl Metrics {
            fn registered() -> Self {
                let registry = Registry::new();
                $(let $field = registered(&registry, $make($name, concat!($($help),+).trim() $(, $argument)*));)+
                Self { registry, $($field,)+ }
            }
        }
    };
}

instruments! {
    /// Events that were stored, by source, type and transport.
    events_received: IntCounterVec = counters(&["source", "type", "transport"]) as "podero_bridge_events_received_total";
    /// Webhooks that were answered 202, by source; a batch of which no event was taken is none.
    webhooks_accepted: IntCounterVec = counters(&["source"]) as "podero_bridge_webhooks_accepted_total";
    /// Webhooks, and single events of a batch, that were refused, by source and HTTP status; _unknown stands for what names
    /// no configured source.
    webhooks_refused: IntCounterVec = counters(&["source", "status"]) as "podero_bridge_webhooks_refused_total";
    /// Connections that were closed without an answer, by listener and reason: peer_share (one address has as many as it may),
    /// crowded (most places are taken), slow (owed a request for too long), no_request (ended without a request that could be
    /// read); hasty (it went on with more requests a
    /// second than one connection may).
    connections_closed: IntCounterVec = counters(&["listener", "reason"]) as "podero_bridge_connections_closed_total";
    /// Requests that were answered 503 because their address had as many under way as it may, by listener.
    requests_crowded: IntCounterVec = counters(&["listener"]) as "podero_bridge_requests_crowded_total";
    /// Bodies that were given up because they were in the way of others, by whether their sender had proved itself lately.
    bodies_displaced: IntCounterVec = counters(&["proved"]) as "podero_bridge_bodies_displaced_total";
    /// Events that reached their end, by type and outcome.
    events_settled: IntCounterVec = counters(&["type", "outcome"]) as "podero_bridge_events_settled_total";
    /// Seconds from the arrival of an event to its effect at Podero.
    event_duration: Histogram = histogram(EVENT_SECONDS) as "podero_bridge_event_duration_seconds";
    /// Events that are accepted, due, not settled and not parked.
    events_pending: Gauge = real() as "podero_bridge_events_pending";
    /// 1 while webhooks and messages are not taken because as many events wait as may (`store.backlog_max`), else 0.
    backlog_full: IntGauge = gauge() as "podero_bridge_backlog_full";
    /// Accepted events whose time of effect is in the future.
    events_scheduled: Gauge = real() as "podero_bridge_events_scheduled";
    /// Age in seconds of the oldest pending event; 0 when none is pending.
    oldest_pending_age: Gauge = real() as "podero_bridge_oldest_pending_age_seconds";
    /// Seconds by which the machine's clock jumped ahead of the time that passed, while it is doubted; else 0.
    clock_jump: Gauge = real() as "podero_bridge_clock_jump_seconds";
    /// Events that wait for a person.
    events_parked: Gauge = real() as "podero_bridge_events_parked";
    /// Rows of the audit log that are not sealed into its chain yet.
    audit_unsealed: Gauge = real() as "podero_bridge_audit_unsealed";
    /// Rows of the audit log that were ever sealed: the number in the head of its chain.
    audit_sealed: Gauge = real() as "podero_bridge_audit_sealed";
    /// 1 if the last look over the chain of the audit log found that it is not as it was sealed, else 0.
    audit_broken: IntGauge = gauge() as "podero_bridge_audit_broken";
    /// Churns that the brake on mass churn has parked, and that wait for an approval.
    churns_braked: Gauge = real() as "podero_bridge_churns_braked";
    /// Churns that took effect within churn.brake_window without an approval.
    churns_admitted: Gauge = real() as "podero_bridge_churns_admitted";
    /// The most of them that may: the larger of churn.brake_count and the share of the active customers.
    churns_admitted_limit: Gauge = real() as "podero_bridge_churns_admitted_limit";
    /// Members of the team, by what the bridge knows: with an end of their access, or without.
    team_members: GaugeVec = reals(&["access"]) as "podero_bridge_team_members";
    /// Ends of access that have passed for an hour and were not carried out.
    team_expiries_overdue: Gauge = real() as "podero_bridge_team_expiries_overdue";
    /// Events that the policy of the team refused, and that wait for a person; without those of the brake.
    team_refused: Gauge = real() as "podero_bridge_team_refused";
    /// Removals and demotions that the brake of the team has parked, and that wait for an approval.
    team_braked: Gauge = real() as "podero_bridge_team_braked";
    /// Removals and demotions within team.removals_window that needed no approval.
    team_removals: Gauge = real() as "podero_bridge_team_removals";
    /// The most of them that may: team.removals_max.
    team_removals_limit: Gauge = real() as "podero_bridge_team_removals_limit";
    /// Calls to Podero, by operation and HTTP status, or what happened instead of an answer.
    podero_requests: IntCounterVec = counters(&["operation", "status"]) as "podero_bridge_podero_requests_total";
    /// Answers of Podero that differ from what its pages show, by operation and in which way.
    contract_drift: IntCounterVec = counters(&["operation", "kind"]) as "podero_bridge_contract_drift_total";
    /// Seconds of a call to Podero, from sending to the end of the answer.
    podero_request_duration: HistogramVec = histograms(CALL_SECONDS, &["operation"])
        as "podero_bridge_podero_request_duration_seconds";
    /// Repeats that were scheduled, by operation and reason.
    retries: IntCounterVec = counters(&["operation", "reason"]) as "podero_bridge_retries_total";
    /// 1 while calls to Podero are held back because the bridge itself is refused or Podero is away, else 0.
    circuit_open: IntGauge = gauge() as "podero_bridge_circuit_open";
    /// Requests per second that may be made of Podero now, by this replica.
    podero_pace: IntGauge = gauge() as "podero_bridge_podero_pace";
    /// 1 while Podero has asked for a pause, else 0.
    podero_paused: IntGauge = gauge() as "podero_bridge_podero_paused";
    /// Watched heat pumps, by what is believed about them.
    heat_pumps: GaugeVec = reals(&["state"]) as "podero_bridge_heat_pumps";
    /// Age in seconds of the oldest knowledge of a watched heat pump; 0 when none is watched.
    poll_staleness: Gauge = real() as "podero_bridge_poll_staleness_seconds";
    /// Share of watched users whose heat pumps were looked at within watch.interval; 1 when nobody is watched.
    poll_coverage: Gauge = real() as "podero_bridge_poll_coverage_ratio";
    /// Pages of reconnection links that were opened, of links that may be used; mail scanners open them as well.
    reconnect_opened: IntCounter = counter() as "podero_bridge_reconnect_opened_total";
    /// Clicks on reconnection links that led to the partner's page.
    reconnect_used: IntCounter = counter() as "podero_bridge_reconnect_used_total";
    /// Heat pumps that a poll saw connected within a quarter of an hour after such a click.
    reconnect_succeeded: IntCounter = counter() as "podero_bridge_reconnect_succeeded_total";
    /// Requests with reconnection links that were refused, by reason.
    reconnect_refused: IntCounterVec = counters(&["reason"]) as "podero_bridge_reconnect_refused_total";
    /// Outages that were told and are not over.
    outages_open: Gauge = real() as "podero_bridge_outages_open";
    /// Alerts that were triggered and are not resolved.
    alerts_open: Gauge = real() as "podero_bridge_alerts_open";
    /// Notices that were confirmed by their receiver, by type.
    notices_published: IntCounterVec = counters(&["type"]) as "podero_bridge_notices_published_total";
    /// Notices that are stored and not yet confirmed.
    outbox_pending: Gauge = real() as "podero_bridge_outbox_pending";
    /// Notices that the broker gave back because no queue is bound for them.
    notices_returned: IntCounter = counter() as "podero_bridge_notices_returned_total";
    /// 1 while the store takes writes, by the last ones that were made, else 0.
    store_writable: IntGauge = gauge() as "podero_bridge_store_writable";
    /// Seconds since the store was last seen to take a write; idle it is tried every few seconds.
    store_last_write_age: Gauge = real() as "podero_bridge_store_last_write_age_seconds";
    /// Rows of a table of the store on PostgreSQL, as the server estimates them, by table.
    store_live_rows: GaugeVec = reals(&["table"]) as "podero_bridge_store_table_live_rows";
    /// Old versions of rows that no vacuum has removed yet, of a table of the store on PostgreSQL, by table.
    store_dead_rows: GaugeVec = reals(&["table"]) as "podero_bridge_store_table_dead_rows";
    /// Age in seconds of the oldest transaction that is open in the store's database on PostgreSQL.
    store_oldest_transaction_age: Gauge = real() as "podero_bridge_store_oldest_transaction_age_seconds";
    /// Age in transactions of the oldest snapshot that holds back vacuum in the store's database on PostgreSQL.
    store_xmin_age: Gauge = real() as "podero_bridge_store_xmin_age_transactions";
    /// Standbys to which the store's server streams.
    store_standbys: Gauge = real() as "podero_bridge_store_standbys";
    /// Bytes of the write-ahead log that the standby furthest behind has still to replay.
    store_replay_lag: Gauge = real() as "podero_bridge_store_replay_lag_bytes";
    /// Bytes of the write-ahead log that the replication slot furthest behind keeps on the disk of the store's server.
    store_slot_wal: Gauge = real() as "podero_bridge_store_slot_wal_bytes";
    /// 1 while the broker is connected, else 0.
    broker_connected: IntGauge = gauge() as "podero_bridge_broker_connected";
    /// 1 while the inbound queue is consumed, else 0.
    broker_consuming: IntGauge = gauge() as "podero_bridge_broker_consuming";
    /// Lines that are not in the log because standard error took fewer than came, or none.
    log_lines_dropped: IntCounter = counter() as "podero_bridge_log_lines_dropped_total";
    /// Seconds for which standard error has taken nothing while log lines wait; 0 while it takes them.
    log_blocked: Gauge = real() as "podero_bridge_log_blocked_seconds";
    /// Lines that are not in the log because they repeated others of the same second; a line says how many.
    log_lines_limited: IntCounter = counter() as "podero_bridge_log_lines_limited_total";
    /// Always 1; the label says which version runs.
    build_info: IntGaugeVec = gauges(&["version"]) as "podero_bridge_build_info";
}

impl Metrics {
    /// Registers every instrument, and those of the process (memory, CPU, descriptors) where the system has them.
    /// Series with closed labels start at 0, so that a first increase is seen as one.
    pub fn new() -> Self {
        let metrics = Self::registered();
        #[cfg(target_os = "linux")]
        {
            let process = prometheus::process_collector::ProcessCollector::for_self();
            metrics.registry.register(Box::new(process)).expect("names of process metrics begin with process_");
        }
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for event_type in event_types() {
            for outcome in Outcome::names() {
                metrics.events_settled.with_label_values(&[event_type, outcome]);
            }
        }
        for listener in Listener::names() {
            metrics.requests_crowded.with_label_values(&[listener]);
            for end in ConnectionEnd::names() {
                metrics.connections_closed.with_label_values(&[listener, end]);
            }
        }
        for is_proved in ["false", "true"] {
            metrics.bodies_displaced.with_label_values(&[is_proved]);
        }
        for topic in Topic::names() {
            metrics.notices_published.with_label_values(&[topic]);
        }
        for refusal in LinkRefusal::names() {
            metrics.reconnect_refused.with_label_values(&[refusal]);
        }
        metrics.uncounted();
        metrics.unmeasured();
        metrics
    }

    /// Makes the series of a configured source start at 0. For each source once, at the start. An import is a process of its
    /// own, and has no series here.
    pub fn expect_source(&self, source: &str) {
        for event_type in event_types() {
            for transport in [Transport::Http, Transport::Amqp] {
                self.events_received.with_label_values(&[source, event_type, transport.label()]);
            }
        }
        self.webhooks_accepted.with_label_values(&[source]);
        self.expect_refusals(source);
    }

    /// Makes the series of refused webhooks start at 0, for a configured source or the name that stands for all others.
    pub fn expect_refusals(&self, source: &str) {
        for status in REFUSED_STATUSES {
            self.webhooks_refused.with_label_values(&[source, &status.to_string()]);
        }
    }

    /// Takes the broker's gauges away: where no broker is configured, a 0 would read as one that is down.
    pub fn without_broker(&self) {
        self.without([&self.broker_connected, &self.broker_consuming]);
    }

    /// Takes the gauges of the brake's limit away: where there is no brake, a 0 would read as one that admits no churn.
    pub fn without_churn_brake(&self) {
        self.without([&self.churns_admitted, &self.churns_admitted_limit]);
    }

    fn without<C: Collector + Clone + 'static>(&self, instruments: [&C; 2]) {
        for instrument in instruments {
            // An error says that it is gone already, which is as good.
            let _ = self.registry.unregister(Box::new(instrument.clone()));
        }
    }

    /// Makes the gauges that count the tables absent until they are counted again: a number would be a guess.
    pub fn uncounted(&self) {
        for gauge in [
            &self.events_pending,
            &self.events_scheduled,
            &self.oldest_pending_age,
            &self.events_parked,
            &self.churns_braked,
            &self.poll_staleness,
            &self.poll_coverage,
            &self.outages_open,
            &self.alerts_open,
            &self.outbox_pending,
            &self.audit_unsealed,
            &self.audit_sealed,
        ] {
            gauge.set(f64::NAN);
        }
        for state in Knowledge::NAMES {
            self.heat_pumps.with_label_values(&[state]).set(f64::NAN);
        }
        self.uncounted_brake();
        self.uncounted_team();
    }

    /// [`Metrics::uncounted`], for the gauges of the churn brake.
    pub fn uncounted_brake(&self) {
        self.churns_admitted.set(f64::NAN);
        self.churns_admitted_limit.set(f64::NAN);
    }

    /// [`Metrics::uncounted`], for the gauges of the team, which are absent also while it is not administered.
    pub fn uncounted_team(&self) {
        for gauge in [
            &self.team_expiries_overdue,
            &self.team_refused,
            &self.team_braked,
            &self.team_removals,
            &self.team_removals_limit,
        ] {
            gauge.set(f64::NAN);
        }
        for access in ["unlimited", "temporary"] {
            self.team_members.with_label_values(&[access]).set(f64::NAN);
        }
    }

    /// [`Metrics::uncounted`], for the gauges of the database's server; those of its tables have no series before the first count.
    fn unmeasured(&self) {
        for gauge in [
            &self.store_oldest_transaction_age,
            &self.store_xmin_age,
            &self.store_standbys,
            &self.store_replay_lag,
            &self.store_slot_wal,
        ] {
            gauge.set(f64::NAN);
        }
    }

    /// Everything in the Prometheus text format 0.0.4 ([`CONTENT_TYPE`]). Gauges that were not counted are left out.
    pub fn encode(&self) -> String {
        let mut text = Vec::new();
        let mut families = self.registry.gather();
        for family in &mut families {
            family.mut_metric().retain(|metric| !metric.get_gauge().get_value().is_nan());
        }
        families.retain(|family| !family.get_metric().is_empty());
        TextEncoder::new().encode(&families, &mut text).expect("writing to memory does not fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }

    /// The counters over all their labels, and some gauges.
    pub fn tally(&self) -> MetricsTally {
        let is_settled = |outcome: &str| {
            [Outcome::Applied, Outcome::Superseded, Outcome::Skipped].map(Outcome::name).contains(&outcome)
        };
        let is_refused = |status: &str| !status.starts_with('2') && status != "404";
        MetricsTally {
            received: sum(&self.events_received, "type", |_| true),
            settled: sum(&self.events_settled, "outcome", is_settled),
            calls_refused: sum(&self.podero_requests, "status", is_refused),
            pending: whole(&self.events_pending),
            parked: whole(&self.events_parked),
            oldest_age: whole(&self.oldest_pending_age),
            alerts_open: whole(&self.alerts_open),
        }
    }

    /// Counts an event that was stored; `None`: an unreadable message. `source` is the name of a configured source, never a text
    /// from outside.
    pub fn event_received(&self, source: &str, kind: Option<EventKind>, transport: Transport) {
        self.events_received.with_label_values(&[source, event_type(kind), transport.label()]).inc();
    }

    /// Counts an event that reached its end; `None`: one of our own, or an unreadable message.
    pub fn event_settled(&self, kind: Option<EventKind>, outcome: Outcome) {
        self.events_settled.with_label_values(&[event_type(kind), outcome.name()]).inc();
    }

    /// Brings the counters of the log's missing lines up to these numbers, which are the process's own.
    pub fn set_log_lines(&self, dropped: u64, limited: u64) {
        // Two scrapes at once must not both add the difference.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, total) in [(&self.log_lines_dropped, dropped), (&self.log_lines_limited, limited)] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// The sum of the series whose label has a value that is meant.
fn sum(counters: &IntCounterVec, label: &str, is_meant: impl Fn(&str) -> bool) -> u64 {
    let families = counters.collect();
    let series = families.iter().flat_map(|family| family.get_metric());
    let meant =
        series.filter(|series| series.get_label().iter().any(|pair| pair.name() == label && is_meant(pair.value())));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counters are whole, and below 2^53")]
    let sum = meant.map(|series| series.get_counter().get_value() as u64).sum();
    sum
}

/// The value of a gauge; `None`: it is not counted.
fn whole(gauge: &Gauge) -> Option<u64> {
    let value = gauge.get();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "gauges of this kind count something")]
    let whole = (!value.is_nan()).then_some(value as u64);
    whole
}

/// The values of the label `type`.
fn event_types() -> impl Iterator<Item = &'static str> {
    EventKind::names().into_iter().chain([UNKNOWN])
}

fn event_type(kind: Option<EventKind>) -> &'static str {
    kind.map_or(UNKNOWN, EventKind::name)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, instrument: C) -> C {
    registry.register(Box::new(instrument.clone())).expect("each instrument has a name of its own");
    instrument
}

/// Reason for which making an instrument cannot fail.
const VALID: &str = "names, labels and buckets are constants of this file, and a test makes them all";

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect(VALID)
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect(VALID)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::new(name, help).expect(VALID)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(Opts::new(name, help), labels).expect(VALID)
}

fn real(name: &str, help: &str) -> Gauge {
    Gauge::new(name, help).expect(VALID)
}

fn reals(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect(VALID)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(VALID)
}

fn histograms(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).expect(VALID)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses every instrument that has no series before its first use.
    fn used() -> Metrics {
        let metrics = Metrics::new();
        metrics.expect_source("billing");
        metrics.podero_requests.with_label_values(&["create_user", "201"]).inc();
        metrics.podero_request_duration.with_label_values(&["create_user"]).observe(0.12);
        metrics.contract_drift.with_label_values(&["find_user", "unknown_role"]).inc();
        metrics.retries.with_label_values(&["create_user", "busy"]).inc();
        for gauge in [
            &metrics.events_pending,
            &metrics.events_scheduled,
            &metrics.oldest_pending_age,
            &metrics.events_parked,
            &metrics.churns_braked,
            &metrics.churns_admitted,
            &metrics.churns_admitted_limit,
            &metrics.poll_staleness,
            &metrics.poll_coverage,
            &metrics.outages_open,
            &metrics.alerts_open,
            &metrics.outbox_pending,
            &metrics.audit_unsealed,
            &metrics.audit_sealed,
            &metrics.team_members.with_label_values(&["temporary"]),
            &metrics.team_expiries_overdue,
            &metrics.team_refused,
            &metrics.team_braked,
            &metrics.team_removals,
            &metrics.team_removals_limit,
            &metrics.heat_pumps.with_label_values(&["connected"]),
            &metrics.store_live_rows.with_label_values(&["lanes"]),
            &metrics.store_dead_rows.with_label_values(&["lanes"]),
            &metrics.store_oldest_transaction_age,
            &metrics.store_xmin_age,
            &metrics.store_standbys,
            &metrics.store_replay_lag,
            &metrics.store_slot_wal,
        ] {
            gauge.set(0.0);
        }
        metrics
    }

    #[test]
    fn every_instrument_is_shown_with_its_help_and_type() {
        let text = used().encode();
        for name in NAMES {
            assert!(
                text.contains(&format!("\n# HELP {name} ")) || text.starts_with(&format!("# HELP {name} ")),
                "{name}"
            );
            assert!(text.contains(&format!("\n# TYPE {name} ")), "{name}");
        }
        let shown = text.lines().filter(|line| line.starts_with("# TYPE podero_bridge_")).count();
        assert_eq!(shown, NAMES.len());
    }

    #[test]
    fn values_and_labels_are_shown() {
        let metrics = used();
        metrics.event_received("billing", Some(EventKind::SignedUp), Transport::Http);
        metrics.webhooks_refused.with_label_values(&["billing", "401"]).inc();
        metrics.event_settled(Some(EventKind::Moved), Outcome::Superseded);
        metrics.event_duration.observe(0.07);
        metrics.oldest_pending_age.set(1.5);
        metrics.heat_pumps.with_label_values(&["disconnected"]).set(2.0);
        metrics.set_log_lines(7, 8);
        metrics.set_log_lines(9, 8);
        let text = metrics.encode();
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            r#"events_received_total{source="billing",transport="http",type="customer.signed_up"} 1"#,
            r#"events_received_total{source="billing",transport="amqp",type="unknown"} 0"#,
            r#"webhooks_refused_total{source="billing",status="401"} 1"#,
            r#"webhooks_refused_total{source="billing",status="503"} 0"#,
            r#"events_settled_total{outcome="superseded",type="customer.moved"} 1"#,
            r#"events_settled_total{outcome="parked",type="unknown"} 0"#,
            r#"event_duration_seconds_bucket{le="0.05"} 0"#,
            r#"event_duration_seconds_bucket{le="0.1"} 1"#,
            r#"podero_requests_total{operation="create_user",status="201"} 1"#,
            r#"podero_request_duration_seconds_count{operation="create_user"} 1"#,
            r#"contract_drift_total{kind="unknown_role",operation="find_user"} 1"#,
            r#"retries_total{operation="create_user",reason="busy"} 1"#,
            r#"notices_published_total{type="customer.provisioned"} 0"#,
            "oldest_pending_age_seconds 1.5",
            r#"heat_pumps{state="disconnected"} 2"#,
            r#"heat_pumps{state="connected"} 0"#,
            "log_lines_dropped_total 9",
            "log_lines_limited_total 8",
            &format!(r#"build_info{{version="{version}"}} 1"#),
        ] {
            assert!(text.lines().any(|shown| shown == format!("podero_bridge_{line}")), "{line}\n{text}");
        }
    }

    #[test]
    fn what_was_not_counted_is_absent_and_never_0() {
        let metrics = Metrics::new();
        let shows = |name: &str| metrics.encode().contains(&format!("\npodero_bridge_{name}"));
        assert!(!shows("events_pending ") && !shows("heat_pumps{") && shows("store_writable "));
        metrics.events_pending.set(0.0);
        metrics.heat_pumps.with_label_values(&["connected"]).set(0.0);
        assert!(shows("events_pending 0") && shows(r#"heat_pumps{state="connected"} 0"#));
        metrics.uncounted();
        assert!(!shows("events_pending ") && !shows("heat_pumps{"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_is_measured() {
        assert!(Metrics::new().encode().contains("process_resident_memory_bytes"));
    }

    #[test]
    fn two_registries_do_not_meet() {
        let (one, other) = (Metrics::new(), Metrics::new());
        one.clone().notices_returned.inc();
        assert!(one.encode().contains("podero_bridge_notices_returned_total 1"));
        assert!(other.encode().contains("podero_bridge_notices_returned_total 0"));
    }
}
