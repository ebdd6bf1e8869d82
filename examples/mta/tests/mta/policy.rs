//! Mail of strangers: what `[policy]` makes of it, and that nobody else is looked at.

use std::fs;

use crate::common::Mta;

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// The one message in that Maildir.
fn stored(mta: &Mta) -> String {
    let there = mta.delivered("localhost/alice");
    assert_eq!(there.len(), 1);
    let stored = fs::read_to_string(&there[0]).expect("a file");
    fs::remove_file(&there[0]).expect("removed");
    stored
}

const MESSAGE: &[u8] = b"From: <bob@client.example>\nX-Spam-Flag: NO\n\nx\n";

#[test]
fn clients_of_this_host_are_not_looked_at() {
    let mta = Mta::start();
    assert!(mta.send("bob@client.example", &["alice@localhost"], MESSAGE).status.success());
    let stored = stored(&mta);
    assert!(!stored.contains("Authentication-Results") && stored.contains("X-Spam-Flag: NO\r\n"), "{stored}");
    assert!(!mta.log().contains("judged"), "{}", mta.log());
}

/// With a name server that nobody is: all that DNS knows is unknown.
const STRANGERS: &str = "users = [\"alice@localhost\"]\n[policy]\ntrusted = []\ndns = [\"127.0.0.1:1\"]\n";

#[test] // PRACTICES P5: DNS that does not answer refuses nobody for good; B2505.9: an unknown domain of the sender, 451 4.1.8
fn p5_strangers_are_looked_at_and_wait_while_dns_is_away() {
    let mta = Mta::with_config(STRANGERS);
    let output = mta.send("bob@client.example", &["alice@localhost"], MESSAGE);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(!output.status.success() && said.contains("451 4.1.8"), "{said}");
    assert!(mta.send("<>", &["alice@localhost"], MESSAGE).status.success());
    let stored = stored(&mta);
    assert!(stored.contains("iprev=temperror policy.iprev=127.0.0.1"), "{stored}");
    assert!(stored.contains("Authentication-Results: localhost;"), "{stored}");
    assert!(!stored.contains("X-Spam-Flag"), "what arrives is no mark of ours: {stored}");
    mta.logged("judged");
}

#[test] // PRACTICES P1: another action than that of the preset
fn p1_the_configuration_says_what_is_done() {
    let mta = Mta::with_config(&format!("{STRANGERS}[policy.unknown]\nsender-domain = \"observe\"\n"));
    assert!(mta.send("bob@client.example", &["alice@localhost"], MESSAGE).status.success());
    assert!(stored(&mta).contains("spf=temperror"));
    let output = crate::common::mta()
        .args(["policy", "explain", "mta.toml"])
        .current_dir(mta.directory.path())
        .output()
        .expect("it runs");
    let said = text(&output.stdout);
    let line = said.lines().find(|line| line.contains(" sender-domain ")).expect("a line");
    assert!(
        line.trim_start().starts_with("B2505.9 sender-domain") && line.contains("reject") && !line.contains("defer"),
        "{line}"
    );
    assert!(
        said.contains("\nsender: at the first RCPT of a transaction")
            && said.contains(": DNS is asked, at most 20 s\n")
    );
    assert!(said.starts_with("preset bcp\n") && said.ends_with("score: greylist 2, tag 5, reject 10\n"), "{said}");
}

#[test]
fn all_that_is_looked_at_is_explained_in_its_order() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = "[[policy.milter]]\naddress = \"unix:/run/x\"\n[[policy.rate]]\nof = \"messages\"\nby = \"sender\"\ncount = 2\n\
                  [[policy.access]]\nsender = \".spam.example\"\naction = \"refuse\"\n";
    std::fs::write(directory.path().join("mta.toml"), config).expect("written");
    let mut explain = crate::common::mta();
    let output =
        explain.args(["policy", "explain", "mta.toml"]).current_dir(directory.path()).output().expect("it runs");
    let said = text(&output.stdout);
    let mut rest = said.as_str();
    for part in [
        "no faster than that [policy.rate]\n  messages by sender: 2 in 3600 s, 2 at once\n",
        "\nrules of your own, in their order [policy.access]\n  refuse  sender .spam.example\n",
        "\npreset bcp\n",
        "\nfilters, about mail of everybody [policy.milter]\n  unix:/run/x: at most 60 s; mail comes again while it is away\n",
    ] {
        let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} in {said}"));
        rest = &rest[at..];
    }
}

#[test] // PRACTICES B2505.8
fn b2505_8_more_than_the_configured_rate_is_asked_to_come_again() {
    let rate = "[[policy.rate]]\nof = \"messages\"\nby = \"sender\"\ncount = 2\n";
    let mta = Mta::with_config(&format!("{STRANGERS}[policy.unknown]\nsender-domain = \"observe\"\n{rate}"));
    let send = |from: &str| mta.send(from, &["alice@localhost"], MESSAGE);
    assert!(send("bob@client.example").status.success());
    assert!(send("bob@client.example").status.success());
    let third = send("bob@client.example");
    let said = text(&third.stderr) + &text(&third.stdout);
    assert!(!third.status.success() && said.contains("451 4.7.1 Too much in a short time"), "{said}");
    assert!(send("carol@client.example").status.success(), "nobody uses up what another has");
}

