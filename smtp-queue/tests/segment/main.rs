//! The spool in segments on a real disk: what a restart finds, and what damage does.

mod damage;
mod restart;
mod spool;
