//! The queue from acceptance to outcome, on virtual time.

mod accept;
mod backscatter;
mod deliver_by;
mod delivery;
mod faulty_spool;
mod future_release;
mod judged_content;
mod notifications;
mod operators;
mod priority;
mod quarantine;
mod quarantine_trouble;
mod relaying;
mod schedule;
mod severed_spool;
mod signing;
mod sites;
mod support;
mod trouble;
mod wishes;
