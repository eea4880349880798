//! `demo`: a whole story through the real bridge and an embedded sandbox, on a temporary SQLite file.
//!
//! It uses the public interfaces only: the webhook endpoint, the admin API, and the sandbox's controls, by which it plays
//! the customer and the manufacturer. It ends within a minute, and fails if the story does.
//!
//! Before: [`crate::cli`]. After: [`crate::app`], over HTTP.

use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::output::say;
use super::signals::Signals;
use crate::app::{Bridge, Options};
use crate::clock::Clock;
use crate::config::{Config, Strings};
use crate::domain::Timestamp;
use crate::domain::event::EventKind;
use crate::domain::notice::Topic;
use crate::pump;

/// Configuration of the demonstration: free ports, and a watch that polls as fast as a person reads.
const SETTINGS: &str = r#"
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
[sandbox]
listen = "127.0.0.1:0"
seed = 7
[onboarding]
enabled = true
language = "de"
price_zone = "AT"
success_url = "https://utility.example/connected"
cancel_url = "https://utility.example/later"
[watch]
interval = "1s"
disconnect_after = "2s"
disconnect_polls = 2
reconnect_after = "0s"
reconnect_polls = 1
heating_season = "none"
[[source]]
name = "default"
verify = "none"
[[source]]
name = "hr"
verify = "none"
types = ["team.*"]
[team]
enabled = true
"#;

/// Limit of a step of the story. A step takes a second or two; a busy machine needs longer.
const STEP_TIME_MAX: Duration = Duration::from_secs(20);
/// Interval between two looks at whether a step is done.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const CUSTOMER: &str = "C-4711";
const MEMBER: &str = "P-17";

/// Plays the story; a signal ends it, and leaves nothing behind.
pub(super) async fn run() -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let folder = tempfile::Builder::new().prefix("podero-bridge-demo-").tempdir()?;
    let mut environment = Strings::new();
    let url = format!("sqlite://{}", folder.path().join("demo.db").display());
    environment.insert("PODERO_BRIDGE__STORE__URL".to_owned(), url);
    let config = Config::parse(SETTINGS, &environment, true).context("the demonstration's own settings")?;
    let mut bridge =
        Bridge::start(config, Options { sandbox: true, scratch: Some(folder), ..Options::default() }).await?;
    if let Some(link) = &bridge.login_link {
        say(&format!("The console, for as long as the story lasts (this link lets you in once): {link}"));
    }
    let story = Story {
        http: reqwest::Client::builder().no_proxy().build()?,
        webhooks: format!("http://{}", bridge.http),
        admin: format!("http://{}", bridge.admin),
        sandbox: format!("http://{}", bridge.sandbox.context("the sandbox runs")?),
        clock: Clock::system(),
    };
    let mut played = Ok(());
    let playing = async {
        played = tokio::select! {
            played = story.play() => played,
            () = signals.next() => Err(anyhow::anyhow!("the demonstration was interrupted")),
        };
    };
    let served = bridge.serve(playing).await;
    signals.begin_end();
    bridge.stop().await;
    served.and(played)
}

struct Story {
    http: reqwest::Client,
    webhooks: String,
    admin: String,
    sandbox: String,
    clock: Clock,
}

impl Story {
    async fn play(&self) -> anyhow::Result<()> {
        say("podero-bridge runs with an embedded Podero sandbox and a temporary SQLite file.");
        say(&format!("A utility's billing system sends webhooks to {}/v1/events.", self.webhooks));
        self.sign_up().await?;
        self.connect("2. The customer opens the link and connects the heat pump").await?;
        self.relocate().await?;
        self.connect("4. The customer connects the heat pump of the new home").await?;
        self.lose_and_find().await?;
        self.churn().await?;
        self.colleague().await?;
        self.numbers().await
    }

    async fn sign_up(&self) -> anyhow::Result<()> {
        chapter("1. A customer signs up");
        let event = self.event("evt-1", EventKind::SignedUp, &json!({
            "customer_id": CUSTOMER, "email": "anna@example.com", "first_name": "Anna", "last_name": "Muster",
            "address": {"street_and_number": "Hauptstrasse 1", "zip_code": "01067", "town": "Dresden", "country": "DE"},
        }));
        self.send_and_show(&event, Topic::CustomerProvisioned).await?;
        let again = self.send(&event).await?;
        say(&format!("   The same webhook again is answered: {again}"));
        ensure!(again["status"] == "duplicate", "the same event was taken twice");
        Ok(())
    }

