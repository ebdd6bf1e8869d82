//! A conversation for each reply code of RFC 4954 §4 and §6.

use super::talk::{Below, PASSWORD, TOKEN, base64, plain};

/// Lines of a client, each with the start of its reply.
pub(crate) type Lines = Vec<(String, &'static str)>;

/// What it shows, below what, and its lines.
pub(crate) type Conversation = (&'static str, Below, Lines);

const USERNAME: &str = "334 VXNlcm5hbWU6\r\n";
const THEN_PASSWORD: &str = "334 UGFzc3dvcmQ6\r\n";

pub(crate) fn row(line: impl Into<String>, reply: &'static str) -> (String, &'static str) {
    (line.into(), reply)
}

fn oauthbearer(user: &str, token: &str) -> String {
    base64(format!("n,a={user},\x01auth=Bearer {token}\x01\x01"))
}

fn xoauth2(user: &str, token: &str) -> String {
    base64(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}

/// All of them.
pub(crate) fn conversations() -> Vec<Conversation> {
    [accepted(), rejected(), out_of_order()].concat()
}

fn accepted() -> Vec<Conversation> {
    vec![
        ("initial response", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "235 2.7.0")]),
        (
            "verb and name in any case",
            Below::Tls,
            vec![row(format!("auth plain {}", plain("alice", PASSWORD)), "235 2.7.0")],
        ),
        (
            "empty challenge",
            Below::Tls,
            vec![row("AUTH PLAIN", "334 \r\n"), row(plain("alice", PASSWORD), "235 2.7.0")],
        ),
        (
            "LOGIN",
            Below::Tls,
            vec![row("AUTH LOGIN", USERNAME), row(base64("alice"), THEN_PASSWORD), row(base64(PASSWORD), "235 2.7.0")],
        ),
        (
            "LOGIN with a name",
            Below::Tls,
            vec![row("AUTH LOGIN YWxpY2U=", THEN_PASSWORD), row(base64(PASSWORD), "235 2.7.0")],
        ),
        (
            "OAUTHBEARER",
            Below::Tls,
            vec![row(format!("AUTH OAUTHBEARER {}", oauthbearer("alice", TOKEN)), "235 2.7.0")],
        ),
        ("XOAUTH2", Below::Tls, vec![row(format!("AUTH XOAUTH2 {}", xoauth2("alice", TOKEN)), "235 2.7.0")]),
        ("EXTERNAL", Below::TlsWithCertificate, vec![row("AUTH EXTERNAL =", "235 2.7.0")]),
        ("EXTERNAL, asked", Below::TlsWithCertificate, vec![row("AUTH EXTERNAL", "334 \r\n"), row("", "235 2.7.0")]),
        (
            "acts as another",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", base64(format!("sales\0alice\0{PASSWORD}"))), "235 2.7.0")],
        ),
        (
            "acts as itself",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", base64(format!("alice\0alice\0{PASSWORD}"))), "235 2.7.0")],
        ),
        (
            "in clear, where that is let pass",
            Below::DangerousClear,
            vec![row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "235 2.7.0")],
        ),
    ]
}

fn rejected() -> Vec<Conversation> {
    vec![
        ("wrong password", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("alice", "x")), "535 5.7.8")]),
        ("unknown user", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("nobody", PASSWORD)), "535 5.7.8")]),
        ("empty password", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("alice", "")), "535 5.7.8")]),
        (
            "foreign authorization identity",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", base64(format!("root\0alice\0{PASSWORD}"))), "535 5.7.8")],
        ),
        (
            "its directory is down",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", base64(format!("down\0alice\0{PASSWORD}"))), "454 4.7.0")],
        ),
        (
            "wrong token",
            Below::Tls,
            vec![
                row(
                    format!("AUTH OAUTHBEARER {}", oauthbearer("alice", "x")),
                    "334 eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=",
                ),
                row("AQ==", "535 5.7.8"),
            ],
        ),
        (
            "wrong token, then cancelled",
            Below::Tls,
            vec![row(format!("AUTH XOAUTH2 {}", xoauth2("alice", "x")), "334 "), row("*", "535 5.7.8")],
        ),
        (
            "wrong certificate name",
            Below::TlsWithCertificate,
            vec![row(format!("AUTH EXTERNAL {}", base64("root")), "535 5.7.8")],
        ),
        ("too weak", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("weak", PASSWORD)), "534 5.7.9")]),
        ("change needed", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("change", PASSWORD)), "432 4.7.12")]),
        ("down", Below::Tls, vec![row(format!("AUTH PLAIN {}", plain("down", PASSWORD)), "454 4.7.0")]),
        ("down, with a token", Below::Tls, vec![row(format!("AUTH XOAUTH2 {}", xoauth2("down", TOKEN)), "454 4.7.0")]),
    ]
}

fn out_of_order() -> Vec<Conversation> {
    let mail = "MAIL FROM:<alice@example.org>";
    vec![
        ("cancelled", Below::Tls, vec![row("AUTH LOGIN", USERNAME), row("*", "501 5.7.0"), row("NOOP", "250 2.0.0")]),
        ("* as initial response", Below::Tls, vec![row("AUTH PLAIN *", "501 5.5.2")]),
        (
            "not Base64",
            Below::Tls,
            vec![row("AUTH PLAIN", "334 "), row("AHgAeQ", "501 5.5.2"), row("NOOP", "250 2.0.0")],
        ),
        ("not Base64, initial", Below::Tls, vec![row("AUTH PLAIN AHgA=eQ=", "501 5.5.2")]),
        ("= is no continuation", Below::Tls, vec![row("AUTH PLAIN", "334 "), row("=", "501 5.5.2")]),
        ("change of mechanism half way", Below::Tls, vec![row("AUTH LOGIN", USERNAME), row("AUTH PLAIN", "501 5.5.2")]),
        ("malformed", Below::Tls, vec![row(format!("AUTH PLAIN {}", base64("alice")), "501 5.5.2")]),
        (
            "NUL too many",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", base64(format!("\0alice\0{PASSWORD}\0"))), "501 5.5.2")],
        ),
        ("no mechanism", Below::Tls, vec![row("AUTH", "501 5.5.4")]),
        ("unknown mechanism", Below::Tls, vec![row("AUTH CRAM-MD5", "504 5.5.4")]),
        ("EXTERNAL without a certificate", Below::Tls, vec![row("AUTH EXTERNAL =", "504 5.5.4")]),
        ("-PLUS without an exporter", Below::DangerousClear, vec![row("AUTH SCRAM-SHA-256-PLUS", "504 5.5.4")]),
        (
            "twice",
            Below::Tls,
            vec![row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "235 2.7.0"), row("AUTH LOGIN", "503 5.5.1")],
        ),
        (
            "twice, EHLO between",
            Below::Tls,
            vec![
                row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "235 2.7.0"),
                row("EHLO x.example", "250-"),
                row("AUTH LOGIN", "503 5.5.1"),
            ],
        ),
        (
            "in a transaction",
            Below::Tls,
            vec![
                row(mail, "250 2.1.0"),
                row("AUTH LOGIN", "503 5.5.1"),
                row("RSET", "250"),
                row("AUTH LOGIN", USERNAME),
            ],
        ),
        ("after HELO", Below::Tls, vec![row("HELO x.example", "250 "), row("AUTH LOGIN", "503 5.5.1")]),
        (
            "in clear",
            Below::Clear,
            vec![
                row(format!("AUTH PLAIN {}", plain("alice", PASSWORD)), "538 5.7.11"),
                row("AUTH LOGIN", "538 5.7.11"),
            ],
        ),
    ]
}
