//! Errors with their exact text, and what holds without a word of configuration.

use super::*;

fn errors(text: &str) -> String {
    Config::parse("mta.toml", text).expect_err("something is wrong").to_string()
}

#[test] // Each row: what is wrong, and the whole message.
fn an_error_names_file_line_column_and_key() {
    let keys = "expected one of `hostname`, `domains`, `data`, `mailboxes`, `users`, `roles`, `postmaster`, `aliases`, `queue`, \
                `relay`, `quarantine`, `policy`, `limits`, `log`, `trace`, `passwords`, `dovecot`, `trial`, `listener`, `certificate`, `tls_policy`, \
                `srs`, `batv`, `dkim`";
    for (text, expected) in [
        ("hostnam = \"mx\"", format!("mta.toml:1:1: unknown key `hostnam`, {keys}")),
        ("# no\n\nrelay_clients = []\n", format!("mta.toml:3:1: unknown key `relay_clients`, {keys}")),
        (
            "[[policy.rate]]\nof = \"connections\"\nby = \"identity\"\ncount = 1\n",
            "mta.toml:3:6: policy.rate.by: connections are counted by `address` or `network`: nobody else is known yet"
                .into(),
        ),
        (
            "[[policy.rate]]\nof = \"messages\"\nby = \"address\"\ncount = 0\n",
            "mta.toml:4:9: policy.rate.count: 0 is not between 1 and 4294967295".into(),
        ),
        (
            "[policy]\npreset = \"lax\"\n",
            "mta.toml:2:10: policy.preset: `lax` is not rfc-strict, bcp or bcp-strict".into(),
        ),
        (
            "[policy.actions]\nmalware = \"reject\"\n",
            "mta.toml:2:1: policy.actions: nobody looks at `malware`; `mta policy explain` lists what is looked at".into(),
        ),
        (
            "[policy.unknown]\nspf-fail = \"no\"\n",
            "mta.toml:2:12: policy.unknown: `no` is not one of off, observe, score, tag, quarantine, greylist, defer, reject"
                .into(),
        ),
        (
            "[[policy.access]]\naction = \"block\"\nsender = \"a.example\"\n",
            "mta.toml:2:10: policy.access.action: only clients can be blocked; others are refused".into(),
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\nsender = \"localhost\"\n",
            "mta.toml:3:10: policy.access.sender: senders of our own domains are judged by SPF and DMARC, and not refused by \
             themselves"
                .into(),
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\n",
            "mta.toml:2:10: policy.access: a rule is about one of client, greeting, sender and recipient".into(),
        ),
        (
            "[policy]\ncallout = [\"sender\", \"all\"]\n",
            "mta.toml:2:22: policy.callout: `all` is not sender or client".into(),
        ),
        (
            "[policy]\ncallouts_per_minute = 0\n",
            "mta.toml:2:23: policy.callouts_per_minute: 0 is not between 1 and 6000".into(),
        ),
        (
            "[policy]\nclamd = \"there\"\n",
            "mta.toml:2:9: policy.clamd: `there` is not the address of a filter, `host:port` or `unix:/path`: `there` is neither host:port nor unix:/path".into(),
        ),
        (
            "[[policy.milter]]\naddress = \"inet:8891\"\n",
            "mta.toml:2:11: policy.milter.address: `inet:8891` is not the address of a filter, `inet:host:port` or `unix:/path`: `8891` is neither host:port nor unix:/path".into(),
        ),
        (
            "[[policy.milter]]\naddress = \"unix:/x\"\ntimeout_seconds = 0\n",
            "mta.toml:3:19: policy.milter.timeout_seconds: 0 is not between 1 and 100".into(),
        ),
        ("[tls]\n", format!("mta.toml:1:2: unknown key `tls`, {keys}")),
        ("[log]\nlevle = \"info\"\n", "mta.toml:2:1: in `log`: unknown key `levle`, expected `format` or `level`".into()),
        (
            "[[listener]]\naddress = \"[::1]:25\"\n\n[[listener]]\naddress = \"x:25\"\nport = 25\n",
            "mta.toml:6:1: in `listener`: unknown key `port`, expected one of `address`, `tls`, `service`, `qualify`, `proxies`, `protocol`, `greeting_delay_seconds`".into(),
        ),
        (
            "[log]\n  level = \"loud\"\n",
            "mta.toml:2:11: log.level: unknown variant `loud`, expected one of `error`, `warn`, `info`, `debug`, `trace`"
                .into(),
        ),
        ("hostname = 3", "mta.toml:1:12: hostname: invalid type: integer `3`, expected a string".into()),
        (
            "[limits]\nmessage_octets = \"50M\"",
            "mta.toml:2:18: limits.message_octets: invalid type: string \"50M\", expected u64".into(),
        ),
        ("a = 1\na = 2", "mta.toml:2:1: a: duplicate key".into()),
        ("hostname = \"mx", "mta.toml:1:15: hostname: invalid basic string, expected `\"`".into()),
        ("# J\u{fc}rgen\nhostname = ", "mta.toml:2:12: hostname: string values must be quoted, expected literal string".into()),
    ] {
        assert_eq!(errors(text), expected, "{text}");
    }
}

