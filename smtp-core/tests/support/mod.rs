//! What the tests share: a session driven as a value, transcripts, a scripted client, and servers to talk to.

#![allow(dead_code, reason = "each test crate uses a part of it")]

pub(crate) mod client;
pub(crate) mod machine;
pub(crate) mod tls;
pub(crate) mod transcript;
pub(crate) mod world;
