//! What stays the same in a reverse-path from one message to the next: without the tags of SRS, BATV and VERP.
//!
//! Nothing is verified here: the result is a key for counting and remembering, and nobody is written to at it.

use smtp_core::ReversePath;

/// The reverse-path in lower case without what changes from message to message. Of the null reverse-path `<>`.
pub(crate) fn stable_sender(path: &ReversePath) -> String {
    let Some(mailbox) = path.mailbox() else { return "<>".to_owned() };
    let local_part = mailbox.local_part().to_nfc().to_lowercase();
    let host = mailbox.host().clone().into_ascii().to_string().to_ascii_lowercase();
    let local_part = without_batv(&local_part);
    match without_srs(local_part) {
        Some(forwarded) => format!("{forwarded}@{host}"),
        None => format!("{}@{host}", without_numbers(without_verp(local_part))),
    }
}

/// `prvs=0123456789=user` and `btv1==0123456789==user`: `user`.
fn without_batv(local_part: &str) -> &str {
    let tagged = local_part.strip_prefix("btv1==").map(|rest| (rest, "=="));
    let tagged = tagged.or_else(|| local_part.strip_prefix("prvs=").map(|rest| (rest, "=")));
    let split = tagged.and_then(|(rest, end)| rest.split_once(end));
    split.filter(|(_, user)| !user.is_empty()).map_or(local_part, |(_, user)| user)
}

/// `srs0=hash=tt=domain=user`: `domain=user`; `srs1=hash=host==hash=tt=domain=user`: `host=domain=user`.
fn without_srs(local_part: &str) -> Option<String> {
    if let Some(rest) = local_part.strip_prefix("srs0") {
        return without_hash_and_time(rest).map(ToOwned::to_owned);
    }
    let mut parts = local_part.strip_prefix("srs1")?.strip_prefix(['=', '+', '-'])?.splitn(3, '=');
    let (_hash, host, first) = (parts.next()?, parts.next()?, parts.next()?);
    Some(format!("{host}={}", without_hash_and_time(first)?))
}

fn without_hash_and_time(rest: &str) -> Option<&str> {
    rest.strip_prefix(['=', '+', '-'])?.splitn(3, '=').nth(2)
}

/// `list-user=domain`: `list`; `name+anything`: `name`.
fn without_verp(local_part: &str) -> &str {
    let name = match local_part.split_once('=') {
        Some((before, _)) => before.rfind(['+', '-']).map_or(local_part, |place| &local_part[..place]),
        None => local_part,
    };
    let name = name.split('+').next().unwrap_or(name);
    if name.is_empty() { local_part } else { name }
}

/// `bounce-17-4fe2`: `bounce-#-#`. A name that is one word keeps its digits.
fn without_numbers(name: &str) -> String {
    if name.chars().all(char::is_alphanumeric) {
        return name.to_owned();
    }
    let mut stable = String::with_capacity(name.len());
    for part in name.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let word = part.trim_end_matches(|c: char| !c.is_alphanumeric());
        stable.push_str(if word.contains(|c: char| c.is_ascii_digit()) { "#" } else { word });
        stable.push_str(&part[word.len()..]);
    }
    stable
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test] // PRACTICES S43
    fn s43_tags_of_srs_batv_and_verp_make_no_difference() {
        for (path, stable) in [
            ("<>", "<>"),
            ("<Alice@Example.ORG>", "alice@example.org"),
            ("<user17@example.org>", "user17@example.org"),
            ("<prvs=0123abcdef=alice@example.org>", "alice@example.org"),
            ("<btv1==012abcdef01==alice@example.org>", "alice@example.org"),
            ("<prvs=@example.org>", "prvs=@example.org"),
            ("<SRS0=abcd=2A=client.example=alice@relay.example>", "client.example=alice@relay.example"),
            ("<srs0+wxyz=3B=client.example=alice@relay.example>", "client.example=alice@relay.example"),
            (
                "<SRS1=abcd=relay.example==efgh=2A=client.example=alice@second.example>",
                "relay.example=client.example=alice@second.example",
            ),
            (
                "<SRS1=abcd=relay.example=+efgh=2A=client.example=alice@second.example>",
                "relay.example=client.example=alice@second.example",
            ),
            ("<SRS0=abcd@relay.example>", "#=abcd@relay.example"),
            ("<list-bounces+user=example.org@lists.example>", "list-bounces@lists.example"),
            ("<list-bounces-user=example.org@lists.example>", "list-bounces@lists.example"),
            ("<news-1234-user=example.org@lists.example>", "news-#@lists.example"),
            ("<bounce-17-4fe2@lists.example>", "bounce-#-#@lists.example"),
            ("<bounce-18-9ab0@lists.example>", "bounce-#-#@lists.example"),
            ("<alice+tag@example.org>", "alice@example.org"),
            ("<+@example.org>", "+@example.org"),
            ("<alice@[192.0.2.1]>", "alice@[192.0.2.1]"),
        ] {
            assert_eq!(stable_sender(&path.parse().expect("a path")), stable, "{path}");
        }
    }

    proptest! {
        #[test]
        fn every_path_has_a_stable_form(local in "[a-zA-Z0-9=+-]{1,40}", prefix in "(|SRS0=|SRS1=|prvs=|btv1==)") {
            if let Ok(path) = ReversePath::parse(format!("<{prefix}{local}@example.org>")) {
                prop_assert!(stable_sender(&path).ends_with("@example.org"));
            }
        }
    }
}
