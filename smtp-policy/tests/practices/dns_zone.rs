//! The resolver asked about zones: aliases that are not followed, who answers for a zone, and its servers.

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::{RData, RecordType, rdata};
use smtp_core::{Answer, Resolver};
use smtp_policy::HickoryResolver;

use crate::dns_server::{DnsServer, Way, address, alias, alone, answer, asked_for, authority, name, record};

fn respond(question: &Message, _: Way) -> Vec<Vec<u8>> {
    let (asked, kind) = asked_for(question);
    let mut message = answer(question, ResponseCode::NoError);
    let soa = |contact: &[&str]| {
        let contact = hickory_resolver::proto::rr::Name::from_labels(contact.iter().map(|label| label.as_bytes()));
        RData::SOA(rdata::SOA::new(name("ns1.example"), contact.expect("a name"), 1, 1, 1, 1, 60))
    };
    match (asked.as_str(), kind) {
        // As resolvers do that know the target already.
        ("mail.example", _) => {
            message.answers.extend([alias(&asked, "mx.example"), address("mx.example", "192.0.2.1")]);
        }
        ("example", RecordType::SOA) => message.answers.push(record(&asked, 60, soa(&["john.doe", "example"]))),
        ("odd.example", RecordType::SOA) => message.answers.push(record(&asked, 60, soa(&["a b\r\n", "example"]))),
        ("example", RecordType::NS) => {
            let server = |host: &str| record("example", 60, RData::NS(rdata::NS(name(host))));
            message.answers.extend([server("ns1.example"), server("ns2.example")]);
        }
        ("slow.example", _) => message.metadata.response_code = ResponseCode::ServFail,
        _ => message.authorities.push(authority("example", 60)),
    }
    alone(&message)
}

#[tokio::test(flavor = "multi_thread")] // PRACTICES B1912, B1033
async fn b1912_b1033_aliases_zones_and_their_servers() {
    let server = DnsServer::start(respond).await;
    let dns = HickoryResolver::with_servers([server.address]).expect("one server");
    let of = |text: &str| text.parse().expect("a name");
    assert_eq!(dns.alias(&of("mail.example")).await.found(), Some(of("mx.example")));
    assert_eq!(dns.alias(&of("mx.example")).await, Answer::Absent);
    assert_eq!(dns.alias(&of("slow.example")).await, Answer::Unknown);
    let soa = dns.soa(&of("example")).await.found().expect("a zone");
    assert_eq!(soa.primary, Some(of("ns1.example")));
    assert_eq!(soa.contact.map(|contact| contact.to_string()).as_deref(), Some("john.doe@example"));
    let odd = dns.soa(&of("odd.example")).await.found().expect("a zone");
    assert_eq!(odd.contact, None, "no mailbox");
    assert_eq!(dns.soa(&of("www.example")).await, Answer::Absent);
    assert_eq!(dns.soa(&of("slow.example")).await, Answer::Unknown);
    assert_eq!(dns.ns(&of("example")).await.found().map(|servers| servers.len()), Some(2));
    assert_eq!(dns.ns(&of("mx.example")).await, Answer::Absent);
}
