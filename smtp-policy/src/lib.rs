//! Judgement for mail servers: checks find, actions decide.
//!
//! A [`Check`] looks at one thing and returns [`Finding`]s; it never replies. [`Rules`] say what is done about each
//! [`Practice`] where it is not kept, and come as three [`Preset`]s. One pure function, [`Rules::judge`], turns all findings of a
//! recipient into a [`Judgement`]. [`Chain`] is the policy of `smtp-core` that joins them; a check alone in it is used alone.
//!
//! | What | Check | Practices |
//! |---|---|---|
//! | the client's address and its name | [`ReverseDns`] | S1 to S3, S5 |
//! | whether the header section is well formed | [`HeaderSanity`] | RFC 5322 §3.6, RFC 7103 |
//! | whether the same comes again and again | [`LoopWindow`] | SECURITY.md D-18 |
//! | malware, by ClamAV | [`Clamd`] | S18 |
//! | spam, by SpamAssassin or rspamd | [`Spamd`], [`Rspamd`] | S33 |
//! | the name in `EHLO` or `HELO` | [`Helo`] | S8, S10 to S12a |
//! | lists of bad clients and of bad domains | [`Dnsbl`], [`DomainDnsbl`] | S27 |
//! | lists of good clients | [`Dnswl`] | S43 |
//! | the domain of the reverse-path | [`SenderDomain`] | B2505.9 |
//! | the recipients of the null reverse-path | [`NullSender`] | S20 |
//! | whether the sender can be answered, by asking (off) | [`Callouts`], [`CallForward`] for recipients | S40 |
//! | whether the client came before | [`Greylist`] | S36, S43, S44 |
//! | whether the domain of the sender lets the client send | [`Spf`] | S34 to S38 |
//! | which domains vouch for the message | [`Dkim`] | S39 |
//! | whether the author's domain stands by it | [`Dmarc`] | S39 |
//! | who handed it on, and saw what of it | [`ArcChain`] | S39 |
//!
//! [`recommended`] is a chain of all that needs only DNS and a memory. [`HickoryResolver`] asks the network what checks want to know of DNS. What they found of the author is written into
//! `Authentication-Results`: [`Chain::reporting_as`]. What domains asked to be told of mail in their name, [`DmarcReports`] collect
//! and a [`DmarcReporter`] sends (RFC 9990).
//!
//! [`Milter`] is a policy of its own: it asks filters that speak Sendmail's protocol, and does what they say of a message.
//!
//! [`AccessRules`] are the operator's own, a policy in front of others (B2505.5–7), and so are [`RateLimits`]: what comes too fast is
//! refused at once (B2505.8). [`Submission`] completes what mail clients submit, [`Receipts`] takes their requests for receipts out.
//!
//! What leaves is signed by [`DkimSigning`] with [`DkimSigner`]s, and what is handed on is sealed by [`ArcSealing`]. [`Srs`] rewrites
//! the reverse-path of what is forwarded, and finds the way back, [`Batv`] tags those of our own mail, [`Verp`] those of lists.
//!
//! A [`DecisionTrace`] keeps what was said, found and done: a [`SessionTrace`] of it is a page for people, [`Replay`] judges it by
//! other rules, and [`TraceSummary`] counts. What all of them remember is in a [`StateStore`].
//!
//! [`selfcheck`] turns the questions round: whether our own host and domains are such as others want them, and what is to be published.

mod access;
mod arc;
mod arc_sealing;
mod auth_results;
mod batv;
mod body_hash;
mod callout;
mod chain;
mod check;
mod clock;
mod dkim;
mod dkim_signer;
mod dkim_signing;
mod dmarc;
mod dmarc_report;
mod dns;
mod dns_cache;
mod dns_list;
mod dnsbl;
mod dnswl;
mod filter;
mod finding;
mod greylist;
mod header;
mod header_sanity;
mod helo;
mod judgement;
mod loop_window;
mod milter;
mod network;
mod null_sender;
mod outbound_chain;
mod practice;
mod rate_limit;
mod receipts;
mod recommended;
mod replay;
mod reverse_dns;
mod rewriting_key;
mod role_mailboxes;
mod rules;
mod selfcheck;
mod sender_domain;
mod signature;
mod signing_room;
mod spf;
mod srs;
mod stable_sender;
mod state;
mod submission;
mod trace;
mod verp;

