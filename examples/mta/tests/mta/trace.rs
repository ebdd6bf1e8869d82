//! `mta explain`: why a message was taken or refused, by each of its names, while the server runs and afterwards; `mta policy
//! replay`: what another configuration would make of it; `mta log summary`: how often.

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::common::{Mta, files, mta, text, wait_until};

/// With a name server that nobody is: all that DNS knows is unknown.
const STRANGERS: &str = "users = [\"alice@localhost\"]\n[policy]\ntrusted = []\ndns = [\"127.0.0.1:1\"]\n";
const MESSAGE: &[u8] = b"From: <bob@client.example>\nSubject: x\n\nx\n";

fn run(directory: &Path, arguments: &[&str]) -> Output {
    mta().args(arguments).current_dir(directory).output().expect("it runs")
}

/// What `mta explain` says, once it says these words.
fn explained(directory: &Path, id: &str, words: &str) -> String {
    let mut said = String::new();
    wait_until(words, || {
        let output = run(directory, &["explain", id, "--config", "mta.toml"]);
        said = text(&output.stdout) + &text(&output.stderr);
        output.status.success() && said.contains(words)
    });
    said
}

/// The value of a field of the first line of the log with that word.
fn field(mta: &Mta, word: &str, name: &str) -> String {
    mta.logged(word);
    let log = mta.log();
    let line = log.lines().find(|line| line.contains(word)).expect("it is logged");
    let value = line.split_once(&format!(" {name}=")).expect("a field").1;
    value.split(' ').next().unwrap_or_default().trim_matches('"').to_owned()
}

#[test] // PRACTICES P9, S41; B2505.2 to 4
fn p9_a_message_is_explained_by_each_of_its_names_while_the_server_runs_and_afterwards() {
    let mut server = Mta::with_config(STRANGERS);
    assert!(server.send("<>", &["alice@localhost"], MESSAGE).status.success());
    server.until_idle();
    let directory = server.directory.clone();
    let id = field(&server, " accepted ", "id");
    let transaction = field(&server, " accepted ", "transaction");
    let session = field(&server, " accepted ", "session");
    let never = run(directory.path(), &["explain", &format!("{session}-99"), "--config", "mta.toml"]);
    assert!(!never.status.success() && text(&never.stderr).contains("has nothing of"), "{never:?}");
    let page = explained(directory.path(), &id, " delivered: ");
    assert!(page.starts_with(&format!("session {session}\n")), "{page}");
    for line in [
        "connected: 127.0.0.1:",
        &format!("MAIL <>: ok (transaction {transaction})"),
        "`recommended` on <alice@localhost>, at RCPT: let pass\n",
        "reverse-name",
        "unknown",
        "RCPT <alice@localhost>: ok\n",
        &format!("queued: {id} of <>, recipients: 1\n"),
        &format!("recipients: 1, queue id {id}\n"),
        "closed: quit\n",
        &format!("delivered: {id} to <alice@localhost> by local, attempt 1: 250 "),
    ] {
        assert!(page.contains(line), "{line}: {page}");
    }
    assert_eq!(explained(directory.path(), &transaction, " delivered: "), page);
    assert_eq!(explained(directory.path(), &session, " delivered: "), page);
    server.terminate();
    assert_eq!(explained(directory.path(), &id, " delivered: "), page, "also when it is stopped");
    let restarted = server.restarted();
    assert_eq!(explained(directory.path(), &id, " delivered: "), page, "and after another start");
    drop(restarted);
}

#[test]
fn a_refusal_is_explained_with_the_practice_and_the_reply() {
    let server = Mta::with_config(STRANGERS);
    assert!(!server.send("bob@client.example", &["alice@localhost"], MESSAGE).status.success());
    let session = field(&server, " refused ", "session");
    let page = explained(server.directory.path(), &session, " closed: ");
    assert!(page.contains("at RCPT: asked to come again: 451 4.1.8 "), "{page}");
    assert!(page.contains("because of sender-domain\n"), "{page}");
    assert!(page.contains("refused at recipient: <alice@localhost>: 451 4.1.8 "), "{page}");
    assert!(page.contains(" (by `recommended`)\n"), "{page}");
}

