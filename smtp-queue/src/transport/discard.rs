//! A transport that keeps nothing, for tests and for measuring.

use smtp_core::async_trait;

use crate::outcome::Outcome;

use super::{Attempt, Transport};

/// Says of every recipient that it was delivered, and forgets the message.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

#[async_trait]
impl Transport for Discard {
    async fn deliver(&self, attempt: Attempt) -> Vec<Outcome> {
        attempt.recipients().map(|_| Outcome::delivered("Discarded")).collect()
    }
}
