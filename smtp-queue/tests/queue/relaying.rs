//! Messages that a client in a relay network brings, with parameters.

use smtp_core::{
    Connection, ForwardPath, Listener, Lookup, LookupError, RecipientLookup, Server, ServerBuilder, Transaction,
    async_trait,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::support::*;

/// All is relayed, and `list@one.example` is an alias for two.
struct List;

#[async_trait]
impl RecipientLookup for List {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        let members = || vec![mailbox("a@one.example"), mailbox("b@two.example")];
        Ok(if to.local_part() == "list" { Lookup::Alias(members()) } else { Lookup::NotLocal })
    }
}

/// Relays a message of `alice@client.example` to that recipient, with these parameters of `MAIL` and `RCPT`.
pub(crate) async fn relay_with(world: &World, mail: &str, recipient: &str, rcpt: &str) {
    let clients = "192.0.2.0/24".parse().expect("a network");
    let server = Server::builder("mx.example.org")
        .recipients(List)
        .deliver(world.queue.clone())
        .listener(Listener::new("127.0.0.1:0").relay_for(clients));
    let mail = format!("MAIL FROM:<alice@client.example> {mail}");
    let rcpt = format!("RCPT TO:<{recipient}> {rcpt}");
    send(server, &[(&mail, "250"), (&rcpt, "250")]).await;
}

/// Sends one message, with these commands between `EHLO` and `DATA`; each reply must have the code that stands beside.
pub(crate) async fn send(server: ServerBuilder, commands: &[(&str, &str)]) {
    let server = server.bind().await.expect("it listens");
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let address = |text: &str| text.parse().expect("an address");
    let session = server.serve_connection(theirs, address("192.0.2.7:4000"), address("192.0.2.1:25"));
    let before = [("", "220"), ("EHLO client.example", "250")];
    let behind = [("DATA", "354"), ("Subject: x\r\n\r\nx\r\n.", "250"), ("QUIT", "221")];
    let talk = async {
        let mut stream = BufReader::new(ours);
        for (line, expected) in before.iter().chain(commands).chain(&behind) {
            if !line.is_empty() {
                stream.write_all(format!("{line}\r\n").as_bytes()).await.expect("the server reads");
            }
            let mut reply = String::new();
            while !reply.starts_with(&format!("{expected} ")) {
                reply.clear();
                stream.read_line(&mut reply).await.expect("the server answers");
                assert!(reply.starts_with(expected), "{line}: {reply}");
            }
        }
    };
    tokio::join!(talk, session);
}
