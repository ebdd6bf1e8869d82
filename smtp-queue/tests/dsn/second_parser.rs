//! The same notifications, as the parser of another language reads them: every field, and no other (RFC 3464).

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use smtp_core::{DateTime, ForwardPath};
use smtp_queue::Notification;

use crate::case::{Case, at, said};

/// Prints what it found in each file of a directory: the fields, octet for octet in hexadecimal, part by part.
const SCRIPT: &str = r#"
import email, email.policy, pathlib, sys
for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.compat32)
    def show(where, name, value):
        value = str(value).replace("\r\n", "").replace("\n", "")
        print(path.name, where, name, value.encode("utf-8", "surrogateescape").hex())
    def fields(where, part):
        for name, value in part.items():
            show(where, name, value)
        for defect in part.defects:
            show(where, "defect", repr(defect))
    fields("header", message)
    parts = message.get_payload()
    show("parts", "types", " ".join(part.get_content_type() for part in parts))
    for part in parts:
        for defect in part.defects:
            show("part", "defect", repr(defect))
    for number, block in enumerate(parts[1].get_payload()):
        fields("status%d" % number, block)
    text = parts[0].get_payload()
    show("text", "lines", max(len(line) for line in text.splitlines()) <= 904)
    if len(parts) > 2:
        show("returned", "encoding", parts[2]["Content-Transfer-Encoding"])
        returned = parts[2]
        if returned.get_content_type() == "message/rfc822":
            show("returned", "subject", returned.get_payload(0)["Subject"])
        else:
            show("returned", "octets", returned.get_payload(decode=True).hex())
"#;

#[test] // STANDARDS.md R3464; SECURITY.md D-11
fn r3464_d11_another_parser_finds_the_intended_fields_and_no_other() {
    let found = Command::new("python3").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        assert!(std::env::var_os("CI").is_none(), "python3 is missing");
        eprintln!("skipped: python3");
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut expected = String::new();
    for (number, case) in cases().iter().enumerate() {
        let notification = case.notification();
        let name = format!("{number:05}");
        fs::write(directory.path().join(&name), &notification.content).expect("written");
        for (place, field, value) in fields(case, &notification) {
            let value = value.bytes().fold(String::new(), |mut hex, octet| {
                write!(hex, "{octet:02x}").expect("a string takes all");
                hex
            });
            writeln!(expected, "{name} {place} {field} {value}").expect("a string takes all");
        }
    }
    let output = Command::new("python3").args(["-I", "-c", SCRIPT]).arg(directory.path()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found = String::from_utf8(output.stdout).expect("ASCII");
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "seed {SEED}");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "seed {SEED}");
    assert!(expected.lines().count() > 1000);
}

const SEED: u64 = 3464;

/// Ordinary ones, and many that are as odd as they can be.
fn cases() -> Vec<Case> {
    let mut cases = vec![
        Case::new("<alice@client.example>")
            .failed("bob@example.net", said(550, "5.1.1", "Gone", Some("mx.example.net"))),
        Case::new("<alice@client.example>").failed("bob@example.net", None).content(&b"X: \xfc\r\n\r\nbare\n"[..]),
        Case::new("<alice@client.example>").failed("bob@example.net", None).content(&b""[..]),
    ];
    let mut rng = fastrand::Rng::with_seed(SEED);
    for _ in 0..200 {
        let mut case = Case::new(&format!("<{}>", mailbox(&mut rng)));
        for _ in 0..rng.usize(1..4) {
            let code = [550, 554, 452, 421, 250][rng.usize(..5)];
            let status = ["", "5.1.1", "4.999.0"][rng.usize(..3)];
            let (text, remote) = (text(&mut rng), text(&mut rng));
            case = case.failed(&mailbox(&mut rng), said(code, status, text, rng.bool().then_some(&*remote)));
            if rng.bool() {
                case = case.alias(&format!("<{}>", mailbox(&mut rng)));
            }
        }
        cases.push(case);
    }
    cases
}

fn mailbox(rng: &mut fastrand::Rng) -> String {
    let characters = ["a", "b", ".", ";", "(", ")", "<", ">", "@", ",", ":", "=?", "\\\"", "\\\\", " ", "--"];
    let local: String = (0..rng.usize(..30)).map(|_| characters[rng.usize(..characters.len())]).collect();
    let domains = ["example.org", "Mx_1.Example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[x-tag:a;(b)=?]"];
    format!("\"{local}\"@{}", domains[rng.usize(..domains.len())])
}

