//! `mta quarantine`: what a filter wanted set aside, and what an operator does about it (PRACTICES.md S18, S19, S33).

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use crate::common::{Mta, mta, text};

/// The test file of all malware scanners, in two parts, so that this file is none.
const EICAR: [&str; 2] = ["X5O!P%@AP[4\\PZX54(P^)7CC)7}$EICAR-STANDARD-", "ANTIVIRUS-TEST-FILE!$H+H*"];

/// Answers as clamd does, and knows one signature.
fn clamd() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("it listens");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut command = [0; 10];
            let mut content = Vec::new();
            let read = stream.read_exact(&mut command).and_then(|()| {
                loop {
                    let mut length = [0; 4];
                    stream.read_exact(&mut length)?;
                    match usize::try_from(u32::from_be_bytes(length)).expect("64 bits") {
                        0 => return Ok(()),
                        octets => {
                            let start = content.len();
                            content.resize(start + octets, 0);
                            stream.read_exact(&mut content[start..])?;
                        }
                    }
                }
            });
            let is_bad = String::from_utf8_lossy(&content).contains(&EICAR.concat());
            let answer: &[u8] = if is_bad { b"stream: Eicar-Test-Signature FOUND\0" } else { b"stream: OK\0" };
            if read.is_ok() {
                let _ = stream.write_all(answer);
            }
        }
    });
    address
}

fn server(action: &str) -> Mta {
    Mta::with_config(&format!(
        "users = [\"alice@localhost\"]\n[policy]\ntrusted = []\nclamd = \"{}\"\ngreylist = false\ndns = [\"127.0.0.1:1\"]\n\
         [policy.actions]\nmalware = \"{action}\"\n[policy.unknown]\nsender-domain = \"observe\"\n",
        clamd()
    ))
}

fn quarantine_says(mta_: &Mta, arguments: &[&str]) -> (bool, String) {
    let output = mta().arg("quarantine").args(arguments).arg("--data").arg(&mta_.data).output().expect("it runs");
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

fn letter() -> Vec<u8> {
    format!("From: <bob@client.example>\nSubject: \x1b[31mred\n\n{}\n", EICAR.concat()).into_bytes()
}

#[test] // PRACTICES.md S33: list, show, release, remove; S19: nobody is told.
fn s33_what_is_set_aside_is_listed_shown_released_once_and_removed() {
    let mta = server("quarantine");
    let says = |arguments: &[&str]| quarantine_says(&mta, arguments);
    assert_eq!(says(&["list"]), (true, "the quarantine is empty\n".to_owned()));
    for _ in 0..2 {
        let output = mta.send("bob@client.example", &["alice@localhost"], &letter());
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    mta.logged("quarantined");
    crate::common::wait_until("both are there", || says(&["list"]).1.lines().count() == 3);
    let listed = says(&["list"]).1;
    let ids: Vec<_> = listed.lines().skip(1).map(|line| line.split(' ').next().expect("an id")).collect();
    let envelope = "<bob@client.example> -> <alice@localhost> (malware)";
    assert!(listed.lines().skip(1).all(|line| line.ends_with(envelope) && line.contains("in 29 d")), "{listed}");
    assert!(mta.new_files("localhost/alice").is_empty());
    let page = says(&["list", "--limit", "1"]).1;
    assert_eq!(page.lines().last(), Some(&*format!("more: mta quarantine list --after {}", ids[0])));
    let (is_there, shown) = says(&["show", ids[0]]);
    assert!(is_there && shown.contains("to          <alice@localhost>: malware\n"), "{shown}");
    assert!(shown.contains("\nSubject: ?[31mred\n") && !shown.contains("EICAR"), "{shown}");
    let (is_released, said) = says(&["release", ids[0]]);
    assert!(is_released && said.starts_with(&format!("{} is released and delivered as ", ids[0])), "{said}");
    let there = mta.delivered("localhost/alice");
    assert!(there.len() == 1 && fs::read_to_string(&there[0]).expect("a file").contains(&EICAR.concat()));
    assert_eq!(says(&["release", ids[0]]), (false, format!("{} is not in the quarantine\n", ids[0])));
    let removed = format!("{} is removed; it was for 1 recipient, and nobody is told\n", ids[1]);
    assert_eq!(says(&["remove", ids[1]]), (true, removed));
    assert_eq!(says(&["list"]).1, "the quarantine is empty\n");
    assert_eq!(mta.new_files("localhost/alice").len(), 1);
    assert!(!mta.log().contains("notification queued"), "{}", mta.log());
    let (is_known, said) = says(&["release", "../../x"]);
    assert!(!is_known && said.contains("a queue id has 26 letters and digits"), "{said}");
}

#[test] // What was set aside outlives the server.
fn s33_what_is_set_aside_is_there_after_a_crash() {
    let mut mta = server("quarantine");
    assert!(mta.send("bob@client.example", &["alice@localhost"], &letter()).status.success());
    mta.logged("quarantined");
    mta.kill();
    let mta = mta.restarted();
    let listed = quarantine_says(&mta, &["list"]).1;
    let id = listed.lines().nth(1).expect("a message").split(' ').next().expect("an id");
    assert!(quarantine_says(&mta, &["release", id]).0);
    assert_eq!(mta.delivered("localhost/alice").len(), 1);
}

#[test] // PRACTICES.md S18: refused after the content, by `DATA` and by `BDAT LAST`.
fn s18_malware_is_refused_by_data_and_by_bdat() {
    let mta = server("reject");
    let letter = String::from_utf8(letter()).expect("ASCII").replace('\n', "\r\n");
    let mut session = mta.connect();
    session.expect(&[("EHLO client.example", "250")]);
    session.expect(&[("MAIL FROM:<bob@client.example>", "250"), ("RCPT TO:<alice@localhost>", "250"), ("DATA", "354")]);
    session.expect(&[(&*format!("{letter}."), "550 5.7.1")]);
    session.expect(&[("MAIL FROM:<bob@client.example>", "250"), ("RCPT TO:<alice@localhost>", "250")]);
    session.expect(&[(&*format!("BDAT {} LAST\r\n{}", letter.len(), letter.trim_end_matches("\r\n")), "550 5.7.1")]);
    assert!(mta.new_files("localhost/alice").is_empty());
    assert_eq!(quarantine_says(&mta, &["list"]).1, "the quarantine is empty\n");
}
