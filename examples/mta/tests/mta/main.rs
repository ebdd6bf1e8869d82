//! The program as its users run it: its commands, its configuration, and mail through it.

#[path = "../common/mod.rs"]
mod common;

mod commands;
mod d13_paths;
mod delivery;
mod dmarc_reports;
mod dsn;
mod durability;
mod lmtp;
mod logging;
mod name_server;
mod outbound;
mod policy;
mod quarantine;
mod queue_commands;
mod relay;
mod selfcheck;
mod shutdown;
mod submission;
mod tls;
mod trace;
mod trial;