#[test] // What would have no effect, or another than was meant.
fn what_makes_no_sense_in_the_policy_is_an_error() {
    for (text, expected) in [
        (
            "tag_score = 12\nreject_score = 3",
            "2:13: policy.tag_score: from 3 on all is refused, so nothing would be marked",
        ),
        ("dns = [\"192.0.2.53:0\"]", "2:8: policy.dns: no name server has port 0"),
        ("allowlists = [\"a.example\", \"A.example\"]", "2:28: policy.allowlists: `A.example` is named twice"),
        (
            "[[policy.blocklist]]\nzone = \"a.example\"\n[[policy.blocklist]]\nzone = \"a.example\"",
            "5:8: policy.blocklist.zone: `a.example` is named twice",
        ),
        (
            "[policy.unknown]\nspf-readable = \"reject\"",
            "3:16: policy.unknown: what is not known is never refused for good; `defer` has it come again",
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\nrecipient = \"Postmaster@localhost\"",
            "4:13: policy.access.recipient: nothing keeps mail from `postmaster` (RFC 5321 section 4.5.1)",
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\nrecipient = \"bob@other.example\"",
            "4:13: policy.access.recipient: `bob@other.example` is in none of the `domains`",
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\nrecipient = \".other.example\"",
            "4:13: policy.access.recipient: `.other.example` is in none of the `domains`",
        ),
        (
            "[[policy.access]]\naction = \"refuse\"\nsender = \"a.example\"\ntext = \"a\\r\\n250 ok\"",
            "5:8: policy.access.text: a reply has no line breaks and no other control characters",
        ),
    ] {
        assert_eq!(errors(&format!("[policy]\n{text}\n")), format!("mta.toml:{expected}"), "{text}");
    }
    for text in ["recipient = \"alice@localhost\"", "recipient = \"localhost\"", "recipient = \"abuse@LOCALHOST\""] {
        let text = format!("[[policy.access]]\naction = \"refuse\"\n{text}\n");
        Config::parse("mta.toml", text.as_str()).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
}

#[test] // PRACTICES P2: the departure is printed at start
fn p2_a_preset_that_departs_from_an_rfc_or_switches_off_what_is_configured_is_warned_of() {
    let warnings = |text: &str| Config::parse("mta.toml", text).expect("a configuration").warnings().join("\n");
    assert_eq!(warnings("[policy]\npreset = \"bcp\"\nclamd = \"unix:/run/x\""), "");
    let strict = "[policy]\npreset = \"bcp-strict\"\n";
    assert!(warnings(strict).contains("RFC 5321 section 4.1.4 does not allow"), "{}", warnings(strict));
    assert_eq!(warnings(&format!("{strict}[policy.actions]\nhelo-confirmed = \"score\"")), "");
    let lists =
        "[[policy.blocklist]]\nzone = \"a.example\"\n[[policy.blocklist]]\nzone = \"b.example\"\nrefuse = true\n";
    let off = warnings(&format!("[policy]\npreset = \"rfc-strict\"\nclamd = \"unix:/run/x\"\n{lists}"));
    assert_eq!(
        off.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect::<Vec<_>>(),
        ["`malware`", "`dnsbl`", "`dnsbl-refusing`"],
        "{off}"
    );
}

#[test] // PRACTICES S27, S35, S18
fn lists_of_domains_forwarders_and_costs_of_filters_are_said() {
    let text = "[policy]\nforwarders = [\"192.0.2.0/24\", \"x\"]\nfilter_seconds = 101\nfilter_octets = 0\n\
                [[policy.blocklist]]\nzone = \"list.example\"\nof = \"hosts\"\n";
    assert!(errors(text).starts_with("mta.toml:7:6: policy.blocklist.of: unknown variant `hosts`"), "{}", errors(text));
    assert_eq!(
        errors(text.trim_end_matches("of = \"hosts\"\n")),
        "mta.toml:2:31: policy.forwarders: `x` is not a network like `192.0.2.0/24`: invalid IP address syntax\n\
         mta.toml:3:18: policy.filter_seconds: 101 is not between 1 and 100\n\
         mta.toml:4:17: policy.filter_octets: 0 is not between 1 and 1073741824"
    );
    let text = "[policy]\nforwarders = [\"192.0.2.0/24\"]\nfilter_seconds = 7\n\
                [[policy.blocklist]]\nzone = \"list.example\"\nof = \"domains\"\nweight = 1\n";
    let config = Config::parse("mta.toml", text).expect("a configuration");
    assert_eq!(config.policy.filter_limits.time, std::time::Duration::from_secs(7));
    let chain = crate::policy::plan(&config.hostname, &config.domains, &config.policy).expect("a plan");
    assert!(chain.rules().action("domain-dnsbl").is_some() && chain.rules().action("dnsbl").is_none());
}

#[test]
fn a_listener_may_keep_strangers_waiting_for_a_minute() {
    let listener =
        |seconds: &str| format!("[[listener]]\naddress = \"127.0.0.1:2525\"\ngreeting_delay_seconds = {seconds}\n");
    assert_eq!(errors(&listener("61")), "mta.toml:3:26: listener.greeting_delay_seconds: 61 is not between 0 and 60");
    let config = Config::parse("mta.toml", listener("60")).expect("a configuration");
    assert_eq!(config.listeners[0].greeting_delay, std::time::Duration::from_secs(60));
}

#[test] // PRACTICES S14, S46
fn s14_s46_roles_may_be_others_but_postmaster_is_among_them() {
    for (text, expected) in [
        ("roles = []", "mta.toml:1:9: roles: `postmaster` must be among them (RFC 5321 section 4.5.1)"),
        ("roles = [\"abuse\"]", "mta.toml:1:9: roles: `postmaster` must be among them (RFC 5321 section 4.5.1)"),
        ("roles = [\"postmaster\", \"Postmaster\"]", "mta.toml:1:24: roles: `postmaster` is named twice"),
        (
            "roles = [\"postmaster\", \"abuse@example.org\"]",
            "mta.toml:1:24: roles: `abuse@example.org` is not the part of a mailbox before `@`",
        ),
        (
            "roles = [\"postmaster\"]\n[policy]\nabuse_form = \"https://example.org/abuse\"",
            "mta.toml:3:14: policy.abuse_form: it would stand for the mailbox `abuse`, which is not among `roles`",
        ),
        (
            "[policy]\nabuse_form = \"https://example.org/\\r\\n250 Ok\"",
            "mta.toml:2:14: policy.abuse_form: `https://example.org/\\r\\n250 Ok` is not a form for reports: not an address of \
             the web: https:// or http://, then at most 200 octets of visible ASCII in all",
        ),
    ] {
        assert_eq!(errors(text), expected, "{text}");
    }
    let config = Config::parse("mta.toml", "roles = [\"NOC\", \"postmaster\"]\n").expect("a configuration");
    assert_eq!(config.roles, ["noc", "postmaster"]);
}

#[test]
fn what_is_not_utf_8_has_a_place_too() {
    let error = Config::parse("mta.toml", b"# J\xc3\xbcrgen\n# J\xfcrgen\n".to_vec()).expect_err("Latin-1");
    assert_eq!(error.to_string(), "mta.toml:2:4: not UTF-8");
}

#[test] // All that is wrong is said at once.
fn what_makes_no_sense_has_its_place() {
    let text = r#"hostname = "a..b"
domains = ["localhost", "example.org", "LocalHost"]
users = ["alice@localhost", "(@localhost", "Alice@localhost", "bob@example.net", "a+b@localhost"]
postmaster = "root@localhost"

[aliases]
"info@localhost" = ["alice+info@localhost", "bob@example.net"]
"all@localhost" = ["info@localhost"]
  "nobody@localhost" = []
"ALICE@localhost" = ["alice@localhost"]

[limits]
recipients = 10
connections = 0
connections_exempt = ["10.0.0.0/8", "10.0.0.0/33"]

[[listener]]
address = "127.0.0.1:99999"

[[listener]]
address = "mx.example.org:25"

[[listener]]
address = "mx.example.org:25"
"#;
    let expected = [
        "1:12: hostname: `a..b` is not a domain: expected a letter or digit of the domain at octet 2",
        "2:40: domains: `LocalHost` is named twice",
        "3:29: users: `(@localhost` is not a mailbox: expected a character of the local-part at octet 0",
        "3:44: users: `Alice@localhost` is named twice",
        "3:63: users: `bob@example.net` is in none of the `domains`",
        "3:82: users: `a+b@localhost`: a user has no `+`, behind it stands a detail",
        "4:14: postmaster: `root@localhost` is not one of the users",
        "7:45: aliases: `bob@example.net` is in none of the `domains`",
        "9:24: aliases: `nobody@localhost` leads to 0 mailboxes; 1 to 1000 are possible",
        "10:1: aliases: `ALICE@localhost` is named twice",
        "13:14: limits.recipients: 10 is not between 100 and 100000",
        "14:15: limits.connections: 0 is not between 1 and 1000000",
        "15:37: limits.connections_exempt: `10.0.0.0/33` is not a network like `10.0.0.0/8`: invalid IP address syntax",
        "18:11: listener.address: `127.0.0.1:99999` is neither `host:port`, for example `127.0.0.1:2525` or `[::1]:2525`, nor `unix:/path`",
        "24:11: listener.address: `mx.example.org:25` is named twice",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("mta.toml:{line}")).collect();
    assert_eq!(errors(text).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn what_makes_no_sense_of_queue_and_relay_has_its_place() {
    let text = r#"[queue]
directory = "q"
first_retry_seconds = 0
longest_wait_seconds = 604801
lifetime_hours = 0
concurrency = 10001

[trace]
keep_days = 3651
max_megabytes = 7

[relay]
smart_host = "smtp.example.com"
clients = ["127.0.0.1", "10.0.0.0/8", "10.0.0.0/33",
  "localhost"]
source_addresses = ["192.0.2.1", "mx.example.org", "192.0.2.1", "::", "224.0.0.1"]
"#;
    let expected = [
        "3:23: queue.first_retry_seconds: 0 is not between 1 and 604800",
        "4:24: queue.longest_wait_seconds: 604801 is not between 1 and 604800",
        "5:18: queue.lifetime_hours: 0 is not between 1 and 8760",
        "6:15: queue.concurrency: 10001 is not between 1 and 10000",
        "9:13: trace.keep_days: 3651 is not between 0 and 3650",
        "10:17: trace.max_megabytes: 7 is not between 8 and 1048576",
        "13:14: relay.smart_host: `smtp.example.com` is not `host:port`, for example `smtp.example.org:25`",
        "14:12: relay.clients: `127.0.0.1` is not a network like `10.0.0.0/8`: invalid IP address syntax",
        "14:39: relay.clients: `10.0.0.0/33` is not a network like `10.0.0.0/8`: invalid IP address syntax",
        "15:3: relay.clients: `localhost` is not a network like `10.0.0.0/8`: invalid IP address syntax",
        "16:34: relay.source_addresses: `mx.example.org` is not an address like `192.0.2.25`: invalid IP address syntax",
        "16:52: relay.source_addresses: `192.0.2.1` is named twice",
        "16:65: relay.source_addresses: `::` is no address of a host",
        "16:71: relay.source_addresses: `224.0.0.1` is no address of a host",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("mta.toml:{line}")).collect();
    assert_eq!(errors(text).lines().collect::<Vec<_>>(), expected);
    for host in
        ["", ":25", "smtp.example.com:", "smtp.example.com:65536", "smtp.example.com:0", "[::1]", "a b:25", "1.2:25"]
    {
        let error = errors(&format!("[relay]\nsmart_host = \"{host}\"\n"));
        assert!(error.starts_with(&format!("mta.toml:2:14: relay.smart_host: `{host}` is not `host:port`")), "{error}");
    }
    assert_eq!(
        errors("[relay]\nclients = [\"10.0.0.0/8\"]\n"),
        "mta.toml:2:12: relay.clients: their mail would have nowhere to go: name a `smart_host`"
    );
    assert_eq!(
        errors("[relay]\nsource_addresses = [\"::1\"]\n"),
        "mta.toml:2:21: relay.source_addresses: nothing leaves from there: name a `smart_host`, as `host:port`"
    );
    assert_eq!(
        errors("[relay]\nsmarthost = \"x:25\"\n"),
        "mta.toml:2:1: in `relay`: unknown key `smarthost`, expected one of `smart_host`, `tls`, `clients`, `source_addresses`, `protocol`"
    );
    assert_eq!(
        errors("[queue]\nfirst_retry_seconds = \"5m\"\n"),
        "mta.toml:2:23: queue.first_retry_seconds: invalid type: string \"5m\", expected u64"
    );
}

#[test]
fn a_unix_socket_has_neither_tls_nor_proxies() {
    let socket = "[[listener]]\naddress = \"unix:/run/mta/smtp\"\n";
    let lmtp = "protocol = \"lmtp\"\n";
    let both = format!("{socket}{lmtp}[[listener]]\naddress = \"unix:/run/mta/port:25\"\n{lmtp}");
    let config = Config::parse("mta.toml", both).expect("valid");
    let found: Vec<_> = config.listeners.iter().map(|it| (it.unix_path(), it.tls, it.protocol)).collect();
    let expected = ["/run/mta/smtp", "/run/mta/port:25"].map(|path| (Some(path), ListenerTls::None, Protocol::Lmtp));
    assert_eq!(found, expected);
    let written = config.to_toml().expect("paths are UTF-8");
    assert_eq!(Config::parse("mta.toml", written).expect("what was written is read").listeners, config.listeners);

    let no_tls = "3:7: listener.tls: there is no TLS on a Unix socket: leave it out, or say `\"none\"`";
    for (more, expected) in [
        ("tls = \"starttls\"", no_tls),
        ("proxies = [\"::1/128\"]", "3:12: listener.proxies: a proxy connects by TCP, and this is a Unix socket"),
        (socket, "4:11: listener.address: `unix:/run/mta/smtp` is named twice"),
    ] {
        assert_eq!(errors(&format!("{socket}{more}")), format!("mta.toml:{expected}"));
    }
    for address in ["unix:", "unix:run/smtp", "/run/mta/smtp", "UNIX:/run/smtp"] {
        let error = errors(&format!("[[listener]]\naddress = \"{address}\"\n"));
        assert!(error.starts_with(&format!("mta.toml:2:11: listener.address: `{address}` is neither")), "{error}");
    }
}

#[test] // What makes no sense of it, and what holds where nothing is said.
fn a_tls_policy_has_its_place_and_its_errors() {
    let relay = "[relay]\nsmart_host = \"mx.example.org:25\"\n";
    let text = r#"[relay]
smart_host = "mx.example.org:25"
[[tls_policy]]
name = "a..b"
tls = "required"
[[tls_policy]]
name = "mx.example.org"
tls = "required"
names = ["mx.example.org"]
[[tls_policy]]
name = "MX.example.org"
tls = "verified"
names = ["a b"]
[[tls_policy]]
name = ".example.org"
tls = "verified"
"#;
    let expected = [
        "4:8: tls_policy.name: `a..b` is no host and no domain, for example `mx.example.org` or `.example.org`",
        "9:10: tls_policy.names: a name counts only with `tls = \"verified\"`",
        "11:8: tls_policy.name: `MX.example.org` is named twice",
        "13:10: tls_policy.names: `a b` is not a domain",
        "16:7: tls_policy.tls: which `names` the certificates of `.example.org` have must be said",
    ];
    let expected: Vec<_> = expected.iter().map(|line| format!("mta.toml:{line}")).collect();
    assert_eq!(errors(text).lines().collect::<Vec<_>>(), expected);
    assert_eq!(
        errors("[[tls_policy]]\nname = \"192.0.2.1\"\ntls = \"none\"\n"),
        "mta.toml:2:8: tls_policy.name: there is no next hop that it could be about: name a `relay.smart_host`"
    );
    let text = format!("{relay}[[tls_policy]]\nname = \"mx.example.org\"\ntls = \"verified\"\n");
    let config = Config::parse("mta.toml", text).expect("it makes sense");
    let found = |host: &str| config.tls_policy().find(&smtp_core::NextHop::new(host, 25)).cloned();
    let verified = smtp_core::TlsRequirement::Names(vec!["mx.example.org".into()]);
    assert_eq!((found("MX.example.org"), found("mx2.example.org")), (Some(verified), None));
    let again = Config::parse("mta.toml", config.to_toml().expect("it can be written")).expect("it makes sense");
    assert_eq!(again.tls_policy, config.tls_policy);
}

#[test] // R2033: not on port 25; a Unix socket is for LMTP and without TLS.
fn lmtp_has_its_place_and_its_errors() {
    let config = |text: &str| Config::parse("mta.toml", text).expect("it makes sense");
    let listener = config("[[listener]]\naddress = \"127.0.0.1:24\"\nprotocol = \"lmtp\"\n").listeners[0].clone();
    assert_eq!(listener.protocol, Protocol::Lmtp);
    for (host, tls) in [("store.example.org:24", "required"), ("/run/lmtp", "none"), ("/run/lmtp", "opportunistic")] {
        let text = format!("[relay]\nsmart_host = \"{host}\"\ntls = \"{tls}\"\nprotocol = \"lmtp\"\n");
        assert_eq!(config(&text).relay_protocol, Protocol::Lmtp, "{host}");
    }
    assert_eq!(config("[relay]\nsmart_host = \"a.example:25\"\n").relay_protocol, Protocol::Smtp);
    let on_25 = "LMTP must not be spoken on port 25 (RFC 2033)";
    for (text, error) in [
        (
            "[[listener]]\naddress = \"127.0.0.1:25\"\nprotocol = \"lmtp\"\n",
            format!("3:12: listener.protocol: {on_25}"),
        ),
        (
            "[[listener]]\naddress = \"127.0.0.1:24\"\nprotocol = \"lmpt\"\n",
            "3:12: listener.protocol: unknown variant `lmpt`, expected `smtp` or `lmtp`".into(),
        ),
        (
            "[relay]\nprotocol = \"lmtp\"\nsmart_host = \"store.example.org:25\"\n",
            format!("3:14: relay.smart_host: {on_25}"),
        ),
        (
            "[relay]\nprotocol = \"lmtp\"\nsmart_host = \"run/lmtp\"\n",
            "3:14: relay.smart_host: `run/lmtp` is not `host:port`, for example `smtp.example.org:25`".into(),
        ),
        (
            "[relay]\nsmart_host = \"/run/lmtp\"\n",
            "2:14: relay.smart_host: a Unix socket is for LMTP: add `protocol = \"lmtp\"`".into(),
        ),
        (
            "[relay]\nsmart_host = \"/run/lmtp\"\nprotocol = \"lmtp\"\ntls = \"verified\"\n",
            "2:14: relay.smart_host: over a Unix socket there is no TLS, and `tls` demands it".into(),
        ),
    ] {
        assert_eq!(errors(text), format!("mta.toml:{error}"));
    }
}

#[test]
fn tls_needs_a_certificate_and_has_one_where_nothing_else_is_said() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:2465\"\n";
    let certificate = "[[certificate]]\nchain = \"a.pem\"\nkey = \"a.key\"\n";
    let tls = |text: &str| Config::parse("mta.toml", text).expect("it makes sense").listeners[0].tls;
    assert_eq!(tls(listener), ListenerTls::None);
    assert_eq!(tls(certificate), ListenerTls::StartTls);
    assert_eq!(tls(&format!("{listener}{certificate}")), ListenerTls::StartTls);
    assert_eq!(tls(&format!("{listener}tls = \"implicit\"\n{certificate}")), ListenerTls::Implicit);
    assert_eq!(tls(&format!("{listener}tls = \"none\"\n{certificate}")), ListenerTls::None);
    assert_eq!(
        errors(&format!("{listener}tls = \"implicit\"\n")),
        "mta.toml:3:7: listener.tls: TLS needs a `[[certificate]]` with `chain` and `key`"
    );
    assert_eq!(
        errors(&format!("passwords = \"users\"\n{listener}service = \"submission\"\n")),
        "mta.toml:1:13: passwords: their mail would have nowhere to go: name a `relay.smart_host`\n\
         mta.toml:4:11: listener.service: users authenticate under TLS: it needs a `[[certificate]]`, and `passwords` \
         or `dovecot`; or `service = \"mx\"`"
    );
    let users = "passwords = \"users\"\ndovecot = \"/run/dovecot/auth-client\"\n";
    assert_eq!(
        errors(&format!("{users}relay.smart_host = \"smtp.example.com:25\"\n")),
        "mta.toml:2:11: dovecot: the users are those of `passwords`: leave out one of the two"
    );
    assert_eq!(
        errors("dovecot = \"/run/dovecot/auth-client\"\n"),
        "mta.toml:1:11: dovecot: their mail would have nowhere to go: name a `relay.smart_host`"
    );
    assert_eq!(
        errors("[relay]\ntls = \"verify\"\n"),
        "mta.toml:2:7: relay.tls: unknown variant `verify`, expected one of `none`, `opportunistic`, `required`, `verified`"
    );
}

#[test] // PRACTICES L6: the three sockets of a ten-line configuration.
fn l6_the_port_says_what_a_listener_is_for() {
    let listeners = |text: &str| Config::parse("mta.toml", text).expect("it makes sense").listeners;
    let ten_lines = "passwords = \"users\"\nrelay.smart_host = \"smtp.example.com:25\"\n\
                     [[certificate]]\nchain = \"mx.pem\"\nkey = \"mx.key\"\n";
    let ports = "[[listener]]\naddress = \"[::]:25\"\n[[listener]]\naddress = \"[::]:587\"\n\
                 [[listener]]\naddress = \"[::]:465\"\n";
    let seen: Vec<_> =
        listeners(&format!("{ten_lines}{ports}")).iter().map(|listener| (listener.tls, listener.service)).collect();
    assert_eq!(
        seen,
        [
            (ListenerTls::StartTls, ListenerService::Mx),
            (ListenerTls::StartTls, ListenerService::Submission),
            (ListenerTls::Implicit, ListenerService::Mixed),
        ]
    );
    // All three services on 465 (PRACTICES S24).
    for (word, service) in
        [("mx", ListenerService::Mx), ("submission", ListenerService::Submission), ("mixed", ListenerService::Mixed)]
    {
        let text = format!("{ten_lines}[[listener]]\naddress = \"[::]:465\"\nservice = \"{word}\"\n");
        assert_eq!((listeners(&text)[0].tls, listeners(&text)[0].service), (ListenerTls::Implicit, service));
    }
    let problem = "users authenticate under TLS: it needs a `[[certificate]]`, and `passwords` or `dovecot`; or `service = \"mx\"`";
    assert_eq!(
        errors("[[listener]]\naddress = \"[::]:465\"\n"),
        format!(
            "mta.toml:2:11: listener.service: {problem}\n\
             mta.toml:2:11: listener.tls: TLS needs a `[[certificate]]` with `chain` and `key`"
        )
    );
    assert_eq!(
        errors("[[listener]]\naddress = \"[::]:25\"\nqualify = \"example.org\"\n"),
        "mta.toml:3:11: listener.qualify: only addresses of users are completed, and none are served here"
    );
}

#[test]
fn without_a_configuration_there_is_something_to_try() {
    let config = Config::load(None).expect("the defaults make sense");
    let seen: Vec<_> =
        config.listeners.iter().map(|listener| (&*listener.address, listener.tls, listener.service)).collect();
    assert_eq!(
        seen,
        [
            ("127.0.0.1:2525", ListenerTls::StartTls, ListenerService::Mx),
            ("127.0.0.1:2587", ListenerTls::StartTls, ListenerService::Submission),
            ("127.0.0.1:2465", ListenerTls::Implicit, ListenerService::Mixed),
        ]
    );
    assert_eq!(config.trial_directory(), Path::new("mta-data/tls"));
    for (text, problem) in [
        (
            "trial = true\npasswords = \"users\"\nrelay.smart_host = \"smtp.example.com:25\"\n",
            "mta.toml:1:9: trial: it makes its own `[[certificate]]` and `passwords`: leave out these, or this",
        ),
        (
            "trial = true\nmailboxes = \"any\"\n",
            "mta.toml:1:9: trial: it makes a password for the first of the `users`: name one, and list the mailboxes",
        ),
        (
            "trial = true\ndomains = [\"tls\"]\nusers = [\"a@tls\"]\n",
            "mta.toml:1:9: trial: its directory `tls` is that of the domain with this name",
        ),
    ] {
        assert_eq!(errors(text), problem);
    }
}

#[test]
fn the_queue_moves_with_the_data_unless_it_has_its_own_place() {
    let queue = |text: &str| Config::parse("mta.toml", text).expect("it makes sense").queue_directory();
    assert_eq!(queue("data = \"mail\""), Path::new("mail/.queue"));
    assert_eq!(queue("data = \"mail\"\n[queue]\ndirectory = \"/fast\"\n"), Path::new("/fast"));
    let mut config = Config::parse("mta.toml", "[queue]\ndirectory = \"mta-data/.queue\"\n").expect("it makes sense");
    config.data = "elsewhere".into();
    assert_eq!(config.queue_directory(), Path::new("elsewhere/.queue"), "what `config show` prints moves, too");
}

#[test] // RFC 5321 §4.5.1: there is always somebody behind postmaster.
fn somebody_must_be_able_to_get_mail() {
    for (text, place) in [("domains = [\"example.org\"]", "1:11"), ("users = []", "1:9")] {
        assert_eq!(
            errors(text),
            format!("mta.toml:{place}: users: nobody can get mail: name users, or set mailboxes = \"any\"")
        );
    }
    for (text, postmaster) in [
        ("", "alice@localhost"),
        ("domains = [\"example.org\"]\nusers = [\"bob@example.org\", \"carol@example.org\"]", "bob@example.org"),
        ("domains = [\"example.org\"]\nmailboxes = \"any\"", "postmaster@example.org"),
        ("mailboxes = \"any\"\npostmaster = \"root+mail@localhost\"", "root+mail@localhost"),
    ] {
        let config = Config::parse("mta.toml", text).expect("it makes sense");
        assert_eq!(config.postmaster.to_string(), postmaster, "{text}");
    }
}

#[test] // SECURITY.md D-13: a user who cannot have a directory is known before mail comes.
fn d13_a_user_without_a_directory_is_an_error() {
    let text = format!("users = [\"{}@localhost\"]", "a".repeat(201));
    assert!(errors(&text).contains(":1:10: users: `aaaa"), "{}", errors(&text));
}

#[test]
fn what_is_shown_means_the_same() {
    for text in [
        "",
        "mailboxes = \"any\"",
        "trial = true",
        "trial = true\n[[listener]]\naddress = \"[::1]:465\"\nqualify = \"example.org\"\n",
        include_str!("../../mta.toml"),
        "users = [\"\\\"a b\\\"@localhost\"]\n[aliases]\n\"\\\"x \\\\\\\" y\\\"@localhost\" = [\"\\\"a b\\\"@localhost\"]\n\
         [limits]\nconnections_exempt = [\"10.0.0.0/8\", \"2001:db8::/32\"]\nshutdown_grace_seconds = 0\n",
    ] {
        let config = Config::parse("mta.toml", text).expect("it makes sense");
        let shown = config.to_toml().expect("it can be written");
        let again = Config::parse("shown.toml", shown.clone()).expect("it is accepted");
        assert_eq!(format!("{again:?}"), format!("{config:?}"));
        assert_eq!(again.to_toml().expect("it can be written"), shown);
    }
}

#[test] // The file that is there to be copied says what holds anyway, apart from names.
fn the_example_shows_the_defaults() {
    let example = Config::parse("mta.toml", include_str!("../../mta.toml")).expect("it makes sense");
    let default = Config::parse("mta.toml", "").expect("it makes sense");
    assert_eq!(example.limits, default.limits);
    assert_eq!(example.connection_limits, default.connection_limits);
    assert_eq!(format!("{:?}", example.schedule), format!("{:?}", default.schedule));
    assert_eq!(example.concurrency, default.concurrency);
    assert_eq!((default.smart_host, default.relay_clients), (None, Vec::new()));
    assert_eq!((example.shutdown_grace, example.log), (default.shutdown_grace, default.log));
    assert_eq!(example.trace, default.trace);
    assert_eq!(default.listeners, [ListenerConfig::new("127.0.0.1:2525", ListenerTls::None)]);
}

#[tokio::test] // What passes here starts: the engine has no objection to the least and the greatest values.
async fn the_engine_agrees_with_the_ranges() {
    for text in [
        "message_octets = 65536\nrecipients = 100\ntransactions = 1\nconnections = 1\nconnections_per_address = 1\n\
         connections_per_network = 1\ncommand_timeout_seconds = 1\ncontent_timeout_seconds = 1\n",
        "message_octets = 4294967295\nrecipients = 100000\nconnections = 1000000\ncommand_timeout_seconds = 3600\n",
    ] {
        let config = Config::parse("mta.toml", format!("[limits]\n{text}")).expect("it makes sense");
        let server = smtp_core::Server::builder(config.hostname.as_str())
            .recipients(config.recipients())
            .deliver(|_: smtp_core::Message| async { Ok(smtp_core::Accepted::all()) })
            .limits(config.limits)
            .connection_limits(config.connection_limits)
            .bind()
            .await;
        assert!(server.is_ok(), "{server:?}");
    }
}
