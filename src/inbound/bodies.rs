//! The memory of the bodies of webhooks, of all connections together, and the body that gives way when it is used up.
//!
//! A body must be whole before its signature can be checked, so any stranger may send a part of one. Peers that have proved
//! nothing lately have half of the memory, so they cannot touch what is left for the others. A body that is still coming gives
//! its room back, and is answered 503, when another needs it: one of a peer without a proof to one with a proof; one that has
//! taken its time to any; and one of a peer, or for a source, that has more than its share to one that has less. A body that is
//! whole is worked on and never gives way; its room comes back when the work is done.
//!
//! Before: [`super::http`] hands in each chunk. After: nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::listener::connections::{GIVE_WAY_AFTER, ticks};
use crate::listener::peers::Peer;
use crate::metrics::Metrics;

/// Limit of all bodies in memory at once, unless two of the largest are more.
pub const BODIES_BYTES_MAX: usize = 32 << 20;

/// Unit in which room is taken, so that a connection with only the beginning of a body costs little.
const PAGE: usize = 4 << 10;

/// Limit of the first piece of room for a body whose length is announced: an announcement must not cost much.
const FIRST_BYTES_MAX: usize = 16 << 10;

/// Part of all room that one peer without a proof may keep while another has less.
const PEER_PART: usize = 8;

/// Part of all room that bodies for one source, of peers without a proof, may keep while another source has less.
const SOURCE_PART: usize = 4;

/// The sender of a body, and the source to which it is addressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The peer that the request comes from.
    pub peer: Peer,
    /// The configured source to which it is addressed.
    pub source: String,
    /// `true` if the peer proved itself lately, or the headers have proved its identity.
    pub is_proved: bool,
}

/// The decisions, without a byte of a body.
#[derive(Debug)]
struct Roll {
    bytes_max: usize,
    unproved_max: usize,
    peer_share: usize,
    source_share: usize,
    coming: BTreeMap<u64, Coming>,
    /// Room of all bodies that are coming, and of those of peers without a proof.
    coming_all: usize,
    coming_unproved: usize,
    /// Room of whole bodies that are worked on.
    working: usize,
    now: u64,
    next: u64,
}

/// A body that is not whole yet.
#[derive(Debug)]
struct Coming {
    sender: Sender,
    bytes: usize,
    since: u64,
    body: Arc<BodyBytes>,
}

/// The error that there is no room now.
#[derive(Debug, PartialEq, Eq)]
pub struct BudgetExceeded;

impl Roll {
    fn new(bytes_max: usize, body_bytes_max: usize) -> Self {
        // Two of the largest must not refuse each other for ever.
        let largest = paged(body_bytes_max);
        let bytes_max = bytes_max.max(largest.saturating_mul(2));
        Self {
            bytes_max,
            unproved_max: (bytes_max / 2).max(largest),
            peer_share: (bytes_max / PEER_PART).max(largest),
            source_share: (bytes_max / SOURCE_PART).max(largest),
            coming: BTreeMap::new(),
            coming_all: 0,
            coming_unproved: 0,
            working: 0,
            now: 0,
            next: 0,
        }
    }

    /// Takes `more` room for a body. Returns the bodies that gave way to it, even if their room was not enough.
    fn grow(&mut self, id: u64, more: usize) -> (Vec<Coming>, Result<(), BudgetExceeded>) {
        let mut displaced = Vec::new();
        loop {
            let Some(asking) = self.coming.get(&id) else { return (displaced, Err(BudgetExceeded)) };
            let is_proved = asking.sender.is_proved;
            let has_room_of_its_kind = is_proved || self.coming_unproved + more <= self.unproved_max;
            if has_room_of_its_kind && self.working + self.coming_all + more <= self.bytes_max {
                break;
            }
            let is_hopeless = self.working + asking.bytes + more > self.bytes_max;
            let victim = self.gives_way_to(id, asking, more).filter(|_| !is_hopeless);
            let Some(victim) = victim.and_then(|victim| self.remove(victim)) else {
                return (displaced, Err(BudgetExceeded));
            };
            displaced.push(victim);
        }
        self.count(id, more);
        (displaced, Ok(()))
    }

    /// Adds room to a body that is coming.
    fn count(&mut self, id: u64, more: usize) {
        let Some(coming) = self.coming.get_mut(&id) else { return };
        coming.bytes += more;
        self.coming_all += more;
        if !coming.sender.is_proved {
            self.coming_unproved += more;
        }
    }

