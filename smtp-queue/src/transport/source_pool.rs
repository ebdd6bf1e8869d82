//! From which of its addresses a host sends where: always from the same one, as long as it has it (PRACTICES S7, S32b).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use smtp_core::{ClientConfig, Host};

/// Addresses of this host that mail leaves from, each with the name that it has in DNS.
///
/// A destination sees one of them, so that greylisting and reputation there meet a client that they know, and the
/// destinations share the pool. A message that is tried again comes from the same address. Another one of the pool takes
/// its place only while this host does not have it, and leaving one out moves no destination of the others. It rests on the
/// hash of the standard library, so another release of the compiler may choose otherwise, once.
///
/// ```
/// use smtp_core::{ClientConfig, Host};
/// use smtp_queue::{SmtpTransport, SourcePool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pool = SourcePool::new()
///     .with("192.0.2.1".parse()?, Host::parse("out1.example.org")?)
///     .with("192.0.2.2".parse()?, Host::parse("out2.example.org")?);
/// let config = pool.config_for("smtp.example.net", ClientConfig::new("mx.example.org")?);
/// let transport = SmtpTransport::to("smtp.example.net:25", config)?;
/// # let _ = transport;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct SourcePool(Vec<(IpAddr, Host)>);

impl SourcePool {
    /// Of no address: the system chooses, and one name stands for all.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more address. `name` is what `EHLO` says from there: the name that DNS has for it.
    #[must_use]
    pub fn with(mut self, address: IpAddr, name: Host) -> Self {
        self.0.push((address.to_canonical(), name));
        self
    }

    /// The configuration for connections to one destination: a next hop, or the domain whose mail goes there. Case of
    /// letters makes no difference.
    #[must_use]
    pub fn config_for(&self, destination: &str, config: ClientConfig) -> ClientConfig {
        let destination = destination.to_ascii_lowercase();
        let mut order: Vec<_> = self.0.iter().collect();
        // The highest of the hashes wins, so that each address keeps its destinations whoever comes and goes beside it.
        order.sort_by_cached_key(|(address, _)| {
            let mut hasher = DefaultHasher::new();
            (destination.as_str(), address).hash(&mut hasher);
            hasher.finish()
        });
        let config = config.with_local_addresses(order.iter().rev().map(|(address, _)| *address));
        self.0.iter().fold(config, |config, (address, name)| config.with_name_at(*address, name.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(addresses: &[&str]) -> SourcePool {
        let name = Host::parse("out.example.org").expect("a name");
        addresses
            .iter()
            .fold(SourcePool::new(), |pool, address| pool.with(address.parse().expect("an address"), name.clone()))
    }

    fn order(pool: &SourcePool, destination: &str) -> Vec<IpAddr> {
        pool.config_for(destination, ClientConfig::default()).local_addresses().to_vec()
    }

    #[test] // PRACTICES S32b
    fn s32b_each_destination_has_its_address_and_each_address_its_share() {
        let all = pool(&["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let without = pool(&["192.0.2.3", "192.0.2.1"]);
        let mut shares = [0; 3];
        for number in 0..300 {
            let destination = format!("mx{number}.example");
            let first = order(&all, &destination)[0];
            assert_eq!(order(&all, &destination.to_uppercase())[0], first, "{destination}");
            let gone: IpAddr = [192, 0, 2, 2].into();
            let kept: Vec<_> = order(&all, &destination).into_iter().filter(|address| *address != gone).collect();
            assert_eq!(order(&without, &destination), kept, "{destination}");
            let IpAddr::V4(address) = first else { panic!("{first}") };
            shares[usize::from(address.octets()[3]) - 1] += 1;
        }
        assert!(shares.iter().all(|share| (60..140).contains(share)), "{shares:?}");
        assert!(order(&SourcePool::new(), "mx.example").is_empty());
    }
}
