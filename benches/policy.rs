//! What judgement costs: a connection with one message through a server in memory, without a policy, with one that looks at
//! nothing, and with `smtp_policy::recommended`, which is what `mta` has by default, and two lists of clients besides. DNS is a table and
//! the client is known, so it is the cost with a warm cache. The message has an RSA and an Ed25519 signature, and both verify.
//!
//! The difference between two lines of one size is what the policy costs; run it where nothing else runs.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use smtp_core::{Accepted, Domain, Listener, Message, Policy, ResolverTable, Server};
use smtp_policy::{Action, Chain, DkimKey, DkimSigner, DmarcReports, DnsList, Dnsbl, Dnswl, MemoryStateStore, Preset};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::runtime::Runtime;

const RSA: &[u8] = include_bytes!("../smtp-policy/tests/data/rsa2048.pem");
const ED25519: &[u8] = include_bytes!("../smtp-policy/tests/data/ed25519.pem");
/// Messages of a client after which greylisting knows it.
const LEARNT_AFTER: u32 = 6;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = Runtime::new().expect("threads");
    let (signer, dns) = signer();
    let mut group = criterion.benchmark_group("policy");
    group.sample_size(50).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(4));
    group.throughput(Throughput::Elements(1));
    for octets in [2 << 10, 100 << 10] {
        let session = session(&signer, octets);
        let of_size = |what: &str| format!("{} KiB, {what}", octets >> 10);
        let reports = DmarcReports::new(MemoryStateStore::new(), "dmarc@example.org".parse().expect("a mailbox"));
        for (what, policy) in [
            ("no policy", None),
            ("a policy that looks at nothing", Some(Chain::new("nothing", Preset::Bcp))),
            ("recommended", Some(recommended(&dns))),
            ("recommended, with reports of DMARC", Some(recommended(&dns).recorded_by(reports))),
        ] {
            let server = runtime.block_on(server(policy.map(Arc::new)));
            for _ in 0..LEARNT_AFTER {
                runtime.block_on(serve(&server, &session));
            }
            group.bench_function(of_size(what), |bencher| {
                bencher.iter(|| runtime.block_on(serve(&server, black_box(&session))));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

/// What an embedder has in one line, with one list of bad clients and one of good ones. The same message comes again and again, so
/// nothing is done about that.
fn recommended(dns: &ResolverTable) -> Chain {
    let hostname: Domain = "mx.example.org".parse().expect("a domain");
    let list = |zone: &str| DnsList::new(zone.parse().expect("a name"));
    let domains = ["example.org".parse().expect("a domain")];
    smtp_policy::recommended(Preset::Bcp, &hostname, domains, dns.clone(), MemoryStateStore::new())
        .with_action("loop", Action::Observe)
        .expect("it is looked at")
        .with(Dnsbl::new(dns.clone()).with(list("bad.example")))
        .with(Dnswl::new(dns.clone()).with(list("good.example")))
}

fn signer() -> (DkimSigner, ResolverTable) {
    let rsa = DkimKey::from_pem("r1", RSA).expect("a key");
    let ed25519 = DkimKey::from_pem("e1", ED25519).expect("a key");
    let mut dns = ResolverTable::new()
        .with_ptr("192.0.2.1", "mail.client.example")
        .with_address("mail.client.example", "192.0.2.1")
        .with_mx("client.example", 10, "mail.client.example")
        .with_txt("client.example", "v=spf1 include:_spf.client.example -all")
        .with_txt("_spf.client.example", "v=spf1 ip4:192.0.2.0/28 a:mail.client.example ~all")
        .with_txt("r1._domainkey.client.example", rsa.record())
        .with_txt("e1._domainkey.client.example", ed25519.record())
        .with_txt("_dmarc.client.example", "v=DMARC1; p=reject; rua=mailto:rua@client.example");
    for zone in ["bad.example", "good.example"] {
        // RFC 5782 §5: what says that a list works.
        dns = dns.with_address(&format!("2.0.0.127.{zone}"), "127.0.0.2");
    }
    (DkimSigner::new(&"client.example".parse().expect("a domain"), rsa).with_key(ed25519), dns)
}

/// What a client says that has one message of that size.
fn session(signer: &DkimSigner, octets: usize) -> Vec<u8> {
    let line = format!("{}\r\n", "x".repeat(70));
    let message = format!(
        "From: Me <me@client.example>\r\nTo: you@example.org\r\nSubject: hello\r\n\
         Date: Sun, 22 Nov 2026 01:44:23 +0000\r\nMessage-ID: <1@client.example>\r\n\r\n{}",
        line.repeat(octets / line.len())
    );
    let fields = signer.sign(message.as_bytes()).expect("it has an author");
    let fields: Vec<u8> = fields.iter().flat_map(|field| field.as_bytes().to_vec()).collect();
    let envelope = "EHLO mail.client.example\r\nMAIL FROM:<me@client.example>\r\nRCPT TO:<you@example.org>\r\nDATA\r\n";
    [envelope.as_bytes(), &fields, message.as_bytes(), b".\r\nQUIT\r\n"].concat()
}

async fn server(policy: Option<Arc<Chain>>) -> Server {
    let builder = Server::builder("mx.example.org").local_domain("example.org");
    let builder = match policy {
        Some(policy) => builder.policy(policy as Arc<dyn Policy>),
        None => builder,
    };
    let listener = Listener::new("127.0.0.1:0").refuse_early_talkers(false);
    let taken = |_: Message| async { Ok(Accepted::all()) };
    builder.listener(listener).deliver(taken).bind().await.expect("a valid configuration")
}

/// One connection. Panics where the message was not taken: a refusal costs less.
async fn serve(server: &Server, session: &[u8]) {
    let (mut client, stream) = duplex(1 << 20);
    client.write_all(session).await.expect("there is room");
    // Else the server lingers for a client that might not have read its last words.
    client.shutdown().await.expect("a pipe");
    let (peer, local) = (SocketAddr::from(([192, 0, 2, 1], 1)), SocketAddr::from(([192, 0, 2, 25], 25)));
    server.serve_connection(stream, peer, local).await;
    let mut said = String::new();
    client.read_to_string(&mut said).await.expect("it said something");
    assert!(said.contains("\r\n250 2.0.0"), "{said}");
}
