//! Does the client introduce itself as somebody, as itself, and not as us? (PRACTICES S8, S10 to S12a; RFC 5321 §4.1.1.1)

use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use smtp_core::{AddressLiteral, Answer, Connection, DnsName, Domain, Greeting, Host, Resolver, async_trait};

use crate::check::{Check, Observation, Scope, Subject};
use crate::finding::{Action, Finding};
use crate::practice::Practice;
use crate::reverse_dns::addresses;

/// The argument is a fully qualified name, or an address literal.
const HELO_QUALIFIED: Practice = of_helo(
    "helo-qualified",
    "S10",
    "The client introduces itself with a fully qualified name or a literal",
    [0, 2, 0],
)
.refuses(7, 1, "Introduce yourself with your full name (RFC 5321 section 4.1.1.1)");
/// A literal is the address of the client.
const HELO_LITERAL: Practice =
    of_helo("helo-literal", "S10", "An address literal in the greeting is the address of the client", [0, 1, 0])
        .refuses(7, 1, "The address with which you introduce yourself is not yours");
const NAME_UNKNOWN: &str = "The name with which you introduce yourself cannot be looked up now, try again later";

/// The name has addresses.
const HELO_ADDRESS: Practice =
    of_helo("helo-address", "S11", "The name with which the client introduces itself has addresses", [0, 2, 0])
        .unknown([Action::Observe, Action::Observe, Action::Defer])
        .refuses(7, 1, "The name with which you introduce yourself has no address")
        .when_unknown(NAME_UNKNOWN)
        .with_transient_code(450);
/// One of them is the client's. With [`Preset::BcpStrict`](crate::Preset::BcpStrict) this departs from RFC 5321 §4.1.4, by
/// which nobody may be refused for it.
const HELO_CONFIRMED: Practice = of_helo(
    "helo-confirmed",
    "S12",
    "The name with which the client introduces itself has its address (RFC 5321 section 4.1.4: no reason to refuse)",
    [0, 1, 0],
)
.unknown([Action::Observe, Action::Observe, Action::Defer])
.refuses(7, 1, "The name with which you introduce yourself does not have your address")
.when_unknown(NAME_UNKNOWN)
.with_transient_code(450);
/// It is not ours.
const HELO_OURS: Practice = Practice::new("helo-ours", "S12a", "No stranger introduces itself as us")
    .fails([Action::Observe, Action::Reject, Action::Reject], [0, 0, 0])
    .refuses(7, 1, "You introduce yourself as us");

const fn of_helo(name: &'static str, id: &'static str, about: &'static str, weights: [u16; 3]) -> Practice {
    Practice::new(name, id, about).fails([Action::Observe, Action::Score, Action::Reject], weights)
}

/// Looks at what the client says of itself in `EHLO` or `HELO`.
///
/// Any name that has the address of the client is good, also where the reverse name of that address is another one (S8). Clients
/// on this host and at our own addresses may use our names.
#[derive(Clone)]
pub struct Helo {
    resolver: Arc<dyn Resolver>,
    domains: HashSet<Domain>,
    addresses: HashSet<IpAddr>,
}

impl Helo {
    /// By this resolver. That the address of the connection at our side is ours is known.
    pub fn new(resolver: impl Resolver + 'static) -> Self {
        Self { resolver: Arc::new(resolver), domains: HashSet::new(), addresses: HashSet::new() }
    }

    /// With a name or a local domain of ours, which nobody else may use. Names below it are others.
    #[must_use]
    pub fn with_domain(mut self, domain: Domain) -> Self {
        self.domains.insert(domain);
        self
    }

    /// With an address of ours: needed where clients reach us by another one than we see, as behind a translating router.
    #[must_use]
    pub fn with_address(mut self, address: IpAddr) -> Self {
        self.addresses.insert(address.to_canonical());
        self
    }

    /// What is to be said of this greeting; nothing, before there is one.
    pub async fn examine_connection(&self, connection: &Connection) -> Observation {
        let (client, local) = (connection.peer().ip(), connection.local().ip());
        match connection.greeting().map(Greeting::host) {
            Some(host) => self.examine_greeting(host, client, local).await,
            None => Observation::new(),
        }
    }

    /// What is to be said of this argument of `EHLO` or `HELO`, of that client, where we are `local`.
    pub async fn examine_greeting(&self, host: &Host, client: IpAddr, local: IpAddr) -> Observation {
        let (client, local) = (client.to_canonical(), local.to_canonical());
        let is_ours = |address: IpAddr| address == local || self.addresses.contains(&address);
        if !client.is_loopback() && !is_ours(client) {
            let claims_us = match host {
                // Also without brackets.
                Host::Domain(domain) => {
                    self.domains.contains(domain)
                        || domain.as_str().parse().is_ok_and(|address: IpAddr| is_ours(address))
                }
                Host::Literal(literal) => address_of(literal).is_some_and(is_ours),
            };
            if claims_us {
                return Finding::fail(HELO_OURS.name(), format!("{client} says it is {host}")).into();
            }
        }
        let seen = Observation::from(Finding::pass(HELO_OURS.name(), host.to_string()));
        match host {
            Host::Literal(literal) => seen.with(if address_of(literal) == Some(client) {
                Finding::pass(HELO_LITERAL.name(), host.to_string())
            } else {
                Finding::fail(HELO_LITERAL.name(), format!("{client} says it is {host}"))
            }),
            Host::Domain(domain) => match qualified(domain) {
                Some(name) => self.resolve(seen, &name, client).await,
                None => seen.with(Finding::fail(HELO_QUALIFIED.name(), format!("{domain} is not fully qualified"))),
            },
        }
    }