#[test]
fn what_is_not_in_the_trace_is_an_error_with_the_reason() {
    let server = Mta::with_config(STRANGERS);
    let directory = server.directory.clone();
    let explain = |id: &str, data: &str| run(directory.path(), &["explain", id, "--data", data]);
    let output = explain("0123456789abcdef", "mta-data");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(text(&output.stderr).starts_with("there is no trace in mta-data/.trace"), "{output:?}");
    let mut session = server.connect();
    session.send(b"QUIT\r\n");
    session.reply();
    wait_until("the trace has it", || server.data.join(".trace").exists());
    let output = explain("0123456789abc\u{1b}[1m", "mta-data");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let said = text(&output.stderr);
    assert!(said.contains("nothing of `0123456789abc\\u{1b}[1m`: it is unknown, or too old"), "{said}");
    assert_eq!(explain("x", "elsewhere").status.code(), Some(1));
}

#[test] // A trace that cannot be written never stops mail.
fn mail_goes_on_where_the_trace_cannot_be_written() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::create_dir(directory.path().join("mta-data")).expect("made");
    fs::write(directory.path().join("mta-data/.trace"), "in the way").expect("written");
    let server = Mta::in_directory(STRANGERS, directory);
    assert!(server.send("<>", &["alice@localhost"], MESSAGE).status.success());
    assert_eq!(server.delivered("localhost/alice").len(), 1);
    server.logged("the trace cannot be written; mail goes on");
}

#[test] // `keep_days = 0`
fn nothing_is_traced_where_nobody_wants_it() {
    let mut server = Mta::with_config(&format!("{STRANGERS}[trace]\nkeep_days = 0\n"));
    assert!(server.send("<>", &["alice@localhost"], MESSAGE).status.success());
    server.terminate();
    assert!(!server.data.join(".trace").exists());
    // Nor is what was traced when somebody did.
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("mta-data/.trace");
    fs::create_dir_all(&trace).expect("made");
    for name in ["1795311863000.jsonl", "notes.txt"] {
        fs::write(trace.join(name), "x\n").expect("written");
    }
    let server = Mta::in_directory("[trace]\nkeep_days = 0\n", directory);
    assert_eq!(files(&server.data.join(".trace")), [server.data.join(".trace/notes.txt")]);
}

#[test] // `mta explain ID | head -1`
fn who_has_read_enough_is_no_error() {
    let directory = tempfile::tempdir().expect("a directory");
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let status = mta().args(["config", "show"]).current_dir(directory.path()).stdout(writer).status().expect("it runs");
    assert!(status.success(), "{status}");
}

/// Two sessions: one is let pass, one has to come again.
fn some_traffic() -> Mta {
    let server = Mta::with_config(STRANGERS);
    assert!(server.send("<>", &["alice@localhost"], MESSAGE).status.success());
    assert!(!server.send("bob@client.example", &["alice@localhost"], MESSAGE).status.success());
    server.until_idle();
    for (word, last) in [(" accepted ", " delivered: "), (" refused ", " closed: ")] {
        explained(server.directory.path(), &field(&server, word, "session"), last);
    }
    server
}

