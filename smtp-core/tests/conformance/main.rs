//! The obligations of STANDARDS.md, those of a server and those of a client: one file for each RFC and side. `rows`
//! maps what the RFCs demand to these and all other tests.

#[path = "../support/mod.rs"]
mod support;

#[path = "../scripted/mod.rs"]
mod scripted;

mod prdr;
mod prdr_client;
mod rfc1870;
mod rfc1870_client;
mod rfc2033;
mod rfc2033_client;
mod rfc2034;
mod rfc2852;
mod rfc2852_client;
mod rfc2920;
mod rfc2920_client;
mod rfc3030;
mod rfc3030_client;
mod rfc3207_client;
mod rfc3461;
mod rfc3461_client;
mod rfc3848;
mod rfc3865;
mod rfc4865;
mod rfc5321;
mod rfc5321_client;
mod rfc5321_header;
mod rfc5321_shutdown;
mod rfc5321_trace;
mod rfc6152;
mod rfc6152_client;
mod rfc6531;
mod rfc6531_client;
mod rfc6710;
mod rfc6710_client;
mod rfc7293;
mod rfc7504;
mod rfc8314;
mod rfc8689;
mod rfc8689_client;
mod rfc9422_client;
mod rows;
