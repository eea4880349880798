//! Events that wait, and why, as an operator of a running bridge sees them: by the API, by the command, in the log after a restart.

use serde_json::{Value, json};

use crate::running::{self, Environment, Running};
use crate::world::{Settings, World, event, sign_up, until};

const TIME: &str = "2026-10-01T12:00:00Z";
const TOKEN: &str = "0123456789abcdef";

/// A bridge whose events stay in back-off, and what a command next to it needs.
struct WaitingWorld {
    world: World,
    environment: Environment,
}

impl WaitingWorld {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = crate::kit::sqlite_url(folder.path());
        let environment = ["RETRY__INITIAL", "RETRY__MAX"].map(|key| (key, "10m".to_owned()));
        let mut settings = Settings { toml: String::new(), environment: environment.into() };
        settings.environment.push(("ADMIN__TOKEN", TOKEN.to_owned()));
        settings.environment.push(("PODERO__TIMEOUT", "60s".to_owned()));
        let world = World::start_on(folder, url.clone(), settings).await;
        Self { world, environment: vec![("STORE__URL", url)] }
    }

    /// Our id of an event that was taken.
    async fn take(&self, event: &Value) -> String {
        let (status, answer) = self.world.send(event).await;
        assert_eq!(status, 202, "{answer}");
        answer["id"].as_str().expect("an id").to_owned()
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        let request = self.world.http.get(self.world.operator(path)).bearer_auth(TOKEN);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    async fn listed(&self, query: &str) -> Vec<Value> {
        let (status, page) = self.get(&format!("/v1/events?state=pending{query}")).await;
        assert_eq!(status, 200, "{page}");
        page["events"].as_array().expect("a list").clone()
    }

    /// Reason for which the first event that is not done waits, once it is this.
    async fn first(&self, waits_for: &str, failures: u64) -> Value {
        until("it waits for that", async || {
            let first = self.listed("").await.into_iter().next()?;
            (first["waits_for"] == waits_for && first["failures"] == failures).then_some(first)
        })
        .await
    }

    async fn retry(&self, id: &str) -> (u16, Value) {
        let request = self.world.http.post(self.world.operator(&format!("/v1/parked/{id}/retry"))).bearer_auth(TOKEN);
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// Runs a command; its exit status, and what it said.
    async fn command(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let (environment, arguments) = (self.environment.clone(), arguments.iter().map(|&word| word.to_owned()));
        let arguments: Vec<String> = arguments.collect();
        let run = move || {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            running::run(&arguments, &environment)
        };
        let output = tokio::task::spawn_blocking(run).await.expect("it ran");
        (output.status.code(), running::said(&output))
    }
}

/// An event that Podero answers 500 is listed and a retry by hand makes it due.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_gets_500_is_listed_and_a_retry_makes_it_due() {
    let waiting = WaitingWorld::start().await;
    waiting.world.fault(&json!({"operation": "*", "kind": "status", "status": 500})).await;
    let id = waiting.take(&sign_up("evt-1", "C-1", TIME)).await;
    waiting.first("retrying", 1).await;
    let update = json!({"customer_id": "C-1", "first_name": "Eva"});
    let later = waiting.take(&event("evt-2", "customer.updated", "2026-10-02T12:00:00Z", &update)).await;
    let listed = waiting.listed("&customer_id=C-1").await;
    let [first, second] = &listed[..] else { panic!("{listed:?}") };
    for (field, expected) in [
        ("id", json!(id)),
        ("customer_id", json!("C-1")),
        ("type", json!("customer.signed_up")),
        ("state", json!("pending")),
        ("reason", json!("server_error")),
        ("behind", Value::Null),
    ] {
        assert_eq!(first[field], expected, "{field} of {first}");
    }
    assert!(first["operation"].is_string(), "{first}");
    let moment = |field: &str| first[field].as_str().unwrap_or_else(|| panic!("{field} of {first}")).to_owned();
    assert!(moment("since") < moment("next_try"), "{first}");
    assert_eq!((&second["id"], &second["waits_for"]), (&json!(later), &json!("behind")), "{second}");
    assert_eq!((&second["behind"], &second["next_try"]), (&json!(id), &Value::Null), "{second}");
    assert!(waiting.listed("&customer_id=C-2").await.is_empty());

    let (_, page) = waiting.get("/v1/events?limit=1").await;
    assert_eq!((page["events"].as_array().map(Vec::len), &page["events"][0]["id"]), (Some(1), &json!(id)));
    let next = page["next"].as_str().expect("there is more");
    let (_, page) = waiting.get(&format!("/v1/events?state=pending&limit=2&after={next}")).await;
    assert_eq!((page["events"].as_array().map(Vec::len), &page["events"][0]["id"]), (Some(1), &json!(later)));
    assert_eq!(page["next"], Value::Null);
    for query in ["state=parked", "state=scheduled", "state=waiting"] {
        assert_eq!(waiting.get(&format!("/v1/events?{query}")).await.1["events"], json!([]), "{query}");
    }
    for query in ["state=lost", "after=yesterday", "limit=many"] {
        let (status, problem) = waiting.get(&format!("/v1/events?{query}")).await;
        assert_eq!((status, &problem["type"]), (400, &json!("urn:podero-bridge:problem:malformed")), "{query}");
    }
    let answer = waiting.world.http.get(waiting.world.operator("/v1/events")).send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 401, "without the token");

    let (status, said) = waiting.command(&["events", "list"]).await;
    let why = format!("server_error: {}", first["operation"].as_str().expect("text"));
    let rows: Vec<&str> = said.lines().collect();
    assert!(status == Some(0) && rows.len() == 3, "{said}");
    assert!([&id, "C-1", "customer.signed_up", "retrying", &why].iter().all(|word| rows[1].contains(word)), "{said}");
    assert!([&*later, "behind", &id].iter().all(|word| rows[2].contains(word)), "{said}");
    let (_, said) = waiting.command(&["events", "list", "--limit", "1", "--customer", "C-1"]).await;
    assert!(said.contains("there are more: --after "), "{said}");
    let (_, said) = waiting.command(&["events", "list", "--json"]).await;
    let shown: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(shown, json!({"events": listed, "next": null}));
    assert_eq!(waiting.command(&["events", "list", "--state", "parked"]).await.1, "no event is parked\n");

    assert_eq!(waiting.retry(&id).await, (200, json!({"id": id, "state": "pending"})));
    waiting.first("retrying", 2).await;
    assert_eq!(waiting.command(&["parked", "retry", &id]).await, (Some(0), format!("{id}  pending\n")));
    waiting.first("retrying", 3).await;
    waiting.world.no_faults().await;
    assert_eq!(waiting.retry(&id).await.0, 200);
    until("both are applied", async || waiting.listed("").await.is_empty().then_some(())).await;
    assert_eq!(waiting.get(&format!("/v1/events/{later}")).await.1["state"], "applied");
    waiting.world.bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_being_tried_is_listed_so_and_not_retried_by_hand() {
    let waiting = WaitingWorld::start().await;
    waiting.world.ready().await;
    // Longer than the test takes; nothing waits for its end.
    waiting.world.fault(&json!({"operation": "*", "kind": "slow", "latency_ms": 50_000})).await;
    let id = waiting.take(&sign_up("evt-1", "C-1", TIME)).await;
    let first = waiting.first("in_progress", 0).await;
    assert_eq!((&first["id"], &first["next_try"]), (&json!(id), &Value::Null), "{first}");
    let (status, problem) = waiting.retry(&id).await;
    assert_eq!((status, &problem["type"]), (409, &json!("urn:podero-bridge:problem:in-progress")), "{problem}");
    let (status, said) = waiting.command(&["parked", "retry", &id]).await;
    assert!(status == Some(1) && said.contains(&format!("{id}  in-progress: ")), "{said}");
}

