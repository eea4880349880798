//! `explain FILE|-`: message -> verified? -> events -> effect on the customer's state -> the calls with their bodies.
//! Nothing is sent, and nothing is kept.
//!
//! Before: [`crate::cli`]. After: [`crate::inbound::explain`], [`crate::podero`].

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::arguments::ExplainArguments;
use super::open::open_if_there;
use super::output::{print_json, say};
use super::table;
use crate::clock::Clock;
use crate::config::{Config, Source};
use crate::domain::customer::Customer;
use crate::domain::event::Event;
use crate::domain::event::Transport;
use crate::domain::team::{TeamEvent, TeamMember};
use crate::domain::work::SentEvent;
use crate::domain::{EventId, Timestamp, utf8};
use crate::inbound::cloudevents::{BATCH, STRUCTURED};
use crate::inbound::explain::{Explained, ProofCheck, explain};
use crate::inbound::mapping::mapper::{MapError, Mapper};
use crate::inbound::{Delivery, MessageReader, Unreadable};
use crate::podero::{Rehearsed, rehearsed, rehearsed_of_member};
use crate::problem::Problem;
use crate::store::StoreView;

/// Prints what would become of a message; fails when the bridge would refuse all or a part of it.
pub(super) async fn run(config: Config, request: ExplainArguments) -> anyhow::Result<()> {
    let source = config.sources.iter().find(|source| source.name == request.source);
    let source = source.with_context(|| format!("there is no [[source]] `{}` in the configuration", request.source))?;
    let clock = Clock::system();
    let headers = pairs(&request.headers, ':', "a header is written `NAME: VALUE`")?;
    // In the order given: of one header that is there twice, the last one counts.
    let headers: BTreeMap<_, _> =
        headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let from_queue: BTreeMap<_, _> = pairs(&request.amqp, '=', "--amqp is written NAME=VALUE")?.into_iter().collect();
    let body = message(&request.file, config.http.body_max)?;
    let has_mapping = source.map.is_some();
    let transport = if from_queue.is_empty() { Transport::Http } else { Transport::Amqp };
    let said = headers.get("content-type").cloned();
    let content_type = if transport == Transport::Amqp { said } else { said.or_else(|| guess(&body, has_mapping)) };
    let now = clock.now();
    let delivery = Delivery { transport, source: source.name.clone(), content_type, headers, body, received_at: now };
    let mapper = mapper(&config, source)?;
    let id = EventId(clock.fresh_id());
    let (batch_max, body_bytes_max) = (config.http.batch_max, config.http.body_max);
    let reader = MessageReader { mapper: &mapper, batch_max, body_bytes_max };
    let had_headers = !request.headers.is_empty();
    let (proof, read) = explain(source, &config.policy.team, reader, delivery, &from_queue, id).await;
    let opened = open_if_there(&config.store).await?;
    let setting = Setting { config: &config, source, opened: opened.as_ref(), now };
    let explanation = match &read {
        Ok(explained) => setting.events(explained).await,
        Err(refused) => Ok(json!({ "refused": why(refused) })),
    };
    let has_store = opened.is_some();
    if let Some(opened) = opened {
        opened.close().await;
    }
    let mut explanation = explanation?;
    explanation["source"] = json!(source.name);
    explanation["verified"] = json!(verified(&proof, had_headers));
    explanation["store"] = json!(if has_store { "as it is now" } else { "none: as if nothing were known" });
    if request.json {
        print_json(&explanation)?;
    } else {
        narrate(&explanation);
    }
    let is_taken = !(matches!(proof, ProofCheck::Refused(_)) && had_headers)
        && read.is_ok_and(|explained| explained.iter().all(|one| one.event.is_ok()));
    ensure!(is_taken, "the door would not take it, or not all of it");
    Ok(())
}

/// Splits each at the first separator; `form` is how they are written.
fn pairs(given: &[String], separator: char, form: &'static str) -> anyhow::Result<Vec<(String, String)>> {
    let split = |pair: &String| {
        let (name, value) = pair.split_once(separator).context(form)?;
        Ok((name.trim().to_owned(), value.to_owned()))
    };
    given.iter().map(split).collect()
}

/// Reads one byte more than the limit, so that a message above the limit is noticed.
fn message(file: &Path, bytes_max: usize) -> anyhow::Result<Vec<u8>> {
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let mut body = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().take(limit).read_to_end(&mut body).context("standard input")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("{}", file.display()))?;
        opened.take(limit).read_to_end(&mut body).with_context(|| format!("{}", file.display()))?;
    }
    Ok(body)
}

/// Guesses the content type that its sender would give.
fn guess(body: &[u8], has_mapping: bool) -> Option<String> {
    let is_event = |value: &Value| value.get("specversion").is_some();
    let guessed = match serde_json::from_slice::<Value>(utf8::without_mark(body)) {
        Ok(value) if is_event(&value) => STRUCTURED,
        Ok(Value::Array(items)) if items.first().is_some_and(is_event) => BATCH,
        Ok(_) | Err(_) if has_mapping => "application/json",
        Ok(_) | Err(_) => STRUCTURED,
    };
    Some(guessed.to_owned())
}

fn mapper(config: &Config, source: &Source) -> anyhow::Result<Mapper> {
    let binary = std::env::current_exe().context("where this binary is")?;
    Ok(Mapper::new(std::slice::from_ref(source), binary, config.http.batch_max, config.http.body_max))
}

fn verified(proof: &ProofCheck, had_headers: bool) -> String {
    match proof {
        ProofCheck::NotDemanded => "nothing is demanded".to_owned(),
        ProofCheck::Given => "yes".to_owned(),
        ProofCheck::Refused(_) if !had_headers => "not looked at: no --header was given".to_owned(),
        ProofCheck::Refused(problem) => format!("no: {}", problem.line()),
    }
}

