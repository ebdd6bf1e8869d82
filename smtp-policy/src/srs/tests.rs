//! SRS by vectors and laws.

use proptest::prelude::*;

use super::*;

fn key(text: &str) -> RewritingKey {
    RewritingKey::new(text).expect("long enough")
}

fn at(domain: &str) -> Srs {
    Srs::new(domain.parse().expect("a domain"), key("tops3cr3tkey"))
}

fn address(text: &str) -> Mailbox {
    text.parse().expect("a mailbox")
}

/// So many days after the day of the vectors, which is day 299 of 1,024.
fn day(days: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_374_375 + days * DAY.as_secs())
}

#[test] // PRACTICES S30: what postsrsd 1.10 said on that day, with that key
fn s30_vectors_of_postsrsd() {
    let srs = at("forwarder.example");
    for (sender, rewritten) in [
        ("alice@client.example", "SRS0=mwGB=JL=client.example=alice@forwarder.example"),
        ("Bob.X@Client.Example", "SRS0=PuVY=JL=Client.Example=Bob.X@forwarder.example"),
        ("a=b+c@client.example", "SRS0=JykQ=JL=client.example=a=b+c@forwarder.example"),
        (
            "SRS0=abcd=2A=client.example=alice@first.example",
            "SRS1=6v12=first.example==abcd=2A=client.example=alice@forwarder.example",
        ),
        (
            "SRS0+abcd=2A=client.example=alice@first.example",
            "SRS1=uEeB=first.example=+abcd=2A=client.example=alice@forwarder.example",
        ),
        (
            "SRS1=wxyz=first.example==abcd=2A=client.example=alice@second.example",
            "SRS1=6v12=first.example==abcd=2A=client.example=alice@forwarder.example",
        ),
    ] {
        match srs.forward(&address(sender), day(0)) {
            Ok(found) => assert_eq!(found.to_string(), rewritten),
            Err(error) => assert!(error == SrsError::TooLong && rewritten.len() > 64 + 18, "{sender}: {error}"),
        }
        let back = srs.reverse(&address(rewritten), day(0)).map(|back| back.to_string());
        let sender = sender.replace("SRS1=wxyz=first.example==", "SRS0=").replace("second", "first");
        assert_eq!(back.as_deref(), Ok(sender.as_str()));
    }
}

