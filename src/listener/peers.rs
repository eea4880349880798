//! The peers of requests: the address by which shares are counted, and the addresses that have proved themselves lately.
//!
//! Pure. Behind a trusted proxy it is the address that the proxy names; the header is not read from other senders.
//!
//! Before: [`super::connections`]. After: [`crate::config`], which names the trusted proxies.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use crate::config::Networks;

/// Header in which a proxy names the addresses of a request's way, the nearest last. `Forwarded` (RFC 7239) is not read.
pub const FORWARDED_FOR: &str = "x-forwarded-for";

/// Mask of an IPv6 address's network, all of whose addresses one subscriber has: a share per address would be no bound.
const NETWORK_MASK: u128 = !0 << 64;

/// Limit of the addresses remembered as proved. A utility has a handful of senders; each needs a secret to get in.
const PROVED_MAX: usize = 1_024;

/// The unit by which shares are counted: an IPv4 address, or the /64 network of an IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(IpAddr);

impl Peer {
    /// The peer to which an address belongs. An IPv4 address in its IPv6 form is the same.
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK_MASK).into(),
        })
    }
}

/// The address that a request came from: from the right of what the proxies have written, the first that is no trusted proxy.
/// `forwarded` are the values of [`FORWARDED_FOR`] in their order. An unreadable entry ends the walk at the last readable
/// address; so does the beginning of the list.
pub fn client<'a>(socket: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a [u8]>, trusted: &Networks) -> IpAddr {
    let mut address = socket;
    let entries = forwarded.rev().flat_map(|value| value.rsplit(|byte| *byte == b','));
    for entry in entries {
        if !trusted.contains(address) {
            break;
        }
        let Some(before) = read(entry) else { break };
        address = before;
    }
    address
}

/// Reads an entry: an address, of IPv6 perhaps in brackets, perhaps with a port.
fn read(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))
}

/// Peers that lately delivered something with a valid proof. Bounded; the one with the oldest proof is forgotten first.
#[derive(Debug, Default)]
pub struct Proved(BTreeMap<Peer, u64>);

impl Proved {
    /// Remembers a peer. `tick` is the time, counted in ticks.
    pub fn note(&mut self, peer: Peer, tick: u64) {
        let is_full = self.0.len() >= PROVED_MAX && !self.0.contains_key(&peer);
        let oldest = self.0.iter().min_by_key(|(_, noted)| **noted).map(|(peer, _)| *peer);
        if let Some(oldest) = oldest.filter(|_| is_full) {
            self.0.remove(&oldest);
        }
        self.0.insert(peer, tick);
    }

    /// `true` if the peer proved itself within `within` ticks.
    pub fn knows(&self, peer: Peer, tick: u64, within: u64) -> bool {
        self.0.get(&peer).is_some_and(|noted| tick.saturating_sub(*noted) <= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_peer_is_an_address_or_a_network_of_ipv6() {
        for (one, other, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("2001:db8::1", "2001:db8::ffff:1", true),
            ("2001:db8::1", "2001:db8:0:1::1", false),
        ] {
            assert_eq!(Peer::of(address(one)) == Peer::of(address(other)), expected, "{one} {other}");
        }
    }

    #[test]
    fn the_address_is_the_first_from_the_right_that_is_no_trusted_proxy() {
        let trusted = Networks::parse("10.0.0.0/8, fd00::/8").expect("a list");
        for (name, socket, forwarded, expected) in [
            ("a stranger says what it likes", "192.0.2.1", &["203.0.113.9"][..], "192.0.2.1"),
            ("one proxy", "10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("what was there before the proxy is not believed", "10.0.0.1", &["10.9.9.9, 203.0.113.9"], "203.0.113.9"),
            ("two proxies", "10.0.0.1", &["1.1.1.1, 203.0.113.9, 10.0.0.2"], "203.0.113.9"),
            ("two headers are one list", "10.0.0.1", &["1.1.1.1", "203.0.113.9,10.0.0.2"], "203.0.113.9"),
            ("none", "10.0.0.1", &[], "10.0.0.1"),
            ("nothing", "10.0.0.1", &[""], "10.0.0.1"),
            ("all are proxies", "10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("what cannot be read ends it", "10.0.0.1", &["203.0.113.9, unknown, 10.0.0.2"], "10.0.0.2"),
            ("what cannot be read at once", "10.0.0.1", &["203.0.113.9, \u{fc}"], "10.0.0.1"),
            ("with a port", "10.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("IPv6 with a port", "fd00::1", &["[2001:db8::1]:4711"], "2001:db8::1"),
            ("IPv6 in brackets", "fd00::1", &[" [2001:db8::1] "], "2001:db8::1"),
            ("IPv6", "fd00::1", &["2001:db8::1"], "2001:db8::1"),
            ("a proxy in its IPv6 form", "::ffff:10.0.0.1", &["203.0.113.9"], "203.0.113.9"),
        ] {
            let values = forwarded.iter().map(|value| value.as_bytes());
            assert_eq!(client(address(socket), values, &trusted), address(expected), "{name}");
        }
    }

    #[test]
    fn what_is_proved_is_forgotten_in_time_and_when_there_are_too_many() {
        let mut proved = Proved::default();
        let peer = |number: u32| Peer::of(IpAddr::V4(number.into()));
        proved.note(peer(1), 10);
        assert!(proved.knows(peer(1), 30, 20) && !proved.knows(peer(1), 31, 20) && !proved.knows(peer(2), 10, 20));
        (2..).take(PROVED_MAX).for_each(|number| proved.note(peer(number), 11));
        assert!(!proved.knows(peer(1), 11, 20) && proved.knows(peer(2), 11, 20));
        assert_eq!(proved.0.len(), PROVED_MAX);
    }
}
