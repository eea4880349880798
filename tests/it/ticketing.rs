//! Tickets from alerts: what the programs of the tools make of every alert, and the example consumer between the real bus
//! and a tool, with the truth known.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use podero_bridge::domain::Timestamp;
use podero_bridge::domain::alert::outage::{Count, Looks};
use podero_bridge::domain::alert::{
    BlindCause, Cause, DiffContext, Observation, Outages, PumpRecord, Resolution, Scope, Severities, Severity,
    WatchPolicy, diff, look, outage, retire,
};
use podero_bridge::domain::notice::Notice;
use podero_bridge::domain::partner_health::{CircuitCause, PartnerHealth};
use podero_bridge::domain::reconnect::LinkSigner;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::bus::Bus;
use crate::servers;
use crate::world::{Database, Settings, World, sign_up, until};

const TOOLS: [&str; 4] = ["pagerduty", "jsm", "servicenow", "zammad"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A jq program of a tool.
struct Program(jaq_core::compile::Filter<jaq_core::Native<jaq_core::data::JustLut<jaq_json::Val>>>);

impl Program {
    fn of(tool: &str) -> Self {
        let path = root().join(format!("deploy/ticketing/{tool}.jq"));
        let code = std::fs::read_to_string(&path).expect("a program");
        let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = jaq_core::load::Arena::default();
        let file = jaq_core::load::File { code: code.as_str(), path: () };
        let modules = jaq_core::load::Loader::new(definitions).load(&arena, file).expect("it can be read");
        let compiler = jaq_core::Compiler::default().with_funs(functions).with_global_vars(["$settings"]);
        Self(compiler.compile(modules).expect("it makes sense"))
    }

    fn run(&self, event: &Value) -> Value {
        let read = |value: &Value| jaq_json::read::parse_single(value.to_string().as_bytes()).expect("JSON");
        let settings = read(&json!({"routing_key": "R", "token": "T"}));
        let context = jaq_core::Ctx::<jaq_core::data::JustLut<_>>::new(&self.0.lut, jaq_core::Vars::new([settings]));
        let outputs: Vec<_> = self.0.id.run((context, read(event))).collect();
        let [Ok(output)] = &outputs[..] else { panic!("one output for {event}: {outputs:?}") };
        serde_json::from_str(&output.to_string()).expect("JSON")
    }
}

fn at(minute: i64) -> Timestamp {
    Timestamp::from_micros((1_798_761_600 + minute * 60) * 1_000_000)
}

/// The outgoing event as it is published.
fn published(notice: &Notice) -> Value {
    json!({"specversion": "1.0", "id": notice.id, "source": "podero-bridge", "type": notice.topic.name(),
           "subject": notice.subject, "time": notice.time, "data": notice.data})
}

/// Trigger and resolve of every kind of alert, made by the core, with the longest texts that may be in them.
fn alerts() -> Vec<(Value, Value)> {
    let long = "Ä".repeat(1_000);
    let mut alerts = Vec::new();
    let none = Outages::default();
    let policy = WatchPolicy {
        disconnect_after: Duration::ZERO,
        disconnect_polls: 1,
        warm_up: Duration::ZERO,
        never_connected_after: Duration::ZERO,
        ..WatchPolicy::DEFAULT
    };
    let customer = "C".repeat(128);
    let around = DiffContext::plain(Uuid::from_u128(1), Some(&customer), &none);
    let shown = |change: &dyn Fn(&mut Observation)| {
        let mut shown = Observation {
            heat_pump: Uuid::from_u128(2),
            building: Some(Uuid::from_u128(3)),
            manufacturer: Some(long.clone()),
            model: Some(long.clone()),
            is_authenticated: Some(true),
            updated_at: Some(at(0)),
            reconnect_url: Some(format!("https://podero.example/{}", "x".repeat(7_000))),
            ..Observation::default()
        };
        change(&mut shown);
        shown
    };
    let losses: [&dyn Fn(&mut Observation); 4] = [
        &|seen| seen.is_authenticated = Some(false),
        &|seen| seen.has_lifecycle_error = true,
        &|seen| seen.updated_at = Some(at(-1_000)),
        &|seen| (seen.is_authenticated, seen.updated_at) = (Some(false), None),
    ];
    for loss in losses {
        let lost = diff(None, &shown(loss), &around, at(1), &policy);
        let [trigger] = &lost.notices[..] else { panic!("an alert") };
        for resolution in Resolution::ALL {
            let [resolve] = &retire(&lost.seen, resolution, at(2)).notices[..] else { panic!("a resolve") };
            alerts.push((published(trigger), published(resolve)));
        }
    }
    let mut seen: Option<PumpRecord> = None;
    for minute in 0..8 {
        let change = diff(
            seen.as_ref(),
            &shown(&|seen| seen.is_authenticated = Some(minute % 2 == 0)),
            &around,
            at(minute),
            &WatchPolicy::DEFAULT,
        );
        if let [trigger] = &change.notices[..] {
            let resolve = retire(&change.seen, Resolution::Stable, at(9)).notices;
            alerts.push((published(trigger), published(&resolve[0])));
        }
        seen = Some(change.seen);
    }
    alerts.extend(fleet_alerts(&long));
    alerts
}

fn fleet_alerts(long: &str) -> Vec<(Value, Value)> {
    let mut alerts = Vec::new();
    for scope in [Scope::Manufacturer(long.to_owned()), Scope::Region("DE-101".to_owned())] {
        let count = |lost| Count { scope: scope.clone(), lost, confirmed: lost, watched: 5_000 };
        let (mut known, mut told) = (None, Vec::new());
        for minute in 0..30 {
            let count = count(if minute < 15 { 5_000 } else { 0 });
            let (outage, notice) =
                outage::judge(known.as_ref(), &count, &Looks::default(), at(minute), &WatchPolicy::DEFAULT);
            told.extend(notice);
            known = outage;
        }
        let [trigger, resolve] = &told[..] else { panic!("it is told, and ends: {told:?}") };
        alerts.push((published(trigger), published(resolve)));
    }
    let mut health = PartnerHealth::default();
    health.open(at(0), CircuitCause::Refused { status: 403 });
    health.open(at(4), CircuitCause::Refused { status: 403 });
    let interval = Duration::from_mins(10);
    let blind = look(None, &health, at(4), interval, &Severities::DEFAULT).expect("it is blind");
    health.close(at(5));
    let sees = look(blind.blindness.as_ref(), &health, at(5), interval, &Severities::DEFAULT).expect("it sees again");
    alerts.push((published(&blind.notice), published(&sees.notice)));
    alerts
}

fn chars(value: &Value) -> usize {
    value.as_str().unwrap_or_else(|| panic!("a text, and not {value}")).chars().count()
}

/// Every alert fits into the fields of every tool and its resolve finds its trigger.
#[test]
fn every_alert_fits_into_the_fields_of_every_tool() {
    let alerts = alerts();
    let causes: BTreeSet<&str> = alerts.iter().filter_map(|(trigger, _)| trigger["data"]["cause"].as_str()).collect();
    let missing =
        Cause::ALL.map(Cause::name).into_iter().filter(|cause| !causes.contains(cause) && *cause != "watch_blind");
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&str>::new(), "every cause is tried");
    assert!(causes.contains(BlindCause::CredentialsRefused.name()));
    let programs = TOOLS.map(|tool| (tool, Program::of(tool)));
    for (trigger, resolve) in &alerts {
        for (tool, program) in &programs {
            let (opens, closes) = (program.run(trigger), program.run(resolve));
            match *tool {
                "pagerduty" => fits_pagerduty(trigger, &opens, &closes),
                "jsm" => fits_jsm(trigger, &opens, &closes),
                "servicenow" => fits_servicenow(trigger, &opens, &closes),
                _ => fits_zammad(&opens, &closes),
            }
            let secret = [&opens, &closes].map(|request| request.to_string().contains("@"));
            assert_eq!(secret, [false, false], "ids only");
        }
    }
}