    /// Asks for the addresses of the client's family, and for others only where it has none of these.
    async fn resolve(&self, seen: Observation, name: &DnsName, client: IpAddr) -> Observation {
        let seen = seen.with(Finding::pass(HELO_QUALIFIED.name(), name.to_string()));
        let has_address = || Finding::pass(HELO_ADDRESS.name(), name.to_string());
        let is_another = || Finding::fail(HELO_CONFIRMED.name(), format!("{name} is not at {client}"));
        match addresses(&*self.resolver, name, client.is_ipv6()).await {
            Answer::Found { data, .. } if data.contains(&client) => {
                seen.with(has_address()).with(Finding::pass(HELO_CONFIRMED.name(), format!("{name} is at {client}")))
            }
            Answer::Found { .. } => seen.with(has_address()).with(is_another()),
            Answer::Absent => match addresses(&*self.resolver, name, !client.is_ipv6()).await {
                Answer::Found { .. } => seen.with(has_address()).with(is_another()),
                Answer::Absent => seen.with(Finding::fail(HELO_ADDRESS.name(), format!("{name} has no address"))),
                Answer::Unknown => seen.with(no_answer(HELO_ADDRESS, name)),
            },
            Answer::Unknown => seen.with(no_answer(HELO_ADDRESS, name)).with(no_answer(HELO_CONFIRMED, name)),
        }
    }
}

fn no_answer(practice: Practice, name: &DnsName) -> Finding {
    Finding::unknown(practice.name(), format!("no answer for the addresses of {name}"))
}

fn address_of(literal: &AddressLiteral) -> Option<IpAddr> {
    literal.ip().map(|address| address.to_canonical())
}

/// The name, where it has a domain above it, and that is not a number: `192.0.2.1` is no name.
pub(crate) fn qualified(domain: &Domain) -> Option<DnsName> {
    let name = DnsName::try_from(domain).ok()?;
    let (_, top) = name.as_str().rsplit_once('.')?;
    let is_number = top.bytes().all(|octet| octet.is_ascii_digit());
    (!is_number).then_some(name)
}

impl fmt::Debug for Helo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Helo")
            .field("domains", &self.domains)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Check for Helo {
    fn practices(&self) -> &[Practice] {
        &[HELO_QUALIFIED, HELO_LITERAL, HELO_ADDRESS, HELO_CONFIRMED, HELO_OURS]
    }

    fn scope(&self) -> Scope {
        Scope::Client
    }

    fn asks_dns(&self) -> bool {
        true
    }

    async fn examine(&self, subject: &Subject<'_>) -> Observation {
        self.examine_connection(subject.connection()).await
    }
}

#[cfg(test)]
mod tests {
    use smtp_core::{RecordType, ResolverTable};

    use super::*;
    use crate::finding::Outcome::{self, Fail, Pass, Unknown};

    const LOCAL: &str = "192.0.2.25";

    fn helo(dns: &ResolverTable) -> Helo {
        let domain = |text: &str| Domain::parse(text).expect("a domain");
        Helo::new(dns.clone())
            .with_domain(domain("mx.example.org"))
            .with_domain(domain("b\u{fc}cher.example"))
            .with_address("203.0.113.25".parse().expect("an address"))
            .with_address("2001:db8::25".parse().expect("an address"))
    }

    async fn seen(dns: &ResolverTable, argument: &str, client: &str) -> Vec<(&'static str, Outcome)> {
        let host = Host::parse(argument).expect("an argument");
        let address = |text: &str| text.parse().expect("an address");
        let seen = helo(dns).examine_greeting(&host, address(client), address(LOCAL)).await;
        let findings = seen.findings().iter().map(|finding| (finding.practice(), finding.outcome()));
        findings.filter(|finding| *finding != ("helo-ours", Pass)).collect()
    }