/// A start with an open circuit does not hear its former self as another replica.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_replica_does_not_hear_its_former_self() {
    let folder = tempfile::tempdir().expect("a folder");
    let environment = running::on_file(folder.path());
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    let http = reqwest::Client::new();
    let sandbox = bridge.sandbox.clone().expect("it runs");
    let fault = json!({"operation": "*", "kind": "status", "status": 503}).to_string();
    let ordered =
        http.post(format!("{sandbox}/_sandbox/faults")).header("content-type", "application/json").body(fault);
    assert_eq!(ordered.send().await.expect("an answer").status().as_u16(), 201);
    for number in 0..20 {
        let event = sign_up(&format!("evt-{number}"), &format!("C-{number}"), TIME).to_string();
        let request = http.post(format!("{}/v1/events", bridge.door)).body(event);
        let answer = request.header("content-type", "application/cloudevents+json").send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), 202);
    }
    until("the circuit opens", async || {
        let ready = http.get(format!("{}/readyz", bridge.operator)).send().await.ok()?.text().await.ok()?;
        ready.contains("circuit open since").then_some(())
    })
    .await;
    let before = bridge.log().len();
    assert_eq!(bridge.terminate(), Some(0));
    let bridge = Running::start(folder.path(), &["--sandbox"], &environment);
    until("it closes: its Podero is well again", async || {
        bridge.log()[before..].contains("circuit closed").then_some(())
    })
    .await;
    let log = bridge.log()[before..].to_owned();
    assert!(log.contains("circuit open: it was open before this start"), "{log}");
    assert!(!log.contains("another replica says so"), "{log}");
    assert_eq!(bridge.terminate(), Some(0));
}