/// The link by which the customer reconnects the heat pump is in each tool's ticket, and in no resolve.
#[test]
fn every_tool_gets_the_link_for_the_customer() {
    let none = Outages::default();
    let signer =
        LinkSigner { base_url: "https://heat.utility.example".to_owned(), secret: "a-secret-of-the-tests".repeat(2) };
    let around = DiffContext { links: Some(&signer), ..DiffContext::plain(Uuid::from_u128(1), Some("C-1"), &none) };
    let policy = WatchPolicy { disconnect_after: Duration::ZERO, disconnect_polls: 1, ..WatchPolicy::DEFAULT };
    let shown = |is| Observation {
        heat_pump: Uuid::from_u128(2),
        is_authenticated: Some(is),
        updated_at: Some(at(0)),
        ..Observation::default()
    };
    let before = diff(None, &shown(true), &around, at(0), &policy).seen;
    let lost = diff(Some(&before), &shown(false), &around, at(1), &policy);
    let [trigger] = &lost.notices[..] else { panic!("an alert: {lost:?}") };
    let [resolve] = &retire(&lost.seen, Resolution::Reconnected, at(2)).notices[..] else { panic!("a resolve") };
    let link = signer.link(Uuid::from_u128(2), Uuid::from_u128(1), at(1));
    assert_eq!(trigger.data["reconnect_url"], json!(link));
    for tool in TOOLS {
        let program = Program::of(tool);
        assert!(program.run(&published(trigger)).to_string().contains(&link), "{tool}");
        assert!(!program.run(&published(resolve)).to_string().contains("heat.utility.example"), "{tool}");
    }
}

