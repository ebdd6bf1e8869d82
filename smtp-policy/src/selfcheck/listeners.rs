//! The ports of the host: 25 with STARTTLS, 465 with TLS from the start, 587 for users under TLS (PRACTICES S23 to S26).

use super::facts::{OwnHost, OwnTls};
use super::report::{SelfFinding, SelfItem};

const MTA: SelfItem = SelfItem::new("port-25", "S23", "port 25 takes mail of other servers, with STARTTLS");
const SUBMISSIONS: SelfItem = SelfItem::new("port-465", "S24", "port 465 begins with TLS");
const SUBMISSION: SelfItem = SelfItem::new("port-587", "S25", "port 587 takes mail of users alone, under TLS");

pub(super) fn check(host: &OwnHost) -> Vec<SelfFinding> {
    let of = |port: u16| host.listeners.iter().find(|(listening, ..)| *listening == port);
    let advice = "add a `[[certificate]]`, so that the port has TLS";
    if host.listeners.is_empty() {
        return Vec::new();
    }
    let mta = match of(25) {
        None => MTA.warning("port 25", "nothing listens there").advising("other servers find no other port (RFC 5321)"),
        Some((_, OwnTls::Implicit, _)) => MTA
            .error("port 25", "it begins with TLS")
            .advising("other servers expect a greeting in clear, and STARTTLS"),
        Some((_, OwnTls::None, _)) => MTA.warning("port 25", "without TLS").advising(advice),
        Some((_, OwnTls::StartTls, true)) => {
            MTA.error("port 25", "it asks everybody for a password").advising("other servers have none")
        }
        Some((_, OwnTls::StartTls, false)) => MTA.ok("port 25", "with STARTTLS"),
    };
    let submissions = match of(465) {
        None => SUBMISSIONS.note("port 465", "nothing listens there").advising("users find it there (RFC 8314)"),
        Some((_, OwnTls::Implicit, _)) => SUBMISSIONS.ok("port 465", "with TLS from the start"),
        Some(_) => SUBMISSIONS.error("port 465", "it does not begin with TLS").advising("say `tls = \"implicit\"`"),
    };
    let submission = match of(587) {
        None => SUBMISSION.note("port 587", "nothing listens there").advising("users find it there (RFC 6409)"),
        Some((_, OwnTls::None, _)) => SUBMISSION.error("port 587", "without TLS").advising(advice),
        Some((_, _, false)) => SUBMISSION
            .error("port 587", "it takes mail without a password")
            .advising("let it be for users alone: `service = \"submission\"`"),
        Some((_, OwnTls::Implicit, true)) => {
            SUBMISSION.warning("port 587", "it begins with TLS").advising("mail clients expect STARTTLS there")
        }
        Some((_, OwnTls::StartTls, true)) => SUBMISSION.ok("port 587", "for users, with STARTTLS"),
    };
    vec![mta, submissions, submission]
}
