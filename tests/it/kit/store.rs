//! A store on a database of one test, with a clock that stands still, and events that end as a test wants.

use std::time::Duration;

use podero_bridge::clock::Clock;
use podero_bridge::domain::event::{Details, Event, Field, Happening, Transport};
use podero_bridge::domain::notice::Notice;
use podero_bridge::domain::verdict::{Fate, Verdict};
use podero_bridge::domain::{CustomerId, EventId, Timestamp};
use podero_bridge::store::{Arrival, Claim, Content, Settings, Store, Target};

use super::{Fixture, TestDatabase};

const LEASE: Duration = Duration::from_secs(60);
const TIME: &str = "2026-10-01T12:00:00Z";

/// A store with a clock that stands still.
pub struct StoreFixture {
    pub store: Store,
    pub clock: Clock,
    pub url: String,
    _database: Option<TestDatabase>,
}

impl Fixture for StoreFixture {
    async fn open(database: TestDatabase, _: usize) -> Self {
        let clock = Clock::manual(Timestamp::parse(TIME).expect("a time"), 1);
        let fixture = Self::on(database.url.clone(), clock).await;
        Self { _database: Some(database), ..fixture }
    }
}

impl StoreFixture {
    /// On a database that outlives the value.
    pub async fn on(url: String, clock: Clock) -> Self {
        Self { store: open(&url, &clock, true).await, clock, url, _database: None }
    }

    /// Another process on the same database, as a replica or a command has it.
    pub async fn beside(&self) -> Store {
        open(&self.url, &self.clock, false).await
    }

    pub fn arrival(&self, customer: &str, happening: Happening) -> Arrival {
        let id = EventId(self.clock.fresh_id());
        let customer = CustomerId::accept(customer).expect("a printable id");
        let now = self.clock.now();
        arrival_of(Event { id, customer, time: now, effective_at: None, happening }, now)
    }

    /// An event that ends so.
    pub async fn ends(&self, customer: &str, fate: Fate) -> EventId {
        let details = Details { personal: [(Field::FirstName, "x".into())].into(), ..Details::default() };
        let arrival = self.arrival(customer, Happening::Updated(details));
        let id = arrival.id;
        self.store.accept(vec![arrival]).await.expect("the store is there");
        self.settle_head(fate).await;
        id
    }

    /// Settles the event that is due first.
    pub async fn settle_head(&self, fate: Fate) {
        let claim = self.store.claim(LEASE).await.expect("the store is there").expect("something is due");
        let verdict = Self::verdict(&claim, fate, Vec::new());
        self.store.settle(&claim, verdict, Vec::new()).await.expect("the store is there");
    }

    /// The customer stays as it is.
    pub fn verdict(claim: &Claim, fate: Fate, notices: Vec<Notice>) -> Verdict {
        Verdict {
            fate,
            state: claim.work.customer.clone(),
            failures: 0,
            failing_since: None,
            notices,
            seen: Vec::new(),
            follow_ups: Vec::new(),
            ends_scheduled: false,
            overtakes: false,
            wakes_waiting: false,
            remark: None,
            acts: Vec::new(),
        }
    }

    pub async fn state(&self, id: EventId) -> String {
        let event = self.store.event(id).await.expect("the store is there");
        event.expect("the event is known").event.state.to_string()
    }
}

async fn open(url: &str, clock: &Clock, works: bool) -> Store {
    let settings = Settings { url: url.to_owned(), targets: vec![Target::Amqp], works };
    let (store, writer) = Store::open(settings, clock.clone()).await.expect("the database is there");
    tokio::spawn(writer.run());
    store
}

/// An event as it arrives by webhook, under an identity of its own.
pub fn arrival_of(event: Event, received_at: Timestamp) -> Arrival {
    Arrival {
        id: event.id,
        origin: "/billing".to_owned(),
        origin_id: event.id.to_string(),
        source: "default".to_owned(),
        transport: Transport::Http,
        received_at,
        digest: "d1".to_owned(),
        raw: b"{}".as_slice().into(),
        envelope: None,
        content: Content::Event(event),
    }
}