    /// The customer finishes the newest onboarding session in Podero's Connect pages.
    async fn connect(&self, what: &str) -> anyhow::Result<()> {
        chapter(what);
        let state = self.get(&format!("{}/_sandbox/state", self.sandbox)).await?;
        let session = state["sessions"].as_array().and_then(|all| all.last()).context("no onboarding session")?;
        let id = session["id"].as_str().context("a session has an id")?;
        let made = json!({"manufacturer": "Vaillant", "model": "aroTHERM plus"});
        self.post(&format!("{}/_sandbox/onboarding/{id}/complete", self.sandbox), &made).await?;
        let connected = self.wait_for("the watch sees the heat pump", async || {
            let pumps = self.get(&format!("{}/v1/heat-pumps?state=connected", self.admin)).await?;
            Ok(pumps["heat_pumps"].as_array().filter(|pumps| !pumps.is_empty()).cloned())
        });
        for pump in connected.await? {
            let model = pump["model"].as_str().unwrap_or("?");
            say(&format!("   The watch sees it: {} ({model}) is {}.", pump["heat_pump_id"], pump["state"]));
        }
        Ok(())
    }

    async fn relocate(&self) -> anyhow::Result<()> {
        chapter("3. The customer moves");
        self.send_and_show(&self.event(
            "evt-2",
            EventKind::Moved,
            &json!({
                "customer_id": CUSTOMER,
                "address": {"street_and_number": "Ringstrasse 9", "zip_code": "1010", "town": "Wien", "country": "AT"},
            }),
        ), Topic::CustomerRelocated)
        .await
    }

    async fn lose_and_find(&self) -> anyhow::Result<()> {
        chapter("5. The manufacturer's connection lapses");
        let pump = self.connected_pump().await?;
        self.post(&format!("{}/_sandbox/heat-pumps/{pump}/lapse", self.sandbox), &json!({})).await?;
        say("   Two polls and two seconds must agree before it is news (by default: three, and fifteen minutes).");
        let alert = self.notice("heat_pump.disconnected").await?;
        show("An alert goes out, ready for a ticketing tool:", &alert);
        let healthy =
            json!({"is_authenticated": true, "action_needed": false, "actions": [], "authorization_url": null});
        self.patch(&format!("{}/_sandbox/heat-pumps/{pump}", self.sandbox), &healthy).await?;
        let resolved = self.notice("heat_pump.reconnected").await?;
        show("The customer reconnects, and the same occurrence is resolved:", &resolved);
        ensure!(alert["occurrence_id"] == resolved["occurrence_id"], "the resolve is of another alert");
        Ok(())
    }

    async fn churn(&self) -> anyhow::Result<()> {
        chapter("6. The customer leaves");
        self.send_and_show(
            &self.event("evt-3", EventKind::Churned, &json!({"customer_id": CUSTOMER})),
            Topic::CustomerOffboarded,
        )
        .await?;
        let late =
            self.event_at("evt-0", EventKind::Updated, &json!({"customer_id": CUSTOMER, "first_name": "Ann"}), 3600);
        let answer = self.send(&late).await?;
        let id = answer["id"].as_str().context("an id")?;
        let event = self.settled(id).await?;
        say(&format!(
            "   An update from an hour ago comes in late: {}. Nothing brings the customer back.",
            event["state"]
        ));
        ensure!(event["state"] == "superseded", "a late update was applied to a churned customer");
        Ok(())
    }

    /// A member of the utility's own team, by events of its HR system.
    async fn colleague(&self) -> anyhow::Result<()> {
        chapter("7. A colleague of the utility's own team joins, and leaves");
        let joined = json!({"member_id": MEMBER, "email": "mia.berg@utility.example", "role": "staff"});
        self.send_and_show(&self.event("hr-1", EventKind::MemberJoined, &joined), Topic::TeamMemberAdded).await?;
        let mails = self.get(&format!("{}/_sandbox/mailbox", self.sandbox)).await?;
        let sent = mails.as_array().map_or(0, Vec::len);
        ensure!(sent == 1, "Podero sent {sent} invitations where one was to go out");
        say("   Podero has sent one invitation, to mia.berg@utility.example.");
        let promoted = json!({"member_id": MEMBER, "role": "admin"});
        let answer = self.send(&self.event("hr-2", EventKind::MemberRoleChanged, &promoted)).await?;
        let event = self.settled(answer["id"].as_str().context("an id")?).await?;
        ensure!(event["reason"] == "admin_not_allowed", "an event made an admin: {event}");
        say(
            "   A promotion to admin is parked as admin_not_allowed: the policy of [team] does not let events make admins.",
        );
        let left = self.event("hr-3", EventKind::MemberLeft, &json!({"member_id": MEMBER}));
        self.send_and_show(&left, Topic::TeamMemberRemoved).await
    }

