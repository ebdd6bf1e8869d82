//! The rows: one file for each RFC, or for a few small ones that belong together.

mod rfc1870;
mod rfc2034;
mod rfc2920;
mod rfc3030;
mod rfc3207;
mod rfc3461;
mod rfc4954;
mod rfc5321_addresses;
mod rfc5321_commands;
mod rfc5321_content;
mod rfc5321_order;
mod rfc6152;
mod rfc6531;
mod small;

use crate::row::Rfc;

/// In the order in which they are played. What is judged of every reply comes last.
pub(crate) const ALL: &[Rfc] = &[
    Rfc { number: "5321", rows: rfc5321_commands::ROWS },
    Rfc { number: "5321", rows: rfc5321_order::ROWS },
    Rfc { number: "5321", rows: rfc5321_addresses::ROWS },
    Rfc { number: "5321", rows: rfc5321_content::ROWS },
    Rfc { number: "1870", rows: rfc1870::ROWS },
    Rfc { number: "2920", rows: rfc2920::ROWS },
    Rfc { number: "6152", rows: rfc6152::ROWS },
    Rfc { number: "3030", rows: rfc3030::ROWS },
    Rfc { number: "3207", rows: rfc3207::ROWS },
    Rfc { number: "4954", rows: rfc4954::ROWS },
    Rfc { number: "6531", rows: rfc6531::ROWS },
    Rfc { number: "3461", rows: rfc3461::ROWS },
    Rfc { number: "8314", rows: small::RFC_8314 },
    Rfc { number: "8689", rows: small::RFC_8689 },
    Rfc { number: "9422", rows: small::RFC_9422 },
    Rfc { number: "2033", rows: small::RFC_2033 },
    Rfc { number: "2034", rows: rfc2034::ROWS },
    Rfc { number: "5321", rows: rfc2034::EVERY_REPLY },
];
