//! LMTP on both sides of the program: a listener that speaks it, and a next hop that does (RFC 2033).

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;

use crate::common::{Mta, text};

const STORE: &str = "hostname = \"store.example.org\"\ndomains = [\"example.org\"]\nmailboxes = \"any\"\n\
                     [[listener]]\naddress = \"127.0.0.1:0\"\nprotocol = \"lmtp\"\n";

/// Sends to a next hop that speaks LMTP, and tries again soon.
fn in_front_of(smart_host: &str) -> Mta {
    Mta::with_config(&format!(
        "[queue]\nfirst_retry_seconds = 1\nlongest_wait_seconds = 2\n\
         [relay]\nsmart_host = \"{smart_host}\"\nprotocol = \"lmtp\"\nclients = [\"127.0.0.0/8\"]\n"
    ))
}

#[test] // RFC 2033 §4.1, §4.2
fn a_listener_answers_each_recipient() {
    let store = Mta::with_listeners(STORE);
    assert!(store.introduction.starts_with("listening on  127.0.0.1:"), "{}", store.introduction);
    assert!(
        store.introduction.contains("  LMTP\n") && !store.introduction.contains("try it"),
        "{}",
        store.introduction
    );
    let mut client = store.connect();
    client.expect(&[
        ("EHLO client.example", "500 5.5.1"),
        ("LHLO client.example", "250"),
        ("MAIL FROM:<a@client.example>", "250"),
        ("RCPT TO:<bob@elsewhere.example>", "550 5.7.1"),
        ("DATA", "503 5.5.1"),
        ("RCPT TO:<bob@example.org>", "250"),
        ("RCPT TO:<carol@example.org>", "250"),
        ("DATA", "354"),
    ]);
    client.send(b"Subject: x\r\n\r\nx\r\n.\r\n");
    assert!(client.reply().starts_with("250 2.0.0") && client.reply().starts_with("250 2.0.0"));
    client.expect(&[("QUIT", "221")]);
    for user in ["bob", "carol"] {
        let files = store.delivered(&format!("example.org/{user}"));
        let file = text(&fs::read(&files[0]).expect("a copy")).replace("\r\n", "");
        assert!(files.len() == 1 && file.contains(" by store.example.org with LMTP id "), "{file}");
    }
}

#[test] // From one program to the other, octet for octet.
fn a_message_passes_octet_for_octet() {
    let store = Mta::with_listeners(STORE);
    let front = in_front_of(&store.address.to_string());
    for content in [&b"Subject: dots\r\n\r\n.\r\n..\r\n"[..], b"Subject: J\xc3\xbcrgen\r\n\r\n\x80\xff\r\n", b""] {
        let sent = front.send("bob@client.example", &["carol@example.org", "dave@example.org"], content);
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        front.until_idle();
        for user in ["carol", "dave"] {
            let copies = store.delivered(&format!("example.org/{user}"));
            assert!(copies.len() == 1 && fs::read(&copies[0]).expect("a copy").ends_with(content));
            fs::remove_file(&copies[0]).expect("removed");
        }
    }
}

#[test] // Over a Unix socket that is there later: what was taken waits, and nothing is lost.
fn a_unix_socket_is_a_next_hop() {
    let store = Mta::with_listeners(STORE);
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("lmtp");
    let front = in_front_of(path.to_str().expect("UTF-8"));
    let sent = front.send("bob@client.example", &["carol@example.org"], b"Subject: x\r\n\r\nx\r\n");
    assert!(sent.status.success(), "{}", text(&sent.stderr));
    let id = front.deferred();
    let listed = front.queue_says(&["list"]);
    assert!(listed.contains(&format!("via lmtp:{}", path.display())), "{listed}");
    pass_on(UnixListener::bind(&path).expect("a socket"), store.address);
    front.queue_says(&["retry", &id]);
    front.until_idle();
    assert_eq!(store.delivered("example.org/carol").len(), 1);
}

/// What comes to the socket goes to that address, and back, as long as the test runs.
fn pass_on(listener: UnixListener, to: SocketAddr) {
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            let far = std::net::TcpStream::connect(to).expect("it listens");
            let (mut near_in, mut far_out) = (near.try_clone().expect("a copy"), far.try_clone().expect("a copy"));
            let (mut near_out, mut far_in) = (near, far);
            std::thread::spawn(move || std::io::copy(&mut near_in, &mut far_out));
            std::thread::spawn(move || std::io::copy(&mut far_in, &mut near_out));
        }
    });
}
