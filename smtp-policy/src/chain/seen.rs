//! What a chain saw of a client and a reverse-path: looked at once, and remembered.

use std::sync::Arc;

use smtp_core::{ForwardPath, Greeting, PolicyContext};

use super::{Chain, subject_of};
use crate::check::{Observation, Scope, Subject};

impl Chain {
    /// What is seen of the client and the reverse-path: looked at once, and remembered.
    pub(super) async fn envelope(&self, cx: &mut PolicyContext<'_>) -> Observations {
        let subject = subject_of(cx);
        let greeting = subject.connection.greeting();
        let known_client = cx.session().get::<OfClient>().and_then(|OfClient(seen)| {
            // A client that introduced itself again may have another name.
            seen.iter().find(|seen| seen.chain == self.id && seen.greeting.as_ref() == greeting)
        });
        // A client that has authenticated since is no stranger any more (PRACTICES P6).
        let known_client = known_client.filter(|_| !self.is_ours(subject.connection));
        let known_sender = cx.transaction_extensions().get::<OfSender>();
        let known_sender = known_sender.and_then(|OfSender(seen)| seen.iter().find(|seen| seen.chain == self.id));
        let (client, sender) = tokio::join!(
            async {
                match known_client {
                    Some(seen) => seen.observations.clone(),
                    None => self.run(Subject { transaction: None, ..subject }, &[Scope::Client]).await,
                }
            },
            async {
                match known_sender {
                    Some(seen) => seen.observations.clone(),
                    None => self.run(subject, &[Scope::Sender]).await,
                }
            }
        );
        let (is_new_client, is_new_sender) = (known_client.is_none(), known_sender.is_none());
        let seen = |observations: &Observations| Seen {
            chain: self.id,
            greeting: greeting.cloned(),
            observations: observations.clone(),
        };
        if is_new_client && !client.is_empty() {
            let OfClient(mut all) = cx.session().get().cloned().unwrap_or_default();
            all.retain(|other| other.chain != self.id);
            all.push(seen(&client));
            cx.insert_session(OfClient(all));
        }
        if is_new_sender && !sender.is_empty() {
            let OfSender(mut all) = cx.transaction_extensions().get().cloned().unwrap_or_default();
            all.push(seen(&sender));
            cx.insert_transaction(OfSender(all));
        }
        [client, sender].concat()
    }
}

/// What the checks saw.
pub(super) type Observations = Vec<Arc<Observation>>;

/// What one scope of one chain saw; a server may have several chains.
#[derive(Debug, Clone)]
struct Seen {
    chain: u64,
    greeting: Option<Greeting>,
    observations: Observations,
}

/// Kept for the session.
#[derive(Debug, Clone, Default)]
struct OfClient(Vec<Seen>);

/// Kept for the transaction.
#[derive(Debug, Clone, Default)]
struct OfSender(Vec<Seen>);

/// Kept for the transaction, for each recipient.
#[derive(Debug, Clone, Default)]
pub(super) struct OfRecipients(pub(super) Vec<(u64, ForwardPath, Observations)>);