    async fn numbers(&self) -> anyhow::Result<()> {
        chapter("What is left");
        let state = self.get(&format!("{}/_sandbox/state", self.sandbox)).await?;
        let is_customer = |user: &&Value| user["role"] == "user";
        let users = state["users"].as_array().into_iter().flatten().filter(is_customer).count();
        ensure!(users == 1, "Podero has {users} users where one was made");
        say("   At Podero: one customer and one colleague, both soft-deleted; the customer's heat pumps are paused.");
        let metrics = self.http.get(format!("{}/metrics", self.admin)).send().await?.text().await?;
        for line in metrics
            .lines()
            .filter(|line| line.starts_with("podero_bridge_events_settled_total") && !line.ends_with(" 0"))
        {
            say(&format!("   {line}"));
        }
        say("\nNext: `podero-bridge serve --sandbox`, and the first webhook in README.md.");
        Ok(())
    }

    fn event(&self, id: &str, kind: EventKind, data: &Value) -> Value {
        self.event_at(id, kind, data, 0)
    }

    fn event_at(&self, id: &str, kind: EventKind, data: &Value, seconds_ago: u64) -> Value {
        let time: Timestamp = self.clock.now().minus(Duration::from_secs(seconds_ago));
        json!({
            "specversion": "1.0", "id": id, "source": "/billing", "type": kind, "time": time, "data": data,
        })
    }

    async fn send(&self, event: &Value) -> anyhow::Result<Value> {
        let source = if is_of_team(event) { "/hr" } else { "" };
        let request = self.http.post(format!("{}/v1/events{source}", self.webhooks));
        let answer =
            request.header("content-type", "application/cloudevents+json").body(event.to_string()).send().await?;
        let status = answer.status();
        let body: Value = answer.json().await?;
        ensure!(status == 202, "the door answered {status}: {body}");
        Ok(body)
    }

    /// Sends, waits for the effect, and shows the calls it took and the news it made.
    async fn send_and_show(&self, event: &Value, news: Topic) -> anyhow::Result<()> {
        let type_name = event["type"].as_str().unwrap_or_default();
        let answer = self.send(event).await?;
        say(&format!("   {type_name} is answered 202: it is on disk."));
        let id = answer["id"].as_str().context("an accepted event has an id")?;
        let settled = self.settled(id).await?;
        for call in settled["calls"].as_array().into_iter().flatten() {
            let (operation, outcome) = (call["operation"].as_str(), call["outcome"].as_str());
            say(&format!("   -> Podero: {:<26} {}", operation.unwrap_or("?"), outcome.unwrap_or("?")));
        }
        ensure!(settled["state"] == "applied", "the event became {}", settled["state"]);
        show(&format!("The bus hears {news}:"), &self.notice(news.name()).await?);
        Ok(())
    }

    async fn settled(&self, id: &str) -> anyhow::Result<Value> {
        self.wait_for("the event takes effect", async || {
            let event = self.get(&format!("{}/v1/events/{id}", self.admin)).await?;
            Ok((event["state"] != "pending").then_some(event))
        })
        .await
    }

    async fn connected_pump(&self) -> anyhow::Result<String> {
        let pumps = self.get(&format!("{}/v1/heat-pumps?state=connected", self.admin)).await?;
        pumps["heat_pumps"][0]["heat_pump_id"].as_str().map(str::to_owned).context("no heat pump is connected")
    }

    /// The newest notice of a type, once there is one.
    async fn notice(&self, type_name: &str) -> anyhow::Result<Value> {
        self.wait_for(type_name, async || {
            let of =
                if type_name.starts_with("team.") { format!("team/{MEMBER}") } else { format!("customers/{CUSTOMER}") };
            let subject = self.get(&format!("{}/v1/{of}", self.admin)).await?;
            let notices = subject["notices"].as_array().cloned().unwrap_or_default();
            Ok(notices.into_iter().find(|notice| notice["type"] == type_name).map(|notice| notice["data"].clone()))
        })
        .await
    }

    async fn wait_for<T>(
        &self,
        what: &str,
        mut look: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let started = self.clock.now();
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            let waited = self.clock.now().since(started);
            ensure!(waited < STEP_TIME_MAX, "waited {} s in vain until {what}", waited.as_secs());
            pump::sleep(LOOK_EVERY).await;
        }
    }

    async fn get(&self, url: &str) -> anyhow::Result<Value> {
        Ok(self.http.get(url).send().await?.error_for_status()?.json().await?)
    }

    async fn post(&self, url: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.http.post(url).header("content-type", "application/json").body(body.to_string());
        request.send().await?.error_for_status()?;
        Ok(())
    }

    async fn patch(&self, url: &str, body: &Value) -> anyhow::Result<()> {
        let request = self.http.patch(url).header("content-type", "application/json").body(body.to_string());
        request.send().await?.error_for_status()?;
        Ok(())
    }
}

fn is_of_team(event: &Value) -> bool {
    event["type"].as_str().is_some_and(|type_name| type_name.starts_with("team."))
}

fn chapter(title: &str) {
    say(&format!("\n{title}"));
}

fn show(what: &str, data: &Value) {
    say(&format!("   {what}"));
    for (key, value) in data.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        say(&format!("      {key}: {value}"));
    }
}
