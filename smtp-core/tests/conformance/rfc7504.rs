//! RFC 7504: a host that takes no mail says so with 521, and goes on to say so (STANDARDS R7504).

use std::time::Duration;

use smtp_core::{Listener, SessionConfig, TransferProtocol};

use crate::support::client::Client;
use crate::support::machine::{Machine, config};
use crate::support::world::{Inbox, Log, builder, start};

#[test] // RFC 7504 §3, §4: 521 in the greeting, then 521 to all but QUIT.
fn r7504_a_host_that_takes_no_mail_says_so_until_quit() {
    for protocol in [TransferProtocol::Smtp, TransferProtocol::Lmtp] {
        for line in [
            "EHLO client.example",
            "HELO client.example",
            "LHLO client.example",
            "MAIL FROM:<a@client.example>",
            "MAIL FROM:<",
            "RCPT TO:<postmaster>",
            "DATA",
            "BDAT 0 LAST",
            "RSET",
            "NOOP",
            "HELP",
            "VRFY postmaster",
            "AUTH PLAIN AGEAYg==",
            "STARTTLS",
            "GET / HTTP/1.1",
            "nonsense",
            "",
        ] {
            let mut machine = Machine::new(SessionConfig { no_mail: true, protocol, ..config() });
            assert_eq!(machine.send(""), "521 mx.example.org does not accept mail\r\n");
            for _ in 0..3 {
                assert_eq!(machine.replies(format!("{line}\r\n")), ["521 5.3.2"], "{line:?}");
            }
            assert_eq!(machine.replies("QUIT\r\n"), ["221 2.0.0"], "{line:?}");
        }
    }
}

#[test] // STANDARDS LI11: who does not listen is not listened to for ever.
fn r7504_who_goes_on_is_told_off() {
    let mut machine = Machine::new(SessionConfig { no_mail: true, ..config() });
    machine.send("");
    for _ in 0..20 {
        let told = machine.send("NOOP\r\n") + &machine.pass(Duration::from_secs(2));
        assert!(told.starts_with("521 5.3.2 "), "{told}");
    }
    assert_eq!(machine.replies("NOOP\r\n"), ["421 4.7.0"]);
    assert!(machine.is_closed());
}

#[tokio::test] // No hook is asked: the policies of `builder` would be.
async fn r7504_a_listener_can_be_one() {
    let log = Log::default();
    let listener = Listener::new("127.0.0.1:0").no_mail();
    let server = start(builder(&Inbox::default(), &log).listener(listener)).await;
    let mut client = Client::connect(server.address).await;
    client.expect("521").await;
    client.send("EHLO client.example\r\n").await;
    client.expect("521 5.3.2").await;
    client.send("QUIT\r\n").await;
    client.expect("221").await;
}
