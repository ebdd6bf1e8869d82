//! The server: its driver, hooks, limits, authentication and listeners.

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod auth_tls;
mod delivery_endings;
mod dovecot_auth;
mod hooks;
mod hooks_verdicts;
mod limits;
mod login_limits;
mod regressions;
mod rewriting;
mod submission;
mod tls_tickets;
mod transcripts;
mod unix_socket;