fn why(refused: &Unreadable) -> Value {
    match refused {
        Unreadable::Problem(problem) => shown_problem(problem),
        // The operator's own terminal may show the words of jq, which may quote the message.
        Unreadable::Mapping(MapError::Failed(why)) => json!({"type": "unmappable", "detail": why}),
        Unreadable::Mapping(MapError::Unbounded(why)) => json!({"type": "mapping_failed", "detail": why}),
        Unreadable::Mapping(MapError::NoWorker) => {
            json!({"type": "unavailable", "detail": "no worker could be started"})
        }
    }
}

fn shown_problem(problem: &Problem) -> Value {
    json!({"type": problem.kind.name(), "detail": problem.detail, "errors": problem.errors})
}

/// State in which a message is explained.
struct Setting<'a> {
    config: &'a Config,
    source: &'a Source,
    /// `None`: there is no store, and nothing is known.
    opened: Option<&'a StoreView>,
    now: Timestamp,
}

impl Setting<'_> {
    async fn events(&self, explained: &[Explained]) -> anyhow::Result<Value> {
        let mut events = Vec::new();
        for one in explained {
            events.push(self.event(one).await?);
        }
        Ok(json!({ "events": events }))
    }

    /// One event, what is known of its customer or member, and what would follow.
    async fn event(&self, explained: &Explained) -> anyhow::Result<Value> {
        let sent = match &explained.event {
            Ok(sent) => sent,
            Err(problem) => return Ok(json!({ "refused": shown_problem(problem) })),
        };
        let mut explanation = match sent {
            SentEvent::Customer(event) => self.of_customer(event).await?,
            SentEvent::Member(event) => self.of_member(event).await?,
        };
        if let (Some(opened), Some((origin, origin_id))) = (self.opened, &explained.identity)
            && let Some((id, state)) = opened.told_before(&self.source.name, origin, origin_id).await?
        {
            explanation["known"] = json!({"id": id, "state": state});
        }
        Ok(explanation)
    }

    async fn of_customer(&self, event: &Event) -> anyhow::Result<Value> {
        let mut explanation = json!({"event": event, "type": event.happening.type_name()});
        let (customer, pending) = match self.opened {
            Some(opened) => opened.knowledge(event.customer.as_str()).await?,
            None => (Customer::default(), 0),
        };
        explanation["customer"] = json!({
            "is_active": customer.facts.is_active(), "podero_user_id": customer.user_id(), "events_before_it": pending,
        });
        add(&mut explanation, &rehearsed(event.clone(), customer, self.now, &self.config.policy));
        Ok(explanation)
    }

    /// What an event of a member would become. Whether the policy allows it depends on the list of the staff, which is not asked for.
    async fn of_member(&self, event: &TeamEvent) -> anyhow::Result<Value> {
        let mut explanation = json!({"event": event, "type": event.happening.type_name()});
        let (member, pending) = match self.opened {
            Some(opened) => opened.knowledge_of_member(&event.member.lane()).await?,
            None => (TeamMember::default(), 0),
        };
        explanation["member"] = json!({
            "is_active": member.facts.is_active(), "podero_user_id": member.user_id(), "events_before_it": pending,
        });
        add(&mut explanation, &rehearsed_of_member(event.clone(), member, self.now, &self.config.policy));
        Ok(explanation)
    }
}

/// Adds what would follow.
fn add(explanation: &mut Value, rehearsed: &Rehearsed) {
    let Rehearsed { outcome, calls, tells } = rehearsed;
    explanation["outcome"] = json!(outcome);
    explanation["calls"] = json!(calls);
    explanation["tells"] = json!(tells);
}

fn narrate(explanation: &Value) {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |name: &str, value: &Value| say(&table::plain(&format!("{name:<9} {}", text(value))));
    line("source", &explanation["source"]);
    line("verified", &explanation["verified"]);
    line("store", &explanation["store"]);
    if let Some(refused) = explanation.get("refused") {
        narrate_refused(refused);
    }
    for event in explanation["events"].as_array().into_iter().flatten() {
        say("");
        if let Some(refused) = event.get("refused") {
            narrate_refused(refused);
            continue;
        }
        line("event", &event["type"]);
        say(&indented(&event["event"]));
        for subject in ["customer", "member"].into_iter().filter(|subject| !event[*subject].is_null()) {
            line(subject, &event["event"][subject]);
            say(&indented(&event[subject]));
        }
        if let Some(known) = event.get("known") {
            let (id, state) = (text(&known["id"]), text(&known["state"]));
            line("known", &json!(format!("a duplicate of event {id}, which is {state}: nothing more would happen")));
        }
        line("outcome", &event["outcome"]);
        for call in event["calls"].as_array().into_iter().flatten() {
            line(
                "call",
                &json!(format!("{} {} ({})", text(&call["method"]), text(&call["path"]), text(&call["operation"]))),
            );
            if !call["body"].is_null() {
                say(&indented(&call["body"]));
            }
        }
        event["tells"].as_array().into_iter().flatten().for_each(|topic| line("tells", topic));
    }
}

fn narrate_refused(refused: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    say(&table::plain(&format!("refused   {}: {}", text(&refused["type"]), text(&refused["detail"]))));
    for error in refused["errors"].as_array().into_iter().flatten() {
        say(&table::plain(&format!("          {}: {}", text(&error["pointer"]), text(&error["reason"]))));
    }
}

fn indented(value: &Value) -> String {
    let lines = format!("{value:#}");
    lines.lines().map(|line| format!("          {}", table::plain(line))).collect::<Vec<_>>().join("\n")
}
