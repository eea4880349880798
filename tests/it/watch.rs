//! Alerts on the real bus: one for each true loss, none for anything else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bus::{Bus, Heard, Listener};
use crate::servers;
use crate::world::{Database, Settings, World, sign_up, until};

const HYSTERESIS: &str = r#"
[watch]
interval = "1s"
disconnect_after = "2s"
disconnect_polls = 3
reconnect_polls = 2
"#;

/// Longer than any alert could take to come out: what is not heard by then is not said.
const SILENCE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(60);

struct Watched {
    world: World,
    listener: Listener,
    _bus: Bus,
    pump: String,
}

/// A customer with a connected heat pump, and somebody who listens to alerts.
async fn watched() -> Watched {
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let settings = Settings { toml: HYSTERESIS.into(), environment: vec![("AMQP__URL", vhost.clone())] };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let listener = bus.listen(&["heat_pump.*"]).await;
    world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    let state = world.sandbox_state().await;
    let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
    let fields = json!({"manufacturer": "Vaillant", "model": "aroTHERM plus"}).to_string();
    let url = world.sandbox(&format!("/users/{user}/heat-pumps"));
    let (_, made) = world.post(&url, "application/json", fields).await;
    let pump = made["id"].as_str().expect("a pump").to_owned();
    until("the watch has seen the pump", async || {
        let pumps = world.get(&world.operator("/v1/heat-pumps?state=connected")).await;
        (pumps["heat_pumps"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    Watched { world, listener, _bus: bus, pump }
}

impl Watched {
    async fn authenticated(&self, is: bool) {
        self.world.patch_pump(&self.pump, &json!({ "is_authenticated": is })).await;
    }

    async fn heard(&mut self) -> Heard {
        self.listener.next(PATIENCE).await.expect("an alert")
    }

    async fn silence(&mut self, why: &str) {
        let heard = self.listener.next(SILENCE).await;
        assert!(heard.is_none(), "{why}, and yet: {heard:?}");
    }

    /// Polls that the sandbox has answered.
    async fn polls(&self) -> usize {
        let requests = self.world.get(&self.world.sandbox("/requests")).await;
        let requests = requests.as_array().or(requests["requests"].as_array()).cloned().unwrap_or_default();
        requests.iter().filter(|request| request["operation"] == "list_heat_pumps").count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_loss_is_one_alert_and_its_end_one_resolve_of_the_same_occurrence() {
    let mut watched = watched().await;
    watched.authenticated(false).await;
    let trigger = watched.heard().await;
    assert_eq!(trigger.routing_key, "heat_pump.disconnected");
    let data = trigger.event["data"].clone();
    for (field, expected) in [
        ("action", json!("trigger")),
        ("cause", json!("needs_reauthentication")),
        ("severity", json!("error")),
        ("customer_id", json!("C-1")),
        ("heat_pump_id", json!(watched.pump)),
        ("manufacturer", json!("Vaillant")),
        ("model", json!("aroTHERM plus")),
        ("resolution", Value::Null),
    ] {
        assert_eq!(data[field], expected, "{field}");
    }
    for field in ["dedup_key", "occurrence_id", "summary", "podero_user_id", "building_id", "since", "detected_at"] {
        assert!(data[field].is_string(), "{field} in {data}");
    }
    assert!(!trigger.event.to_string().contains("@example.com"), "ids only");
    let (_, metrics) = watched.world.get_text(&watched.world.operator("/metrics")).await;
    let drifts: Vec<_> =
        metrics.lines().filter(|line| line.starts_with("podero_bridge_contract_drift_total")).collect();
    assert!(drifts.len() > 100 && drifts.iter().all(|line| line.ends_with(" 0")), "the sandbox keeps to the pages");
    watched.silence("one loss is one alert").await;
    let open = watched.world.get(&watched.world.operator("/v1/alerts?open=true")).await;
    assert_eq!(open["alerts"].as_array().map(Vec::len), Some(1));

    watched.authenticated(true).await;
    let resolve = watched.heard().await;
    assert_eq!(resolve.routing_key, "heat_pump.reconnected");
    let resolved = &resolve.event["data"];
    assert_eq!(resolved["action"], "resolve");
    assert_eq!(resolved["resolution"], "reconnected");
    assert_eq!(resolved["dedup_key"], data["dedup_key"]);
    assert_eq!(resolved["occurrence_id"], data["occurrence_id"]);
    assert_ne!(resolve.message_id, trigger.message_id);
    watched.silence("one return is one resolve").await;
    watched.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_shorter_than_the_hysteresis_is_no_news() {
    let mut watched = watched().await;
    watched.authenticated(false).await;
    until("the watch has seen it go", async || {
        let pumps = watched.world.get(&watched.world.operator("/v1/heat-pumps?state=disconnected")).await;
        (pumps["heat_pumps"].as_array().map(Vec::len) == Some(1)).then_some(())
    })
    .await;
    watched.authenticated(true).await;
    watched.silence("it was off for less than the hysteresis").await;
    watched.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_podero_that_fails_every_poll_is_no_disconnection() {
    for (status, retry_after) in [(500, None), (429, Some(1))] {
        let mut watched = watched().await;
        for operation in ["list_heat_pumps", "get_heat_pump", "list_users"] {
            let mut rule = json!({"operation": operation, "kind": "status", "status": status});
            if let Some(seconds) = retry_after {
                rule["retry_after"] = json!(seconds);
            }
            watched.world.fault(&rule).await;
        }
        let before = watched.polls().await;
        watched.silence("an answer that could not be got says nothing").await;
        assert!(watched.polls().await > before, "the watch did ask meanwhile ({status})");
        watched.world.no_faults().await;
        watched.silence("and nothing comes of it afterwards").await;
        watched.world.bridge.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_churn_resolves_the_open_alert_once() {
    let mut watched = watched().await;
    watched.authenticated(false).await;
    let trigger = watched.heard().await;
    let churn = crate::world::event("e2", "customer.churned", "2026-10-02T12:00:00Z", &json!({"customer_id": "C-1"}));
    watched.world.apply(&churn).await;
    let resolve = watched.heard().await;
    assert_eq!(resolve.event["data"]["resolution"], "churned");
    assert_eq!(resolve.event["data"]["occurrence_id"], trigger.event["data"]["occurrence_id"]);
    watched.silence("it is resolved once").await;
    watched.world.bridge.stop().await;
}
