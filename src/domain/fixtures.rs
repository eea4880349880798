//! The small values that the tests of the core build on. Compiled for tests only.
//!
//! Before: [`crate::domain::event`]. After: the tests of the files next to this one.

use std::time::Duration;

use uuid::Uuid;

use super::call::OnboardingPolicy;
use super::customer::Customer;
use super::event::{BuildingKey, Details, Event, Field, Happening, Move, Record};
use super::plan::{ChurnDelete, OldBuilding, OldHeatPumps, Policy};
use super::retry::RetrySchedule;
use super::verdict::Moment;
use super::{CustomerId, EventId, Stamp, Timestamp};

pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The moment at this second of the tests' time.
pub(super) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

pub(super) fn uuid(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

pub(super) fn key(name: &str) -> BuildingKey {
    BuildingKey::accept(name).expect("a printable key")
}

/// An event of customer C-1 that happened at second `time`; its id is `time` too, so no two moments tie.
pub(super) fn event(time: i64, happening: Happening) -> Event {
    Event {
        id: EventId(Uuid::from_u64_pair(0, u64::try_from(time).expect("tests live after 1970"))),
        customer: CustomerId::accept("C-1").expect("a printable id"),
        time: at(time),
        effective_at: None,
        happening,
    }
}

/// The stamp of `event(time, …)`.
pub(super) fn stamp(time: i64) -> Stamp {
    event(time, Happening::Churned).stamp()
}

pub(super) fn record(fields: &[(Field, &str)]) -> Record {
    fields.iter().map(|(field, text)| (*field, (*text).into())).collect()
}

pub(super) fn address(street: &str) -> Record {
    record(&[
        (Field::StreetAndNumber, street),
        (Field::ZipCode, "01067"),
        (Field::Town, "Dresden"),
        (Field::Country, "DE"),
    ])
}

pub(super) fn personal(fields: &[(Field, &str)]) -> Details {
    Details { personal: record(fields), ..Details::default() }
}

/// A sign-up with an e-mail address, a first name and a home.
pub(super) fn signed_up(street: &str) -> Happening {
    Happening::SignedUp(Details { address: Some(address(street)), ..personal(&PERSON) })
}

/// The person who signs up in these tests; no notice may ever contain any of it.
pub(super) const PERSON: [(Field, &str); 2] = [(Field::Email, "c1@example.com"), (Field::FirstName, "Firstname")];

pub(super) fn moved(street: &str) -> Happening {
    Happening::Moved(Move { building_key: key("main"), address: address(street), building: Record::new() })
}

pub(super) fn updated(details: Details) -> Happening {
    Happening::Updated(details)
}

/// The contract's defaults: no onboarding, pause and delete, soft.
pub(super) fn policy() -> Policy {
    Policy {
        schedule: RetrySchedule { initial: Duration::from_secs(1), max: Duration::from_secs(900) },
        doubt_pause: Duration::from_secs(10),
        give_up_after: 3 * DAY,
        onboarding: None,
        old_heat_pumps: OldHeatPumps::Pause,
        old_building: OldBuilding::Delete,
        churn: ChurnDelete::Soft,
        retention: 30 * DAY,
        brake: None,
        team: crate::domain::team::TeamPolicy::default(),
    }
}

pub(super) fn onboarding() -> OnboardingPolicy {
    OnboardingPolicy {
        language: "de".to_owned(),
        price_zone: "DE-LU".to_owned(),
        success_url: "https://utility.example/connected".to_owned(),
        cancel_url: "https://utility.example/later".to_owned(),
    }
}

/// A moment with a jitter of one half.
pub(super) fn moment(seconds: i64) -> Moment {
    Moment { now: at(seconds), jitter: 0.5 }
}

/// The customer after these events, as if Podero had accepted each of them.
pub(super) fn customer_with(events: &[Event]) -> Customer {
    let mut customer = Customer::default();
    for event in events {
        customer.facts = customer.facts.merge(event).facts;
    }
    customer
}
