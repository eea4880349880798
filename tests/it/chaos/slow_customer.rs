//! One customer whose calls always fail delays no other.
//!
//! Rounds with and without such a customer take turns in one run on one bridge, so that both meet the same machine;
//! their medians are compared. The times are those of the store: from the moment an event arrived to the moment
//! its effect was complete.

use std::time::Duration;

use serde_json::json;

use podero_bridge::clock::Clock;
use podero_bridge::pump;

use super::judge::note;
use super::ledger::{EventRow, Ledger};
use super::world::{ChaosWorld, Layout};
use super::{Plan, number, say};
use crate::world::{event, sign_up, until};

/// Interval between two sign-ups: a rate far below what the bridge can do, as on a usual day. At the bridge's limit the test
/// would measure the length of the queue, and not which customer waits for which.
const PACE: Duration = Duration::from_millis(15);
/// Failures of the failing customer before the others come.
const FAILURES_BEFORE: u64 = 4;
/// Number of times that the failing customer makes it look like an outage.
const SUSPICIONS: u64 = 3;
/// Limit of an effect in quiet: a sign-up takes milliseconds; the circuit's shortest opening is a second.
const QUIET_EFFECT_MAX: Duration = Duration::from_millis(900);

struct Street {
    world: std::sync::Arc<ChaosWorld>,
    ledger: Ledger,
}

impl Street {
    async fn open(plan: &Plan, keys: Vec<(&'static str, String)>) -> Self {
        let world = ChaosWorld::open(plan, Layout { replicas: 1, keys, ..Layout::default() }).await;
        let ledger = Ledger::of_file(&world.folder.path().join("bridge.db"));
        Self { world, ledger }
    }

    async fn send(&self, event: &serde_json::Value) {
        let door = self.world.doors(0).expect("it runs").webhooks;
        let request = self.world.http.post(door).header("content-type", "application/cloudevents+json");
        let answer = request.body(event.to_string()).send().await.expect("an answer");
        assert_eq!(answer.status(), 202);
    }

    /// Sends all events of a customer whose calls fail, and waits for this number of failures.
    async fn let_fail(&self, customer: &str, failures: u64) {
        self.world.fault(&json!({"operation": "*", "kind": "status", "status": 500, "contains": customer})).await;
        self.send(&sign_up(&format!("{customer}-1"), customer, "2026-10-01T12:00:00Z")).await;
        for step in 2..6 {
            let data = json!({"customer_id": customer, "first_name": "Berta"});
            let time = format!("2026-10-0{step}T12:00:00Z");
            self.send(&event(&format!("{customer}-{step}"), "customer.updated", &time, &data)).await;
        }
        until("the customer's calls fail", async || (self.world.struck().await >= failures).then_some(())).await;
    }

    /// Nothing of these ids is pending any more.
    async fn settled(&self, prefix: &str) -> Vec<EventRow> {
        until("their events are settled", async || {
            let rows = self.ledger.events().await;
            let own: Vec<EventRow> = rows.into_iter().filter(|row| row.origin_id.starts_with(prefix)).collect();
            own.iter().all(|row| row.state == "applied" || row.state == "superseded").then_some(own)
        })
        .await
    }

    /// One round; the median time to effect, in milliseconds.
    async fn round(&self, number: usize, customers: usize, is_troubled: bool) -> f64 {
        let bad = format!("C-failing-{number}");
        if is_troubled {
            self.let_fail(&bad, FAILURES_BEFORE).await;
        }
        for customer in 0..customers {
            let id = format!("C-{number}-{customer}");
            self.send(&sign_up(&format!("{id}-e"), &id, "2026-10-01T12:00:00Z")).await;
            pump::sleep(PACE).await;
        }
        let rows = self.settled(&format!("C-{number}-")).await;
        assert_eq!(rows.len(), customers);
        if is_troubled {
            let struck = self.world.struck().await;
            assert!(struck > FAILURES_BEFORE, "the customer went on failing: {struck}");
            self.world.no_faults().await;
            self.settled(&bad).await;
        }
        median(rows.iter().map(|row| (row.settled_at.expect("settled") - row.received_at) as f64 / 1_000.0).collect())
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_whose_calls_always_fail_delays_no_other() {
    let plan = Plan::new("slow-customer", 0, 100, 2);
    let street = Street::open(&plan, Vec::new()).await;
    let (mut with, mut without) = (Vec::new(), Vec::new());
    // The first warms up connections and caches.
    street.round(0, plan.customers, false).await;
    let started = Clock::system().now();
    for round in 0..plan.blows {
        // Which of the two comes first takes turns as well.
        for half in 0..2 {
            let is_troubled = (round + half) % 2 == 0;
            let median = street.round(1 + 2 * round + half, plan.customers, is_troubled).await;
            if is_troubled { with.push(median) } else { without.push(median) }
        }
    }
    let (of_with, of_without) = (median(with.clone()), median(without.clone()));
    let ratio = of_with / of_without;
    say(&format!(
        "slow-customer: medians in ms with {with:.2?}, without {without:.2?}: {of_with:.2} to {of_without:.2} = {ratio:.3}"
    ));
    let took = Clock::system().now().since(started).as_secs();
    let (rounds, seed) = (plan.blows, plan.seed);
    note(&format!(
        "slow-customer {seed} {} {} {rounds} ratio={ratio:.3} 0 0 0 0 {took}",
        plan.customers * rounds * 2,
        plan.customers
    ));
    // A busy machine doubles a median of milliseconds without any customer's doing; the full run is strict.
    let ratio_max = number("RATIO_MAX").unwrap_or(3.0);
    assert!(ratio <= ratio_max, "with a failing customer the others take {ratio:.3} times as long");
    assert_eq!(street.world.unasked_ends(), Vec::<String>::new());
}

/// The hardest hour is the quiet one: the failing calls are the only ones, and look like an outage of Podero.
#[tokio::test(flavor = "multi_thread")]
async fn in_a_quiet_hour_a_failing_customer_does_not_shut_the_door_to_podero() {
    let plan = Plan::new("quiet", 0, 2, 0);
    // Ten failures in a row come within a second or so.
    let street = Street::open(&plan, vec![("RETRY__MAX", "100ms".to_owned())]).await;
    let probes = async || {
        let found_nobody = r#"podero_bridge_podero_requests_total{operation="find_user",status="404"}"#;
        street.world.metric(0, found_nobody).await
    };
    street.let_fail("C-failing", 1).await;
    for number in 0..SUSPICIONS {
        // The failing customer's own look-ups are struck, and no other's are under way.
        let before = probes().await;
        until("it was asked whose trouble it is", async || (probes().await > before).then_some(())).await;
        let id = format!("C-good-{number}");
        street.send(&sign_up(&format!("{id}-e"), &id, "2026-10-01T12:00:00Z")).await;
        let rows = street.settled(&format!("{id}-e")).await;
        let took = rows[0].settled_at.expect("settled") - rows[0].received_at;
        say(&format!("quiet: {took} µs"));
        assert!(took < i64::try_from(QUIET_EFFECT_MAX.as_micros()).expect("small"), "it took {took} µs");
    }
    let struck = street.world.struck().await;
    assert!(struck >= 10 * SUSPICIONS, "the customer went on failing: {struck}");
    // A turn is counted whenever the circuit opens or a pause begins, and never taken back.
    let standing = street.ledger.standing().await;
    assert_eq!(standing["sight"]["turn"], 0, "nothing ever held the target: {standing}");
    assert_eq!(street.world.unasked_ends(), Vec::<String>::new());
}
