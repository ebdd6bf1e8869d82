//! The defences of SECURITY.md, a file for each way to attack; what measures the whole process has tests of its own.

#[path = "../support/mod.rs"]
mod support;

mod bdat;
mod connections;
mod desync;
mod injection;
mod proxy;
mod relay;
mod slow;
mod state;
mod tls;
mod xclient;
