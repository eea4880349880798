//! The connections of a listener: the peer of each, the request that it owes, and the one that must give way.
//!
//! The server beneath knows no peers, times the first request's headers alone, and leaves a connection that owes a body to its
//! handler. So each connection is known here by a second handle of its socket, and is cut off when it has owed a request for
//! too long, or earlier when others need its place. A connection whose request is being worked on owes nothing and is never cut
//! off, unless it sends requests without waiting for their answers.
//!
//! A peer with as many connections as it may have opens another at the expense of its own: the one that has owed longest gives
//! way. So attackers cannot keep out a probe that shares their address. When most places are taken, the connections that have
//! owed for a while give way to all, and those of peers that have proved nothing first.
//!
//! Before: [`crate::app`] hands in each new connection. After: [`super::note_request`] says when a request begins and ends.

use std::collections::BTreeMap;
use std::net::{IpAddr, Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::peers::{Peer, Proved, client};
use crate::config::Networks;
use crate::metrics::{ConnectionEnd, Listener, Metrics};

/// Interval in which connections and bodies are looked at; ages are counted in it, even if the machine's clock is changed.
pub const TICK: Duration = Duration::from_millis(250);

/// Delay after which a connection that owes something, or a body that is not whole, gives way to others. A working sender has
/// sent its request by then.
pub const GIVE_WAY_AFTER: Duration = Duration::from_secs(1);

/// Time for which a peer that delivered something with a valid proof takes precedence over peers that have proved nothing.
const PROVED_FOR: Duration = Duration::from_secs(60 * 60);

/// Timeout of a body's beginning. Slower senders hold a connection, and memory, for nothing.
const BODY_START_MAX: Duration = Duration::from_secs(10);

/// Limit below which the rate of a body must not fall once it has begun, in bytes per second: a line of 262 kbit/s.
const BODY_RATE_MIN: u64 = 32 << 10;

/// Limit of the time for a body of the webhook listener, however fast it comes.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(30);

/// Weight of a refused request of an unproved peer, in requests: one connection brings at most twenty of them a second.
const REFUSED_WEIGHT: u32 = 50;

/// Interval in which the requests of a connection are counted.
const HASTE_WINDOW: Duration = Duration::from_secs(1);

/// Converts a duration into ticks; at least one.
pub fn ticks(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u64::MAX).max(1)
}

/// Peers that have proved themselves, and the time since. Clones share it: a proof in one listener's request holds at the
/// others.
#[derive(Debug, Clone, Default)]
pub struct ProvedPeers(Arc<(Mutex<Proved>, AtomicU64)>);

impl ProvedPeers {
    /// Remembers that the peer delivered something with a valid proof.
    pub fn note(&self, peer: Peer) {
        lock(&self.0.0).note(peer, self.now());
    }

    /// `true` if it did so lately, within `PROVED_FOR`.
    pub fn knows(&self, peer: Peer) -> bool {
        lock(&self.0.0).knows(peer, self.now(), ticks(PROVED_FOR))
    }

    /// The number of ticks that are over.
    fn now(&self) -> u64 {
        self.0.1.load(Ordering::Relaxed)
    }

    /// Counts a [`TICK`] that is over.
    pub fn tick(&self) {
        self.0.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// Bounds of a listener's connections.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// Connections at once of one peer.
    pub per_peer_max: usize,
    /// Time that a connection may owe a request; its first one has less, by the server's own timer.
    pub idle_max: Duration,
    /// Time that a body may take, however long it is.
    pub body_time_max: Duration,
    /// Requests a second on one connection; one that brings more is closed behind an answer, since requests that are sent
    /// without waiting for answers take the listener's time from all others.
    pub requests_per_second: u32,
}

impl Bounds {
    /// Time that a body may take of which `received` bytes have come.
    fn body_time(&self, received: usize) -> Duration {
        let received = u64::try_from(received).unwrap_or(u64::MAX);
        (BODY_START_MAX + Duration::from_millis(received.saturating_mul(1_000) / BODY_RATE_MIN)).min(self.body_time_max)
    }

