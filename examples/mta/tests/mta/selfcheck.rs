//! `mta check`: what it sees of a server that runs, and how it ends.

use std::fs;
use std::process::Output;

use crate::common::smart_host::nobody;
use crate::common::{Mta, mta, text};
use crate::name_server::NameServer;

/// Where nothing is wrong that this host could know of.
const ZONE: [&str; 12] = [
    "mx.example.org A 192.0.2.1",
    "1.2.0.192.in-addr.arpa PTR mx.example.org",
    "example.org SOA hostmaster.example.org",
    "example.org NS ns1.example.org",
    "example.org NS ns2.example.net",
    "example.org MX 10 mx.example.org",
    "example.org TXT v=spf1 mx -all",
    "mx.example.org TXT v=spf1 a -all",
    "_dmarc.example.org TXT v=DMARC1; p=reject; rua=mailto:alice@example.org",
    "example.net MX 10 mx.example.org",
    "example.net TXT v=spf1 mx -all",
    "other.example MX 10 mx.example.org",
];

fn config(dns: &str) -> String {
    format!(
        "hostname = \"mx.example.org\"\ndomains = [\"example.org\", \"example.net\"]\nusers = [\"alice@example.org\"]\n\
         aliases = {{ \"abuse@example.org\" = [\"alice@example.org\"] }}\n[policy]\ndns = [\"{dns}\"]\n"
    )
}

/// What `mta check` says of the server.
fn check(server: &Mta, arguments: &[&str]) -> Output {
    let address = server.address.to_string();
    let mut command = mta();
    command.current_dir(server.directory.path()).args(["check", "--config", "mta.toml", "--listen", &address]);
    command.args(arguments).output().expect("it runs")
}

/// The lines of findings as `X name subject`.
fn findings(output: &Output) -> Vec<String> {
    let said = text(&output.stdout);
    let heads = said.lines().filter(|line| !line.starts_with(' ') && line.contains(" ("));
    let short = |line: &str| {
        let (head, _) = line.split_once(": ").expect("a subject");
        let (id, subject) = head.split_once(" (").expect("a practice");
        format!("{id} {}", subject.split_once(") ").expect("a practice").1)
    };
    heads.map(short).collect()
}

#[test] // PRACTICES S4, S15: what is right is called right, and nobody gets a message
fn s4_s15_a_server_that_is_right_is_told_so() {
    let dns = NameServer::start(&ZONE);
    let server = Mta::with_config(&config(&dns.address.to_string()));
    let output = check(&server, &["example.org", "--address", "192.0.2.1"]);
    let (said, findings) = (text(&output.stdout), findings(&output));
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    let address = server.address;
    for expected in [
        "+ host-address 192.0.2.1".to_owned(),
        "+ ptr-confirmed 192.0.2.1".to_owned(),
        "+ soa-contact example.org".to_owned(),
        "+ name-servers example.org".to_owned(),
        "+ domain-alias example.org".to_owned(),
        "+ mx-ours example.org".to_owned(),
        "+ spf-pass 192.0.2.1 for example.org".to_owned(),
        "+ dmarc-policy _dmarc.example.org".to_owned(),
        "+ abuse abuse@example.org".to_owned(),
        "- hostmaster hostmaster@example.org".to_owned(),
        format!("+ listening {address}"),
        format!("+ banner {address}"),
        "+ role-mailbox <postmaster>".to_owned(),
        "+ role-mailbox <postmaster@example.org>".to_owned(),
        "+ role-mailbox <abuse@example.org>".to_owned(),
        "+ role-mailbox <security@example.org>".to_owned(),
        "- contacts example.org".to_owned(),
        "- contacts 192.0.2.1".to_owned(),
    ] {
        assert!(findings.contains(&expected), "{expected}\n{said}");
    }
    assert!(findings.iter().all(|finding| !finding.starts_with(['X', '?'])), "{said}");
    assert!(findings.iter().all(|finding| !finding.ends_with("example.net")), "one domain was asked for: {said}");
    assert_eq!(server.queue_says(&["list"]), "the queue is empty\n");
    assert!(server.new_files("example.org/alice").is_empty());
}

#[test] // PRACTICES S4
fn s4_what_is_wrong_is_named_with_what_to_publish() {
    let without: Vec<_> = ZONE.into_iter().filter(|line| !line.contains(" PTR ")).collect();
    let dns = NameServer::start(&without);
    let server = Mta::with_config(&config(&dns.address.to_string()));
    let output = check(&server, &["--address", "192.0.2.1", "--sends-for", "list.example.org"]);
    let (said, findings) = (text(&output.stdout), findings(&output));
    assert_eq!(output.status.code(), Some(1), "{said}");
    let errors: Vec<_> = findings.iter().filter(|finding| finding.starts_with('X')).collect();
    assert_eq!(errors, ["X ptr 192.0.2.1", "X spf list.example.org"], "{said}");
    assert!(said.contains("\n          1.2.0.192.in-addr.arpa. IN PTR mx.example.org.\n"), "{said}");
    // Without a domain all of the configuration are looked at.
    assert!(findings.contains(&"! dmarc example.net".to_owned()), "{said}");
    assert!(findings.contains(&"- contacts list.example.org".to_owned()), "{said}");
}