fn text(rng: &mut fastrand::Rng) -> String {
    let words = [
        "mx.example.net",
        "\r\n",
        "\r\n\r\n",
        "--=_",
        "Status: 2.0.0",
        "\u{1b}[31m",
        "\u{202e}",
        "\0",
        "  ",
        "(",
        ";",
        "\t",
        "word ",
    ];
    (0..rng.usize(..60)).map(|_| words[rng.usize(..words.len())]).collect()
}

/// All fields of a notification, as they must be found.
fn fields(case: &Case, notification: &Notification) -> Vec<(String, &'static str, String)> {
    let mut fields = Vec::new();
    let id = notification.envelope.id;
    let eight_bit = notification.envelope.body.is_some();
    let sender = case.envelope.reverse_path.to_string();
    let mut add = |place: &str, name: &'static str, value: String| fields.push((place.to_owned(), name, value));

    add("header", "From", "Mail Delivery System <mailer-daemon@mx.example.org>".to_owned());
    add("header", "To", sender);
    add("header", "Subject", "Undelivered mail".to_owned());
    add("header", "Date", DateTime::new(at(200)).to_string());
    add("header", "Message-ID", format!("<{id}@mx.example.org>"));
    add("header", "Auto-Submitted", "auto-generated".to_owned());
    add("header", "MIME-Version", "1.0".to_owned());
    let multipart = "multipart/report; report-type=delivery-status; boundary=";
    add("header", "Content-Type", format!("{multipart}\"=_{id}.0000000000000000\""));
    assert!(!eight_bit, "no case is");

    let octets = case.content.as_parts().expect("in memory")[1];
    let returned = match &octets[..] {
        b"" => "",
        octets if octets.starts_with(b"X:") => " text/rfc822-headers",
        _ => " message/rfc822",
    };
    add("parts", "types", format!("text/plain message/delivery-status{returned}"));
    add("status0", "Reporting-MTA", "dns; mx.example.org".to_owned());
    add("status0", "Received-From-MTA", "dns; [192.0.2.1]".to_owned());
    add("status0", "Arrival-Date", DateTime::new(at(0)).to_string());
    for (failed, number) in case.recipients.iter().zip(1..) {
        let place = format!("status{number}");
        let recipient = &case.envelope.recipients[failed.index as usize];
        match &recipient.path {
            ForwardPath::Mailbox(path) if *path != recipient.mailbox => {
                add(&place, "Original-Recipient", format!("rfc822; {path}"));
            }
            _ => {}
        }
        add(&place, "Final-Recipient", format!("rfc822; {}", recipient.mailbox));
        add(&place, "Action", "failed".to_owned());
        let Some(last) = &failed.last else {
            add(&place, "Status", "4.4.7".to_owned());
            continue;
        };
        let status = match (last.reply.code().class(), last.reply.status()) {
            (4 | 5, Some(status)) => status.to_string(),
            (5, None) => "5.0.0".to_owned(),
            _ => "4.0.0".to_owned(),
        };
        add(&place, "Status", status);
        if let Some(remote) = &last.remote {
            add(&place, "Remote-MTA", next_hop(remote.as_str()));
        }
        add(&place, "Diagnostic-Code", format!("smtp; {}", last.reply).trim().to_owned());
        add(&place, "Last-Attempt-Date", DateTime::new(at(60)).to_string());
    }
    add("text", "lines", "True".to_owned());
    match returned {
        "" => {}
        " message/rfc822" => {
            add("returned", "encoding", "7bit".to_owned());
            add("returned", "subject", "hello".to_owned());
        }
        _ => {
            add("returned", "encoding", "quoted-printable".to_owned());
            add("returned", "octets", "583a20fc0d0a".to_owned());
        }
    }
    fields
}

/// A domain with a comment, or something else.
fn next_hop(remote: &str) -> String {
    let remote: String = remote.chars().map(|c| if c.is_ascii() && !c.is_control() { c } else { '?' }).collect();
    let comment = |text: &str| text.trim().replace('\\', "\\\\").replace('(', "\\(").replace(')', "\\)");
    let value = match remote.split_once(' ') {
        Some((name, rest)) if is_domain(name) && rest.trim().is_empty() => format!("dns; {name}"),
        Some((name, rest)) if is_domain(name) => format!("dns; {name} ({})", comment(rest)),
        None if is_domain(&remote) => format!("dns; {remote}"),
        _ => format!("x-next-hop; {remote}"),
    };
    value.trim().to_owned()
}

fn is_domain(name: &str) -> bool {
    smtp_core::Domain::parse(name).is_ok()
}
