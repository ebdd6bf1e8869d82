//! The same notifications, as the parser of another language reads them: every field, and no other (RFC 3464).

use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use smtp_core::{DateTime, EnvelopeId, Notify, Reply};
use smtp_queue::{Action, Notification};

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
            let address = printable(&mut rng);
            let original = rng.bool().then_some((["rfc822", "x-a+b"][rng.usize(..2)], &*address));
            case = case.asked(Notify::SUCCESS | Notify::FAILURE | Notify::DELAY, original);
        }
        let id = printable(&mut rng);
        case.envelope.dsn.envelope_id = rng.bool().then(|| EnvelopeId::new(&id).expect("printable"));
        cases.push(case.action(ACTIONS[rng.usize(..ACTIONS.len())].0));
    }
    cases
}

fn mailbox(rng: &mut fastrand::Rng) -> String {
    let characters = ["a", "b", ".", ";", "(", ")", "<", ">", "@", ",", ":", "=?", "\\\"", "\\\\", " ", "--"];
    let local: String = (0..rng.usize(..30)).map(|_| characters[rng.usize(..characters.len())]).collect();
    let domains = ["example.org", "Mx_1.Example", "[192.0.2.1]", "[IPv6:2001:db8::1]", "[x-tag:a;(b)=?]"];
    format!("\"{local}\"@{}", domains[rng.usize(..domains.len())])
}

/// What xtext can hold.
fn printable(rng: &mut fastrand::Rng) -> String {
    let characters = ["a", " ", ";", ":", "+", "=", "\\", "\"", "(", ")", "<", ">", "@", "--", "  ", "=?x?="];
    (0..rng.usize(1..20)).map(|_| characters[rng.usize(..characters.len())]).chain(["~"]).collect()
}

/// How each is written, and the subject that it gives.
const ACTIONS: [(Action, &str, &str); 5] = [
    (Action::Failed, "failed", "Undelivered mail"),
    (Action::Delayed, "delayed", "Delayed mail"),
    (Action::Delivered, "delivered", "Delivered mail"),
    (Action::Relayed, "relayed", "Mail passed on"),
    (Action::Expanded, "expanded", "Mail passed on"),
];

/// RFC 3464 §2.3.4: the class follows from the action, the rest from the reply where that fits.
fn status_of(action: Action, reply: &Reply) -> String {
    let class = match (action, reply.code().class()) {
        (Action::Failed, 5) => 5,
        (Action::Failed | Action::Delayed, _) => 4,
        _ => 2,
    };
    let fits = match action {
        Action::Failed => reply.code().class() >= 4,
        Action::Delayed => true,
        _ => reply.code().class() == 2,
    };
    let status = reply.status().filter(|_| fits);
    status.map_or_else(|| format!("{class}.0.0"), |status| format!("{class}.{}.{}", status.subject(), status.detail()))
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
    let (_, action, subject) = *ACTIONS.iter().find(|(action, ..)| *action == case.action).expect("all are listed");
    add("header", "Subject", subject.to_owned());
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
    if let Some(id) = &case.envelope.dsn.envelope_id {
        add("status0", "Original-Envelope-Id", id.as_str().trim().to_owned());
    }
    add("status0", "Reporting-MTA", "dns; mx.example.org".to_owned());
    add("status0", "Received-From-MTA", "dns; [192.0.2.1]".to_owned());
    add("status0", "Arrival-Date", DateTime::new(at(0)).to_string());
    for (failed, number) in case.recipients.iter().zip(1..) {
        let place = format!("status{number}");
        let recipient = &case.envelope.recipients[failed.index as usize];
        if let Some(original) = &recipient.dsn.original_recipient {
            let value = format!("{}; {}", original.address_type(), original.address());
            add(&place, "Original-Recipient", value.trim().to_owned());
        }
        add(&place, "Final-Recipient", format!("rfc822; {}", recipient.mailbox));
        add(&place, "Action", action.to_owned());
        let Some(last) = &failed.last else {
            add(&place, "Status", "4.4.7".to_owned());
            continue;
        };
        add(&place, "Status", status_of(case.action, &last.reply));
        if let Some(remote) = &last.remote {
            add(&place, "Remote-MTA", next_hop(remote.as_str()));
        }
        add(&place, "Diagnostic-Code", format!("smtp; {}", last.reply).trim().to_owned());
        add(&place, "Last-Attempt-Date", DateTime::new(at(60)).to_string());
        if case.action == Action::Delayed {
            add(&place, "Will-Retry-Until", DateTime::new(at(5 * 24 * 3600)).to_string());
        }
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
