//! SECURITY.md D-15, T8: whoever is not known sends to local mailboxes only, however the address is written.

use std::net::SocketAddr;
use std::rc::Rc;

use smtp_core::{Accepted, ConfigError, Domain, Error, Listener, Mailbox, MailboxTable, Message, Server};
use tokio::io::DuplexStream;

use crate::support::client::Client;
use crate::support::world::{Inbox, in_process};

/// Ways to write somebody who is not ours. `mx.example.org` at 192.0.2.25 has the local domain `example.org`.
const FOREIGN: [&str; 86] = [
    // The forms of public relay scanners.
    "<victim@other.example>",
    "<victim%other.example@mx.example.org>",
    "<victim%other.example@[192.0.2.25]>",
    "<\"victim@other.example\">",
    "<\"victim%other.example\">",
    "<victim@other.example@mx.example.org>",
    "<\"victim@other.example\"@mx.example.org>",
    "<victim@other.example@[192.0.2.25]>",
    "<@mx.example.org:victim@other.example>",
    "<@[192.0.2.25]:victim@other.example>",
    "<other.example!victim>",
    "<other.example!victim@mx.example.org>",
    "<other.example!victim@[192.0.2.25]>",
    "<\"victim@other.example\"@[192.0.2.25]>",
    "<victim%other.example>",
    "<@example.org:victim@other.example>",
    // Percent, bang and quotes with the local domain.
    "<victim%other.example@example.org>",
    "<victim%other.example%example.org@example.org>",
    "<victim%40other.example@example.org>",
    "<other.example!victim@example.org>",
    "<example.org!other.example!victim@example.org>",
    "<victim!other.example%example.org@example.org>",
    "<\"victim@other.example\"@example.org>",
    "<\"victim%other.example\"@example.org>",
    "<\"other.example!victim\"@example.org>",
    "<\"<victim@other.example>\"@example.org>",
    "<victim@other.example@example.org>",
    "<victim@example.org@other.example>",
    "<\"alice@example.org\"@other.example>",
    "<alice%example.org@other.example>",
    "<example.org!alice@other.example>",
    // Source routes.
    "<@other.example:victim@third.example>",
    "<@example.org,@other.example:victim@third.example>",
    "<@example.org:@other.example:victim@third.example>",
    "<@example.org:victim@other.example@example.org>",
    "<@example.org:victim%other.example>",
    "<@example.org,victim@other.example>",
    "<@:victim@other.example>",
    "<example.org:victim@other.example>",
    "<@example.org.:victim@other.example>",
    "<@example.org: victim@other.example>",
    // Our own address in any form.
    "<victim@[192.0.2.25]>",
    "<victim@[127.0.0.1]>",
    "<victim@[::1]>",
    "<victim@[IPv6:::1]>",
    "<victim@[IPv6:::ffff:192.0.2.25]>",
    "<victim@[0300.0.02.031]>",
    "<victim@[3221225497]>",
    "<victim@[0xc0000219]>",
    "<victim@[192.0.2.025]>",
    "<victim@3221225497>",
    "<victim@192.0.2.25>",
    "<victim@0300.0.02.031>",
    "<victim@127.1>",
    "<victim@[example.org]>",
    "<victim@[DNS:example.org]>",
    // Domains that look like ours.
    "<alice@example.org.other.example>",
    "<alice@other.example.org>",
    "<alice@example.org.>",
    "<alice@.example.org>",
    "<alice@example..org>",
    "<alice@example.org\0.other.example>",
    "<alice@example.org\0>",
    "<alice@other.example\0example.org>",
    "<alice@exаmple.org>",
    "<alice@xn--exmple-4nf.org>",
    "<alice@ｅxample.org>",
    "<alice@example。org>",
    "<alice@example.org/other.example>",
    "<alice@example.org#other.example>",
    "<alice@example.org?x=other.example>",
    "<alice@example.org:25>",
    "<alice@mx.example.org>",
    "<alice@localhost>",
    "<alice@*>",
    "<alice@*.org>",
    // Comments, empty parts, lists.
    "<victim@(example.org)other.example>",
    "<victim(@example.org)@other.example>",
    "<victim@other.example(@example.org)>",
    "<victim@>",
    "<@other.example>",
    "<victim>",
    "<>",
    "<alice@example.org,victim@other.example>",
    "<alice@example.org;victim@other.example>",
    "<victim@other.example>alice@example.org",
];

