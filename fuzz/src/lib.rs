//! Laws: what holds for every input whatsoever.
//!
//! Each module is one fuzz target. Its `law` takes any octets and panics where the law is broken, so that the same
//! function serves `cargo fuzz`, which looks for such octets, and `cargo test`, which tries the seeds in `corpus/` and
//! mutations of them.
//!
//! | Target | Law |
//! |---|---|
//! | [`mod@line`] | lines end at CRLF, however the octets are cut; less than one line is held |
//! | [`command`] | formatting and parsing a command gives the same command; no line break gets through |
//! | [`path`] | parse undoes format, for everything with an `@` |
//! | [`parameter`] | parameters mean what a slow reading of the grammar says |
//! | [`srs`] | who rewrites an address finds the way back, and what somebody changed leads nowhere |
//! | [`text`] | what is shown or sent is one line, printable, and not too long |
//! | [`mod@proxy`] | a header of a proxy is the same whatever follows it, and can be said again |
//! | [`session`] | replies, events and deliveries do not depend on how the octets were cut |
//! | [`bdat`] | content by `BDAT` is what was counted, however it is divided and cut |
//! | [`sasl`] | a client is who a hook said, asked about what the client sent; nothing secret is said or reported |
//! | [`content`] | the decoder equals a slow reading of RFC 5321 §4.1.1.4 and §4.5.2, and undoes the encoder |
//! | [`received`] | a generated trace field parses back to what went in |
//! | [`dsn`] | a strict reader finds in a notification what went in, and nothing else |
//! | [`dns_list`] | an answer of a list in DNS counts as a slow reading says; what a list says stays one line of a reply |
//! | [`milter_reply`] | whatever a filter says, a message is delivered if and only if the client reads `250`, and is canonical |
//! | [`authentication_results`] | fields in our name are left out in any spelling, and all else stays as it was |
//! | [`client_reply`] | the reader of replies equals a slow reading of RFC 5321 §4.2, however the octets are cut |
//! | [`client_session`] | whatever a server says, each recipient has one result, and none is delivered by mistake |
//! | [`spool_record`] | a reader of stored records does not panic, takes little memory, and undoes the writer |
//! | [`spool_recovery`] | a damaged spool opens, gives what is whole, says what is not, and goes on working |

pub mod authentication_results;
pub mod bdat;
mod client;
pub mod client_reply;
pub mod client_session;
pub mod command;
pub mod content;
pub mod control;
pub mod dns_list;
pub mod dsn;
pub mod line;
pub mod milter_reply;
mod moment;
pub mod parameter;
pub mod path;
pub mod proxy;
pub mod received;
pub mod sasl;
mod sender;
pub mod session;
pub mod spool_record;
pub mod spool_recovery;
pub mod srs;
pub mod text;

/// A law: panics where it is broken.
pub type Law = fn(&[u8]);

/// All laws, by the name of their target and of their folder in `corpus/`.
pub const LAWS: [(&str, Law); 20] = [
    ("line", line::law),
    ("command", command::law),
    ("path", path::law),
    ("parameter", parameter::law),
    ("text", text::law),
    ("proxy", proxy::law),
    ("session", session::law),
    ("bdat", bdat::law),
    ("sasl", sasl::law),
    ("content", content::law),
    ("received", received::law),
    ("dsn", dsn::law),
    ("dns_list", dns_list::law),
    ("milter_reply", milter_reply::law),
    ("authentication_results", authentication_results::law),
    ("client_reply", client_reply::law),
    ("client_session", client_session::law),
    ("spool_record", spool_record::law),
    ("spool_recovery", spool_recovery::law),
    ("srs", srs::law),
];
