//! The contract's promises, each held against the world itself when everything rests.

use std::collections::{BTreeMap, BTreeSet};

use podero_bridge::domain::event::{Field, FieldValue, Record};
use podero_bridge::store::REPLACED;
use serde_json::Value;

use super::lives::{End, Told};
use super::observer::{EventRow, Sent};
use super::podero::user_record;
use super::run::{Check, Run};

pub(super) async fn kept(run: &mut Run) -> Check {
    let events = run.observer.events().await;
    let told: BTreeMap<&str, &Told> = run.told.iter().map(|told| (told.id.as_str(), told)).collect();

    // P1, P2: what was acknowledged is there and has ended; P3 of the inbox: once.
    let known: BTreeSet<&str> = events.iter().map(|event| event.origin_id.as_str()).collect();
    if known.len() != events.len() {
        return Err("an event is there twice".to_owned());
    }
    if let Some(lost) = run.told.iter().find(|told| run.accepted.contains(&told.id) && !known.contains(&*told.id)) {
        return Err(format!("{} was acknowledged and is not there", lost.id));
    }
    if let Some(missing) = run.told.iter().find(|told| !run.accepted.contains(&told.id)) {
        return Err(format!("{} was never acknowledged", missing.id));
    }

    let replaced = replaced(&events);
    for _ in &replaced {
        *run.strikes.entry("told on second thoughts").or_default() += 1;
    }
    let ends = fold(run, &events, &replaced, &["applied", "superseded"]);
    // An event that was parked in the middle took effect in part, before the events that went by meanwhile; and that already
    // decides whether a move goes to where the customer lives.
    let in_part = fold(run, &events, &replaced, &["applied", "superseded", "parked"]);
    for event in &events {
        let told = told.get(event.origin_id.as_str()).ok_or("nobody sent it")?;
        let is_active = ends[told.customer.as_str()].is_active();
        match (event.state.as_str(), event.reason.as_deref()) {
            ("applied", _) => {}
            ("superseded", Some(REPLACED)) => is_replaced(told, event, &events, run)?,
            ("superseded", _) => is_stale(told, event, &events, run)?,
            ("parked", Some("no_sign_up")) if !is_active => {}
            (state, reason) => return Err(format!("{} ended as {state} {reason:?}", told.id)),
        }
    }
    // Each of the two by itself: of a churn that was parked in the middle the homes are forgotten, and the user's fields are still there.
    for shows in [user_shows, homes_show] {
        for (customer, end) in &ends {
            shows(run, customer, end).or_else(|why| shows(run, customer, &in_part[customer]).map_err(|_| why))?;
        }
    }
    made_again(run)?;

    // P6: every outgoing event went out under its id, and nothing else did.
    let notices = run.observer.notices().await;
    in_order(&notices, &run.first_published)?;
    for Sent { id, state, .. } in &notices {
        if state != "published" || !run.published.contains_key(id) {
            return Err(format!(
                "the outgoing event {id} is {state}; did the broker have it: {}",
                run.published.contains_key(id)
            ));
        }
    }
    let bodies: Vec<Value> = run
        .first_published
        .iter()
        .map(|id| serde_json::from_slice(&run.published[id]).expect("a CloudEvent"))
        .collect();
    for event in events.iter().filter(|event| event.state == "applied" && told[event.origin_id.as_str()].is_news()) {
        let topics = ["customer.provisioned", "customer.relocated", "customer.offboarded"];
        let is_about = |body: &&Value| {
            body["data"]["event_id"] == event.id.as_str() && topics.iter().any(|topic| body["type"] == *topic)
        };
        let heard = bodies.iter().filter(is_about).count();
        if heard != 1 {
            return Err(format!("{} took effect and was told {heard} times", event.origin_id));
        }
    }
    super::team::kept(run, &bodies).await?;
    alerts(run, &bodies)
}

/// Events that a later one replaced while they waited for their day: they count as never sent.
fn replaced(events: &[EventRow]) -> BTreeSet<String> {
    let replaced = events.iter().filter(|event| event.reason.as_deref() == Some(REPLACED));
    replaced.map(|event| event.id.clone()).collect()
}

