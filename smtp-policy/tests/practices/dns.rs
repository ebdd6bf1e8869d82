//! The resolver, before a name server that is silent, fails, lies or is right (SECURITY D-34, PRACTICES P5).

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::dns_server::{DnsServer, Way, address, alias, alone, answer, asked_for, authority, name, record};
use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::{DNSClass, RData, Record, RecordType, rdata};
use smtp_core::{Answer, DnsName, MailExchanger, Resolver, TlsaRecord};
use smtp_policy::HickoryResolver;

fn resolver(server: &DnsServer) -> HickoryResolver {
    HickoryResolver::with_servers([server.address]).expect("one server")
}

fn dns_name(text: &str) -> DnsName {
    text.parse().expect("a name")
}

/// What is right or at least honest, by the name that is asked for.
fn respond(question: &Message, way: Way) -> Vec<Vec<u8>> {
    let (asked, _) = asked_for(question);
    let mut right = answer(question, ResponseCode::NoError);
    let found = |owner: &str| address(owner, "192.0.2.1");
    let with = |code: ResponseCode| alone(&answer(question, code));
    match asked.as_str() {
        "right.example" => right.answers.push(found(&asked)),
        "alias.example" => right.answers.extend([alias(&asked, "right.example"), found("right.example")]),
        // As some servers say it: the end before the beginning.
        "turned.example" => right.answers.extend([found("right.example"), alias(&asked, "right.example")]),
        "alias-alone.example" => right.answers.push(alias(&asked, "right.example")),
        "alias-of-nothing.example" => right.answers.push(alias(&asked, "no-name.example")),
        "alias-of-failure.example" => right.answers.push(alias(&asked, "servfail.example")),
        "right-at-second.example" => {
            let mut forged = right.clone();
            forged.answers.push(address(&asked, "203.0.113.66"));
            forged.metadata.id = !forged.metadata.id;
            right.answers.push(found(&asked));
            return [alone(&forged), vec![b"x".to_vec()], alone(&right)].concat();
        }
        "besides.example" => {
            right.answers.extend([found(&asked), address("bank.example", "203.0.113.66"), text(&asked)]);
        }
        "by-tcp.example" if way == Way::Tcp => right.answers.push(found(&asked)),
        "by-tcp.example" | "truncated.example" => right.metadata.truncation = true,
        "truncated-alone.example" if way == Way::Udp => right.metadata.truncation = true,
        "no-name.example" => {
            right.metadata.response_code = ResponseCode::NXDomain;
            right.authorities.push(authority("example", 60));
        }
        "no-record.example" => right.authorities.push(authority("example", 60)),
        "no-record-and-no-soa.example" => {}
        "servfail.example" => return with(ResponseCode::ServFail),
        "refused.example" => return with(ResponseCode::Refused),
        "formerr.example" => return with(ResponseCode::FormErr),
        "notimp.example" => return with(ResponseCode::NotImp),
        "new-code.example" => return with(ResponseCode::Unknown(3841)),
        "referral.example" => right.authorities.push(record("example", 60, RData::NS(rdata::NS(name("ns.example"))))),
        _ => return lie(question, way),
    }
    alone(&right)
}