    /// Removes a body that is coming, and its room.
    fn remove(&mut self, id: u64) -> Option<Coming> {
        let coming = self.coming.remove(&id)?;
        self.coming_all -= coming.bytes;
        if !coming.sender.is_proved {
            self.coming_unproved -= coming.bytes;
        }
        Some(coming)
    }

    /// The body that gives way to this one.
    fn gives_way_to(&self, id: u64, asking: &Coming, more: usize) -> Option<u64> {
        let is_proved = asking.sender.is_proved;
        // Numbers grow, so the first is the oldest.
        let others = || self.coming.iter().filter(|(other, coming)| **other != id && coming.bytes > 0);
        let oldest_unproved = others().find(|(_, coming)| !coming.sender.is_proved);
        let oldest = if is_proved { oldest_unproved.or_else(|| others().next()) } else { oldest_unproved };
        let (oldest, found) = oldest?;
        let is_slow = self.now - found.since > ticks(GIVE_WAY_AFTER);
        if is_slow || (is_proved && !found.sender.is_proved) {
            return Some(*oldest);
        }
        if is_proved {
            return None;
        }
        let of_peer = self.larger_share(asking, more, self.peer_share, |sender| sender.peer);
        of_peer.or_else(|| self.larger_share(asking, more, self.source_share, |sender| sender.source.as_str()))
    }

    /// The oldest body of the group that has most, if that is more than a share and the group of the asking body has less.
    fn larger_share<'a, K: Ord>(
        &'a self,
        asking: &'a Coming,
        more: usize,
        share: usize,
        group: impl Fn(&'a Sender) -> K,
    ) -> Option<u64> {
        let mut groups: BTreeMap<K, (usize, u64)> = BTreeMap::new();
        for (id, coming) in self.coming.iter().filter(|(_, coming)| !coming.sender.is_proved && coming.bytes > 0) {
            let (bytes, _) = groups.entry(group(&coming.sender)).or_insert((0, *id));
            *bytes += coming.bytes;
        }
        let own = groups.remove(&group(&asking.sender)).map_or(0, |(bytes, _)| bytes);
        let (bytes, oldest) = groups.into_values().max_by_key(|(bytes, _)| *bytes)?;
        (own + more <= share && bytes > share).then_some(oldest)
    }
}

/// Room for bodies. Clones share it.
#[derive(Debug, Clone)]
pub struct BodyBudget(Arc<(Mutex<Roll>, Metrics)>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BodyBudget {
    /// Room of `bytes_max` bytes for all bodies together; each has at most `body_bytes_max`.
    pub fn new(bytes_max: usize, body_bytes_max: usize, metrics: Metrics) -> Self {
        Self(Arc::new((Mutex::new(Roll::new(bytes_max, body_bytes_max)), metrics)))
    }

    fn roll(&self) -> MutexGuard<'_, Roll> {
        lock(&self.0.0)
    }

    /// Begins a body of which `announced` bytes are announced.
    pub fn begin(&self, sender: Sender, announced: usize) -> IncomingBody {
        let body = Arc::<BodyBytes>::default();
        let mut roll = self.roll();
        roll.next += 1;
        let (id, since) = (roll.next, roll.now);
        roll.coming.insert(id, Coming { sender, bytes: 0, since, body: body.clone() });
        drop(roll);
        IncomingBody { bodies: self.clone(), id, body, taken: 0, announced }
    }

    /// Takes room for the plain form of a body that is worked on.
    pub fn take(&self, bytes: usize) -> Result<BodyPermit, BudgetExceeded> {
        let bytes = paged(bytes);
        let mut roll = self.roll();
        if roll.working + roll.coming_all + bytes > roll.bytes_max {
            return Err(BudgetExceeded);
        }
        roll.working += bytes;
        Ok(BodyPermit { bodies: self.clone(), bytes })
    }

    /// Counts a [`crate::listener::connections::TICK`] that is over.
    pub fn tick(&self) {
        self.roll().now += 1;
    }
}

fn paged(bytes: usize) -> usize {
    bytes.div_ceil(PAGE).saturating_mul(PAGE)
}

/// The bytes of a body that is coming, which can be taken away.
#[derive(Debug, Default)]
struct BodyBytes {
    state: Mutex<State>,
    displaced: Notify,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    is_displaced: bool,
}

