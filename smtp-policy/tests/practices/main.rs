//! The practices about clients, envelopes, content and state, each through the hooks that a server calls.

#[path = "../support/dns_server.rs"]
mod dns_server;
#[path = "../support/mod.rs"]
mod support;

mod acceptance;
mod access;
mod bombs;
mod callout;
mod chain;
mod client_checks;
mod dns;
mod dns_zone;
mod filters;
mod greylist;
mod hostile_dns;
mod loops;
mod milter;
mod milter_script;
mod postsrsd;
mod rate_limit;
mod receipts;
mod replay;
mod rewriting;
mod selfcheck;
mod selfcheck_report;
mod selfcheck_zone;
mod state;
mod submission;
mod table;
mod trace;
mod verdicts;