#[test] // PRACTICES S40: off, unless the configuration wants them; then they score
fn s40_callouts_are_made_where_the_configuration_says_so() {
    for (keys, expected) in [
        ("", [false, false]),
        ("callout = [\"sender\"]\ncallouts_per_minute = 6\n", [true, false]),
        ("callout = [\"sender\", \"client\"]\n", [true, true]),
    ] {
        let mta = Mta::with_config(&format!("users = [\"alice@localhost\"]\n[policy]\n{keys}"));
        let output = crate::common::mta()
            .args(["policy", "explain", "mta.toml"])
            .current_dir(mta.directory.path())
            .output()
            .expect("it runs");
        let said = text(&output.stdout);
        let scores = |name: &str| said.lines().any(|line| line.contains(name) && line.contains(" score "));
        assert_eq!([scores(" callout-sender "), scores(" callout-client ")], expected, "{said}");
    }
}

#[test] // PRACTICES B2505.5, P3a: the operator's own rules; a configuration that is shown means the same
fn b2505_5_rules_of_the_operator_come_first() {
    let rules = "[[policy.access]]\nsender = \".spam.example\"\naction = \"refuse\"\ntext = \"Not you\"\n\
                 [[policy.access]]\nsender = \"bob@client.example\"\naction = \"defer\"\n";
    let mta = Mta::with_config(&format!("users = [\"alice@localhost\"]\n{rules}"));
    for (from, expected) in [
        ("eve@a.spam.example", "550 5.7.1 Not you"),
        ("bob@client.example", "451 4.7.1 "),
        ("<>", ""),
        ("eve@spam.example", ""),
    ] {
        let output = mta.send(from, &["alice@localhost"], MESSAGE);
        let said = text(&output.stderr) + &text(&output.stdout);
        assert_eq!(output.status.success(), expected.is_empty(), "{from}: {said}");
        assert!(said.contains(expected), "{from}: {said}");
    }
    assert!(mta.send("eve@a.spam.example", &["postmaster@localhost"], MESSAGE).status.success());
    let shown = crate::common::mta()
        .args(["config", "show", "mta.toml"])
        .current_dir(mta.directory.path())
        .output()
        .expect("it runs");
    let shown = text(&shown.stdout);
    assert!(shown.contains("sender = \".spam.example\"") && shown.contains("text = \"Not you\""), "{shown}");
}

#[test] // SECURITY D-49: the operator's choice while a milter is away, of mail of this host too
fn d49_mail_waits_for_a_milter_that_is_away_unless_it_may_pass() {
    let milter = |more: &str| {
        // Nobody listens there.
        format!("users = [\"alice@localhost\"]\n[[policy.milter]]\naddress = \"inet:127.0.0.1:1\"\n{more}\n")
    };
    let mta = Mta::with_config(&milter(""));
    let output = mta.send("bob@client.example", &["alice@localhost"], MESSAGE);
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(!output.status.success() && said.contains("451 4.7.1"), "{said}");
    mta.logged("milter");
    let mta = Mta::with_config(&milter("fallback = \"accept\""));
    assert!(mta.send("bob@client.example", &["alice@localhost"], MESSAGE).status.success());
    assert!(stored(&mta).ends_with("\r\nX-Spam-Flag: NO\r\n\r\nx\r\n"));
    let show = crate::common::mta().args(["config", "show", "mta.toml"]).current_dir(mta.directory.path()).output();
    let shown = text(&show.expect("it runs").stdout);
    for line in ["[[policy.milter]]", "timeout_seconds = 60", "message_octets = 33554432", "malware = false"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
}

#[test] // PRACTICES S22: at final delivery; and `DSN` for known clients, where the preset does not say otherwise
fn s22_receipts_stop_here_and_strangers_are_told_nothing() {
    let message =
        b"From: <bob@client.example>\nReturn-Receipt-To: <bob@client.example>\nSubject: x\n\nReturn-Receipt-To: y\n";
    for (policy, is_stripped, notify) in [
        ("", true, "555 5.5.4"),
        ("receipts = \"keep\"\n", false, "555 5.5.4"),
        ("preset = \"rfc-strict\"\n", false, "250 2.1.5"),
        ("preset = \"rfc-strict\"\nreceipts = \"strip\"\n", true, "250 2.1.5"),
    ] {
        let mta = Mta::with_config(&format!("users = [\"alice@localhost\"]\n[policy]\n{policy}"));
        let mut session = mta.connect();
        let rcpt = "RCPT TO:<alice@localhost> NOTIFY=SUCCESS";
        session.expect(&[
            ("EHLO client.example", "250"),
            ("MAIL FROM:<bob@client.example>", "250"),
            (rcpt, notify),
            ("QUIT", "221"),
        ]);
        assert!(mta.send("bob@client.example", &["alice@localhost"], message).status.success());
        let stored = stored(&mta);
        assert_eq!(stored.contains("\r\nReturn-Receipt-To: <bob@client.example>\r\n"), !is_stripped, "{stored}");
        assert!(stored.ends_with("Subject: x\r\n\r\nReturn-Receipt-To: y\r\n"), "{stored}");
    }
}
