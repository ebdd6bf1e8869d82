//! The queue from acceptance to outcome, on virtual time.

mod delivery;
mod support;