pub use access::{
    AccessAction, AccessRule, AccessRules, AccessSubject, DomainPattern, MailboxPattern, NotAPattern, NotBlockable,
};
pub use arc::{ArcChain, ArcResult, Sealed};
pub use arc_sealing::ArcSealing;
pub use batv::{Batv, BatvError, BatvLookup, BatvSigning};
pub use callout::{CallForward, Callouts, ClientCallout, SenderCallout};
pub use chain::{Chain, Greylisting, MARK, Recorder};
pub use check::{CHECK_LIMIT, Check, Observation, Scope, Subject};
pub use dkim::{DKIM_SIGNATURES_LIMIT, Dkim, DkimResult, DkimSignature, DkimSignatures};
pub use dkim_signer::{DkimKey, DkimKeyError, DkimSigner};
pub use dkim_signing::DkimSigning;
pub use dmarc::{Dmarc, DmarcResult};
pub use dmarc_report::{
    DmarcReport, DmarcReportEvent, DmarcReportLimits, DmarcReportOutbox, DmarcReportOutcome, DmarcReporter,
    DmarcReports,
};
pub use dns::{HickoryResolver, NoNameServer};
pub use dns_list::{DnsList, ListHealth, ListTest, Listing};
pub use dnsbl::{Dnsbl, DomainDnsbl};
pub use dnswl::{Dnswl, KnownClient, Trust};
pub use filter::clamd::Clamd;
pub use filter::rspamd::Rspamd;
pub use filter::spamd::Spamd;
pub use filter::{FilterAddress, FilterLimits, NotAFilterAddress};
pub use finding::{Action, Finding, Outcome};
pub use greylist::{Attempt, Greylist};
pub use header_sanity::HeaderSanity;
pub use helo::Helo;
pub use judgement::{Circumstances, Contribution, Judgement};
pub use loop_window::LoopWindow;
pub use milter::{Milter, MilterFallback};
pub use null_sender::NullSender;
pub use outbound_chain::OutboundChain;
pub use practice::{ForRoleMailboxes, Practice, Preset};
pub use rate_limit::{Rate, RateBy, RateLimits, Rated};
pub use receipts::{RECEIPT_FIELDS, Receipts};
pub use recommended::recommended;
pub use replay::{Replay, VerdictChange};
pub use reverse_dns::{ConfirmedName, ReverseDns};
pub use rewriting_key::{KeyTooShort, RewritingKey};
pub use role_mailboxes::{AbuseForm, NotAFormAddress};
pub use rules::{Rules, Thresholds, UnknownPractice};
pub use selfcheck::{
    OwnDomain, OwnHost, OwnTls, SelfFinding, SelfItem, SelfReport, Severity, is_public, leads_to, selfcheck,
    selfcheck_all,
};
pub use sender_domain::SenderDomain;
pub use spf::{Spf, SpfIdentity, SpfResult};
pub use srs::{Srs, SrsError, SrsForwarding, SrsLookup};
pub use state::contract as state_contract;
pub use state::{
    Change, Changing, FileStateStore, MemoryStateStore, STATE_KEY_LIMIT_OCTETS, STATE_TABLE_LIMIT_OCTETS,
    STATE_VALUE_LIMIT_OCTETS, StateError, StateLimits, StateStore,
};
pub use submission::Submission;
pub use trace::entry::{TraceEntry, TraceLineError};
pub use trace::event::{Judged, JudgedFinding, Traced};
pub use trace::observer::{DecisionTrace, TRACE_SESSION_LIMIT_OCTETS};
pub use trace::session::SessionTrace;
pub use trace::summary::TraceSummary;
pub use verp::Verp;
