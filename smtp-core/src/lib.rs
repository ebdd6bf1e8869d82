//! SMTP as a value: its grammar, and the state machine of a server session without I/O.

mod message;
mod session;
mod syntax;

pub use message::content::{Content, ContentReader, ContentSettings};
pub use message::date::DateTime;
pub use message::header_field::{HeaderField, HeaderFieldError};
pub use message::trace::{Protocol, Received, delivered_to, return_path};
pub use session::connection::{Connection, Greeting, SessionId, TransactionId, Treatment};
pub use session::decision::{
    Accepted, Ask, AuthError, Changes, Decision, Disposition, Identity, Kind, Lookup, LookupAnswer, LookupError,
    NoRoom, Question, Refusal, Verdict, kinds,
};
pub use session::event::{CloseReason, HookFailure, SessionEvent, Stage};
pub use session::extensions::Extensions;
pub use session::limits::Limits;
pub use session::server::{ServerSession, SessionConfig, Stages, Step};
pub use session::transaction::{Recipient, Transaction};
pub use syntax::SyntaxError;
pub use syntax::address::{
    AddressLiteral, Domain, ForwardPath, Host, LocalPart, Mailbox, PATH_LIMIT_OCTETS, ReversePath,
};
pub use syntax::command::{Command, CommandError};
pub use syntax::content::{DataDecoder, DataEncoder, Decoded, Defect};
pub use syntax::extension::ServiceExtension;
pub use syntax::line::{Line, LineLimits, LineReader};
pub use syntax::parameter::{Body, MailParameters, RcptParameters};
pub use syntax::reply::{EnhancedStatusCode, Reply, ReplyCode, ReplyText};
pub use syntax::text::SafeText;