/// What is wrong; silence, where nothing else is meant.
fn lie(question: &Message, way: Way) -> Vec<Vec<u8>> {
    let (asked, _) = asked_for(question);
    let found = |owner: &str| address(owner, "192.0.2.1");
    let mut wrong = answer(question, ResponseCode::NoError);
    let other_question = || vec![Query::query(name("other.example"), RecordType::A)];
    if way == Way::Udp && asked.ends_with("-by-tcp.example") {
        wrong.metadata.truncation = true;
        return alone(&wrong);
    }
    match asked.as_str() {
        "failure-with-data.example" => {
            wrong.metadata.response_code = ResponseCode::ServFail;
            wrong.answers.push(found(&asked));
        }
        "new-code-with-data.example" => {
            wrong.metadata.response_code = ResponseCode::Unknown(11);
            wrong.answers.push(found(&asked));
        }
        "no-name-with-data.example" => {
            wrong.metadata.response_code = ResponseCode::NXDomain;
            wrong.answers.push(found(&asked));
        }
        "wrong-id.example" => {
            wrong.answers.push(found(&asked));
            wrong.metadata.id = !wrong.metadata.id;
        }
        "wrong-question.example" | "wrong-question-by-tcp.example" => {
            wrong.queries = other_question();
            wrong.answers.extend([found("other.example"), found(&asked)]);
        }
        "no-name-of-another-by-tcp.example" => {
            wrong.queries = other_question();
            wrong.metadata.response_code = ResponseCode::NXDomain;
        }
        "no-question.example" | "no-question-by-tcp.example" => {
            wrong.queries.clear();
            wrong.answers.push(found(&asked));
        }
        "wrong-owner.example" => wrong.answers.push(found("other.example")),
        "wrong-type.example" => wrong.answers.push(text(&asked)),
        "wrong-section.example" => wrong.additionals.push(found(&asked)),
        "wrong-class.example" => {
            let mut foreign = found(&asked);
            foreign.dns_class = DNSClass::CH;
            wrong.answers.push(foreign);
        }
        "circle.example" => wrong.answers.extend([alias(&asked, "back.example"), alias("back.example", &asked)]),
        "circle-apart.example" => wrong.answers.push(alias(&asked, "back-apart.example")),
        "back-apart.example" => wrong.answers.push(alias(&asked, "circle-apart.example")),
        "of-itself.example" => wrong.answers.push(alias(&asked, &asked)),
        long if long.ends_with(".chain.example") => {
            let number: u32 = long[1..].split('.').next().and_then(|number| number.parse().ok()).expect("a number");
            wrong.answers.push(alias(&asked, &format!("n{}.chain.example", number + 1)));
        }
        "garbage.example" => {
            let mut octets = question.to_vec().expect("a message");
            octets[2] |= 0x80;
            octets[7] = 9; // answers that are not there
            octets.extend([0xc0; 40]);
            return vec![octets];
        }
        "cut.example" => {
            wrong.answers.push(found(&asked));
            let mut octets = wrong.to_vec().expect("a message");
            octets.truncate(octets.len() - 2);
            return vec![octets];
        }
        _ => return Vec::new(),
    }
    alone(&wrong)
}

fn text(owner: &str) -> Record {
    record(owner, 300, RData::TXT(rdata::TXT::new(vec!["x".to_owned()])))
}

/// Every answer, right or wrong.
#[tokio::test(flavor = "multi_thread")] // SECURITY D-34, PRACTICES P5, S2
async fn d34_only_a_clean_answer_to_the_question_counts() {
    let server = DnsServer::start(respond).await;
    let (right, hasty) = (resolver(&server), resolver(&server).with_limit(Duration::from_millis(300)));
    let found =
        || Answer::Found { data: vec![Ipv4Addr::new(192, 0, 2, 1)], secure: false, ttl: Duration::from_secs(300) };
    for (asked, expected) in [
        ("right.example", found()),
        ("alias.example", found()),
        ("turned.example", found()),
        ("alias-alone.example", found()),
        ("right-at-second.example", found()),
        ("besides.example", found()),
        ("by-tcp.example", found()),
        ("no-name.example", Answer::Absent),
        ("no-record.example", Answer::Absent),
        ("no-record-and-no-soa.example", Answer::Absent),
        ("alias-of-nothing.example", Answer::Absent),
    ] {
        assert_eq!(right.ipv4(&dns_name(asked)).await, expected, "{asked}");
    }
    for asked in [
        "servfail.example",
        "refused.example",
        "formerr.example",
        "notimp.example",
        "new-code.example",
        "failure-with-data.example",
        "new-code-with-data.example",
        "no-name-with-data.example",
        "alias-of-failure.example",
        "truncated.example",
        "truncated-alone.example",
        "garbage.example",
        "cut.example",
        "wrong-question-by-tcp.example",
        "no-name-of-another-by-tcp.example",
        "no-question-by-tcp.example",
        "wrong-owner.example",
        "wrong-type.example",
        "wrong-section.example",
        "wrong-class.example",
        "referral.example",
        "circle.example",
        "circle-apart.example",
        "of-itself.example",
        "n0.chain.example",
    ] {
        assert_eq!(right.ipv4(&dns_name(asked)).await, Answer::Unknown, "{asked}");
    }
    // What is no answer is waited behind, for another may come.
    for asked in ["silence.example", "wrong-id.example", "wrong-question.example", "no-question.example"] {
        assert_eq!(hasty.ipv4(&dns_name(asked)).await, Answer::Unknown, "{asked}");
    }
    assert!(server.asked() < 1000, "a lie does not make it ask without end: {}", server.asked());
}

