//! SMTP as a value: so far its grammar.
//!
//! Each value is parsed once, at the edge, into a type that cannot be wrong.

mod syntax;

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