impl BodyBytes {
    /// Frees the bytes at once, even while its reader works.
    fn displace(&self) {
        let mut state = lock(&self.state);
        (state.bytes, state.is_displaced) = (Vec::new(), true);
        drop(state);
        self.displaced.notify_one();
    }
}

/// A body that is coming, and the room that it takes until it is dropped.
#[derive(Debug)]
pub struct IncomingBody {
    bodies: BodyBudget,
    id: u64,
    body: Arc<BodyBytes>,
    taken: usize,
    announced: usize,
}

impl IncomingBody {
    /// Bytes that have come.
    pub fn received(&self) -> usize {
        lock(&self.body.state).bytes.len()
    }

    /// Resolves when this body has given way to another.
    pub async fn displaced(&self) {
        self.body.displaced.notified().await;
    }

    /// Adds bytes that have come.
    pub fn add(&mut self, chunk: &[u8]) -> Result<(), BudgetExceeded> {
        let wanted = self.received() + chunk.len();
        if wanted > self.taken {
            // Doubled, so that a large body is not moved with each chunk.
            let more = paged(wanted.max(self.announced.min(FIRST_BYTES_MAX).max(self.taken * 2).min(self.announced)));
            let (displaced, grown) = self.bodies.roll().grow(self.id, more - self.taken);
            for coming in displaced {
                coming.body.displace();
                let is_proved = coming.sender.is_proved.to_string();
                self.bodies.0.1.bodies_displaced.with_label_values(&[is_proved]).inc();
            }
            grown?;
            self.taken = more;
        }
        let mut state = lock(&self.body.state);
        if state.is_displaced {
            return Err(BudgetExceeded);
        }
        let room = self.taken.saturating_sub(state.bytes.len());
        state.bytes.reserve_exact(room);
        state.bytes.extend_from_slice(chunk);
        Ok(())
    }

    /// The bytes of a whole body, and the room that they take from now on.
    pub fn whole(self) -> Result<(Vec<u8>, BodyPermit), BudgetExceeded> {
        let mut roll = self.bodies.roll();
        let coming = roll.remove(self.id).ok_or(BudgetExceeded)?;
        roll.working += coming.bytes;
        drop(roll);
        let permit = BodyPermit { bodies: self.bodies.clone(), bytes: coming.bytes };
        Ok((std::mem::take(&mut lock(&self.body.state).bytes), permit))
    }
}

impl Drop for IncomingBody {
    fn drop(&mut self) {
        self.bodies.roll().remove(self.id);
    }
}

/// Room that is given back when it is dropped.
#[derive(Debug)]
pub struct BodyPermit {
    bodies: BodyBudget,
    bytes: usize,
}

impl BodyPermit {
    /// The same bytes; their room is given back when the last value made of them is dropped.
    pub fn with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Charged { bytes, _permit: self })
    }
}

impl Drop for BodyPermit {
    fn drop(&mut self) {
        self.bodies.roll().working -= self.bytes;
    }
}

/// Bytes that take room.
struct Charged {
    bytes: Bytes,
    _permit: BodyPermit,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn bodies() -> BodyBudget {
        BodyBudget::new(32 * MIB, MIB, Metrics::new())
    }

    fn sender(number: u32, source: &str, is_proved: bool) -> Sender {
        let peer = Peer::of(std::net::IpAddr::V4(number.into()));
        Sender { peer, source: source.to_owned(), is_proved }
    }

    /// A body of which this number of bytes has come.
    fn coming(bodies: &BodyBudget, sender: Sender, bytes: usize) -> Result<IncomingBody, BudgetExceeded> {
        let mut body = bodies.begin(sender, bytes);
        body.add(&vec![0; bytes])?;
        Ok(body)
    }

    fn is_displaced(body: &IncomingBody) -> bool {
        lock(&body.body.state).is_displaced
    }