#[tokio::test(flavor = "multi_thread")] // STANDARDS TO11
async fn to11_silence_is_unknown_after_the_limit_and_harms_no_other_question() {
    let server = DnsServer::start(respond).await;
    let dns = resolver(&server).with_limit(Duration::from_secs(2));
    let names: Vec<_> = (0..50).map(|number| dns_name(&format!("silence{number}.example"))).collect();
    let silent = futures_util::future::join_all(names.iter().map(|name| dns.ipv4(name)));
    let good = dns_name("right.example");
    let (silent, good) = tokio::join!(silent, dns.ipv4(&good));
    assert!(good.is_found() && silent.iter().all(Answer::is_unknown));
}

/// A server that would answer if more came at once than may.
#[tokio::test(flavor = "multi_thread")] // SECURITY D-34
async fn d34_questions_on_their_way_are_bounded() {
    let seen = Mutex::new(HashSet::new());
    let server = DnsServer::start(move |question, way| {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (asked, _) = asked_for(question);
        seen.insert(asked.clone());
        let mut right = answer(question, ResponseCode::NoError);
        right.answers.push(address(&asked, "192.0.2.1"));
        if seen.len() > 512 && way == Way::Udp { alone(&right) } else { Vec::new() }
    })
    .await;
    let dns = resolver(&server).with_limit(Duration::from_secs(3));
    let names: Vec<_> = (0..700).map(|number| dns_name(&format!("n{number}.example"))).collect();
    let answers = futures_util::future::join_all(names.iter().map(|name| dns.ipv4(name))).await;
    let found = answers.iter().filter(|answer| answer.is_found()).count();
    // When the first are given up, some others may still have a moment.
    assert!(found < 350, "{found} of 700");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_one_may_be_dead() {
    let server = DnsServer::start(respond).await;
    let dead = DnsServer::start(|_, _| Vec::new()).await;
    for servers in [[dead.address, server.address], [server.address, dead.address]] {
        let dns = HickoryResolver::with_servers(servers).expect("two servers");
        assert!(dns.ipv4(&dns_name("right.example")).await.is_found());
        assert_eq!(dns.ipv4(&dns_name("no-name.example")).await, Answer::Absent);
    }
    assert!(HickoryResolver::with_servers([]).is_err());
}

#[tokio::test(flavor = "multi_thread")] // SECURITY D-34, PRACTICES S1
async fn d34_names_that_no_line_could_hold_are_left_out() {
    let server = DnsServer::start(|question, _| {
        let (asked, kind) = asked_for(question);
        let mut right = answer(question, ResponseCode::NoError);
        for label in [
            &b"good"[..],
            b"a\r\nX-Forged: yes",
            b"nul\0nul",
            b"esc\x1b[1m",
            b"a.b",
            b"a b",
            b"\xff\xfe",
            b"back\\slash",
            b"(comment)",
            b"",
        ] {
            let labels = if label.is_empty() { vec![] } else { vec![label, b"example"] };
            let host = hickory_resolver::proto::rr::Name::from_labels(labels).expect("a name");
            let data =
                if kind == RecordType::PTR { RData::PTR(rdata::PTR(host)) } else { RData::MX(rdata::MX::new(5, host)) };
            right.answers.push(record(&asked, 300, data));
        }
        alone(&right)
    })
    .await;
    let (dns, good) = (resolver(&server), dns_name("good.example"));
    let names = dns.ptr("192.0.2.1".parse().expect("an address")).await.found();
    assert_eq!(names, Some(vec![good.clone()]));
    let exchangers = dns.mx(&dns_name("client.example")).await.found();
    let exchanger = |host| MailExchanger { preference: 5, host };
    assert_eq!(exchangers, Some(vec![exchanger(Some(good)), exchanger(None)]), "the root is the null MX (RFC 7505)");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_type_says_what_it_holds() {
    let server = DnsServer::start(|question, _| {
        let (asked, kind) = asked_for(question);
        let mut right = answer(question, ResponseCode::NoError);
        right.answers.push(record(
            &asked,
            60,
            match kind {
                RecordType::AAAA => RData::AAAA(rdata::AAAA("2001:db8::1".parse().expect("an address"))),
                RecordType::TXT => RData::TXT(rdata::TXT::from_bytes(vec![b"one ", b"two\xff\r\n", b""])),
                RecordType::TLSA => RData::TLSA(rdata::TLSA::new(3.into(), 1.into(), 1.into(), vec![7; 32])),
                _ => RData::PTR(rdata::PTR(name("Client.Example"))),
            },
        ));
        alone(&right)
    })
    .await;
    let (dns, asked) = (resolver(&server), dns_name("_25._tcp.-odd-.example"));
    assert_eq!(dns.ipv6(&asked).await.found(), Some(vec!["2001:db8::1".parse().expect("an address")]));
    assert_eq!(dns.txt(&asked).await.found(), Some(vec![Box::from(&b"one two\xff\r\n"[..])]));
    let certificate = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![7; 32] };
    assert_eq!(dns.tlsa(&asked).await.found(), Some(vec![certificate]));
    for address in ["192.0.2.1", "2001:db8::1"] {
        let names = dns.ptr(address.parse().expect("an address")).await.found();
        assert_eq!(names, Some(vec![dns_name("client.example")]), "{address}");
    }
}

#[tokio::test(flavor = "multi_thread")] // SECURITY D-34
async fn d34_a_thousand_records_are_told_and_not_remembered() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = is_silent.clone();
    let server = DnsServer::start(move |question, way| {
        let (asked, _) = asked_for(question);
        let mut right = answer(question, ResponseCode::NoError);
        right.metadata.truncation = way == Way::Udp;
        let octets = (0..if way == Way::Udp { 0 } else { 1000_u16 }).map(u16::to_be_bytes);
        right.answers.extend(octets.map(|[a, b]| address(&asked, &format!("10.0.{a}.{b}"))));
        if silent.load(Ordering::Relaxed) { Vec::new() } else { alone(&right) }
    })
    .await;
    let dns = resolver(&server);
    let found = dns.ipv4(&dns_name("many.example")).await.found().unwrap_or_default();
    assert_eq!(found.len(), 1000);
    is_silent.store(true, Ordering::Relaxed);
    assert!(dns.with_limit(Duration::from_millis(300)).ipv4(&dns_name("many.example")).await.is_unknown());
}