/// Reverse-paths that must not help: a stranger's, none, ours; one lets every letter through.
const REVERSE_PATHS: [&str; 6] = [
    "<a@client.example>",
    "<>",
    "<alice@example.org>",
    "<postmaster@mx.example.org>",
    "<a@[192.0.2.25]>",
    "<a@client.example> SMTPUTF8",
];

fn domain(text: &str) -> Domain {
    Domain::parse(text).expect("a domain")
}

fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).expect("a mailbox")
}

/// A session of a client at that address, by the rules of the first listener.
fn open_from(server: &Rc<Server>, peer: &str) -> Client<DuplexStream> {
    let (near, far) = tokio::io::duplex(1 << 16);
    let peer: SocketAddr = peer.parse().expect("an address");
    let server = server.clone();
    tokio::task::spawn_local(async move {
        server.serve_connection(far, peer, "192.0.2.25:25".parse().expect("an address")).await;
    });
    Client::new(near)
}

/// Offers each form; where it is accepted, a message is sent.
async fn offer_all(server: &Rc<Server>, peer: &str) -> usize {
    let mut offered = 0;
    for reverse_path in REVERSE_PATHS {
        for form in FOREIGN {
            let mut client = open_from(server, peer);
            client.greet().await;
            client.ask(&format!("MAIL FROM:{reverse_path}"), "250 2.1.0").await;
            client.send(format!("RCPT TO:{form}\r\n")).await;
            let reply = client.reply().await.expect("a reply");
            offered += 1;
            if reply.starts_with("250 ") {
                client.ask("DATA", "354").await;
                client.ask("x\r\n.", "250 2.0.0").await;
            } else {
                let expected = ["550 5.7.1", "501 5.1.3", "550 5.1.1", "553 5.6.7"];
                let is_refusal = expected.iter().any(|code| reply.starts_with(code));
                let is_junk_behind = reply.starts_with("501 5.5.4") && !form.ends_with('>');
                assert!(is_refusal || is_junk_behind, "{form:?} from {reverse_path}: {reply}");
                client.ask("DATA", "554 5.5.1").await;
            }
            client.ask("QUIT", "221 2.0.0").await;
        }
    }
    offered
}

/// Every accepted recipient goes to a mailbox of `example.org`, and to that of its own path.
fn assert_all_local(inbox: &Inbox) {
    for message in inbox.messages().iter() {
        for recipient in message.recipients() {
            assert_eq!(recipient.path().domain(), Some(&domain("example.org")), "{recipient}");
            for mailbox in recipient.mailboxes() {
                assert_eq!(mailbox.domain(), Some(&domain("example.org")), "{recipient}");
            }
        }
    }
}

/// All mailboxes of a domain exist: then odd local-parts are mailboxes too, of ours.
#[tokio::test(start_paused = true)]
async fn d15_local_domains_relay_nothing() {
    in_process(async {
        let inbox = Inbox::default();
        let builder = Server::builder("mx.example.org").local_domain("example.org").deliver(inbox.clone());
        let server = Rc::new(builder.bind().await.expect("a valid configuration"));
        assert_eq!(offer_all(&server, "192.0.2.1:40000").await, FOREIGN.len() * REVERSE_PATHS.len());
        assert_all_local(&inbox);
    })
    .await;
}

/// With a table of mailboxes, none of the forms is accepted.
#[tokio::test(start_paused = true)]
async fn d15_a_mailbox_table_accepts_none_of_the_forms() {
    in_process(async {
        let inbox = Inbox::default();
        let table = MailboxTable::new([domain("example.org")])
            .with_mailbox(&mailbox("alice@example.org"))
            .with_alias(&mailbox("info@example.org"), vec![mailbox("alice@example.org")])
            .with_roles_to(mailbox("alice@example.org"));
        let builder = Server::builder("mx.example.org").recipients(table).deliver(inbox.clone());
        let server = Rc::new(builder.bind().await.expect("a valid configuration"));
        offer_all(&server, "192.0.2.1:40000").await;
        assert_eq!(inbox.len(), 0);
    })
    .await;
}

