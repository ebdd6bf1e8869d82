//! The client engine and its driver, against scripts, doubles and real sockets.

#[path = "../scripted/mod.rs"]
mod scripted;
#[path = "../support/mod.rs"]
mod support;

mod auth;
mod connection;
mod content;
mod dane;
mod limits;
mod mailer;
mod question;
mod tls;
mod tls_policy;
mod transcripts;
