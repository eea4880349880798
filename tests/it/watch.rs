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
reconnect_after = "1s"
reconnect_polls = 2
heating_season = "none"
"#;

/// Time of silence: longer than any alert could take to come out. An alert that is not heard by then is not published.
const SILENCE: Duration = Duration::from_secs(6);
const PATIENCE: Duration = Duration::from_secs(60);

/// Many at once are one outage, and no alert may be published before that.
const ROLL_UP: &str = r#"
[watch]
interval = "1s"
disconnect_after = "8s"
disconnect_polls = 2
reconnect_after = "1s"
reconnect_polls = 1
outage_share = 0.5
outage_min = 4
region_chars = 2
heating_season = "none"

[severity]
maker_outage = "critical"
"#;

struct Watched {
    world: World,
    listener: Listener,
    _bus: Bus,
    pump: String,
}

/// A customer with a connected heat pump, and a listener to alerts.
async fn watched() -> Watched {
    watched_with(HYSTERESIS).await
}

async fn watched_with(toml: &str) -> Watched {
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let settings = Settings { toml: toml.into(), environment: vec![("AMQP__URL", vhost.clone())] };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let bus = Bus::connect(&vhost).await;
    let listener = bus.listen(&["heat_pump.*", "fleet.*"]).await;
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

/// A lasting loss is one alert and its end one resolve of the same occurrence.
#[tokio::test(flavor = "multi_thread")]
async fn a_lasting_loss_is_one_alert_and_one_resolve() {
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

impl Watched {
    /// Another heat pump of the customer.
    async fn add_pump(&self, manufacturer: &str) -> String {
        let state = self.world.sandbox_state().await;
        let user = state["users"][0]["id"].as_str().expect("a user").to_owned();
        let url = self.world.sandbox(&format!("/users/{user}/heat-pumps"));
        let fields = json!({ "manufacturer": manufacturer }).to_string();
        let (_, made) = self.world.post(&url, "application/json", fields).await;
        made["id"].as_str().expect("a pump").to_owned()
    }

    async fn count(&self, query: &str) -> usize {
        let pumps = self.world.get(&self.world.operator(&format!("/v1/heat-pumps?{query}"))).await;
        pumps["heat_pumps"].as_array().map_or(0, Vec::len)
    }

    async fn link(&self, pump: &str, body: &str) -> (u16, Value) {
        let url = self.world.operator(&format!("/v1/heat-pumps/{pump}/reconnect-link"));
        self.world.post(&url, "application/json", body.to_owned()).await
    }

    async fn lapse(&self) {
        let url = self.world.sandbox(&format!("/heat-pumps/{}/lapse", self.pump));
        let (status, body) = self.world.post(&url, "application/json", "{}".to_owned()).await;
        assert_eq!(status, 200, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_of_one_maker_at_once_are_one_alert_and_their_return_is_its_end() {
    let mut watched = watched_with(ROLL_UP).await;
    let mut away = vec![watched.pump.clone()];
    for _ in 0..5 {
        away.push(watched.add_pump("Vaillant").await);
    }
    watched.add_pump("Other & Söhne").await;
    until("the watch has seen them all", async || (watched.count("state=connected").await == 7).then_some(())).await;
    for pump in &away {
        watched.world.patch_pump(pump, &json!({ "is_authenticated": false })).await;
    }
    let started = watched.heard().await;
    assert_eq!(started.routing_key, "fleet.outage_started");
    let data = started.event["data"].clone();
    for (field, expected) in [
        ("action", json!("trigger")),
        ("cause", json!("maker_outage")),
        ("severity", json!("critical")),
        ("affected", json!(6)),
        ("watched", json!(6)),
        ("manufacturer", json!("Vaillant")),
        ("heat_pump_id", Value::Null),
    ] {
        assert_eq!(data[field], expected, "{field} of {data}");
    }
    watched.silence("nothing is told of the single ones").await;
    // The reference leads to the list.
    let list = data["heat_pumps"].as_str().expect("where they are listed").to_owned();
    let listed = watched.world.get(&watched.world.operator(&list)).await;
    let listed = listed["heat_pumps"].as_array().cloned().unwrap_or_default();
    assert_eq!(listed.len(), 6);
    assert!(listed.iter().all(|pump| pump["outage_id"] == data["occurrence_id"]), "{listed:?}");
    let open = watched.world.get(&watched.world.operator("/v1/alerts?open=true")).await;
    assert_eq!(
        (open["alerts"].clone(), open["outages"][0]["dedup_key"].clone()),
        (json!([]), data["dedup_key"].clone())
    );
    for pump in &away {
        watched.world.patch_pump(pump, &json!({ "is_authenticated": true })).await;
    }
    let ended = watched.heard().await;
    assert_eq!((ended.routing_key.as_str(), &ended.event["data"]["remaining"]), ("fleet.outage_ended", &json!(0)));
    assert_eq!(ended.event["data"]["occurrence_id"], data["occurrence_id"]);
    watched.silence("it is over").await;
    watched.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_narrowed_and_paged() {
    let watched = watched_with(ROLL_UP).await;
    for _ in 0..4 {
        watched.add_pump("Other & Söhne").await;
    }
    until("the watch has seen them all", async || (watched.count("state=connected").await == 5).then_some(())).await;
    assert_eq!(watched.count("manufacturer=Other%20%26%20S%C3%B6hne").await, 4);
    assert_eq!(watched.count("manufacturer=Vaillant&state=connected").await, 1);
    assert_eq!(watched.count("state=disconnected").await, 0);
    let state = watched.world.sandbox_state().await;
    let zip = state["users"][0]["zip_code"].as_str().expect("a ZIP code").to_owned();
    let country = state["users"][0]["country"].as_str().expect("a country").to_owned();
    assert_eq!(watched.count(&format!("region={country}-{}", &zip[..2])).await, 5);
    let (mut pages, mut next, mut ids) = (0, String::new(), std::collections::BTreeSet::new());
    loop {
        let path = format!("/v1/heat-pumps?limit=2{next}");
        let page = watched.world.get(&watched.world.operator(&path)).await;
        pages += 1;
        for pump in page["heat_pumps"].as_array().expect("a list") {
            assert!(ids.insert(pump["heat_pump_id"].as_str().expect("an id").to_owned()), "each once");
        }
        match page["next"].as_str() {
            Some(id) => next = format!("&after={id}"),
            None => break,
        }
    }
    assert_eq!((pages, ids.len()), (3, 5));
    watched.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_made_when_it_is_asked_for_and_opens_for_the_customer() {
    let watched = watched().await;
    let landing = r#"{"success_url": "https://utility.example/done", "cancel_url": "https://utility.example/later"}"#;
    let (status, refusal) = watched.link(&watched.pump, landing).await;
    assert_eq!((status, &refusal["type"]), (409, &json!("urn:podero-bridge:problem:no-reconnection")));
    watched.lapse().await;
    let (status, refusal) = watched.link(&watched.pump, "").await;
    assert_eq!((status, &refusal["type"]), (422, &json!("urn:podero-bridge:problem:landing-required")));
    for wrong in ["[]", r#"{"success_url": "javascript:alert(1)"}"#, r#"{"language": "fr"}"#, r#"{"more": 1}"#] {
        assert_eq!(watched.link(&watched.pump, wrong).await.0, 400, "{wrong}");
    }
    let (status, link) = watched.link(&watched.pump, landing).await;
    assert_eq!(status, 200, "{link}");
    let url = link["url"].as_str().expect("a link");
    assert!(url.contains("/connect?reconnection_id=") && !url.contains("secret"), "{url}");
    assert!(link["expires_at"].is_string());
    // Without an action the older field will do; it is no secret, and does not end.
    let older = json!({ "actions": [], "authorization_url": "https://connect.podero.invalid/authorize" });
    watched.world.patch_pump(&watched.pump, &older).await;
    let (status, link) = watched.link(&watched.pump, "").await;
    assert_eq!((status, &link["url"], &link["expires_at"]), (200, &older["authorization_url"], &Value::Null));
    assert_eq!(watched.link("0b9d5c3e-0000-4000-8000-000000000000", landing).await.0, 404);
    let rule = json!({"operation": "get_heat_pump", "kind": "status", "status": 500});
    watched.world.fault(&rule).await;
    assert_eq!(watched.link(&watched.pump, landing).await.0, 503);
    watched.world.no_faults().await;
    let by = "token:none heat_pump";
    assert_eq!(
        watched.world.audited("link.create").await,
        [
            "refused no_reconnection",
            "refused landing_required",
            "done -",
            "done -",
            "refused unknown_heat_pump",
            "failed no_link"
        ]
        .map(|told| format!("{by} {told} -"))
    );
    assert_eq!(
        watched.world.audited("podero.resolve_cue").await,
        ["unknown begun", "done -"].map(|told| format!("{by} {told} -"))
    );
    watched.world.bridge.stop().await;
}

/// The call that begins an action changes something at Podero: it has a row before it is made, and a further one with its answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_call_for_a_link_has_its_row_before_it_is_made() {
    let watched = watched().await;
    watched.lapse().await;
    let landing = r#"{"success_url": "https://utility.example/done", "cancel_url": "https://utility.example/later"}"#;
    let fault = |kind: &str, more: &Value| {
        let mut rule = json!({"operation": "resolve_cue", "kind": kind, "times": 1});
        rule.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        rule
    };
    let row = |told: &str| format!("token:none heat_pump {told} -");
    // While Podero is at it, the row is there.
    watched.world.fault(&fault("slow", &json!({"latency_ms": 600_000}))).await;
    let mut expected = vec![row("unknown begun")];
    let asked = watched.link(&watched.pump, landing);
    let seen = until("the row is there", async || {
        (watched.world.audited("podero.resolve_cue").await == expected).then_some(())
    });
    tokio::select! {
        answer = asked => panic!("Podero has not answered: {answer:?}"),
        () = seen => {}
    }
    watched.world.no_faults().await;
    for (rule, answer) in [
        (fault("status", &json!({"status": 400})), "refused http_400"),
        // Podero may have done it.
        (fault("status", &json!({"status": 500})), "unknown server_error"),
        (fault("drop_after", &json!({})), "unknown no_answer"),
        // The last one: after it the bridge makes no calls for a second.
        (fault("status", &json!({"status": 429, "retry_after": 1})), "failed no_link"),
    ] {
        watched.world.fault(&rule).await;
        let (status, problem) = watched.link(&watched.pump, landing).await;
        assert_eq!(status, 503, "{rule}: {problem}");
        watched.world.no_faults().await;
        expected.extend(["unknown begun", answer].map(row));
        assert_eq!(watched.world.audited("podero.resolve_cue").await, expected, "{rule}");
    }
    watched.world.bridge.stop().await;
}
