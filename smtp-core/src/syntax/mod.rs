//! Bytes to values and back: the grammar of SMTP, without any state.
//!
//! Each value is parsed once, at the edge, into a type that cannot be wrong; formatting it and parsing
//! it again gives the same value. [`line`] finds the end of a command, [`content`] the end of a message and
//! [`chunk`] that of a part of it; no other file looks for CR or LF.

pub(crate) mod address;
pub(crate) mod chunk;
pub(crate) mod command;
pub(crate) mod content;
pub(crate) mod deliver_by;
pub(crate) mod dns_name;
pub(crate) mod domain;
pub(crate) mod extension;
pub(crate) mod future_release;
pub(crate) mod line;
pub(crate) mod mechanism;
pub(crate) mod notification;
pub(crate) mod parameter;
pub(crate) mod path;
pub(crate) mod priority;
pub(crate) mod proxy;
pub(crate) mod reply;
pub(crate) mod reply_reader;
pub(crate) mod secret;
pub(crate) mod solicitation;
pub(crate) mod text;
pub(crate) mod unqualified;
pub(crate) mod valid_since;
pub(crate) mod xclient;
pub(crate) mod xtext;

pub(crate) mod cursor;

pub use cursor::SyntaxError;