    /// The number of connections from which those that have owed for a while give way: the last quarter is for new ones.
    fn crowded_at(&self) -> usize {
        (self.connections_max - self.connections_max / 4).max(1)
    }
}

/// The decisions, without a socket: a `T` is needed to cut a connection.
#[derive(Debug)]
struct Roll<T> {
    bounds: Bounds,
    entries: BTreeMap<u64, Entry<T>>,
    /// The number of connections of each peer.
    by_peer: BTreeMap<Peer, usize>,
    now: u64,
    next: u64,
}

#[derive(Debug)]
struct Entry<T> {
    /// The peer; `None`: it is a trusted proxy's connection, without a request under way.
    peer: Option<Peer>,
    /// The tick since which it owes something, and its turn within the tick. `None`: its request is being worked on.
    owes: Option<(u64, u64)>,
    /// The head of its request has come, and the answer, which may take a while, has not gone out.
    is_under_way: bool,
    /// The handle to cut it; `None`: it cannot be cut, and so is left alone.
    handle: Option<T>,
}

/// Connections that are to be cut, each with the reason.
type Cut<T> = Vec<(ConnectionEnd, T)>;

/// The demand of a request, by its head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// Its body is still to come.
    Body,
    /// Its answer is at hand, whatever the state of the store or the partner.
    Light,
    /// It may take a while.
    Work,
}

/// The refusal of a connection or a request whose peer has as many as it may have, and works with all of them.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

impl<T> Roll<T> {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, entries: BTreeMap::new(), by_peer: BTreeMap::new(), now: 0, next: 0 }
    }

    /// Enters an opened connection: its number, and those that give way to it; else it has no place.
    fn enter(
        &mut self,
        peer: Option<Peer>,
        handle: Option<T>,
        is_proved: impl Fn(Peer) -> bool,
    ) -> Result<(u64, Cut<T>), Option<T>> {
        let id = self.turn();
        self.entries.insert(id, Entry { peer: None, owes: Some((self.now, id)), is_under_way: false, handle });
        let Ok(mut cut) = self.assign(id, peer) else {
            return Err(self.entries.remove(&id).and_then(|entry| entry.handle));
        };
        if self.entries.len() > self.bounds.crowded_at() {
            cut.extend(self.cut_crowding(1, is_proved));
        }
        Ok((id, cut))
    }

    fn turn(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Counts a connection as a peer's; if that is one too many, another of the peer's gives way.
    fn assign(&mut self, id: u64, peer: Option<Peer>) -> Result<Cut<T>, Refused> {
        if self.entries.get(&id).is_none_or(|entry| entry.peer == peer) {
            return Ok(Vec::new());
        }
        let mut cut = Vec::new();
        if let Some(peer) = peer
            && self.by_peer.get(&peer).is_some_and(|count| *count >= self.bounds.per_peer_max)
        {
            let longest = self.longest(|entry| entry.peer == Some(peer)).ok_or(Refused)?;
            cut.extend(self.cut(longest, ConnectionEnd::PeerShare));
        }
        self.recount(id, peer);
        Ok(cut)
    }

    fn recount(&mut self, id: u64, peer: Option<Peer>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.peer, peer);
        if let Some(peer) = peer {
            *self.by_peer.entry(peer).or_default() += 1;
        }
        self.discount(before);
    }

    fn discount(&mut self, peer: Option<Peer>) {
        let Some(peer) = peer else { return };
        if let Some(count) = self.by_peer.get_mut(&peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&peer);
            }
        }
    }

    /// The connection of this group that has owed longest.
    fn longest(&self, is_of_these: impl Fn(&Entry<T>) -> bool) -> Option<u64> {
        let these = self.entries.iter().filter(|(_, entry)| entry.handle.is_some() && is_of_these(entry));
        these.filter_map(|(id, entry)| Some((entry.owes?, *id))).min().map(|(_, id)| id)
    }

    fn cut(&mut self, id: u64, end: ConnectionEnd) -> Option<(ConnectionEnd, T)> {
        let entry = self.entries.remove(&id)?;
        self.discount(entry.peer);
        Some((end, entry.handle?))
    }

    /// Cuts at most `count` of those that have owed for a while: those of peers that have proved nothing first.
    fn cut_crowding(&mut self, count: usize, is_proved: impl Fn(Peer) -> bool) -> Cut<T> {
        let old = self.now.saturating_sub(ticks(GIVE_WAY_AFTER));
        let mut owing: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.handle.is_some())
            .filter_map(|(id, entry)| Some((entry.peer, entry.owes.filter(|(tick, _)| *tick < old)?, *id)))
            .map(|(peer, owes, id)| (peer.is_none_or(&is_proved), owes, id))
            .collect();
        owing.sort_unstable();
        owing.into_iter().take(count).filter_map(|(_, _, id)| self.cut(id, ConnectionEnd::Crowded)).collect()
    }

    /// Notes that a request's head has come. `client` is the peer of the request. Returns the connections that give way.
    fn begin(&mut self, id: u64, client: Option<Peer>, demand: Demand) -> Result<Cut<T>, Refused> {
        let turn = self.turn();
        let mut cut = Vec::new();
        if demand != Demand::Light && self.has_enough_under_way(client) {
            let longest = self.longest(|entry| entry.peer == client && entry.is_under_way).ok_or(Refused)?;
            cut.extend(self.cut(longest, ConnectionEnd::PeerShare));
        }
        cut.extend(self.assign(id, client)?);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owes = (demand == Demand::Body).then_some((self.now, turn));
            entry.is_under_way = demand != Demand::Light;
        }
        Ok(cut)
    }

    /// `true` if three quarters of a peer's share have requests under way: the rest is for light ones. A body counts while it
    /// comes: it is work once it is whole, and then no longer gives way.
    fn has_enough_under_way(&self, peer: Option<Peer>) -> bool {
        let enough = self.bounds.per_peer_max - self.bounds.per_peer_max / 4;
        let has_enough = peer.and_then(|peer| self.by_peer.get(&peer)).is_some_and(|count| *count >= enough);
        let is_under_way = |entry: &&Entry<T>| entry.peer == peer && entry.is_under_way;
        has_enough && self.entries.values().filter(is_under_way).count() >= enough
    }

    /// Notes that the whole request has come.
    fn work(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owes = None;
        }
    }

    /// Notes that the request has its answer, and the connection owes the next one. `peer` is its peer between requests.
    fn end(&mut self, id: u64, peer: Option<Peer>) {
        let turn = self.turn();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.owes = Some((self.now, turn));
            entry.is_under_way = false;
        }
        self.recount(id, peer);
    }

    /// Removes a connection that is closed; `false`: it was cut off before.
    fn leave(&mut self, id: u64) -> bool {
        let entry = self.entries.remove(&id);
        let was_there = entry.is_some();
        self.discount(entry.and_then(|entry| entry.peer));
        was_there
    }

    /// Counts a [`TICK`] that is over. Cuts off those that have owed for too long, and those that crowd the listener.
    fn tick(&mut self, is_proved: impl Fn(Peer) -> bool) -> Cut<T> {
        self.now += 1;
        let idle_max = ticks(self.bounds.idle_max);
        let is_late = |entry: &Entry<T>| entry.owes.is_some_and(|(tick, _)| self.now - tick > idle_max);
        let late: Vec<u64> = self.entries.iter().filter(|(_, entry)| is_late(entry)).map(|(id, _)| *id).collect();
        let mut cut: Vec<_> = late.into_iter().filter_map(|id| self.cut(id, ConnectionEnd::Slow)).collect();
        let crowding = self.entries.len().saturating_sub(self.bounds.crowded_at());
        if crowding > 0 {
            cut.extend(self.cut_crowding(crowding, is_proved));
        }
        cut
    }
}

