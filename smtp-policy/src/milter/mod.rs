//! Filters that speak the milter protocol.

mod talk;
mod wire;
