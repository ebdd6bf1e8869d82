//! The transports, against next hops that are servers of this workspace and scripts.

mod binary;
mod deliver_by;
mod dsn;
mod lmtp;
mod priority;
mod requiretls;
mod smtp;
mod solicitation;
mod tls_policy;
mod utf8;
mod valid_since;