fn fits_pagerduty(trigger: &Value, opens: &Value, closes: &Value) {
    for (request, action) in [(opens, "trigger"), (closes, "resolve")] {
        let body = &request["json"];
        assert_eq!((&request["path"], &body["routing_key"]), (&json!("/v2/enqueue"), &json!("R")));
        assert_eq!((&body["event_action"], &body["dedup_key"]), (&json!(action), &trigger["data"]["dedup_key"]));
        assert!(chars(&body["dedup_key"]) <= 255 && (1..=1_024).contains(&chars(&body["payload"]["summary"])));
        assert!(chars(&body["payload"]["source"]) > 0 && body.to_string().len() <= 512 << 10);
        let severity = body["payload"]["severity"].as_str().expect("a severity");
        assert!(Severity::ALL.iter().any(|known| known.name() == severity));
        let timestamp = body["payload"]["timestamp"].as_str().expect("a moment");
        assert!(Timestamp::parse(timestamp).is_some());
    }
    assert_eq!(
        opens["json"]["links"].as_array().map(Vec::len),
        Some(usize::from(!trigger["data"]["reconnect_url"].is_null()))
    );
}

fn fits_jsm(trigger: &Value, opens: &Value, closes: &Value) {
    let body = &opens["json"];
    assert_eq!((&opens["path"], &body["alias"]), (&json!("/v2/alerts"), &trigger["data"]["dedup_key"]));
    assert!(
        (1..=130).contains(&chars(&body["message"])) && chars(&body["alias"]) <= 512 && chars(&body["entity"]) <= 512
    );
    assert!(chars(&body["description"]) <= 15_000 && chars(&body["source"]) <= 100);
    assert!(["P1", "P2", "P3", "P4", "P5"].contains(&body["priority"].as_str().expect("a priority")));
    let details = body["details"].as_object().expect("details");
    assert!(details.values().all(Value::is_string), "{details:?}");
    assert!(body["tags"].as_array().is_some_and(|tags| tags.len() <= 20 && tags.iter().all(|tag| chars(tag) <= 50)));
    let path = closes["path"].as_str().expect("a path");
    let alias = path.strip_prefix("/v2/alerts/").and_then(|rest| rest.strip_suffix("/close?identifierType=alias"));
    let alias = alias.unwrap_or_else(|| panic!("{path}"));
    let decoded = percent_encoding::percent_decode_str(alias).decode_utf8().expect("UTF-8");
    assert_eq!((json!(decoded), alias.contains('/')), (trigger["data"]["dedup_key"].clone(), false));
    assert!(chars(&closes["json"]["source"]) <= 100);
}

fn fits_servicenow(trigger: &Value, opens: &Value, closes: &Value) {
    for (request, is_trigger) in [(opens, true), (closes, false)] {
        let [record] = &request["json"]["records"].as_array().expect("records")[..] else { panic!("one record") };
        for (name, value) in record.as_object().expect("fields") {
            // A field without a limit of its own is bounded by what an alert has: a link of Podero's has at most 8,000.
            let max = if name == "additional_info" {
                16_000
            } else if name == "description" {
                4_000
            } else {
                100
            };
            assert!(chars(value) <= max, "{name}: {value}");
        }
        for required in ["source", "node", "type", "metric_name", "message_key", "severity"] {
            assert!(chars(&record[required]) > 0, "{required}");
        }
        assert_eq!(record["message_key"], trigger["data"]["dedup_key"]);
        assert_eq!(record["severity"] == "0", !is_trigger);
        assert!(["0", "1", "2", "3", "4", "5"].contains(&record["severity"].as_str().expect("a digit")));
        let time = record["time_of_event"].as_str().expect("a time");
        assert!(Timestamp::parse(&format!("{}Z", time.replace(' ', "T"))).is_some() && time.len() == 19, "{time}");
        let info = record["additional_info"].as_str().expect("JSON in a text");
        assert!(serde_json::from_str::<Value>(info).is_ok_and(|info| info.is_object()));
    }
}