    /// A peer without a proof keeps its share and no more while another needs it.
    #[test]
    fn a_peer_without_a_proof_keeps_its_share_and_no_more() {
        let bodies = bodies();
        let forged: Vec<_> = (0..34).map(|_| coming(&bodies, sender(1, "default", false), MIB)).collect();
        assert_eq!(forged.iter().filter(|body| body.is_ok()).count(), 16, "half of it is not for them");
        let others: Vec<_> = (0..5).map(|_| coming(&bodies, sender(2, "default", false), MIB)).collect();
        assert_eq!(others.iter().filter(|body| body.is_ok()).count(), 4, "an eighth is what a newcomer may claim");
        let kept = forged.iter().flatten().map(is_displaced).collect::<Vec<_>>();
        assert_eq!(kept[..5], [true, true, true, true, false], "the oldest gave way: {kept:?}");
    }

    #[test]
    fn a_sender_with_a_proof_finds_room_whatever_the_others_send() {
        let bodies = bodies();
        let forged: Vec<_> = (0..200).map(|number| coming(&bodies, sender(number, "default", false), MIB)).collect();
        let proved: Vec<_> = (0..32).map(|_| coming(&bodies, sender(7, "default", true), MIB)).collect();
        assert!(proved.iter().all(Result::is_ok));
        assert!(forged.iter().flatten().all(is_displaced));
        assert_eq!(
            coming(&bodies, sender(7, "default", true), MIB).err(),
            Some(BudgetExceeded),
            "and there is an end of it"
        );
        drop(proved);
        assert!(coming(&bodies, sender(1, "default", false), MIB).is_ok());
    }

    #[test]
    fn a_body_that_takes_its_time_gives_way_to_any() {
        let bodies = bodies();
        let slow: Vec<_> = (0..16).map(|number| coming(&bodies, sender(number, "default", false), MIB)).collect();
        assert!(slow.iter().all(Result::is_ok));
        assert_eq!(coming(&bodies, sender(99, "default", false), MIB).err(), Some(BudgetExceeded), "all are new");
        (0..=ticks(GIVE_WAY_AFTER)).for_each(|_| bodies.tick());
        let quick = coming(&bodies, sender(99, "default", false), MIB).expect("room");
        assert!(is_displaced(slow[0].as_ref().expect("it was there")) && !is_displaced(&quick));
        let mut displaced = slow.into_iter().next().expect("sixteen").expect("it was there");
        assert_eq!(displaced.add(b"more"), Err(BudgetExceeded));
        assert!(displaced.whole().is_err());
    }

    #[test]
    fn a_source_that_is_flooded_leaves_room_for_others() {
        let bodies = bodies();
        let flood: Vec<_> = (0..16).map(|number| coming(&bodies, sender(number, "known", false), MIB)).collect();
        assert!(flood.iter().all(Result::is_ok));
        assert!(coming(&bodies, sender(50, "known", false), MIB).is_err());
        assert!(coming(&bodies, sender(51, "another", false), MIB).is_ok());
    }

    #[test]
    fn room_comes_back_when_the_last_of_the_bytes_is_gone() {
        let bodies = BodyBudget::new(0, MIB, Metrics::new());
        let (bytes, permit) = coming(&bodies, sender(1, "a", true), MIB).expect("room").whole().expect("it is whole");
        let bytes = permit.with(bytes.into());
        let part = bytes.slice(10..20);
        drop(bytes);
        let other = coming(&bodies, sender(1, "a", true), MIB).expect("room for two").whole().expect("it is whole");
        assert!(coming(&bodies, sender(1, "a", true), 1).is_err() && bodies.take(1).is_err());
        drop(part);
        assert!(bodies.take(MIB).is_ok());
        drop(other);
        let roll = bodies.roll();
        assert_eq!((roll.working, roll.coming_all, roll.coming.len()), (0, 0, 0));
    }

    #[test]
    fn what_is_announced_takes_no_room_and_what_comes_takes_what_it_needs() {
        let bodies = bodies();
        let mut body = bodies.begin(sender(1, "a", false), MIB);
        assert_eq!(bodies.roll().coming_all, 0);
        for (bytes, room) in [(1, FIRST_BYTES_MAX), (FIRST_BYTES_MAX - 1, FIRST_BYTES_MAX), (1, 2 * FIRST_BYTES_MAX)] {
            body.add(&vec![0; bytes]).expect("room");
            assert_eq!(bodies.roll().coming_all, room);
        }
        let mut chunked = bodies.begin(sender(1, "b", false), 0);
        for _ in 0..3 {
            chunked.add(&[0; 3_000]).expect("room");
        }
        assert_eq!((chunked.taken, chunked.received()), (3 * PAGE, 9_000));
    }
}
