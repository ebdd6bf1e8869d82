//! The obligations of STANDARDS.md that a receiving server has without TLS, AUTH and BDAT: one file for each RFC.

#[path = "../support/mod.rs"]
mod support;

mod rfc1870;
mod rfc2034;
mod rfc2920;
mod rfc5321;
mod rfc5321_shutdown;
mod rfc5321_trace;
mod rfc6152;
