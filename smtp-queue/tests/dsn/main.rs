//! Notifications (RFC 3464): as they are, whatever others chose to say, and as somebody else's parser reads them.

mod asked;
mod case;
mod golden;
mod internationalized;
mod second_parser;
mod structure;
