//! Lists of bad clients: ours is on none of them, and they can be believed (PRACTICES S27; RFC 5782).

use std::net::IpAddr;

use futures_util::future::join_all;
use smtp_core::Resolver;

use crate::dns_list::{DnsList, ListHealth, Listed, Listing, TestedList};

use super::facts::OwnHost;
use super::report::{SelfFinding, SelfItem};

const TEST: SelfItem = SelfItem::new("blocklist-test", "S27", "the list lists what it must, and nobody else");
const LISTED: SelfItem = SelfItem::new("blocklist", "S27", "the address is on no list of bad clients");

pub(super) async fn check(dns: &dyn Resolver, host: &OwnHost) -> Vec<SelfFinding> {
    let addresses: Vec<_> = host.public_addresses().collect();
    let each = host.blocklists.iter().map(|list| one(dns, list, &addresses));
    join_all(each).await.into_iter().flatten().collect()
}

async fn one(dns: &dyn Resolver, list: &DnsList, addresses: &[IpAddr]) -> Vec<SelfFinding> {
    let (zone, list) = (list.zone(), TestedList::new(list.clone()));
    let test = list.test_addresses(dns).await;
    let mut found = vec![match test.health() {
        ListHealth::Works => TEST.ok(zone, test.to_string()),
        ListHealth::Unknown => TEST.unknown(zone, test.to_string()),
        ListHealth::Dead | ListHealth::ListsAnybody => {
            TEST.warning(zone, test.to_string()).advising("take the list out of the configuration")
        }
    }];
    if !test.is_on() {
        return found;
    }
    let listings = join_all(addresses.iter().map(|address| async {
        let who = Listed::Address(*address);
        let listing = list.look_up(dns, &who).await;
        let words = match listing {
            Listing::Listed(_) => list.words(dns, &who).await,
            _ => None,
        };
        (*address, listing, words)
    }));
    found.extend(listings.await.into_iter().map(|(address, listing, words)| match listing {
        Listing::NotListed => LISTED.ok(address, format!("not on {zone}")),
        Listing::Unknown => LISTED.unknown(address, format!("{zone} does not answer")),
        Listing::Listed(_) => {
            let words = words.map(|words| format!(": {words}")).unwrap_or_default();
            let finding = LISTED.error(address, format!("on {zone}{words}"));
            finding.advising("find out what was sent from here, stop it, and then ask the list to forget it")
        }
    }));
    found
}