/// A listener for relay clients is no relay for others, also those next door.
#[tokio::test(start_paused = true)]
async fn d15_a_relay_listener_relays_for_its_networks_only() {
    in_process(async {
        let inbox = Inbox::default();
        let listener = Listener::new("127.0.0.1:0")
            .relay_for("10.1.2.0/24".parse().expect("a network"))
            .relay_for("2001:db8:1::/48".parse().expect("a network"));
        let builder = Server::builder("mx.example.org").local_domain("example.org").deliver(inbox.clone());
        let server = Rc::new(builder.listener(listener).bind().await.expect("a valid configuration"));
        for stranger in
            ["10.1.3.1:1", "10.1.1.255:1", "[::ffff:10.1.3.1]:1", "127.0.0.1:1", "[2001:db8:2::1]:1", "[::1]:1"]
        {
            let mut client = open_from(&server, stranger);
            client.greet().await;
            client.ask("MAIL FROM:<alice@example.org>", "250 2.1.0").await;
            client.ask("RCPT TO:<victim@other.example>", "550 5.7.1").await;
        }
        offer_all(&server, "10.1.3.1:1").await;
        assert_all_local(&inbox);
        inbox.messages().clear();
        for friend in ["10.1.2.9:1", "[::ffff:10.1.2.9]:1", "[2001:db8:1:5::1]:1"] {
            let mut client = open_from(&server, friend);
            client.greet().await;
            client.ask("MAIL FROM:<a@client.example>", "250 2.1.0").await;
            client.ask("RCPT TO:<friend@other.example>", "250 2.1.5").await;
            client.ask("DATA", "354").await;
            client.ask("x\r\n.", "250 2.0.0").await;
        }
        assert_eq!(inbox.len(), 3, "the rule itself works");
    })
    .await;
}

/// Parameters and other commands give no rights: they are not offered.
#[tokio::test(start_paused = true)]
async fn d15_forged_parameters_open_nothing() {
    in_process(async {
        let inbox = Inbox::default();
        let builder = Server::builder("mx.example.org").local_domain("example.org").deliver(inbox.clone());
        let server = Rc::new(builder.bind().await.expect("a valid configuration"));
        for (line, expected) in [
            ("RCPT TO:<victim@other.example> ORCPT=rfc822;alice@example.org", &["555 5.5.4", "550 5.7.1"][..]),
            ("RCPT TO:<alice@example.org> ORCPT=rfc822;victim@other.example", &["555 5.5.4"]),
            ("RCPT TO:<victim@other.example> NOTIFY=NEVER", &["555 5.5.4", "550 5.7.1"]),
            ("RCPT TO:<alice@example.org> <victim@other.example>", &["501 5.5.4"]),
            ("RCPT TO:<alice@example.org>,<victim@other.example>", &["501 5.5.4", "501 5.1.3"]),
            ("RCPT TO:victim@other.example", &["501 5.1.3"]),
            ("RCPT TO:", &["501 5.1.3", "501 5.5.4"]),
            ("XCLIENT ADDR=127.0.0.1 LOGIN=alice", &["502 5.5.1", "550 5.7.0"]),
            ("XFORWARD ADDR=127.0.0.1", &["502 5.5.1", "550 5.7.0"]),
            ("AUTH PLAIN AGFsaWNlAHg=", &["502 5.5.1"]),
            ("TURN", &["502 5.5.1"]),
            ("ETRN other.example", &["502 5.5.1"]),
        ] {
            let mut client = open_from(&server, "192.0.2.1:40000");
            client.greet().await;
            client.ask("MAIL FROM:<a@client.example>", "250 2.1.0").await;
            client.send(format!("{line}\r\n")).await;
            let reply = client.reply().await.expect("a reply");
            assert!(expected.iter().any(|code| reply.starts_with(code)), "{line}: {reply}");
            client.ask("RCPT TO:<victim@other.example>", "550 5.7.1").await;
            client.ask("DATA", "554 5.5.1").await;
        }
        let mut client = open_from(&server, "192.0.2.1:40000");
        client.greet().await;
        client.ask("MAIL FROM:<a@client.example> AUTH=alice@example.org", "555 5.5.4").await;
        client.ask("MAIL FROM:<a@client.example> AUTH=<alice@example.org>", "501 5.5.4").await;
        assert_eq!(inbox.len(), 0);
    })
    .await;
}

/// SECURITY D-43: a network that is nearly everybody makes an open relay; the server does not start.
#[tokio::test]
async fn d43_a_relay_for_everybody_is_a_configuration_error() {
    for network in ["0.0.0.0/0", "::/0", "0.0.0.0/1", "128.0.0.0/1"] {
        let listener = Listener::new("127.0.0.1:0").relay_for(network.parse().expect("a network"));
        let builder = Server::builder("mx.example.org")
            .local_domain("example.org")
            .deliver(|_: Message| async { Ok(Accepted::all()) });
        let error = builder.listener(listener).bind().await.expect_err("it must not start");
        assert!(matches!(error, Error::Config(ConfigError::OpenRelay(_))), "{network}: {error}");
    }
}