    #[tokio::test] // PRACTICES S10, S12a: 40 arguments
    async fn s10_every_kind_of_argument() {
        let dns = ResolverTable::new();
        let label = "x".repeat(63);
        let (longest, too_long) = (format!("{label}.example"), format!("x{label}.example"));
        let qualified = Some(vec![("helo-qualified", Pass), ("helo-address", Fail)]);
        let not_qualified = Some(vec![("helo-qualified", Fail)]);
        let (own_literal, other_literal) = (Some(vec![("helo-literal", Pass)]), Some(vec![("helo-literal", Fail)]));
        let ours = Some(vec![("helo-ours", Fail)]);
        for (argument, expected) in [
            ("client.example", &qualified),
            ("CLIENT.Example", &qualified),
            ("a.b.c.d.e.example", &qualified),
            ("1.example", &qualified),
            ("192-0-2-1.example", &qualified),
            ("my_host.example", &qualified),
            ("xn--bcher-kva.invalid", &qualified),
            ("b\u{fc}cher.invalid", &qualified),
            ("localhost.localdomain", &qualified),
            ("host.local", &qualified),
            ("client.x1", &qualified),
            (&longest, &qualified),
            ("example", &not_qualified),
            ("localhost", &not_qualified),
            ("DESKTOP-1A2B3C", &not_qualified),
            ("x", &not_qualified),
            ("1", &not_qualified),
            ("192.0.2.1", &not_qualified),
            ("192.0.2.300", &not_qualified),
            ("1.2.3.4.5", &not_qualified),
            ("[192.0.2.1]", &own_literal),
            ("[IPv6:::ffff:192.0.2.1]", &own_literal),
            ("[192.0.2.2]", &other_literal),
            ("[127.0.0.1]", &other_literal),
            ("[IPv6:2001:db8::1]", &other_literal),
            ("[X-new:192.0.2.1]", &other_literal),
            ("mx.example.org", &ours),
            ("MX.EXAMPLE.ORG", &ours),
            ("B\u{dc}CHER.example", &ours),
            ("xn--bcher-kva.example", &ours),
            ("[192.0.2.25]", &ours),
            ("203.0.113.25", &ours),
            ("[IPv6:2001:DB8:0::25]", &ours),
            // Syntax: refused at once by the server, `501 5.5.2`, and no check sees it.
            ("", &None),
            ("client..example", &None),
            (".client.example", &None),
            ("client.example.", &None),
            ("-client.example", &None),
            ("client example", &None),
            ("[192.0.2.1", &None),
            ("[192.0.2.300]", &None),
            (&too_long, &None),
        ] {
            let found = match Host::parse(argument) {
                Ok(_) => Some(seen(&dns, argument, "192.0.2.1").await),
                Err(_) => None,
            };
            assert_eq!(found, *expected, "{argument}");
        }
    }

    #[tokio::test] // PRACTICES S8, S11, S12
    async fn s8_s11_s12_a_name_that_leads_to_the_client_is_good() {
        let dns = ResolverTable::new()
            .with_ptr("192.0.2.1", "b.example")
            .with_address("a.example", "198.51.100.7")
            .with_address("a.example", "192.0.2.1")
            .with_address("a.example", "2001:db8::1")
            .with_address("other.example", "192.0.2.7")
            .with_address("six.example", "2001:db8::1")
            .with_unknown_record("half.example", RecordType::Aaaa)
            .with_unknown("slow.example");
        let qualified = ("helo-qualified", Pass);
        let good = vec![qualified, ("helo-address", Pass), ("helo-confirmed", Pass)];
        let another = vec![qualified, ("helo-address", Pass), ("helo-confirmed", Fail)];
        let none = vec![qualified, ("helo-address", Fail)];
        let unknown = vec![qualified, ("helo-address", Unknown), ("helo-confirmed", Unknown)];
        let half_known = vec![qualified, ("helo-address", Unknown)];
        for (argument, client, expected) in [
            ("a.example", "192.0.2.1", &good),
            ("a.example", "::ffff:192.0.2.1", &good),
            ("A.EXAMPLE", "2001:db8::1", &good),
            ("other.example", "192.0.2.1", &another),
            ("other.example", "2001:db8::1", &another),
            ("six.example", "192.0.2.1", &another),
            ("gone.example", "192.0.2.1", &none),
            ("gone.example", "2001:db8::1", &none),
            ("slow.example", "192.0.2.1", &unknown),
            ("half.example", "2001:db8::1", &unknown),
            ("half.example", "192.0.2.1", &half_known),
        ] {
            assert_eq!(seen(&dns, argument, client).await, *expected, "{argument} {client}");
        }
        assert!(dns.asked().iter().all(|(name, _)| name.as_str() != "b.example"), "the reverse name has no say");
    }

    #[tokio::test] // PRACTICES S12a
    async fn s12a_our_own_hosts_may_use_our_names() {
        let dns = ResolverTable::new().with_address("mx.example.org", "203.0.113.25");
        for client in ["127.0.0.1", "::1", LOCAL, "203.0.113.25", "2001:db8::25", "::ffff:203.0.113.25"] {
            let found = seen(&dns, "mx.example.org", client).await;
            assert!(!found.contains(&("helo-ours", Fail)), "{client}: {found:?}");
        }
        assert_eq!(seen(&dns, "sub.mx.example.org", "192.0.2.1").await.len(), 2, "a name below is another");
    }
}