#[test] // PRACTICES P9: replaying gives the same verdict
fn p9_replay_says_what_another_configuration_would_change_and_of_its_own_nothing() {
    let server = some_traffic();
    let directory = server.directory.path();
    let replay = |arguments: &[&str]| {
        let output = run(directory, &[&["policy", "replay"], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };
    assert_eq!(replay(&["--config", "mta.toml"]), "judgements 3, of which 0 would be others\n");
    fs::write(directory.join("new.toml"), format!("{STRANGERS}[policy.unknown]\nsender-domain = \"observe\"\n"))
        .expect("written");
    let said = replay(&["--config", "new.toml"]);
    for line in [
        "  <alice@localhost>, at RCPT\n    from     asked to come again: 451 4.1.8 ",
        "\n    to       let pass\n    because  sender-domain: defer, now observe\n",
        "    unknown  what the content would come to: it was not sent\n",
        "judgements 3, of which 1 would be others\n",
        "       1  asked to come again -> let pass\n",
    ] {
        assert!(said.contains(line), "{line}: {said}");
    }
    let with_clamd = STRANGERS.replace("[policy]", "[policy]\nclamd = \"127.0.0.1:1\"");
    fs::write(directory.join("new.toml"), with_clamd).expect("written");
    let said = replay(&["--config", "new.toml", "--since", "1d"]);
    assert!(said.contains("not known: what `malware` would have found in 3 of them; nobody looked\n"), "{said}");
    assert_eq!(replay(&["--config", "mta.toml", "--since", "0m"]), "judgements 0, of which 0 would be others\n");
    let output = run(directory, &["policy", "replay", "--since", "soon"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test] // PRACTICES S41
fn s41_the_summary_counts_what_came_and_what_was_refused_by_which_practice() {
    let server = some_traffic();
    let output = run(server.directory.path(), &["log", "summary", "--config", "mta.toml"]);
    assert!(output.status.success(), "{output:?}");
    let said = text(&output.stdout);
    let (period, numbers) = said.split_once("\n\n").expect("a heading");
    assert!(period.starts_with("from ") && period.contains("\nto   "), "{said}");
    let octets = numbers.split(" with ").nth(1).and_then(|rest| rest.split(' ').next()).expect("octets");
    let expected = format!(
        // The client had sent `DATA` before it knew of the refusal.
        "\
connections           2
messages in           1  with {octets} octets
refusals              2
delivered             1  recipients
failed                0  recipients
notifications         0

refused by
       1  content: 554 5.5.1 No valid recipients
       1  defer: sender-domain

clients (connections, messages, refusals)
       2        1        2  127.0.0.1
"
    );
    assert_eq!(numbers, expected);
}

#[test] // PRACTICES S41
fn s41_postmaster_is_told_of_the_day_before_once() {
    let directory = tempfile::tempdir().expect("a directory");
    let trace = directory.path().join("mta-data/.trace");
    fs::create_dir_all(&trace).expect("made");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_millis();
    let noon = now / 86_400_000 * 86_400_000 - 43_200_000;
    let entry = |at: u128, peer: &str| {
        format!(
            "{{\"v\":1,\"at\":{at},\"session\":\"0a\",\"what\":\"connected\",\"peer\":\"{peer}:4321\",\"local\":\"192.0.2.25:25\"}}\n"
        )
    };
    let lines = [entry(noon - 86_400_000, "192.0.2.8"), entry(noon, "192.0.2.7"), entry(noon + 1000, "192.0.2.7")];
    fs::write(trace.join(format!("{:013}.jsonl", noon - 86_400_000)), lines.concat()).expect("written");
    let told = |server: &Mta| server.new_files("localhost/alice");
    let mut server = Mta::in_directory("", directory);
    wait_until("postmaster has it", || told(&server).len() == 1);
    let letter = fs::read_to_string(&told(&server)[0]).expect("a letter");
    for part in [
        "Return-Path: <>\n",
        "\nTo: alice@localhost\n",
        "\nSubject: localhost on ",
        "\nAuto-Submitted: auto-generated\n",
        "\nconnections           2\n",
        "  192.0.2.7\n",
    ] {
        assert!(letter.replace("\r\n", "\n").contains(part), "{part:?}: {letter}");
    }
    assert!(!letter.contains("192.0.2.8"), "{letter}");
    server.terminate();
    let mut server = server.restarted();
    // Behind it, whatever else is to be told has been.
    assert!(server.send("<>", &["alice@localhost"], MESSAGE).status.success());
    server.until_idle();
    assert_eq!(told(&server).len(), 2, "the letter of before, and this message");
    server.terminate();
}
