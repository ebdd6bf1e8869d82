//! Everything at once: a client about which all is wrong, DNS that hangs for one client, and who is harmed by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::pending;
use smtp_core::{
    Answer, ClientConfig, DnsName, MailExchanger, Policy, Resolver, ResolverTable, TlsaRecord, async_trait,
};
use smtp_policy::{
    Action, ArcChain, Callouts, Chain, Dkim, Dmarc, DnsList, Dnsbl, Dnswl, DomainDnsbl, Greylist, Helo,
    MemoryStateStore, NullSender, Preset, ReverseDns, SenderDomain, Spf,
};
use tokio::time::Instant;

use crate::support::{Transcript, converse};

/// Every check that asks DNS, with all lists, callouts, and greylisting for everybody.
fn everything(dns: &(impl Resolver + Clone + 'static), preset: Preset) -> Chain {
    let list = |zone: &str| DnsList::new(zone.parse().expect("a name")).refusing();
    let domain = |name: &str| name.parse().expect("a domain");
    let config = ClientConfig::new("mx.example.org").expect("a name");
    let callouts = Callouts::new(dns.clone(), MemoryStateStore::new(), config)
        .with_domain(domain("example.org"))
        .to_address("127.0.0.1:1".parse().expect("an address"));
    let greylist = Greylist::new(MemoryStateStore::new());
    Chain::new("everything", preset)
        .with(ReverseDns::new(dns.clone()))
        .with(Helo::new(dns.clone()).with_domain(domain("mx.example.org")).with_domain(domain("example.org")))
        .with(Dnsbl::new(dns.clone()).with(list("bad.example")).with(list("worse.example")))
        .with(DomainDnsbl::new(dns.clone()).with(list("domains.example")))
        .with(Dnswl::new(dns.clone()).with(DnsList::new("good.example".parse().expect("a name"))))
        .with(SenderDomain::new(dns.clone()))
        .with(NullSender)
        .with(Spf::new(dns.clone()))
        .with(Dkim::new(dns.clone()))
        .with(ArcChain::new(dns.clone()))
        .with(Dmarc::new(dns.clone()))
        .with(callouts.of_senders())
        .with(callouts.of_clients())
        .with(greylist.clone())
        .with_greylisting(greylist)
        .with_action("familiar", Action::Greylist)
        .and_then(|chain| chain.with_action("callout-sender", Action::Defer))
        .and_then(|chain| chain.with_action("callout-client", Action::Defer))
        .expect("practices")
}

/// The client is on every list, has no name, and its sender's domain disowns it.
fn damning() -> ResolverTable {
    let mut dns = ResolverTable::new().with_txt("forged.example", "v=spf1 -all").with_mx(
        "forged.example",
        1,
        "mx.forged.example",
    );
    for zone in ["bad.example", "worse.example"] {
        dns = dns
            .with_address(&format!("2.0.0.127.{zone}"), "127.0.0.2")
            .with_address(&format!("66.2.0.192.{zone}"), "127.0.0.2");
    }
    dns.with_address("test.domains.example", "127.0.0.2").with_address("forged.example.domains.example", "127.0.0.2")
}

const USER: &str = "RCPT TO:<user@example.org>";
const NOBODY: &str = "RCPT TO:<nobody@example.org>";
const POSTMASTER: &str = "RCPT TO:<postmaster>";
const ABUSE: &str = "RCPT TO:<ABUSE@example.org>";

async fn say(policy: Arc<dyn Policy>, helo: &str, recipients: &[&str]) -> Transcript {
    let helo = format!("EHLO {helo}");
    let mut lines = vec![helo.as_str(), "MAIL FROM:<sender@forged.example>"];
    lines.extend(recipients);
    lines.extend(["DATA", "From: <sender@forged.example>\r\nSubject: help\r\n\r\nx", ".", "QUIT"]);
    converse(vec![policy], "192.0.2.66", &lines).await
}

#[tokio::test] // PRACTICES P3, P4, S17, S44, S45: greeting 220, EHLO 250, MAIL 250, RCPT user 550, RCPT postmaster 250
async fn s45_a_client_about_which_all_is_wrong_reaches_role_mailboxes_and_nobody_else() {
    for preset in [Preset::Bcp, Preset::BcpStrict] {
        // Our own name, an address that is not its own, and a name that is none.
        for helo in ["mx.example.org", "[198.51.100.9]", "localhost"] {
            for recipients in [
                [USER, NOBODY, POSTMASTER, ABUSE],
                [ABUSE, POSTMASTER, NOBODY, USER],
                [POSTMASTER, USER, ABUSE, NOBODY],
                [NOBODY, ABUSE, USER, POSTMASTER],
            ] {
                let seen = say(Arc::new(everything(&damning(), preset)), helo, &recipients).await;
                assert!(seen.greeting.starts_with("220 ") && seen.replies[0].starts_with("250 "), "{seen:?}");
                for (recipient, reply) in recipients.iter().zip(&seen.replies[1..]) {
                    let expected = match *recipient {
                        USER => "550 5.7.",
                        NOBODY => "550 5.1.1 ",
                        _ => "250 2.1.5 ",
                    };
                    assert!(reply.starts_with(expected), "{preset:?} {helo} {recipient}: {seen:?}");
                }
                let [delivered] = &seen.delivered[..] else { panic!("{preset:?} {helo}: {seen:?}") };
                let paths: Vec<_> = delivered.recipients.iter().map(|(path, _)| path.to_lowercase()).collect();
                assert_eq!(paths.len(), 2, "{paths:?}");
                assert!(paths.iter().all(|path| path.contains("postmaster") || path.contains("abuse")), "{paths:?}");
            }
        }
    }
}

#[tokio::test] // PRACTICES P3: where every recipient is refused, DATA is 554 5.5.1
async fn p3_where_every_recipient_is_refused_there_is_no_content() {
    let seen = say(Arc::new(everything(&damning(), Preset::Bcp)), "localhost", &[USER, NOBODY]).await;
    assert!(seen.replies[3].starts_with("554 5.5.1 ") && seen.delivered.is_empty(), "{seen:?}");
}

#[tokio::test] // PRACTICES S44, P7
async fn s44_an_unknown_user_is_refused_at_the_first_attempt_though_all_is_greylisted() {
    let dns = ResolverTable::new().with_host("mx.client.example", "192.0.2.66").with_mx(
        "forged.example",
        1,
        "mx.client.example",
    );
    let seen = say(Arc::new(everything(&dns, Preset::Bcp)), "mx.client.example", &[NOBODY, USER]).await;
    assert!(seen.replies[1].starts_with("550 5.1.1 ") && seen.replies[2].starts_with('4'), "{seen:?}");
}

/// A table that never answers about one name and what lies beneath, nor about one address.
#[derive(Clone)]
struct Hanging {
    table: ResolverTable,
    names: Vec<DnsName>,
}

impl Hanging {
    fn new(table: ResolverTable, names: &[&str]) -> Self {
        Self { table, names: names.iter().map(|name| name.parse().expect("a name")).collect() }
    }

    async fn wait(&self, name: &DnsName) {
        if self.names.iter().any(|hangs| name.is_within(hangs)) {
            pending::<()>().await;
        }
    }
}

#[async_trait]
impl Resolver for Hanging {
    async fn ipv4(&self, name: &DnsName) -> Answer<Vec<Ipv4Addr>> {
        self.wait(name).await;
        self.table.ipv4(name).await
    }

    async fn ipv6(&self, name: &DnsName) -> Answer<Vec<Ipv6Addr>> {
        self.wait(name).await;
        self.table.ipv6(name).await
    }

    async fn ptr(&self, address: IpAddr) -> Answer<Vec<DnsName>> {
        self.wait(&DnsName::reverse(address)).await;
        self.table.ptr(address).await
    }

    async fn mx(&self, name: &DnsName) -> Answer<Vec<MailExchanger>> {
        self.wait(name).await;
        self.table.mx(name).await
    }

    async fn txt(&self, name: &DnsName) -> Answer<Vec<Box<[u8]>>> {
        self.wait(name).await;
        self.table.txt(name).await
    }

    async fn tlsa(&self, name: &DnsName) -> Answer<Vec<TlsaRecord>> {
        self.wait(name).await;
        self.table.tlsa(name).await
    }
}

#[tokio::test(start_paused = true)] // SECURITY D-34, STANDARDS TO11: bounded time, and the goodput of others is unharmed
async fn d34_dns_that_hangs_for_one_client_costs_the_others_no_time() {
    let good = ResolverTable::new()
        .with_host("mx.honest.example", "198.51.100.1")
        .with_mx("honest.example", 1, "mx.honest.example")
        .with_txt("honest.example", "v=spf1 mx -all");
    let dns = Hanging::new(good, &["forged.example", "66.2.0.192.in-addr.arpa", "66.2.0.192.bad.example"]);
    let list = |zone: &str| DnsList::new(zone.parse().expect("a name")).refusing();
    let chain = Chain::new("most", Preset::BcpStrict)
        .with(ReverseDns::new(dns.clone()))
        .with(Helo::new(dns.clone()))
        .with(SenderDomain::new(dns.clone()))
        .with(Spf::new(dns.clone()))
        .with(Dnsbl::new(dns.clone()).with(list("bad.example")))
        .with(Dmarc::new(dns.clone()));
    let chain: Arc<dyn Policy> = Arc::new(chain);
    let begun = Instant::now();
    let hanging = async {
        let seen = say(chain.clone(), "mx.forged.example", &[USER]).await;
        (seen, begun.elapsed())
    };
    let others = async {
        for _ in 0..50 {
            let lines = [
                "EHLO mx.honest.example",
                "MAIL FROM:<a@honest.example>",
                USER,
                "DATA",
                "From: <a@honest.example>\r\n\r\nx",
                ".",
            ];
            let seen = converse(vec![chain.clone()], "198.51.100.1", &lines).await;
            assert_eq!(seen.delivered.len(), 1, "{seen:?}");
        }
        begun.elapsed()
    };
    let ((seen, waited), others) = tokio::join!(hanging, others);
    assert!(seen.replies[1].starts_with('4'), "{seen:?}");
    assert!(waited >= Duration::from_secs(1) && waited <= Duration::from_secs(60), "{waited:?}");
    assert_eq!(others, Duration::ZERO, "nobody else waits");
}

#[tokio::test(start_paused = true)] // SECURITY D-34, PRACTICES P5: every check, with DNS that never answers
async fn d34_where_nothing_in_dns_ever_answers_each_check_is_unknown_and_ends() {
    for preset in Preset::ALL {
        let dns = Hanging::new(ResolverTable::new(), &["example", "arpa", "org", "com"]);
        let begun = Instant::now();
        let seen = say(Arc::new(everything(&dns, preset)), "mx.client.example", &[USER, POSTMASTER]).await;
        assert!(seen.replies[1].starts_with('2') || seen.replies[1].starts_with('4'), "{preset:?}: {seen:?}");
        assert!(seen.replies[2].starts_with("250 "), "{preset:?}: {seen:?}");
        // At `RCPT` 30 s, behind the content 2 min.
        assert!(begun.elapsed() <= Duration::from_secs(150), "{preset:?}: {:?}", begun.elapsed());
        let last = seen.replies.iter().find(|reply| reply.starts_with('5'));
        assert_eq!(last, None, "{preset:?}: {seen:?}");
    }
}