/// The oracle: the fold of what ended, in the order in which it ended.
fn fold(run: &Run, events: &[EventRow], replaced: &BTreeSet<String>, took_effect: &[&str]) -> BTreeMap<String, End> {
    let mut ends: BTreeMap<String, End> = run.told.iter().map(|told| (told.customer.clone(), End::default())).collect();
    let of_row: BTreeMap<&str, &str> =
        events.iter().map(|event| (event.id.as_str(), event.origin_id.as_str())).collect();
    for (id, state) in &run.observer.ended {
        let told = of_row.get(id.as_str()).and_then(|origin| run.told.iter().find(|told| told.id == **origin));
        if let Some(told) = told.filter(|_| took_effect.contains(&state.as_str()) && !replaced.contains(id)) {
            ends.entry(told.customer.clone()).or_default().fold(told, id);
        }
    }
    ends
}

/// Checks that only an announced event is replaced, and only by a later one about the same change. A cancellation that cancels
/// nothing replaces none.
fn is_replaced(told: &Told, row: &EventRow, rows: &[EventRow], run: &Run) -> Check {
    let mine = told.said(&row.id);
    let is_later_word = |other: &EventRow| {
        let words = run.told.iter().find(|told| told.id == other.origin_id);
        words.is_some_and(|words| words.is_about_the_same(told) && words.said(&other.id) > mine)
    };
    let calls_off = told.json()["data"]["cancelled"] == true;
    // A churn that the brake has parked can be called off as if it had been announced.
    let has_waited = told.is_announced() || run.observer.braked.contains(&row.id);
    if calls_off || (has_waited && rows.iter().any(is_later_word)) {
        Ok(())
    } else {
        Err(format!("{} was replaced and nothing later was said: {told:?}", told.id))
    }
}

/// P5: what ended as superseded says nothing that newer events of the customer do not say. They are folded in the order
/// in which they took effect, since a move to where the customer lives already depends on it.
fn is_stale(told: &Told, row: &EventRow, rows: &[EventRow], run: &Run) -> Check {
    let mine = if told.is_announced() { told.said(&row.id) } else { told.stamp(&row.id) };
    let replaced = |id: &str| rows.iter().any(|row| row.id == id && row.reason.as_deref() == Some(REPLACED));
    let of_row = |id: &str| {
        let other = rows.iter().find(|other| other.id == id)?;
        run.told.iter().find(|told| told.id == other.origin_id)
    };
    let says_nothing = |in_part: bool| {
        let mut end = End::default();
        for (id, state) in &run.observer.ended {
            let other = of_row(id).filter(|_| !replaced(id));
            let other =
                other.filter(|other| other.customer == told.customer && *id != row.id && other.stamp(id) > mine);
            let had_effect = state != "braked" && (in_part || state != "parked");
            if let Some(other) = other.filter(|_| had_effect) {
                end.fold(other, id);
            }
        }
        let before = end.clone();
        end.fold(told, &row.id);
        end == before
    };
    if says_nothing(false) || says_nothing(true) {
        Ok(())
    } else {
        Err(format!("{} ended as superseded and nothing newer says so: {told:?}", told.id))
    }
}

/// P3, P4, P5: one user, who shows what is newest.
fn user_shows(run: &Run, customer: &str, end: &End) -> Check {
    let living: Vec<_> = run.podero.living(customer).collect();
    if !end.is_active() {
        return if living.is_empty() { Ok(()) } else { Err(format!("{customer} is there although churned: {end:?}")) };
    }
    let [user] = living[..] else { return Err(format!("{customer} has {} users", living.len())) };
    let shown = (user_record(user), end.user());
    differs(&shown.0, &shown.1)
        .or_else(|| stale_in(&shown.0, &shown.1))
        .map_or(Ok(()), |why| Err(format!("{customer}: {why}; {end:?}")))
}

/// P3, P4, P5: one building a home, which shows what is newest.
fn homes_show(run: &Run, customer: &str, end: &End) -> Check {
    let Some(user) = run.podero.living(customer).next() else { return Ok(()) };
    if !end.is_active() {
        return Err(format!("{customer} has a home although churned: {end:?}"));
    }
    let mut buildings = run.podero.buildings(user.id);
    // A home is looked for last in what stayed only because it could not be deleted.
    buildings.sort_by_key(|(id, _)| run.undeletable.contains(id));
    let count = buildings.len();
    let mut homes = end.homes();
    // A customer that is content with more takes the rest.
    homes.sort_by_key(|(home, may_be_of_old_size)| (*may_be_of_old_size, std::cmp::Reverse(home.len())));
    for (home, may_be_of_old_size) in &homes {
        let stale = |building: &Record| {
            let mut told = building.clone();
            if *may_be_of_old_size {
                told.remove(&Field::PropertySizeM2);
            }
            stale_in(&told, home)
        };
        let shows = |building: &Record| differs(building, home).is_none() && stale(building).is_none();
        match buildings.iter().position(|(_, building)| shows(building)) {
            Some(place) => drop(buildings.remove(place)),
            None => return Err(format!("{customer} has no building that shows {home:?}: {buildings:?}")),
        }
    }
    // The rest is no customer's home: Podero refused to delete it.
    buildings.retain(|(id, _)| !run.undeletable.contains(id));
    if run.deletes_buildings() && !buildings.is_empty() {
        return Err(format!("{customer} has {count} buildings for {} homes: {buildings:?}", homes.len()));
    }
    Ok(())
}

