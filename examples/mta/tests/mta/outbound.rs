//! What leaves is signed and rewritten, and what comes back finds its way.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use smtp_core::{Content, ResolverTable};
use smtp_policy::{ArcChain, ArcResult, Dkim, DkimResult};

use crate::common::smart_host::{SmartHost, Taken};
use crate::common::{Mta, mta, text, wait_until};

/// `mta dkim generate`: what it printed.
fn generate(directory: &Path, domain: &str) -> String {
    let output = mta().args(["dkim", "generate", domain]).current_dir(directory).output().expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// What a zone with these lines answers.
fn zone(printed: &str) -> ResolverTable {
    let lines = printed.lines().filter(|line| line.contains(" IN TXT "));
    lines.fold(ResolverTable::new(), |dns, line| {
        let (name, strings) = line.split_once(". IN TXT ( ").expect("a record");
        let text: Vec<_> = strings.split('"').skip(1).step_by(2).collect();
        assert!(text.iter().all(|string| string.len() <= 255), "RFC 1035 §3.3");
        dns.with_txt(name, text.concat())
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}

fn next_hop(smart_host: SocketAddr, relay: &str) -> String {
    format!(
        "[queue]\nfirst_retry_seconds = 1\nlongest_wait_seconds = 1\n[relay]\nsmart_host = \"{smart_host}\"\n{relay}"
    )
}

/// The next message that the smart host took.
fn taken(smart_host: &SmartHost, count: usize) -> Taken {
    wait_until("the smart host has it", || smart_host.taken().len() >= count);
    smart_host.taken().swap_remove(count - 1)
}

fn send(mta: &Mta, from: &str, to: &str, content: &[u8]) {
    let output = mta.send(from, &[to], content);
    assert!(output.status.success(), "{}{}{}", text(&output.stdout), text(&output.stderr), mta.log());
}

const USERS: &str = "hostname = \"mx.example.org\"\ndomains = [\"example.org\"]\nusers = [\"alice@example.org\"]\n";
const MESSAGE: &[u8] = b"From: Alice <alice@example.org>\nSubject: x\n\nHello  there \n\n\n";

#[test] // PRACTICES S39: from keys to signatures that verify
fn s39_mail_of_users_is_signed_by_the_keys_that_were_made() {
    let directory = tempfile::tempdir().expect("a directory");
    let printed = generate(directory.path(), "example.org");
    let tables = printed.split("\n\n").filter(|part| part.starts_with("[[dkim]]")).collect::<Vec<_>>().join("\n\n");
    for name in ["dkim/example.org.mtar.pem", "dkim/example.org.mtae.pem"] {
        let mode = fs::metadata(directory.path().join(name)).expect("a key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let again =
        mta().args(["dkim", "generate", "example.org"]).current_dir(directory.path()).output().expect("it runs");
    let said = text(&again.stderr);
    assert!(!again.status.success() && said.contains("is there already: choose another --selector"), "{said}");

    let tables = tables.replace("\"dkim/", &format!("\"{}/dkim/", directory.path().display()));
    let smart_host = SmartHost::start();
    let relay = next_hop(smart_host.address, "clients = [\"127.0.0.0/8\"]\n");
    let mta_toml = format!("{USERS}{relay}{tables}\n");
    let server = Mta::with_config(&mta_toml);
    send(&server, "alice@example.org", "bob@else.example", MESSAGE);
    let message = taken(&smart_host, 1);
    let content = text(&message.content);
    assert!(
        content.starts_with("DKIM-Signature: v=1; a=rsa-sha256;")
            && content.ends_with("\r\n\r\nHello  there \r\n\r\n\r\n")
    );
    let dns = zone(&printed);
    let verified =
        runtime().block_on(Dkim::new(dns.clone()).verify(&Content::new(message.content))).expect("in memory");
    let results: Vec<_> = verified.0.iter().map(|signature| signature.result).collect();
    assert_eq!(results, [DkimResult::Pass; 2], "{content}");

    // The same records from the configuration; and what says nothing of us is not signed.
    let shown =
        mta().args(["dkim", "show", "mta.toml"]).current_dir(server.directory.path()).output().expect("it runs");
    let records: Vec<_> = printed.lines().filter(|line| line.contains("IN TXT")).collect();
    assert_eq!(text(&shown.stdout).lines().collect::<Vec<_>>(), records);
    send(&server, "alice@example.org", "bob@else.example", b"From: me@other.example\n\nx\n");
    assert!(!text(&taken(&smart_host, 2).content).contains("DKIM-Signature"));
}

#[test]
fn a_key_that_is_not_there_is_said_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[[dkim]]\ndomain = \"a.example\"\nselector = \"x\"\nkey = \"none.pem\"\n";
    fs::write(directory.path().join("mta.toml"), config).expect("written");
    let mut command = mta();
    command.args(["run", "--config", "mta.toml", "--listen", "127.0.0.1:0"]).current_dir(directory.path());
    let output = command.output().expect("it runs");
    assert!(!output.status.success() && text(&output.stderr).contains("cannot use the key none.pem"), "{output:?}");
}

/// Strangers are not looked at, so that nothing asks for DNS.
const FORWARDS: &str = "[aliases]\n\"info@example.org\" = [\"carol@else.example\", \"alice@example.org\"]\n\
                        \"list@example.org\" = [\"dave@else.example\"]\n\"owner-list@example.org\" = [\"alice@example.org\"]\n";

#[test] // PRACTICES S30, S32, S39
fn s30_s32_s39_what_an_alias_leads_out_is_rewritten_once_sealed_and_finds_its_way_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let printed = generate(directory.path(), "example.org");
    let tables = printed.split_once("\n\n[[dkim]]").expect("tables").1;
    let tables = format!("[[dkim]]{tables}").replace("\"dkim/", &format!("\"{}/dkim/", directory.path().display()));
    let smart_host = SmartHost::start();
    smart_host.says("carol@else.example", "451 4.2.1 Later");
    let mut server = Mta::with_config(&format!("{USERS}{}{FORWARDS}{tables}", next_hop(smart_host.address, "")));
    send(
        &server,
        "stranger@client.example",
        "info@example.org",
        b"From: stranger@client.example\nSubject: x\n\nHello\n",
    );
    server.deferred();
    let envelope = server.queue_says(&["list"]);
    // Another key, and a restart: the message leaves under the path that it was given.
    server.terminate();
    let secret = server.data.join(".srs-secret");
    assert_eq!(fs::metadata(&secret).expect("made at the first start").permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&secret).expect("a secret");
    fs::write(&secret, format!("another secret of ours\n{first}")).expect("written");
    let server = server.restarted();
    assert!(!envelope.is_empty());
    smart_host.says("carol@else.example", "250 2.1.5 Now");
    let forwarded = taken(&smart_host, 1);
    assert!(
        forwarded.from.starts_with("SRS0=") && forwarded.from.ends_with("=client.example=stranger@example.org"),
        "{forwarded:?}"
    );
    assert_eq!(forwarded.to, ["carol@else.example"]);
    let content = text(&forwarded.content);
    assert!(content.starts_with("ARC-Seal: i=1; a=rsa-sha256; cv=none; d=example.org; s=mtar;"), "{content}");
    assert!(!content.contains("DKIM-Signature"), "it is not ours: {content}");
    let chain = ArcChain::new(zone(&printed));
    let sealed = runtime().block_on(chain.verify(&Content::new(forwarded.content))).expect("in memory");
    assert_eq!(sealed.result, ArcResult::Pass, "{sealed:?} {content}");

    // A notification finds its way back, also where the key has changed; a forged one does not.
    send(&server, "<>", &forwarded.from, b"Subject: undeliverable\n\nx\n");
    let back = taken(&smart_host, 2);
    assert_eq!((back.from.as_str(), &back.to[..]), ("", &["stranger@client.example".to_owned()][..]));
    let forged = forwarded.from.replacen("=stranger@", "=somebody@", 1);
    let refused = server.send("<>", &[&forged], b"x: y\n\nx\n");
    let said = text(&refused.stdout) + &text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("550 5.7.1"), "{said}");
    // Nobody relays: neither by the address of somebody else, nor through an alias.
    let refused = server.send("stranger@client.example", &["carol@else.example"], b"x: y\n\nx\n");
    assert!(!refused.status.success());
}

#[test] // PRACTICES S31: who owns a list hears of its failures
fn s31_a_list_leaves_under_its_owner() {
    let smart_host = SmartHost::start();
    let server =
        Mta::with_config(&format!("{USERS}{}{FORWARDS}[batv]\nsign = true\n", next_hop(smart_host.address, "")));
    send(&server, "stranger@client.example", "list@example.org", b"Subject: x\n\nHello\n");
    let sent = taken(&smart_host, 1);
    assert!(sent.from.starts_with("prvs=") && sent.from.ends_with("=owner-list@example.org"), "{sent:?}");
    send(&server, "<>", &sent.from, b"Subject: undeliverable\n\nx\n");
    let stored = server.delivered("example.org/alice");
    assert!(fs::read_to_string(&stored[0]).expect("a copy").contains("Subject: undeliverable"));
    // What comes to the list itself is no answer to anything that we sent.
    assert!(!server.send("<>", &["list@example.org"], b"Subject: y\n\nx\n").status.success());
}

#[test] // BATV: opt-in
fn batv_notifications_need_the_tag_of_what_we_sent() {
    let smart_host = SmartHost::start();
    let relay = next_hop(smart_host.address, "clients = [\"127.0.0.0/8\"]\n");
    let server = Mta::with_config(&format!("{USERS}{relay}[batv]\nsign = true\n"));
    send(&server, "alice@example.org", "bob@else.example", MESSAGE);
    let sent = taken(&smart_host, 1);
    assert!(sent.from.starts_with("prvs=") && sent.from.ends_with("=alice@example.org"), "{sent:?}");
    send(&server, "<>", &sent.from, b"Subject: undeliverable\n\nx\n");
    assert_eq!(server.delivered("example.org/alice").len(), 1);
    let refused = server.send("<>", &["alice@example.org"], b"Subject: forged\n\nx\n");
    let said = text(&refused.stdout) + &text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("550 5.7.1"), "{said}");
    send(&server, "stranger@client.example", "alice@example.org", b"Subject: plain\n\nx\n");
}