fn fits_zammad(opens: &Value, closes: &Value) {
    for (request, state) in [(opens, "CRITICAL"), (closes, "OK")] {
        assert_eq!(request["path"], "/api/v1/integration/check_mk/T");
        let form = request["form"].as_object().expect("a form");
        for required in ["event_id", "host", "service", "state", "text"] {
            assert!(chars(&form[required]) > 0, "{required}");
        }
        assert_eq!(form["state"], state);
    }
    assert_eq!(
        (&opens["form"]["host"], &opens["form"]["service"]),
        (&closes["form"]["host"], &closes["form"]["service"])
    );
}

/// A tool that knows which tickets are open, by key, as PagerDuty does. A trigger of a key that is open opens nothing more.
#[derive(Clone, Default)]
struct Tool(Arc<Mutex<Tickets>>);

#[derive(Default)]
struct Tickets {
    open: BTreeMap<String, Value>,
    opened: u32,
    requests: u32,
    /// Requests that it answers with 503 first.
    away: u32,
}

impl Tool {
    async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let tool = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tool = tool.clone();
                tokio::spawn(async move { tool.serve(stream).await });
            }
        });
        url
    }

    async fn serve(&self, mut stream: tokio::net::TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let mut part = [0; 4_096];
            match stream.read(&mut part).await {
                Ok(0) | Err(_) => return,
                Ok(count) => bytes.extend_from_slice(&part[..count]),
            }
            while let Some((body, rest)) = whole_request(&bytes) {
                let status = self.take(&body);
                bytes = rest;
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
    }

    fn take(&self, body: &[u8]) -> &'static str {
        let mut tickets = self.0.lock().expect("whole");
        tickets.requests += 1;
        if tickets.away > 0 {
            tickets.away -= 1;
            return "503 Service Unavailable";
        }
        let request: Value = serde_json::from_slice(body).expect("JSON");
        let key = request["dedup_key"].as_str().expect("a key").to_owned();
        match request["event_action"].as_str() {
            Some("trigger") => {
                let is_new = tickets.open.insert(key, request["payload"]["custom_details"].clone()).is_none();
                tickets.opened += u32::from(is_new);
            }
            Some("resolve") => drop(tickets.open.remove(&key)),
            other => panic!("{other:?}"),
        }
        "202 Accepted"
    }

    /// The heat pumps that tickets are open for.
    fn pumps(&self) -> BTreeSet<String> {
        let tickets = self.0.lock().expect("whole");
        tickets.open.values().map(|ticket| ticket["heat_pump_id"].as_str().expect("an id").to_owned()).collect()
    }
}

/// The body of the first request, and what comes after it.
fn whole_request(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let head = bytes.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
    let length = text.split("content-length:").nth(1)?.lines().next()?.trim().parse::<usize>().ok()?;
    let body = bytes.get(head..head + length)?.to_vec();
    Some((body, bytes[head + length..].to_vec()))
}

/// The consumer as a process.
struct Consumer(Child);

impl Consumer {
    fn start(amqp: &str, url: &str, state: &Path) -> Self {
        let child = Command::new(example())
            .args(["--amqp", amqp, "--url", url, "--map"])
            .arg(root().join("deploy/ticketing/pagerduty.jq"))
            .arg("--state")
            .arg(state)
            .env("TICKETS_ROUTING_KEY", "R")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.expect("the example runs"))
    }
}