#[tokio::test(flavor = "multi_thread")] // RFC 2308 §5, RFC 2181 §8
async fn answers_are_remembered_as_long_as_they_say() {
    let is_silent = Arc::new(AtomicBool::new(false));
    let silent = is_silent.clone();
    let server = DnsServer::start(move |question, _| {
        let (asked, kind) = asked_for(question);
        let mut right = answer(question, ResponseCode::NoError);
        let ttl = match asked.split('.').next().unwrap_or_default() {
            "zero" => 0,
            "negative" => 0x8000_0000,
            "years" => 0x7fff_ffff,
            _ => 300,
        };
        match asked.as_str() {
            _ if silent.load(Ordering::Relaxed) => return Vec::new(),
            "no-record.example" => right.authorities.push(authority("example", 60)),
            "no-soa.example" => {}
            "failure.example" => right.metadata.response_code = ResponseCode::ServFail,
            // The shortest of the way counts.
            "alias.example" => {
                right.answers.push(record(&asked, 7, RData::CNAME(rdata::CNAME(name("right.example")))));
                right.answers.push(address("right.example", "192.0.2.1"));
            }
            _ if kind == RecordType::A => {
                let mut found = address(&asked, "192.0.2.1");
                found.ttl = ttl;
                right.answers.push(found);
            }
            _ => return Vec::new(),
        }
        alone(&right)
    })
    .await;
    for (asked, is_remembered, ttl) in [
        ("right.example", true, Some(300)),
        ("RIGHT.example", true, Some(300)),
        ("zero.example", false, Some(0)),
        ("negative.example", false, Some(0)),
        ("years.example", true, Some(86_400)),
        ("alias.example", true, Some(7)),
        ("no-record.example", true, None),
        ("no-soa.example", false, None),
        ("failure.example", false, None),
    ] {
        let dns = resolver(&server);
        is_silent.store(false, Ordering::Relaxed);
        let first = dns.ipv4(&dns_name(asked)).await;
        is_silent.store(true, Ordering::Relaxed);
        let second = dns.clone().with_limit(Duration::from_millis(300)).ipv4(&dns_name(asked)).await;
        assert_eq!(!second.is_unknown(), is_remembered, "{asked}");
        let lifetime = |answer: &Answer<Vec<Ipv4Addr>>| match answer {
            Answer::Found { ttl, .. } => Some(*ttl),
            Answer::Absent | Answer::Unknown => None,
        };
        assert_eq!(lifetime(&first), ttl.map(Duration::from_secs), "{asked}");
        assert!(lifetime(&second) <= lifetime(&first), "{asked}");
    }
}