/// All connections of a listener. Clones share them.
#[derive(Debug, Clone)]
pub struct Connections(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    roll: Mutex<Roll<TcpStream>>,
    listener: Listener,
    bounds: Bounds,
    trusted: Networks,
    proved: ProvedPeers,
    metrics: Metrics,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Inner {
    /// Cuts sockets. A socket that is gone already is as good.
    fn cut(&self, sockets: Cut<TcpStream>) {
        for (end, socket) in sockets {
            let _ = socket.shutdown(Shutdown::Both);
            self.count_closed(end);
        }
    }

    fn count_closed(&self, end: ConnectionEnd) {
        self.metrics.connections_closed.with_label_values(&[self.listener.name(), end.name()]).inc();
    }

    /// The peer of a connection without a request under way. A trusted proxy's own connections have no share.
    fn owner(&self, socket: IpAddr) -> Option<Peer> {
        (!self.trusted.contains(socket)).then(|| Peer::of(socket))
    }
}

impl Connections {
    /// The connections of a listener, within these bounds. `trusted` are the proxies that may name addresses.
    pub fn new(listener: Listener, bounds: Bounds, trusted: Networks, proved: ProvedPeers, metrics: Metrics) -> Self {
        Self(Arc::new(Inner { roll: Mutex::new(Roll::new(bounds)), listener, bounds, trusted, proved, metrics }))
    }

    /// The listener to which they belong.
    pub fn listener(&self) -> Listener {
        self.0.listener
    }

    /// Enters a connection that was opened from this address. `socket` is a second handle of it, by which it can be cut;
    /// without one it depends on the server's own timers.
    pub fn open(&self, address: IpAddr, socket: Option<TcpStream>) -> ClientConnection {
        let entered = lock(&self.0.roll).enter(self.0.owner(address), socket, |peer| self.0.proved.knows(peer));
        let (id, cut) = match entered {
            Ok((id, cut)) => (Some(id), cut),
            Err(socket) => (None, socket.map(|socket| (ConnectionEnd::PeerShare, socket)).into_iter().collect()),
        };
        self.0.cut(cut);
        ClientConnection {
            inner: self.0.clone(),
            id,
            address,
            has_begun: AtomicBool::new(false),
            counted: Mutex::default(),
        }
    }

    /// Counts a [`TICK`] that is over.
    pub fn tick(&self) {
        let cut = lock(&self.0.roll).tick(|peer| self.0.proved.knows(peer));
        self.0.cut(cut);
    }
}

/// One connection, while the server has it.
#[derive(Debug)]
pub struct ClientConnection {
    inner: Arc<Inner>,
    /// Its number; `None`: it found no place, and is closed already.
    id: Option<u64>,
    address: IpAddr,
    has_begun: AtomicBool,
    /// The current window, and the weight of the requests in it.
    counted: Mutex<(u64, u32)>,
}

impl ClientConnection {
    /// Notes that a request's head has come. `forwarded` are its values of [`super::peers::FORWARDED_FOR`]. Returns the peer of
    /// the request; `None`: the peer has as many under way as it may.
    pub fn begin<'a>(&self, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>, demand: Demand) -> Option<Peer> {
        self.has_begun.store(true, Ordering::Relaxed);
        let peer = Peer::of(client(self.address, forwarded, &self.inner.trusted));
        let Some(id) = self.id else { return Some(peer) };
        let admission = lock(&self.inner.roll).begin(id, Some(peer), demand);
        match admission {
            Ok(cut) => {
                self.inner.cut(cut);
                Some(peer)
            }
            Err(Refused) => {
                self.inner.metrics.requests_crowded.with_label_values(&[self.inner.listener.name()]).inc();
                None
            }
        }
    }

    /// Time that the request's body may take when `received` bytes of it have come.
    pub fn body_time(&self, received: usize) -> Duration {
        self.inner.bounds.body_time(received)
    }

    /// The listener to which it belongs.
    pub fn listener(&self) -> Listener {
        self.inner.listener
    }

    /// Notes that the whole request has come.
    pub fn work(&self) {
        if let Some(id) = self.id {
            lock(&self.inner.roll).work(id);
        }
    }

    /// Counts a request of the peer that has its answer. `true`: the connection brings more of them than it may, and is to be
    /// closed behind that answer. The server goes on with requests that follow all the same, so at twice as many the connection
    /// is cut off.
    pub fn note_answer(&self, peer: Peer, is_refused: bool) -> bool {
        let window = self.inner.proved.now() / ticks(HASTE_WINDOW);
        let weight = if is_refused && !self.inner.proved.knows(peer) { REFUSED_WEIGHT } else { 1 };
        let mut counted = lock(&self.counted);
        let before = if counted.0 == window { counted.1 } else { 0 };
        *counted = (window, before.saturating_add(weight));
        let limit = self.inner.bounds.requests_per_second;
        if counted.1 > limit.saturating_mul(2)
            && let Some(id) = self.id
        {
            let cut = lock(&self.inner.roll).cut(id, ConnectionEnd::Hasty);
            self.inner.cut(cut.into_iter().collect());
        }
        counted.1 > limit
    }

    /// Notes that the request has its answer.
    pub fn end(&self) {
        if let Some(id) = self.id {
            lock(&self.inner.roll).end(id, self.inner.owner(self.address));
        }
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        let was_there = lock(&self.inner.roll).leave(id);
        if was_there && !self.has_begun.load(Ordering::Relaxed) {
            self.inner.count_closed(ConnectionEnd::NoRequest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    const BOUNDS: Bounds = Bounds {
        connections_max: 8,
        per_peer_max: 3,
        idle_max: Duration::from_secs(75),
        body_time_max: BODY_TIME_MAX,
        requests_per_second: 10,
    };

    fn peer(number: u32) -> Peer {
        Peer::of(IpAddr::V4(number.into()))
    }

    fn unproved(_: Peer) -> bool {
        false
    }

    /// The names of the connections that were cut.
    fn names(cut: &[(ConnectionEnd, &'static str)]) -> Vec<&'static str> {
        cut.iter().map(|(_, name)| *name).collect()
    }

    fn enter(roll: &mut Roll<&'static str>, whose: u32, name: &'static str) -> (u64, Vec<&'static str>) {
        let (id, cut) = roll.enter(Some(peer(whose)), Some(name), unproved).expect("there is a place");
        (id, names(&cut))
    }

    /// A peer with its share opens another at the expense of its own that has owed longest.
    #[test]
    fn a_peer_with_its_share_gives_up_its_own_oldest_debt() {
        let mut roll = Roll::new(BOUNDS);
        let (first, _) = enter(&mut roll, 1, "first");
        let (second, _) = enter(&mut roll, 1, "second");
        enter(&mut roll, 1, "third");
        enter(&mut roll, 2, "a stranger's");
        // The first now has owed for less long than the second, which owes a body, and the third owes nothing yet.
        roll.begin(first, Some(peer(1)), Demand::Work).expect("it is let in");
        roll.end(first, Some(peer(1)));
        roll.begin(second, Some(peer(1)), Demand::Body).expect("it is let in");
        assert_eq!(enter(&mut roll, 1, "fourth").1, ["third"]);
        assert_eq!(enter(&mut roll, 1, "fifth").1, ["first"]);
        assert_eq!(enter(&mut roll, 1, "sixth").1, ["second"], "a body that is owed is owed");
        assert_eq!(roll.by_peer[&peer(1)], 3);
    }

    #[test]
    fn a_connection_that_is_worked_on_never_gives_way() {
        let mut roll = Roll::new(BOUNDS);
        for name in ["first", "second", "third"] {
            let (id, _) = enter(&mut roll, 1, name);
            roll.begin(id, Some(peer(1)), Demand::Body).expect("it is let in");
            roll.work(id);
        }
        assert_eq!(roll.enter(Some(peer(1)), Some("fourth"), unproved), Err(Some("fourth")));
        for _ in 0..1_000 {
            assert_eq!(roll.tick(unproved), []);
        }
        assert!(roll.leave(1) && !roll.leave(1));
        assert_eq!(enter(&mut roll, 1, "fourth").1, [""; 0]);
    }

    #[test]
    fn a_part_of_a_peers_share_is_left_for_requests_whose_answer_is_at_hand() {
        let mut roll = Roll::new(Bounds { per_peer_max: 4, ..BOUNDS });
        let ids: Vec<u64> = ["a", "b", "c", "d"].into_iter().map(|name| enter(&mut roll, 1, name).0).collect();
        for id in &ids[..3] {
            assert_eq!(roll.begin(*id, Some(peer(1)), Demand::Work), Ok(Vec::new()));
        }
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Work), Err(Refused));
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Light), Ok(Vec::new()));
        roll.end(ids[3], Some(peer(1)));
        roll.end(ids[0], Some(peer(1)));
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Work), Ok(Vec::new()));
    }

    /// Requests with bodies leave that part too and one whose body is owed gives way.
    #[test]
    fn a_request_whose_body_is_owed_gives_way() {
        let mut roll = Roll::new(Bounds { per_peer_max: 4, ..BOUNDS });
        let ids: Vec<u64> = ["a", "b", "c", "d"].into_iter().map(|name| enter(&mut roll, 1, name).0).collect();
        for id in &ids[..3] {
            assert_eq!(roll.begin(*id, Some(peer(1)), Demand::Body), Ok(Vec::new()));
        }
        roll.work(ids[0]);
        let gave_way = Ok(vec![(ConnectionEnd::PeerShare, "b")]);
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Body), gave_way);
        roll.work(ids[2]);
        roll.work(ids[3]);
        let (fifth, _) = enter(&mut roll, 1, "e");
        assert_eq!(roll.begin(fifth, Some(peer(1)), Demand::Body), Err(Refused));
        assert_eq!(roll.begin(fifth, Some(peer(1)), Demand::Light), Ok(Vec::new()));
    }

    /// When most places are taken, those that have owed for a while give way and the proved last.
    #[test]
    fn nearly_full_the_longest_debts_give_way_and_the_proved_last() {
        let is_proved = |whose: Peer| whose == peer(1);
        let mut roll = Roll::new(BOUNDS);
        let open = |roll: &mut Roll<_>, whose, name| {
            names(&roll.enter(Some(peer(whose)), Some(name), is_proved).expect("there is a place").1)
        };
        for (whose, name) in [(1, "proved"), (2, "a"), (2, "b"), (3, "c"), (3, "d"), (4, "e")] {
            assert_eq!(open(&mut roll, whose, name), [""; 0]);
        }
        assert_eq!(open(&mut roll, 5, "too many"), [""; 0], "none has owed for long: there are places left");
        for _ in 0..ticks(GIVE_WAY_AFTER) {
            assert_eq!(roll.tick(is_proved), []);
        }
        assert_eq!(names(&roll.tick(is_proved)), ["a"], "down to where it is crowded");
        assert_eq!(open(&mut roll, 6, "new"), ["b"]);
        assert_eq!(open(&mut roll, 6, "new"), ["c"]);
        assert_eq!(roll.entries.len(), 6);
    }

    #[test]
    fn what_a_proxy_brings_counts_for_its_client_while_it_is_under_way() {
        let mut roll = Roll::new(BOUNDS);
        let ids: Vec<u64> =
            (0..5).map(|_| roll.enter(None, Some("the proxy's"), unproved).expect("a proxy has no share").0).collect();
        for id in &ids[..3] {
            assert_eq!(roll.begin(*id, Some(peer(1)), Demand::Work), Ok(Vec::new()));
        }
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Body), Err(Refused));
        assert_eq!(roll.begin(ids[4], Some(peer(2)), Demand::Body), Ok(Vec::new()));
        roll.end(ids[0], None);
        assert_eq!(roll.begin(ids[3], Some(peer(1)), Demand::Body), Ok(Vec::new()));
        ids.into_iter().for_each(|id| assert!(roll.leave(id)));
        assert!(roll.by_peer.is_empty() && roll.entries.is_empty());
    }

    /// A request of an address that has enough under way is refused and counted.
    #[test]
    fn an_address_with_enough_under_way_is_refused_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let bounds = Bounds { connections_max: 32, per_peer_max: 8, ..BOUNDS };
        let (metrics, proved) = (Metrics::new(), ProvedPeers::default());
        let connections = Connections::new(Listener::Admin, bounds, Networks::default(), proved, metrics.clone());
        let open = |_| {
            let client = TcpStream::connect(address).expect("connected");
            (client, connections.open(address.ip(), Some(listener.accept().expect("accepted").0)))
        };
        let open: Vec<_> = (0..bounds.per_peer_max).map(open).collect();
        let begins = |(_, one): &&(TcpStream, ClientConnection)| one.begin(std::iter::empty(), Demand::Work).is_some();
        assert_eq!(open.iter().filter(begins).count(), 6, "the last quarter is for light requests");
        let counted = r#"podero_bridge_requests_crowded_total{listener="admin"} 2"#;
        let shown = metrics.encode();
        assert!(shown.lines().any(|line| line == counted), "{shown}");
    }

    #[test]
    fn a_connection_that_has_owed_a_request_for_too_long_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let bounds = Bounds { idle_max: TICK * 3, ..BOUNDS };
        let (metrics, proved) = (Metrics::new(), ProvedPeers::default());
        let connections = Connections::new(Listener::Http, bounds, Networks::default(), proved, metrics.clone());
        let open = || {
            let client = TcpStream::connect(address).expect("connected");
            (client, connections.open(address.ip(), Some(listener.accept().expect("accepted").0)))
        };
        let ((mut quiet, _quiet), (_, busy), (_, active)) = (open(), open(), open());
        busy.begin(std::iter::empty(), Demand::Work);
        for _ in 0..4 {
            connections.tick();
            active.begin(std::iter::empty(), Demand::Work);
            active.end();
        }
        assert_eq!(quiet.read(&mut [0]).expect("closed in order"), 0);
        let shown = metrics.encode();
        let cut = r#"podero_bridge_connections_closed_total{listener="http",reason="slow"} 1"#;
        assert!(shown.lines().any(|line| line == cut), "{shown}");
        assert_eq!(lock(&connections.0.roll).entries.len(), 2);
        drop((busy, active));
        assert!(lock(&connections.0.roll).entries.is_empty(), "what is gone is forgotten");
    }
}
