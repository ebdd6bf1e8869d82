//! Memory for mail servers: a message is kept from `250` until every recipient has an outcome.
//!
//! Only the states stand here so far. A message is queued, in flight, and then, for each recipient by itself, has an
//! [`Outcome`]. The spool, the schedule, routing, delivery and notifications follow.

mod outcome;

pub use outcome::Outcome;
