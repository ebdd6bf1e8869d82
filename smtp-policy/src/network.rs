//! The network of a client: those in it are one client with many addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The /24 or /64 of an address; of an IPv4 address in IPv6 the /24.
pub(crate) fn network_of(client: IpAddr) -> IpNet {
    let network = match client.to_canonical() {
        IpAddr::V4(address) => Ipv4Net::new(address, 24).map(|network| IpNet::V4(network.trunc())),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map(|network| IpNet::V6(network.trunc())),
    };
    network.expect("24 of 32 and 64 of 128 bits are a network")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_clients() {
        for (client, network) in [
            ("192.0.2.17", "192.0.2.0/24"),
            ("::ffff:192.0.2.17", "192.0.2.0/24"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(network_of(client.parse().expect("an address")).to_string(), network);
        }
    }
}
