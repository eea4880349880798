//! Addresses and networks that a key lists: whether an address is one of them. Knows no key.
//!
//! Before: nothing. After: [`crate::config`]'s rules, and the listeners, which ask it for trusted proxies.

use std::net::IpAddr;

use ipnet::IpNet;

/// IP addresses and networks in CIDR notation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Reads a list such as `10.0.0.7, 192.168.0.0/16, fd00::/8`; nothing is an empty list. `None`: an item is neither an
    /// address nor a network, or it is a network of all addresses.
    pub fn parse(text: &str) -> Option<Self> {
        let items = text.split(',').map(str::trim);
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        items.map(network).collect::<Option<_>>().map(Self)
    }

    /// Says whether the address is in one of them. An IPv4 address is the same in its IPv6 form.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// Reads a network. Refuses that of all addresses, which would also trust the clients that the key is there to keep apart.
fn network(text: &str) -> Option<IpNet> {
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse().ok()?,
    };
    (network.prefix_len() > 0).then_some(network)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_network_in_either_of_its_forms() {
        let networks = Networks::parse(" 10.0.0.7, 192.168.0.0/16,fd00::/8 ").expect("a list");
        for (address, expected) in [
            ("10.0.0.7", true),
            ("::ffff:10.0.0.7", true),
            ("10.0.0.8", false),
            ("192.168.255.1", true),
            ("192.169.0.1", false),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contains(address.parse().expect("an address")), expected, "{address}");
        }
        assert_eq!(Networks::parse(""), Some(Networks::default()));
        for wrong in ["10.0.0", "10.0.0.0/33", "proxy.example", "10.0.0.7,", "0.0.0.0/0", "::/0", "10.0.0.7:80"] {
            assert_eq!(Networks::parse(wrong), None, "{wrong}");
        }
    }
}
