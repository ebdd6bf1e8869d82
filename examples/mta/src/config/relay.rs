//! The way to other hosts: `[relay]`.

use std::net::IpAddr;

use smtp_core::IpNet;

use super::check::{LMTP_ON_25, is_socket_address, parsed};
use super::file::{Protocol, RelayTable, RelayTls};
use super::problem::Report;

/// The host for other hosts' mail, and who may use it.
pub(super) fn check(report: &mut Report<'_>, table: RelayTable) -> (Option<String>, Vec<IpNet>) {
    let is_lmtp = table.protocol.as_ref().is_some_and(|said| *said.get_ref() == Protocol::Lmtp);
    let demands_tls = matches!(table.tls, Some(RelayTls::Required | RelayTls::Verified));
    let smart_host = table.smart_host.map(|text| {
        let is_path = text.get_ref().starts_with('/');
        if is_path && !is_lmtp {
            let problem = "a Unix socket is for LMTP: add `protocol = \"lmtp\"`";
            report.add(text.span(), "relay.smart_host", problem);
        } else if is_path && demands_tls {
            report.add(text.span(), "relay.smart_host", "over a Unix socket there is no TLS, and `tls` demands it");
        } else if is_lmtp && text.get_ref().ends_with(":25") {
            report.add(text.span(), "relay.smart_host", LMTP_ON_25);
        }
        // Port 0 is for listeners: any that is free.
        if !is_path && (!is_socket_address(text.get_ref()) || text.get_ref().ends_with(":0")) {
            let problem = format!("`{}` is not `host:port`, for example `smtp.example.org:25`", text.get_ref());
            report.add(text.span(), "relay.smart_host", problem);
        }
        text.into_inner()
    });
    let mut clients = Vec::new();
    for text in table.clients.iter().flatten() {
        if smart_host.is_none() {
            report.add(text.span(), "relay.clients", "their mail would have nowhere to go: name a `smart_host`");
        }
        clients.extend(parsed::<IpNet>(report, "relay.clients", "a network like `10.0.0.0/8`", text));
    }
    (smart_host, clients)
}

/// From where connections to that host are made.
pub(super) fn source_addresses(report: &mut Report<'_>, table: &RelayTable) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for text in table.source_addresses.iter().flatten() {
        const KEY: &str = "relay.source_addresses";
        let over_tcp = table.smart_host.as_ref().is_some_and(|host| !host.get_ref().starts_with('/'));
        if !over_tcp {
            report.add(text.span(), KEY, "nothing leaves from there: name a `smart_host`, as `host:port`");
        }
        let Some(address) = parsed::<IpAddr>(report, KEY, "an address like `192.0.2.25`", text) else { continue };
        if address.is_unspecified() || address.is_multicast() {
            report.add(text.span(), KEY, format!("`{address}` is no address of a host"));
        } else if addresses.contains(&address) {
            report.add(text.span(), KEY, format!("`{address}` is named twice"));
        }
        addresses.push(address);
    }
    addresses
}
