//! What a transaction produces: envelope, header fields of ours, content.
//!
//! [`content`] holds the octets, [`header_field`] and [`trace`] write fields in front of them,
//! [`header_section`] watches the ones that arrive, [`edits`] changes some of them, [`replaced_body`] what follows them, [`date`] writes dates.

pub(crate) mod content;
pub(crate) mod date;
pub(crate) mod edits;
pub(crate) mod header_field;
pub(crate) mod header_section;
pub(crate) mod replaced_body;
pub(crate) mod trace;
