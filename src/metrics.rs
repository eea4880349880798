//! Every instrument once, with its doc comment as its help text. The only file that names the metrics library.
//!
//! Others count and set through methods, and label through the closed enums below, so that the number of series
//! is bounded: the one open label, `source`, takes names from the configuration only. It never decides anything
//! and never asks for the time: ages and durations are handed in.
//!
//! Before: nothing. After: every stage, and the operator's door, which shows [`Metrics::encode`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::alert::Knowledge;
use crate::domain::event::{EventKind, Transport, UNKNOWN};
use crate::domain::notice::Topic;

use prometheus::core::Collector;
use prometheus::{
    Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Media type of what [`Metrics::encode`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Seconds from arrival to effect. The quick end resolves the normal case, a few calls of a tenth of a second
/// each; then the steps follow the retry schedule (1 s to 15 min) up to its end of 72 h, after which an event is
/// parked and no longer counted here.
const EVENT_SECONDS: &[f64] =
    &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0];

/// Seconds of one call. Dense around what an API across the internet takes; then one bound at the default
/// deadline (10 s) and one at the longest that can be configured (60 s), so that timeouts stand out.
const CALL_SECONDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// The HTTP statuses with which webhooks are refused: every one of a problem has a series.
pub const REFUSED_STATUSES: [u16; 10] = [400, 401, 403, 404, 405, 408, 413, 415, 422, 503];

/// Declares an enum of label values: each variant with the text that stands for it.
macro_rules! labels {
    ($($(#[$outer:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => { $(
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $(#[doc = concat!("`", $text, "`")] $variant,)+ }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The label value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    )+ };
}

labels! {
    /// Which listener.
    Listener { Http = "http", Admin = "admin" }

    /// Why a connection was closed before its time: its peer had as many as one may, all together were too many, it owed a
    /// request for too long; or it ended by itself without a request that could be read.
    ConnectionEnd { PeerShare = "peer_share", Crowded = "crowded", Slow = "slow", NoRequest = "no_request", Hasty = "hasty" }

    /// How an event ended. The words of the promise that none is lost, and `skipped` by an operator.
    Outcome {
        Applied = "applied", Superseded = "superseded", Duplicate = "duplicate", Parked = "parked", Skipped = "skipped",
    }
}

/// Declares the instruments: doc comment = help text, `field: Type = maker(arguments) as "name"`.
macro_rules! instruments {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ty = $make:ident($($argument:expr),*) as $name:literal;)+) => {
        /// All instruments, in a registry of their own. Clones share their values.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            $($(#[doc = $help])+ $field: $kind,)+
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
    events_pending: Gauge = counted() as "podero_bridge_events_pending";
    /// 1 while the doors take no events because as many wait as may (`store.backlog_max`), else 0.
    backlog_full: IntGauge = gauge() as "podero_bridge_backlog_full";
    /// Accepted events whose time of effect is in the future.
    events_scheduled: Gauge = counted() as "podero_bridge_events_scheduled";
    /// Age in seconds of the oldest pending event; 0 when none is pending.
    oldest_pending_age: Gauge = counted() as "podero_bridge_oldest_pending_age_seconds";
    /// Seconds by which the machine's clock jumped ahead of the time that passed, while it is doubted; else 0.
    clock_jump: Gauge = real() as "podero_bridge_clock_jump_seconds";
    /// Events that wait for a person.
    events_parked: Gauge = counted() as "podero_bridge_events_parked";
    /// Churns that the brake on mass churn has parked, and that wait for an approval.
    churns_braked: Gauge = counted() as "podero_bridge_churns_braked";
    /// Churns that took effect within churn.brake_window without an approval.
    churns_admitted: Gauge = counted() as "podero_bridge_churns_admitted";
    /// The most of them that may: the larger of churn.brake_count and the share of the active customers.
    churns_admitted_limit: Gauge = counted() as "podero_bridge_churns_admitted_limit";
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
    heat_pumps: GaugeVec = counted_by(&["state"]) as "podero_bridge_heat_pumps";
    /// Age in seconds of the oldest knowledge of a watched heat pump; 0 when none is watched.
    poll_staleness: Gauge = counted() as "podero_bridge_poll_staleness_seconds";
    /// Share of watched users whose heat pumps were looked at within watch.interval; 1 when nobody is watched.
    poll_coverage: Gauge = counted() as "podero_bridge_poll_coverage_ratio";
    /// Outages that were told and are not over.
    outages_open: Gauge = counted() as "podero_bridge_outages_open";
    /// Alerts that were triggered and are not resolved.
    alerts_open: Gauge = counted() as "podero_bridge_alerts_open";
    /// Notices that were confirmed by their receiver, by type.
    notices_published: IntCounterVec = counters(&["type"]) as "podero_bridge_notices_published_total";
    /// Notices that are stored and not yet confirmed.
    outbox_pending: Gauge = counted() as "podero_bridge_outbox_pending";
    /// Notices that the broker gave back because no queue is bound for them.
    notices_returned: IntCounter = counter() as "podero_bridge_notices_returned_total";
    /// 1 while the store takes writes, by the last ones that were made, else 0.
    store_writable: IntGauge = gauge() as "podero_bridge_store_writable";
    /// Seconds since the store was last seen to take a write; idle it is tried every few seconds.
    store_last_write_age: Gauge = real() as "podero_bridge_store_last_write_age_seconds";
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
        registered_process(&metrics.registry);
        metrics.build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        for kind in kinds() {
            for outcome in Outcome::ALL {
                metrics.events_settled.with_label_values(&[type_label(kind), outcome.as_str()]);
            }
        }
        for listener in Listener::ALL {
            metrics.requests_crowded.with_label_values(&[listener.as_str()]);
            for end in ConnectionEnd::ALL {
                metrics.connections_closed.with_label_values(&[listener.as_str(), end.as_str()]);
            }
        }
        for is_proved in [false, true] {
            metrics.bodies_displaced.with_label_values(&[truth(is_proved)]);
        }
        for state in Knowledge::NAMES {
            metrics.heat_pumps.with_label_values(&[state]).set(f64::NAN);
        }
        for topic in Topic::ALL {
            metrics.notices_published.with_label_values(&[topic.name()]);
        }
        metrics
    }

    /// Makes the series of a configured source start at 0. For each source once, at the start.
    pub fn expect_source(&self, source: &str) {
        for kind in kinds() {
            for transport in Transport::ALL {
                self.events_received.with_label_values(&[source, type_label(kind), transport.label()]);
            }
        }
        self.webhooks_accepted.with_label_values(&[source]);
        self.expect_refusals(source);
    }

    /// Makes the series of refused webhooks start at 0, for a configured source or the word for all others.
    pub fn expect_refusals(&self, source: &str) {
        for status in REFUSED_STATUSES {
            self.webhooks_refused.with_label_values(&[source, &status.to_string()]);
        }
    }

    /// Takes the broker's gauges away: where no broker is configured, a 0 would read as one that is down.
    pub fn without_broker(&self) {
        for gauge in [&self.broker_connected, &self.broker_consuming] {
            // Gone already is as good.
            let _ = self.registry.unregister(Box::new(gauge.clone()));
        }
    }

    /// Takes the gauges of the brake's limit away: where there is no brake, a 0 would read as one that admits nobody.
    pub fn without_churn_brake(&self) {
        for gauge in [&self.churns_admitted, &self.churns_admitted_limit] {
            // Gone already is as good.
            let _ = self.registry.unregister(Box::new(gauge.clone()));
        }
    }

    /// The tables cannot be counted: a number would be a guess, so the gauges that count them are absent until they are.
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
        ] {
            gauge.set(f64::NAN);
        }
        for state in Knowledge::NAMES {
            self.heat_pumps.with_label_values(&[state]).set(f64::NAN);
        }
        self.uncounted_brake();
    }

    /// [`Metrics::uncounted`], for the gauges of the churn brake.
    pub fn uncounted_brake(&self) {
        self.churns_admitted.set(f64::NAN);
        self.churns_admitted_limit.set(f64::NAN);
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

    /// Counts an event that was stored; no kind: a message that could not be read as one. `source` is the name of a
    /// configured source, never a text from outside.
    pub fn event_received(&self, source: &str, kind: Option<EventKind>, transport: Transport) {
        self.events_received.with_label_values(&[source, type_label(kind), transport.label()]).inc();
    }

    /// Counts a webhook of which something was taken, or nothing was to be. `source` is the name of a configured source.
    pub fn webhook_accepted(&self, source: &str) {
        self.webhooks_accepted.with_label_values(&[source]).inc();
    }

    /// Counts a webhook, or an event of a batch, that was refused. `source` is the name of a configured source or the word
    /// for all others, `status` one of [`REFUSED_STATUSES`].
    pub fn webhook_refused(&self, source: &str, status: u16) {
        self.webhooks_refused.with_label_values(&[source, &status.to_string()]).inc();
    }

    /// Counts a connection that was closed without an answer.
    pub fn connection_closed(&self, listener: Listener, end: ConnectionEnd) {
        self.connections_closed.with_label_values(&[listener.as_str(), end.as_str()]).inc();
    }

    /// Counts a request that was refused because its address had as many under way as it may.
    pub fn request_crowded(&self, listener: Listener) {
        self.requests_crowded.with_label_values(&[listener.as_str()]).inc();
    }

    /// Counts a body that was given up for others.
    pub fn body_displaced(&self, is_proved: bool) {
        self.bodies_displaced.with_label_values(&[truth(is_proved)]).inc();
    }

    /// Counts an event that reached its end.
    pub fn event_settled(&self, kind: Option<EventKind>, outcome: Outcome) {
        self.events_settled.with_label_values(&[type_label(kind), outcome.as_str()]).inc();
    }

    /// Notes how long an applied event took from its arrival.
    pub fn event_took(&self, duration: Duration) {
        self.event_duration.observe(duration.as_secs_f64());
    }

    /// Counts a call to Podero and how long it took. Both texts are from closed sets: an operation's name, an HTTP
    /// status or what happened instead of one.
    pub fn podero_called(&self, operation: &'static str, status: &str, duration: Duration) {
        self.podero_requests.with_label_values(&[operation, status]).inc();
        self.podero_request_duration.with_label_values(&[operation]).observe(duration.as_secs_f64());
    }

    /// Makes the series of a way to differ start at 0.
    pub fn expect_drift(&self, operation: &'static str, kind: &'static str) {
        self.contract_drift.with_label_values(&[operation, kind]);
    }

    /// Counts an answer that differs from the pages. Both texts are from closed sets: an operation's name, a drift's.
    pub fn contract_drifted(&self, operation: &'static str, kind: &'static str) {
        self.contract_drift.with_label_values(&[operation, kind]).inc();
    }

    /// Counts a repeat that was scheduled. Both texts are from closed sets: an operation's name, a setback's.
    pub fn retried(&self, operation: &'static str, reason: &'static str) {
        self.retries.with_label_values(&[operation, reason]).inc();
    }

    /// Counts a notice that was confirmed.
    pub fn notice_published(&self, topic: Topic) {
        self.notices_published.with_label_values(&[topic.name()]).inc();
    }

    /// Brings the counters of the log's missing lines up to these numbers, which are the process's own.
    pub fn set_log_lines(&self, dropped: u64, limited: u64) {
        // Two who ask at once must not both add the difference.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        for (counter, total) in [(&self.log_lines_dropped, dropped), (&self.log_lines_limited, limited)] {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Sets for how long standard error has taken nothing while lines wait.
    pub fn set_log_blocked(&self, blocked: Duration) {
        self.log_blocked.set(blocked.as_secs_f64());
    }

    /// Counts a notice that the broker gave back.
    pub fn notice_returned(&self) {
        self.notices_returned.inc();
    }

    /// Sets the number of pending events.
    pub fn set_events_pending(&self, count: u64) {
        self.events_pending.set(real_of(count));
    }

    /// Sets whether the backlog is full.
    pub fn set_backlog_full(&self, is_full: bool) {
        self.backlog_full.set(i64::from(is_full));
    }

    /// Sets the number of events whose time has not come.
    pub fn set_events_scheduled(&self, count: u64) {
        self.events_scheduled.set(real_of(count));
    }

    /// Sets the age of the oldest pending event; zero when none is pending.
    pub fn set_oldest_pending_age(&self, age: Duration) {
        self.oldest_pending_age.set(age.as_secs_f64());
    }

    /// Sets the number of parked events.
    pub fn set_events_parked(&self, count: u64) {
        self.events_parked.set(real_of(count));
    }

    /// Sets the number of churns that wait for an approval.
    pub fn set_churns_braked(&self, count: u64) {
        self.churns_braked.set(real_of(count));
    }

    /// Sets how many churns were admitted within the brake's window, and how many may be.
    pub fn set_churn_brake(&self, admitted: u64, limit: u64) {
        self.churns_admitted.set(real_of(admitted));
        self.churns_admitted_limit.set(real_of(limit));
    }

    /// Sets whether calls to Podero are held back.
    pub fn set_circuit_open(&self, is_open: bool) {
        self.circuit_open.set(i64::from(is_open));
    }

    /// Sets how far the machine's clock jumped ahead.
    pub fn set_clock_jump(&self, jump: Duration) {
        self.clock_jump.set(jump.as_secs_f64());
    }

    /// Sets how many requests per second may be made of Podero now.
    pub fn set_podero_pace(&self, per_second: u32) {
        self.podero_pace.set(i64::from(per_second));
    }

    /// Sets whether Podero has asked for a pause.
    pub fn set_podero_paused(&self, is_paused: bool) {
        self.podero_paused.set(i64::from(is_paused));
    }

    /// Sets the number of heat pumps in a state, one of [`Knowledge::NAMES`].
    pub fn set_heat_pumps(&self, state: &'static str, count: u64) {
        self.heat_pumps.with_label_values(&[state]).set(real_of(count));
    }

    /// Sets the age of the oldest knowledge of a watched heat pump; zero when none is watched.
    pub fn set_poll_staleness(&self, age: Duration) {
        self.poll_staleness.set(age.as_secs_f64());
    }

    /// Sets the share of watched users that were polled in time, from 0 to 1.
    pub fn set_poll_coverage(&self, share: f64) {
        self.poll_coverage.set(share);
    }

    /// Sets the number of open outages.
    pub fn set_outages_open(&self, count: u64) {
        self.outages_open.set(real_of(count));
    }

    /// Sets the number of open alerts.
    pub fn set_alerts_open(&self, count: u64) {
        self.alerts_open.set(real_of(count));
    }

    /// Sets the number of notices that are not confirmed yet.
    pub fn set_outbox_pending(&self, count: u64) {
        self.outbox_pending.set(real_of(count));
    }

    /// Sets whether the store takes writes.
    pub fn set_store_writable(&self, is_writable: bool) {
        self.store_writable.set(i64::from(is_writable));
    }

    /// Sets how long ago the store was last seen to take a write.
    pub fn set_store_last_write_age(&self, age: Duration) {
        self.store_last_write_age.set(age.as_secs_f64());
    }

    /// Sets whether the broker is connected.
    pub fn set_broker_connected(&self, is_connected: bool) {
        self.broker_connected.set(i64::from(is_connected));
    }

    /// Sets whether the inbound queue is consumed.
    pub fn set_broker_consuming(&self, is_consuming: bool) {
        self.broker_consuming.set(i64::from(is_consuming));
    }
}

/// Every kind of event, and none.
fn kinds() -> impl Iterator<Item = Option<EventKind>> {
    EventKind::ALL.into_iter().map(Some).chain([None])
}

/// Value of the label `type`.
fn type_label(kind: Option<EventKind>) -> &'static str {
    kind.map_or(UNKNOWN, EventKind::name)
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, instrument: C) -> C {
    registry.register(Box::new(instrument.clone())).expect("each instrument has a name of its own");
    instrument
}

#[cfg(target_os = "linux")]
fn registered_process(registry: &Registry) {
    let process = prometheus::process_collector::ProcessCollector::for_self();
    registry.register(Box::new(process)).expect("names of process metrics begin with process_");
}

/// Why making an instrument cannot fail.
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

/// A gauge that counts rows: absent until it was counted.
fn counted(name: &str, help: &str) -> Gauge {
    let gauge = real(name, help);
    gauge.set(f64::NAN);
    gauge
}

fn counted_by(name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    GaugeVec::new(Opts::new(name, help), labels).expect(VALID)
}

fn histogram(name: &str, help: &str, buckets: &[f64]) -> Histogram {
    Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())).expect(VALID)
}