impl Drop for Consumer {
    /// As `kill -9` does.
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Cargo builds examples with the tests, but does not say where they are.
fn example() -> PathBuf {
    let deps = std::env::current_exe().expect("this test");
    let folder = deps.parent().and_then(Path::parent).expect("the profile's folder");
    let path = folder.join("examples/tickets");
    assert!(path.exists(), "{} is not there: cargo build --example tickets", path.display());
    path
}

const WATCH: &str = r#"
[watch]
interval = "1s"
disconnect_after = "1s"
disconnect_polls = 2
reconnect_after = "0s"
reconnect_polls = 1
outage_min = 1000
"#;

/// The consumer ends with the tickets of the pumps that are away after repeats and a kill.
#[tokio::test(flavor = "multi_thread")]
async fn tickets_are_those_of_lost_pumps_after_repeats_and_a_kill() {
    let vhost = tokio::task::spawn_blocking(servers::fresh_vhost).await.expect("a vhost");
    let settings = Settings { toml: WATCH.into(), environment: vec![("AMQP__URL", vhost.clone())] };
    let world = World::start(Database::Sqlite, settings).await;
    world.ready().await;
    let folder = tempfile::tempdir().expect("a folder");
    let (tool, state) = (Tool::default(), folder.path().join("tickets.log"));
    let url = tool.start().await;
    let consumer = Consumer::start(&vhost, &url, &state);
    let bus = Bus::connect(&vhost).await;
    let mut listener = bus.listen(&["heat_pump.*"]).await;
    until("the consumer has its queue", async || (bus.consumers("tickets").await == 1).then_some(())).await;
    world.apply(&sign_up("e1", "C-1", "2026-10-01T12:00:00Z")).await;
    let user = world.sandbox_state().await["users"][0]["id"].as_str().expect("a user").to_owned();
    let mut pumps = Vec::new();
    for _ in 0..4 {
        let made = world.sandbox(&format!("/users/{user}/heat-pumps"));
        let (_, made) = world.post(&made, "application/json", "{}".to_owned()).await;
        pumps.push(made["id"].as_str().expect("a pump").to_owned());
    }
    until("the watch has seen them", async || {
        let seen = world.get(&world.operator("/v1/heat-pumps?state=connected")).await;
        (seen["heat_pumps"].as_array().map(Vec::len) == Some(4)).then_some(())
    })
    .await;
    let away = async |pump: &str, is: bool| world.patch_pump(pump, &json!({ "is_authenticated": !is })).await;
    let mut heard = Vec::new();
    // Everybody goes, 0 and 1 come back; the tool is away for a while.
    tool.0.lock().expect("whole").away = 2;
    for pump in &pumps {
        away(pump, true).await;
    }
    until("four tickets", async || (tool.pumps().len() == 4).then_some(())).await;
    away(&pumps[0], false).await;
    away(&pumps[1], false).await;
    until("two are closed", async || (tool.pumps().len() == 2).then_some(())).await;
    for _ in 0..6 {
        heard.push(listener.next(Duration::from_secs(60)).await.expect("four went, two came back").event);
    }
    // While the consumer is dead, 2 comes back and 1 goes again.
    drop(consumer);
    away(&pumps[2], false).await;
    away(&pumps[1], true).await;
    for _ in 0..2 {
        heard.push(listener.next(Duration::from_secs(60)).await.expect("one came back, one went").event);
    }
    // All that was ever said is said again, resolves first.
    heard.sort_by_key(|event| event["data"]["action"] == "trigger");
    for event in &heard {
        bus.publish_to("podero.bridge", event).await;
    }
    let restarted = Consumer::start(&vhost, &url, &state);
    let truth: BTreeSet<String> = [&pumps[1], &pumps[3]].map(Clone::clone).into();
    until("all was read", async || {
        let is_read = bus.ready("tickets").await == 0 && bus.consumers("tickets").await == 1;
        (is_read && tool.pumps() == truth).then_some(())
    })
    .await;
    // Killed with everything acknowledged, it reads nothing twice, and reports the next alert.
    drop(restarted);
    let _again = Consumer::start(&vhost, &url, &state);
    away(&pumps[3], false).await;
    until("the last but one is closed", async || (tool.pumps().len() == 1).then_some(())).await;
    assert_eq!(tool.pumps(), BTreeSet::from([pumps[1].clone()]));
    let alerts = world.get(&world.operator("/v1/alerts?open=true")).await;
    let open: Vec<&str> =
        alerts["alerts"].as_array().expect("a list").iter().filter_map(|pump| pump["heat_pump_id"].as_str()).collect();
    assert_eq!(open, [pumps[1].as_str()]);
    let tickets = tool.0.lock().expect("whole").opened;
    assert_eq!(tickets, 5, "four went, and one of them again");
    world.bridge.stop().await;
}
