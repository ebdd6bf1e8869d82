//! What servers do wrong, and what must come of it.

use super::server::Act::{Behave, Close, Deafness, Drip, Flood, HalfClose, Pause, Reset, Say, SayOctets, Silence};
use super::server::Script;
use Then::{Again, Last, Same};

/// One server.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) script: Script,
    /// What must become of the recipients `a`, `b` and `c`, each by its beginning.
    pub(crate) results: [&'static str; 3],
    pub(crate) then: Then,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It is of no more use.
    Last,
    /// It serves another message, which is delivered.
    Again,
    /// It serves another message, with which the server does the same.
    Same,
}

const fn case(name: &'static str, script: Script, results: [&'static str; 3], then: Then) -> Case {
    Case { name, script, results, then }
}

const DEFERRED: [&str; 3] = ["deferred"; 3];
const DELIVERED: [&str; 3] = ["delivered 250"; 3];
const FAILED_B: [&str; 3] = ["delivered 250", "failed", "delivered 250"];
const B: &str = "RCPT TO:<b@";
const C: &str = "RCPT TO:<c@";

/// Servers for a message of a few octets.
#[rustfmt::skip]
pub(crate) const SMALL: &[Case] = &[
    case("behaves", &[], DELIVERED, Again),

    // Endless, and slow without end.
    case("endless lines in the greeting", &[("greeting", &[Flood("220-mx\r\n")])], DEFERRED, Last),
    case("endless lines after EHLO", &[("EHLO", &[Flood("250-mx\r\n")])], DEFERRED, Last),
    case("a reply of 1 GB to MAIL", &[("MAIL", &[Say("250 "), Flood("xxxxxxxxxxxxxxxx")])], DEFERRED, Last),
    case("a reply of 1 GB to RCPT", &[(B, &[Say("550-"), Flood("xxxxxxxxxxxxxxxx")])], DEFERRED, Last),
    case("endless lines after the content", &[("end", &[Flood("250-x\r\n")])], DEFERRED, Last),
    case("endless replies after the content", &[("end", &[Flood("250 x\r\n")])], DELIVERED, Last),
    case("an octet every 4 s as greeting", &[("greeting", &[Drip("220-mx\r\n", 4)])], DEFERRED, Last),
    case("an octet every 4 s after EHLO", &[("EHLO", &[Drip("250-mx\r\n", 4)])], DEFERRED, Last),
    case("an octet every 4 s after RCPT", &[(B, &[Drip("250-mx\r\n", 4)])], DEFERRED, Last),
    case("an octet every 4 s after the content", &[("end", &[Drip("250-mx\r\n", 4)])], DEFERRED, Last),

    // Replies outside the grammar.
    case("code 000", &[("MAIL", &[Say("000 Ok\r\n")])], DEFERRED, Last),
    case("code 999", &[(B, &[Say("999 No\r\n")])], DEFERRED, Last),
    case("code 199", &[("DATA", &[Say("199 Go\r\n")])], DEFERRED, Last),
    case("code 600 after the content", &[("end", &[Say("600 Ok\r\n")])], DEFERRED, Last),
    case("code 571", &[(B, &[Say("571 5.7.1 No\r\n")])], ["delivered", "failed 5.7.1", "delivered"], Again),
    case("two codes in one reply", &[(B, &[Say("250-Ok\r\n550 No\r\n")])], DEFERRED, Last),
    case("an HTTP server", &[("greeting", &[Say("HTTP/1.1 400 Bad Request\r\n\r\n"), Close])], DEFERRED, Last),
    case("lines end with LF", &[("MAIL", &[Say("250 Ok\n"), Silence])], DEFERRED, Last),
    case("lines end with CR", &[("MAIL", &[Say("250 Ok\r"), Silence])], DEFERRED, Last),
    case("LF in a reply", &[(B, &[Say("250 Ok\n550 No\r\n")])], DELIVERED, Again),
    case("NUL, ESC and 8-bit in a reply", &[(B, &[SayOctets(b"550 \x1b[2J\0\xff\xfe\r\n")])], FAILED_B, Again),
    case("a status code without text", &[(B, &[Say("550 5.7.2\r\n")])], ["delivered", "failed 5.7.2", "delivered"], Again),
    case("a code without text", &[(B, &[Say("550\r\n")])], ["delivered", "failed 5.0.0", "delivered"], Again),
    case("a status code of another class", &[(B, &[Say("550 4.1.1 No\r\n")])], ["delivered", "failed 5.0.0", "delivered"], Again),
    case("450 with a permanent status", &[(B, &[Say("450 5.1.1 No\r\n")])], ["delivered", "deferred 4.0.0", "delivered"], Again),
    case("250 with a permanent status", &[(B, &[Say("250 5.1.1 No\r\n")])], DELIVERED, Again),
    case("several lines to RCPT", &[(B, &[Say("550-5.1.1 No\r\n550-\r\n550 5.1.1 such\r\n")])], FAILED_B, Again),

    // Replies without meaning at their place.
    case("354 as greeting", &[("greeting", &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("354 to EHLO", &[("EHLO", &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("354 to MAIL", &[("MAIL", &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("354 to RCPT", &[(B, &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("250 to DATA", &[("DATA", &[Say("250 Ok\r\n")])], DEFERRED, Last),
    case("354 after the content", &[("end", &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("354 to DATA though all RCPT were refused", &[("RCPT", &[Say("550 5.1.1 No\r\n")])], ["failed 5.1.1"; 3], Same),
    case("250 to DATA though all RCPT were refused", &[("RCPT", &[Say("550 5.1.1 No\r\n")]), ("DATA", &[Say("250 Ok\r\n")]), ("RSET", &[Say("354 Go\r\n")])], DEFERRED, Last),
    case("5yz to RSET", &[("RCPT", &[Say("550 5.1.1 No\r\n")]), ("DATA", &[Say("554 No\r\n")]), ("RSET", &[Say("500 What\r\n")])], DEFERRED, Last),
    case("RSET is not answered", &[("RCPT", &[Say("550 5.1.1 No\r\n")]), ("DATA", &[Say("554 No\r\n")]), ("RSET", &[Silence])], ["failed 5.1.1"; 3], Last),
    case("RSET closes", &[("RCPT", &[Say("550 5.1.1 No\r\n")]), ("DATA", &[Say("554 No\r\n")]), ("RSET", &[Close])], ["failed 5.1.1"; 3], Last),
    case("421 to RSET", &[("RCPT", &[Say("550 5.1.1 No\r\n")]), ("DATA", &[Say("554 No\r\n")]), ("RSET", &[Say("421 Bye\r\n"), Close])], ["failed 5.1.1"; 3], Last),

    // More replies than commands, and fewer.
    case("two greetings", &[("greeting", &[Say("220 mx\r\n220 mx\r\n")])], DEFERRED, Last),
    case("two replies to EHLO", &[("EHLO", &[Behave, Say("250 mx\r\n")])], DEFERRED, Last),
    case("two replies to MAIL", &[("MAIL", &[Say("250 Ok\r\n250 Ok\r\n")])], DEFERRED, Last),
    case("two replies to one RCPT, 250 and 550", &[(B, &[Say("250 Ok\r\n550 5.1.1 No\r\n")])], DEFERRED, Last),
    case("two replies to one RCPT, 550 and 250", &[(B, &[Say("550 5.1.1 No\r\n250 Ok\r\n")])], DEFERRED, Last),
    case("two replies to the last RCPT", &[(C, &[Say("250 Ok\r\n550 5.1.1 No\r\n")])], DEFERRED, Last),
    case("three replies to one RCPT", &[(B, &[Say("550 No\r\n550 No\r\n550 No\r\n")])], DEFERRED, Last),
    case("two replies to DATA", &[("DATA", &[Say("354 Go\r\n354 Go\r\n")])], DEFERRED, Last),
    case("two replies to the content", &[("end", &[Say("250 Ok\r\n550 5.1.1 No\r\n")])], DELIVERED, Last),
    case("half a reply behind that to the content", &[("end", &[Say("250 Ok\r\n55")])], DELIVERED, Last),
    case("a reply to nothing between messages", &[("end", &[Behave, Pause(1), Say("550 5.1.1 No\r\n")])], DELIVERED, Last),
    case("no reply to MAIL", &[("MAIL", &[])], DEFERRED, Last),
    case("no reply to one RCPT", &[(B, &[])], DEFERRED, Last),
    case("no reply to the last RCPT", &[(C, &[])], DEFERRED, Last),
    case("no reply to two RCPT", &[(B, &[]), (C, &[])], DEFERRED, Last),

    // The server is gone, by word or without.
    case("421 as greeting", &[("greeting", &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 to EHLO", &[("EHLO", &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 to MAIL", &[("MAIL", &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 to RCPT", &[(B, &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 to RCPT behind a refusal", &[("RCPT TO:<a@", &[Say("550 5.1.1 No\r\n")]), (B, &[Say("421 4.7.0 Busy\r\n"), Close])], ["failed 5.1.1", "deferred 4.7.0", "deferred 4.7.0"], Last),
    case("421 to DATA", &[("DATA", &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 after the content", &[("end", &[Say("421 4.3.2 Busy\r\n"), Close])], DEFERRED, Last),
    case("421 behind the reply to the content", &[("end", &[Behave, Say("421 4.3.2 Bye\r\n"), Close])], DELIVERED, Last),
    case("closes instead of a greeting", &[("greeting", &[Close])], DEFERRED, Last),
    case("closes at EHLO", &[("EHLO", &[Close])], DEFERRED, Last),
    case("closes at MAIL", &[("MAIL", &[Close])], DEFERRED, Last),
    case("closes at RCPT", &[(B, &[Close])], DEFERRED, Last),
    case("closes at RCPT behind a refusal", &[("RCPT TO:<a@", &[Say("550 5.1.1 No\r\n")]), (B, &[Close])], ["failed 5.1.1", "deferred 4.4.2", "deferred 4.4.2"], Last),
    case("closes at DATA", &[("DATA", &[Close])], DEFERRED, Last),
    case("closes after the content", &[("end", &[Close])], DEFERRED, Last),
    case("closes within the reply to the content", &[("end", &[Say("250 O"), Close])], DEFERRED, Last),
    case("closes within a reply of several lines", &[("end", &[Say("250-Ok\r\n"), Close])], DEFERRED, Last),
    case("resets at EHLO", &[("EHLO", &[Reset])], DEFERRED, Last),
    case("resets at RCPT", &[(B, &[Reset])], DEFERRED, Last),
    case("resets at DATA", &[("DATA", &[Reset])], DEFERRED, Last),
    case("resets after the content", &[("end", &[Reset])], DEFERRED, Last),
    case("half-closes at MAIL", &[("MAIL", &[HalfClose])], DEFERRED, Last),
    case("half-closes after the content", &[("end", &[HalfClose])], DEFERRED, Last),
    case("half-closes behind the reply to the content", &[("end", &[Behave, HalfClose])], DELIVERED, Last),
    case("silent instead of a greeting", &[("greeting", &[Silence])], DEFERRED, Last),
    case("silent at EHLO", &[("EHLO", &[Silence])], DEFERRED, Last),
    case("silent at MAIL", &[("MAIL", &[Silence])], DEFERRED, Last),
    case("silent at RCPT", &[(B, &[Silence])], DEFERRED, Last),
    case("silent at DATA", &[("DATA", &[Silence])], DEFERRED, Last),
    case("silent after the content", &[("end", &[Silence])], DEFERRED, Last),
    case("silent within a reply", &[("end", &[Say("250-Ok\r\n250 "), Silence])], DEFERRED, Last),

    // Refusals at the start.
    case("521 as greeting", &[("greeting", &[Say("521 No mail here\r\n"), Silence])], DEFERRED, Last),
    case("554 as greeting", &[("greeting", &[Say("554 Not you\r\n"), Silence])], DEFERRED, Last),
    case("550 to EHLO and HELO", &[("EHLO", &[Say("550 Not you\r\n")]), ("HELO", &[Say("550 Not you\r\n")])], DEFERRED, Last),
    case("knows HELO only", &[("EHLO", &[Say("502 What\r\n")])], DELIVERED, Again),
    case("5yz to MAIL, then 354", &[("MAIL", &[Say("550 5.7.1 No\r\n")])], ["failed 5.7.1"; 3], Same),
    case("5yz to DATA", &[("DATA", &[Say("554 5.7.1 No\r\n")])], ["failed 5.7.1"; 3], Last),
    case("4yz to DATA", &[("DATA", &[Say("451 4.7.1 No\r\n")])], ["deferred 4.7.1"; 3], Last),
    case("5yz to the content", &[("end", &[Say("554 5.6.0 No\r\n")])], ["failed 5.6.0"; 3], Same),

    // What EHLO may offer.
    case("garbage keywords", &[("EHLO", &[SayOctets(b"250-mx\r\n250-\r\n250- \r\n250-=\r\n250-\0\xff\x1b\r\n250-SIZE\tx\r\n250 8BITMIMEX\r\n")])], DELIVERED, Again),
    case("SIZE=garbage", &[("EHLO", &[Say("250-mx\r\n250-SIZE=garbage\r\n250 SIZE garbage\r\n")])], DELIVERED, Again),
    case("SIZE of more than 64 bits", &[("EHLO", &[Say("250-mx\r\n250 SIZE 99999999999999999999999\r\n")])], DELIVERED, Again),
    case("SIZE 1", &[("EHLO", &[Say("250-mx\r\n250 SIZE 1\r\n")])], ["failed 5.3.4"; 3], Same),
    case("each reply after a minute", &[("MAIL", &[Pause(60), Behave]), ("RCPT", &[Pause(60), Behave]), ("DATA", &[Pause(60), Behave])], DELIVERED, Again),
];

/// Servers for a message of many blocks.
#[rustfmt::skip]
pub(crate) const LARGE: &[Case] = &[
    case("behaves", &[], DELIVERED, Again),
    case("5yz in the middle of the content", &[("content", &[Say("552 5.3.4 Too large\r\n"), Close])], ["failed 5.3.4"; 3], Last),
    case("5yz in the middle, and does not read on", &[("content", &[Say("552 5.3.4 Too large\r\n"), Deafness])], ["failed 5.3.4"; 3], Last),
    case("4yz in the middle of the content", &[("content", &[Say("452 4.3.1 Full\r\n"), Close])], ["deferred 4.3.1"; 3], Last),
    case("421 in the middle of the content", &[("content", &[Say("421 4.3.2 Bye\r\n"), Close])], ["deferred 4.3.2"; 3], Last),
    case("250 in the middle of the content", &[("content", &[Say("250 2.0.0 Ok\r\n")])], DEFERRED, Last),
    case("354 in the middle of the content", &[("content", &[Say("354 Go on\r\n")])], DEFERRED, Last),
    case("half a reply in the middle of the content", &[("content", &[Say("250 2.0"), Silence])], DEFERRED, Last),
    case("garbage in the middle of the content", &[("content", &[Say("go on\r\n")])], DEFERRED, Last),
    case("two replies to DATA", &[("DATA", &[Say("354 Go\r\n250 Ok\r\n")])], DEFERRED, Last),
    case("closes in the middle of the content", &[("content", &[Close])], DEFERRED, Last),
    case("resets in the middle of the content", &[("content", &[Reset])], DEFERRED, Last),
    case("half-closes in the middle of the content", &[("content", &[HalfClose])], DEFERRED, Last),
    case("does not read the content", &[("content", &[Deafness])], DEFERRED, Last),
    case("refuses one, closes in the content", &[(B, &[Say("550 5.1.1 No\r\n")]), ("content", &[Close])], ["deferred", "failed 5.1.1", "deferred"], Last),
    case("an octet every 4 s in the content", &[("content", &[Drip("250-mx\r\n", 4)])], DEFERRED, Last),
    case("a flood in the content", &[("content", &[Flood("250-mx\r\n")])], DEFERRED, Last),
];
