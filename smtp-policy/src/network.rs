//! The network of a client: those in it are one client with many addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::dnsbl::is_of_the_internet;

/// The /24 or /64 of an address; of an IPv4 address in IPv6 the /24.
pub(crate) fn network_of(client: IpAddr) -> IpNet {
    let network = match client.to_canonical() {
        IpAddr::V4(address) => Ipv4Net::new(address, 24).map(|network| IpNet::V4(network.trunc())),
        IpAddr::V6(address) => Ipv6Net::new(address, 64).map(|network| IpNet::V6(network.trunc())),
    };
    network.expect("24 of 32 and 64 of 128 bits are a network")
}

/// Whether a stranger may make us connect there: an address of one host of the Internet, and no other (SECURITY D-34).
pub(crate) fn may_be_called(address: IpAddr) -> bool {
    let is_one_host = match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            // RFC 6890: "this network", that of providers, and what was never given out.
            let is_special = first == 0 || first >= 240 || (first == 100 && second & 0xc0 == 64);
            !(is_special || address.is_multicast() || address.is_broadcast())
        }
        IpAddr::V6(address) => {
            let [first, second, ..] = address.segments();
            // RFC 4291 §2.4: unicast of the Internet is 2000::/3. Of these 6to4 and Teredo lead to IPv4 addresses that were not
            // looked at.
            first & 0xe000 == 0x2000 && first != 0x2002 && (first, second) != (0x2001, 0)
        }
    };
    is_one_host && is_of_the_internet(address.to_canonical())
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

    #[test] // SECURITY D-34
    fn d34_only_hosts_of_the_internet_may_be_called() {
        for (address, may) in [
            ("192.0.2.1", true),
            ("8.8.8.8", true),
            ("2001:db8::1", true),
            ("2a00:1450::1", true),
            ("::ffff:192.0.2.1", true),
            ("127.0.0.1", false),
            ("127.255.0.1", false),
            ("0.0.0.0", false),
            ("0.1.2.3", false),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("100.127.255.1", false),
            ("100.128.0.1", true),
            ("224.0.0.1", false),
            ("240.0.0.1", false),
            ("255.255.255.255", false),
            ("::", false),
            ("::1", false),
            ("::127.0.0.1", false),
            ("::ffff:127.0.0.1", false),
            ("::ffff:10.0.0.1", false),
            ("fe80::1", false),
            ("fec0::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("ff02::1", false),
            ("64:ff9b::7f00:1", false),
            ("2002:7f00:1::1", false),
            ("2001::1", false),
        ] {
            assert_eq!(may_be_called(address.parse().expect("an address")), may, "{address}");
        }
    }
}