fn histograms(name: &str, help: &str, buckets: &[f64], labels: &[&str]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels).expect(VALID)
}

fn truth(is_so: bool) -> &'static str {
    if is_so { "true" } else { "false" }
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^53")]
fn real_of(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses every instrument that has no series before its first use.
    fn used() -> Metrics {
        let metrics = Metrics::new();
        metrics.expect_source("billing");
        metrics.podero_called("create_user", "201", Duration::from_millis(120));
        metrics.contract_drifted("find_user", "unknown_role");
        metrics.expect_drift("find_user", "new_status");
        metrics.set_events_scheduled(0);
        metrics.set_churns_braked(0);
        metrics.set_churn_brake(0, 0);
        metrics.set_events_pending(0);
        metrics.set_oldest_pending_age(Duration::ZERO);
        metrics.set_events_parked(0);
        Knowledge::NAMES.into_iter().for_each(|state| metrics.set_heat_pumps(state, 0));
        metrics.set_poll_staleness(Duration::ZERO);
        metrics.set_poll_coverage(1.0);
        metrics.set_outages_open(0);
        metrics.set_alerts_open(0);
        metrics.set_outbox_pending(0);
        metrics.retried("create_user", "busy");
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
        metrics.webhook_accepted("billing");
        metrics.webhook_refused("billing", 401);
        metrics.event_settled(Some(EventKind::Moved), Outcome::Superseded);
        metrics.event_took(Duration::from_millis(70));
        metrics.podero_called("token", "timeout", Duration::ZERO);
        metrics.notice_published(Topic::EventParked);
        metrics.notice_returned();
        metrics.set_events_pending(3);
        metrics.set_events_scheduled(4);
        metrics.set_oldest_pending_age(Duration::from_millis(1_500));
        metrics.set_clock_jump(Duration::from_secs(7_200));
        metrics.set_events_parked(7);
        metrics.set_circuit_open(true);
        metrics.set_podero_pace(35);
        metrics.set_podero_paused(true);
        metrics.set_heat_pumps("disconnected", 2);
        metrics.set_poll_staleness(Duration::from_secs(60));
        metrics.set_alerts_open(5);
        metrics.set_outbox_pending(6);
        metrics.set_broker_connected(true);
        metrics.set_broker_consuming(true);
        metrics.set_log_blocked(Duration::from_secs(9));
        metrics.set_log_lines(7, 8);
        metrics.set_log_lines(9, 8);
        let text = metrics.encode();
        let version = env!("CARGO_PKG_VERSION");
        for line in [
            r#"events_received_total{source="billing",transport="http",type="customer.signed_up"} 1"#,
            r#"events_received_total{source="billing",transport="amqp",type="unknown"} 0"#,
            r#"webhooks_accepted_total{source="billing"} 1"#,
            r#"webhooks_refused_total{source="billing",status="401"} 1"#,
            r#"webhooks_refused_total{source="billing",status="503"} 0"#,
            r#"events_settled_total{outcome="superseded",type="customer.moved"} 1"#,
            r#"events_settled_total{outcome="parked",type="unknown"} 0"#,
            r#"event_duration_seconds_bucket{le="0.05"} 0"#,
            r#"event_duration_seconds_bucket{le="0.1"} 1"#,
            r#"podero_requests_total{operation="create_user",status="201"} 1"#,
            r#"podero_requests_total{operation="token",status="timeout"} 1"#,
            r#"podero_request_duration_seconds_count{operation="create_user"} 1"#,
            r#"contract_drift_total{kind="unknown_role",operation="find_user"} 1"#,
            r#"contract_drift_total{kind="new_status",operation="find_user"} 0"#,
            r#"retries_total{operation="create_user",reason="busy"} 1"#,
            r#"notices_published_total{type="event.parked"} 1"#,
            r#"notices_published_total{type="customer.provisioned"} 0"#,
            "notices_returned_total 1",
            "events_pending 3",
            "events_scheduled 4",
            "oldest_pending_age_seconds 1.5",
            "clock_jump_seconds 7200",
            "events_parked 7",
            "circuit_open 1",
            "podero_pace 35",
            "podero_paused 1",
            r#"heat_pumps{state="disconnected"} 2"#,
            r#"heat_pumps{state="connected"} 0"#,
            "poll_staleness_seconds 60",
            "alerts_open 5",
            "outbox_pending 6",
            "broker_connected 1",
            "broker_consuming 1",
            "log_blocked_seconds 9",
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
        metrics.set_events_pending(0);
        metrics.set_heat_pumps("connected", 0);
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
        one.clone().notice_returned();
        assert!(one.encode().contains("podero_bridge_notices_returned_total 1"));
        assert!(other.encode().contains("podero_bridge_notices_returned_total 0"));
    }
}
