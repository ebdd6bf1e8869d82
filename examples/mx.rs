//! A mail server of one's own in forty lines: mail of strangers is judged, kept until it is delivered, and put into Maildirs.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use smtp_core::{Domain, MailboxTable, Refusal, Server};
use smtp_policy::{FileStateStore, HickoryResolver, Preset};
use smtp_queue::{
    Attempt, FileStorage, MaildirStore, MaildirTransport, Outcome, Queue, Route, Routing, SegmentSettings, SegmentSpool,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:2525".to_owned());
    let data = PathBuf::from(arguments.next().unwrap_or_else(|| "mx-data".to_owned()));
    let dns: Vec<SocketAddr> = arguments.map(|server| server.parse()).collect::<Result<_, _>>()?;
    let (host, domain) = (Domain::parse("mx.example.org")?, Domain::parse("example.org")?);

    // Who is there.
    let alice = "alice@example.org".parse()?;
    let users = MailboxTable::new([domain.clone()]).with_mailbox(&alice).with_roles_to(alice);

    // What becomes of mail: kept in a spool, then put into a Maildir. Nothing leaves this host.
    let maildirs = MaildirStore::open(&data, host.as_str())?;
    let (spool, _) = SegmentSpool::open(Arc::new(FileStorage::open(data.join(".queue"))?), SegmentSettings::default())?;
    let nowhere = Route::new("nowhere", async |attempt: Attempt| -> Vec<Outcome> {
        attempt.recipients().map(|_| Refusal::permanent(1, 2, "No mail leaves this host").into()).collect()
    });
    let local = Route::new("local", MaildirTransport::new(Arc::new(maildirs)));
    let routing = Routing::new(nowhere).domain(&domain, local);
    let queue = Queue::builder(Arc::new(spool), host.clone(), routing).start();

    // Whether we want it: all that DNS and a memory can tell. Name servers of one's own can stand behind the directory.
    let dns = if dns.is_empty() { HickoryResolver::from_system()? } else { HickoryResolver::with_servers(dns)? };
    let memory = FileStateStore::open(data.join(".state"))?;
    let policy = smtp_policy::recommended(Preset::Bcp, &host, [domain], dns, memory);

    let builder = Server::builder(host.as_str()).recipients(users).policy(policy).deliver(queue.clone());
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    let server = builder.graceful_shutdown(stop).listen(address).await?;
    println!("listening on {:?}; try alice@example.org", server.local_addresses());
    server.run().await?;
    queue.shutdown(Duration::from_secs(30)).await;
    Ok(())
}
