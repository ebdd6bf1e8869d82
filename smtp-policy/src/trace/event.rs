//! What an entry of a trace says.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use smtp_core::SafeText;

/// One thing that happened. Transactions, messages and recipients are named as in the log, replies stand as the client got them.
///
/// Passwords and contents have no place in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Traced {
    /// What is looked at from here on: what a judgement does not mention of this was looked at and not found.
    Rules {
        /// The [names](crate::Practice::name) of the practices.
        practices: Vec<SafeText>,
    },
    /// A client connected.
    Connected {
        /// Its address.
        peer: SocketAddr,
        /// The address it connected to.
        local: SocketAddr,
    },
    /// It introduced itself.
    Greeted {
        /// As what.
        name: SafeText,
        /// What is spoken, as `Received` says it.
        protocol: SafeText,
    },
    /// The rest is under TLS.
    Tls {
        /// The version.
        version: SafeText,
        /// The cipher suite.
        cipher: SafeText,
    },
    /// There was no TLS.
    TlsFailed {
        /// Why.
        cause: SafeText,
    },
    /// A peer said in whose place it speaks.
    PassedOn {
        /// The client.
        peer: SocketAddr,
        /// Who spoke for it.
        by: SocketAddr,
    },
    /// It proved who it is.
    Authenticated {
        /// Who.
        identity: SafeText,
        /// How.
        mechanism: SafeText,
    },
    /// Its login waited, because too many had failed.
    LoginDelayed {
        /// The name that the client gave.
        user: SafeText,
        /// How long, in seconds.
        seconds: u64,
    },
    /// `MAIL` was answered with 250.
    Sender {
        /// The transaction.
        transaction: SafeText,
        /// Its reverse-path.
        reverse_path: SafeText,
    },
    /// `RCPT` was answered with 250.
    Recipient {
        /// The transaction.
        transaction: SafeText,
        /// The recipient.
        recipient: SafeText,
    },
    /// A policy judged a recipient.
    Judged(Judged),
    /// Something was refused.
    Refused {
        /// The transaction; empty without one.
        transaction: SafeText,
        /// Where.
        stage: SafeText,
        /// What it was about.
        subject: SafeText,
        /// What the client was told.
        reply: SafeText,
        /// The policy that refused; empty where the engine, a lookup or the delivery did.
        policy: SafeText,
        /// Whether the reply is held until `RCPT`.
        held: bool,
    },
    /// A message was accepted.
    Accepted {
        /// The transaction.
        transaction: SafeText,
        /// Its reverse-path.
        reverse_path: SafeText,
        /// How many recipients it has.
        recipients: u64,
        /// The size of its content.
        octets: u64,
        /// Its queue id; empty where the delivery gave none.
        id: SafeText,
    },
    /// Something of ours failed, or the client could not be told: a line for people.
    Trouble {
        /// What.
        problem: SafeText,
    },
    /// The connection ended.
    Closed {
        /// Why.
        reason: SafeText,
    },
    /// The session has said more than is kept of one: what follows is left out, but for its end.
    Cut,
    /// A message was put on stable storage.
    Queued {
        /// Its queue id.
        id: SafeText,
        /// The transaction in which it was received; empty where there was none.
        transaction: SafeText,
        /// Its reverse-path.
        reverse_path: SafeText,
        /// How many recipients it has.
        recipients: u64,
    },
    /// An attempt ended for a recipient, or it was given up.
    Attempted {
        /// The message.
        id: SafeText,
        /// The recipient.
        recipient: SafeText,
        /// Where it went.
        site: SafeText,
        /// Which attempt it is.
        number: u32,
        /// `delivered`, `quarantined`, `deferred`, `failed` or `expired`.
        result: SafeText,
        /// What was said.
        reply: SafeText,
        /// Who said it; empty where our own side did.
        remote: SafeText,
    },
    /// A notification was queued.
    Notified {
        /// The message that it is about.
        about: SafeText,
        /// Its own queue id.
        id: SafeText,
        /// Where it goes.
        recipient: SafeText,
    },
    /// Something else happened to a message: a line for people.
    Noted {
        /// The message.
        id: SafeText,
        /// What.
        note: SafeText,
    },
}

/// What a policy judged, as [`PolicyEvent`](smtp_core::PolicyEvent) reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Judged {
    /// The name of the policy.
    pub policy: SafeText,
    /// The transaction.
    pub transaction: SafeText,
    /// The recipient.
    pub recipient: SafeText,
    /// Whether the content had come.
    pub content_seen: bool,
    /// Whether the recipient is a role mailbox.
    pub is_role: bool,
    /// What was found.
    pub findings: Vec<JudgedFinding>,
    /// The sum of the weights.
    pub score: u32,
    /// What the findings came to: the word of an [`Action`](crate::Action); empty where no rules judged, as of what a filter
    /// said.
    pub judged: SafeText,
    /// What was done.
    pub action: SafeText,
    /// What the client was told, where it was refused; empty where not.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub reply: SafeText,
    /// What would have been done if nothing was only observed; empty where that is the same.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub shadow: SafeText,
    /// What the client would have been told then.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub shadow_reply: SafeText,
}

impl Judged {
    /// Whether rules came to it, so that others might come to something else.
    pub(crate) fn is_by_rules(&self) -> bool {
        !is_empty(&self.judged)
    }
}

/// One thing that a policy found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JudgedFinding {
    /// The name of the practice.
    pub practice: SafeText,
    /// Its number; empty where it has none.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub number: SafeText,
    /// `pass`, `fail` or `unknown`.
    pub outcome: SafeText,
    /// What was done about it.
    pub action: SafeText,
    /// What it added to the score.
    pub weight: u16,
    /// What it would add where it scores, if that is its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_weight: Option<u16>,
    /// What it rests on.
    pub evidence: SafeText,
    /// What a refused client is told besides; `None` where nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<SafeText>,
    /// The action of the preset, where it is only observed; empty where that is no more.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub shadow: SafeText,
}

fn is_empty(text: &SafeText) -> bool {
    text.as_str().is_empty()
}