#[test] // PRACTICES S30
fn s30_an_address_is_valid_for_21_days_and_a_hash_of_ours_only() {
    let srs = at("forwarder.example");
    let rewritten = "SRS0=mwGB=JL=client.example=alice@forwarder.example";
    let round = u64::from(ROUND_DAYS);
    for (address, days, expected) in [
        (rewritten, 0, Ok("alice@client.example")),
        (rewritten, 21, Ok("alice@client.example")),
        (rewritten, 22, Err(SrsError::Expired)),
        (rewritten, round - 1, Err(SrsError::Expired)),
        (rewritten, round, Ok("alice@client.example")),
        ("srs0=mwgb=jl=client.example=alice@FORWARDER.example", 1, Ok("alice@client.example")),
        ("SRS0=MWGB=JL=CLIENT.EXAMPLE=ALICE@forwarder.example", 1, Ok("ALICE@CLIENT.EXAMPLE")),
        ("SRS0+mwGB=JL=client.example=alice@forwarder.example", 1, Ok("alice@client.example")),
        ("SRS0-mwGB=JL=client.example=alice@forwarder.example", 1, Ok("alice@client.example")),
        ("SRS0=mwGC=JL=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwGBx=JL=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwG=JL=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0==JL=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwGB=JM=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwGB=JL=client.example=bob@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwGB=JL=clients.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS1=6v12=first.example==abcd=2A=client.example=bob@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS1=6v12=other.example==abcd=2A=client.example=alice@forwarder.example", 1, Err(SrsError::BadHash)),
        ("SRS0=mwGB=JL=client.example@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS0=mwGB@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS0@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS0x=mwGB=JL=client.example=alice@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS1=6v12=first.example@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS2=mwGB=JL=client.example=alice@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("alice@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("\"\u{fc}\u{fc}\u{fc}\"@forwarder.example", 0, Err(SrsError::NotRewritten)),
        ("SRS0=mwGB=JL=client.example=alice@elsewhere.example", 0, Err(SrsError::NotRewritten)),
        ("SRS0=mwGB=JL=client.example=alice@[192.0.2.1]", 0, Err(SrsError::NotRewritten)),
    ] {
        let found = srs.reverse(&self::address(address), day(days)).map(|found| found.to_string());
        assert_eq!(found.as_deref().map_err(|error| *error), expected, "{address} after {days} days");
    }
}

#[test] // PRACTICES S30
fn s30_an_address_of_an_older_key_finds_its_way_and_new_ones_have_the_new_key() {
    let domain = || "forwarder.example".parse().expect("a domain");
    let (old, new) = (key("tops3cr3tkey"), key("another secret"));
    let rotated = Srs::new(domain(), new.clone()).verifying_also(old.clone());
    let alice = address("alice@client.example");
    for srs in [Srs::new(domain(), old.clone()), Srs::new(domain(), new.clone())] {
        let rewritten = srs.forward(&alice, day(0)).expect("short");
        assert_eq!(rotated.reverse(&rewritten, day(1)), Ok(alice.clone()));
    }
    let rewritten = rotated.forward(&alice, day(0)).expect("short");
    assert_eq!(Srs::new(domain(), new).reverse(&rewritten, day(1)), Ok(alice));
    assert_eq!(Srs::new(domain(), old).reverse(&rewritten, day(1)), Err(SrsError::BadHash));
}

#[test] // SECURITY D-18; PRACTICES S30
fn d18_however_many_forward_the_address_does_not_grow_and_leads_back() {
    let alice = address("alice@c.example");
    let (mut current, mut lengths) = (alice.clone(), Vec::new());
    for number in 0..10 {
        current = at(&format!("f{number}.example")).forward(&current, day(0)).expect("short");
        lengths.push(current.to_string().len());
    }
    assert!(lengths[2..].iter().all(|length| *length == lengths[1]), "{lengths:?}");
    let first = at("f9.example").reverse(&current, day(1)).expect("it is ours");
    assert!(first.to_string().ends_with("@f0.example"), "{first}");
    assert_eq!(at("f0.example").reverse(&first, day(1)), Ok(alice));
    // To ourselves again: nothing changes.
    assert_eq!(at("f0.example").forward(&first, day(1)), Ok(first));
}

#[test] // PRACTICES S30; RFC 5321 §4.5.3.1.1
fn s30_a_local_part_has_at_most_64_octets() {
    let srs = at("forwarder.example");
    // `SRS0=HHHH=TT=client.example=` are 28.
    for (octets, fits) in [(36, true), (37, false), (64, false)] {
        let sender = address(&format!("{}@client.example", "x".repeat(octets)));
        let rewritten = srs.forward(&sender, day(0));
        assert_eq!(rewritten.is_ok(), fits, "{octets}: {rewritten:?}");
        assert_eq!(rewritten.is_err(), rewritten == Err(SrsError::TooLong));
    }
    assert_eq!(srs.forward(&address("a@[x:y=z]"), day(0)), Err(SrsError::Host));
    // Quotes and backslashes count.
    assert!(srs.forward(&address(&format!("\"{} \"@client.example", "x".repeat(33))), day(0)).is_ok());
    assert!(srs.forward(&address(&format!("\"{} \"@client.example", "x".repeat(34))), day(0)).is_err());
}

fn senders() -> impl Strategy<Value = Mailbox> {
    let local =
        prop_oneof!["[a-zA-Z0-9=+_.-]{1,30}", "\"[ -!#-\\[\\]-~]{1,20}\"", "SRS[01][=+-][a-z=+-]{1,30}", "\\PC{1,8}"];
    let host = prop_oneof!["[a-z]{1,8}\\.example", "\\[192\\.0\\.2\\.1\\]", "\\[IPv6:2001:db8::1\\]"];
    (local, host).prop_filter_map("no mailbox", |(local, host)| Mailbox::parse(format!("{local}@{host}")).ok())
}

proptest! {
    #[test] // PRACTICES S30
    fn s30_reverse_undoes_forward_in_any_case_of_letters(sender in senders(), days in 0..2000_u64, later in 0..=21_u64) {
        let srs = at("forwarder.example");
        if let Ok(rewritten) = srs.forward(&sender, day(days)) {
            prop_assert!(rewritten.local_part().to_string().len() <= 64);
            let again = Mailbox::parse(rewritten.to_string());
            prop_assert_eq!(again.as_ref(), Ok(&rewritten));
            let back = srs.reverse(&rewritten, day(days + later));
            // What was rewritten before leads to the first forwarder.
            if Form::of(sender.local_part().as_str()).is_none() {
                prop_assert_eq!(back, Ok(sender));
            } else {
                prop_assert!(back.is_ok_and(|back| back.local_part().as_str().starts_with("SRS0")));
            }
            let text = rewritten.to_string();
            for changed in [text.to_ascii_lowercase(), text.to_ascii_uppercase()] {
                let changed = Mailbox::parse(&changed).expect("letters are letters");
                prop_assert!(srs.reverse(&changed, day(days + later)).is_ok(), "{changed}");
            }
        }
    }

    #[test] // PRACTICES S30
    fn s30_one_octet_of_another_makes_it_foreign(sender in "[a-z]{1,10}", place in 0..50_usize, letter in "[a-z0-9=]") {
        let srs = at("forwarder.example");
        let alice = address(&format!("{sender}@client.example"));
        let rewritten = srs.forward(&alice, day(0)).expect("short").to_string();
        let local = rewritten.len() - "@forwarder.example".len();
        // Behind the hash, whose letters may change their case.
        let place = 10 + place % (local - 10);
        let mut changed = rewritten.clone();
        changed.replace_range(place..=place, &letter);
        if !changed.eq_ignore_ascii_case(&rewritten) {
            let found = srs.reverse(&address(&changed), day(0));
            prop_assert!(found.is_err(), "{changed} is {found:?}");
        }
    }
}
