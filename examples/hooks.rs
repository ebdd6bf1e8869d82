//! Own users and own rules: a lookup over a table of the application, and a policy that limits what each client sends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use smtp_core::{
    Accepted, Connection, ForwardPath, Lookup, LookupError, Message, Policy, PolicyContext, Recipient, RecipientLookup,
    Refusal, Server, Stages, Transaction, Verdict, async_trait,
};

/// The users of the application. A real one would ask its database here, and return `Err` when that does not answer:
/// the client is then asked to come again, and no mail is lost.
struct Users {
    names: Vec<&'static str>,
}

#[async_trait]
impl RecipientLookup for Users {
    async fn lookup(&self, _: &Connection, _: &Transaction, to: &ForwardPath) -> Result<Lookup, LookupError> {
        let is_ours = to.domain().is_some_and(|domain| domain.as_str().eq_ignore_ascii_case("example.org"));
        let name = to.local_part().to_ascii_lowercase();
        Ok(if !is_ours {
            Lookup::NotLocal
        } else if self.names.contains(&name.as_str()) || self.is_role(to) {
            Lookup::Mailbox
        } else {
            Lookup::Unknown
        })
    }
}

/// At most so many recipients an hour for each client address.
struct HourlyLimit {
    recipients: u32,
    seen: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

#[async_trait]
impl Policy for HourlyLimit {
    fn name(&self) -> &'static str {
        "hourly-limit"
    }

    fn stages(&self) -> Stages {
        Stages::RECIPIENT
    }

    async fn recipient(&self, cx: &mut PolicyContext<'_>, _: &Recipient) -> Verdict {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        seen.retain(|_, (since, _)| now - *since < Duration::from_secs(3600));
        let (_, count) = seen.entry(cx.connection().peer().ip()).or_insert((now, 0));
        *count += 1;
        if *count > self.recipients {
            return Verdict::Refuse(Refusal::transient(7, 1, "Too many recipients in this hour"));
        }
        Verdict::Continue
    }
}

#[tokio::main]
async fn main() -> Result<(), smtp_core::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:2525".to_owned());
    let server = Server::builder("mx.example.org")
        .recipients(Users { names: vec!["alice", "bob"] })
        .policy(HourlyLimit { recipients: 3, seen: Mutex::default() })
        .deliver(|message: Message| async move {
            println!("{message:?}");
            Ok(Accepted::all())
        })
        .listen(address)
        .await?;
    println!("listening on {:?}; try alice@example.org and nobody@example.org", server.local_addresses());
    server.run().await
}
