//! Who wrote it: SPF, DKIM, DMARC, ARC and the field that reports them.

#[path = "../support/signing.rs"]
mod signing;
#[path = "../support/mod.rs"]
mod support;

mod arc;
mod arc_suite;
mod auth_results;
mod dkim;
mod dkim_signing;
mod dmarc;
mod dmarc_reports;
mod hostile;
mod outbound;
mod spf;