#[test] // PRACTICES S15: a role without a mailbox, as the server says it
fn s15_a_role_that_the_server_refuses_is_an_error() {
    let dns = NameServer::start(&ZONE);
    let server = Mta::with_config(&config(&dns.address.to_string()));
    let output = check(&server, &["other.example", "--address", "192.0.2.1"]);
    let findings = findings(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(findings.contains(&"X role-mailbox <postmaster@other.example>".to_owned()), "{findings:?}");
    assert!(findings.contains(&"+ role-mailbox <postmaster>".to_owned()), "{findings:?}");
}

#[test] // PRACTICES S16: "the list equals the domains in the queue's records"
fn s16_contacts_are_wanted_for_each_domain_under_which_mail_leaves() {
    let dns = NameServer::start(&ZONE);
    let relay = format!("\n[relay]\nsmart_host = \"{}\"\nclients = [\"127.0.0.0/8\"]\n", nobody());
    let server = Mta::with_config(&(config(&dns.address.to_string()) + &relay));
    for (from, to) in [
        ("news@lists.example", "carol@other.example"),
        ("<>", "carol@other.example"),
        ("bob@example.org", "dave@other.example"),
        ("stranger@client.example", "alice@example.org"),
    ] {
        assert!(server.send(from, &[to], b"Subject: x\n\nx\n").status.success(), "{from}");
    }
    let contacts = |output: &Output| {
        let all = findings(output).into_iter();
        all.filter_map(|line| line.strip_prefix("- contacts ").map(str::to_owned)).collect::<Vec<_>>()
    };
    let output = check(&server, &["--address", "192.0.2.1"]);
    assert_eq!(
        contacts(&output),
        ["example.net", "example.org", "lists.example", "192.0.2.1"],
        "{}",
        text(&output.stdout)
    );
}

#[test] // PRACTICES P5: what nobody answers is neither right nor wrong, and has a status of its own
fn p5_without_dns_the_status_is_3() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("mta.toml"), config("127.0.0.1:1")).expect("written");
    let mut command = mta();
    command.current_dir(directory.path()).args([
        "check",
        "--config",
        "mta.toml",
        "--dns-only",
        "--address",
        "192.0.2.1",
    ]);
    let output = command.output().expect("it runs");
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(3), "{said}{}", text(&output.stderr));
    assert!(said.lines().last().is_some_and(|sums| sums.starts_with("0 error, ")), "{said}");
}

#[test]
fn a_server_that_is_away_is_an_error_and_a_wrong_command_line_is_2() {
    let dns = NameServer::start(&ZONE);
    let mut server = Mta::with_config(&config(&dns.address.to_string()));
    server.terminate();
    let output = check(&server, &["--address", "192.0.2.1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(findings(&output).contains(&format!("X listening {}", server.address)), "{}", text(&output.stdout));
    for arguments in [&["not a domain"][..], &["--address", "here"], &["--dkim", "s1"], &["--nothing"]] {
        assert_eq!(check(&server, arguments).status.code(), Some(2), "{arguments:?}");
    }
    let output = check(&server, &["--dkim", "s1=nowhere.pem"]);
    assert_eq!(text(&output.stderr), "cannot read nowhere.pem: No such file or directory (os error 2)\n");
}

#[test] // PRACTICES S15: nobody would read the mail of those who are troubled
fn s15_a_role_without_a_final_destination_stops_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = "domains = [\"example.org\"]\nusers = [\"alice@example.org\"]\n";
    for (more, key) in [
        ("postmaster = \"nobody@example.org\"\n", "postmaster"),
        ("[aliases]\n\"abuse@example.org\" = [\"nobody@example.org\"]\n", "aliases"),
        ("[aliases]\n\"abuse@example.org\" = [\"security@example.org\"]\n", "aliases"),
        ("[aliases]\n\"abuse@example.org\" = []\n", "aliases"),
    ] {
        fs::write(directory.path().join("mta.toml"), format!("{base}{more}")).expect("written");
        let output =
            mta().current_dir(directory.path()).args(["run", "--config", "mta.toml"]).output().expect("it ends");
        let error = text(&output.stderr);
        assert!(output.status.code() == Some(1) && error.contains(key), "{more}: {error}");
    }
}