/// P3: a home for which a building was made once more has a twin of the same look, which took the first.
fn made_again(run: &Run) -> Check {
    for (user, key, street) in &run.podero.made_again {
        let customer = run.podero.world.all_users().find(|known| known.id == *user);
        let customer = customer.and_then(|known| known.external_id());
        let is_twin = |told: &&Told| {
            Some(told.customer.as_str()) == customer
                && told.home().is_some_and(|(other, its)| other != key && its == street)
        };
        // Of a user that is gone for good nothing is left to compare.
        if customer.is_some() && !run.told.iter().any(|told| is_twin(&told)) {
            return Err(format!("a second building of {user} for the home {key} in {street}"));
        }
    }
    Ok(())
}

/// The first field that does not show what it must.
fn differs(record: &Record, wanted: &[(&'static str, String)]) -> Option<String> {
    let shown: BTreeMap<&str, String> = record
        .iter()
        .map(|(field, value): (&Field, &FieldValue)| {
            let text = match value {
                FieldValue::Text(text) => text.to_string(),
                FieldValue::Number(number) => number.to_string(),
                FieldValue::Flag(flag) => flag.to_string(),
            };
            (field.name(), text)
        })
        .collect();
    let differs = |(field, value): &&(&'static str, String)| shown.get(field) != Some(value);
    wanted.iter().find(differs).map(|(field, value)| format!("{field} is {:?}, not {value}", shown.get(field)))
}

/// The first field that shows a value which no event says any more. A name is made up if none is known, and all live in one
/// country.
fn stale_in(record: &Record, wanted: &[(&'static str, String)]) -> Option<String> {
    let is_wanted = |field: &Field| wanted.iter().any(|(name, _)| *name == field.name());
    let stale = record.keys().find(|field| !matches!(field, Field::Name | Field::Country) && !is_wanted(field));
    stale.map(|field| format!("{} is shown, and nobody says so", field.name()))
}

/// P4: what concerns one customer, or one heat pump, goes out in the order in which it was written.
fn in_order(notices: &[Sent], first_published: &[String]) -> Check {
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for Sent { id, line, .. } in notices {
        let Some(place) = first_published.iter().position(|published| published == id) else { continue };
        if last.insert(line, place).is_some_and(|before| before > place) {
            return Err(format!("{id} of {line} went out before an older one"));
        }
    }
    Ok(())
}

/// P7: what was triggered is resolved once, and only a loss is triggered.
fn alerts(run: &Run, bodies: &[Value]) -> Check {
    let mut open: BTreeMap<&str, bool> = BTreeMap::new();
    for body in bodies {
        let data = &body["data"];
        let Some(occurrence) = data["occurrence_id"].as_str() else { continue };
        match data["action"].as_str() {
            Some("trigger") => {
                let pump = data["heat_pump_id"].as_str().and_then(|id| id.parse().ok());
                if pump.is_none_or(|pump| !run.podero.lapsed.contains(&pump)) {
                    return Err(format!("a heat pump that was never lost is told as lost: {body}"));
                }
                if open.insert(occurrence, true).is_some() {
                    return Err(format!("{occurrence} is triggered twice"));
                }
            }
            Some("resolve") => match open.insert(occurrence, false) {
                Some(true) => {}
                Some(false) => return Err(format!("{occurrence} is resolved twice")),
                None => return Err(format!("{occurrence} is resolved and was never triggered")),
            },
            action => return Err(format!("an alert of action {action:?}: {body}")),
        }
    }
    match open.iter().find(|(_, is_open)| **is_open) {
        Some((occurrence, _)) => Err(format!("{occurrence} is never resolved")),
        None => Ok(()),
    }
}
