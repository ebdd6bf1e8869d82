//! The law of command lines: what is understood can be written and understood again, and no line break gets through.

use smtp_core::{Body, Command, CommandError, FutureRelease, Host, MailParameters, RcptParameters};

use crate::moment::moment_text;
use crate::text::is_visible;

/// Checks one line without its CRLF.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let parsed = Command::parse(data);
    assert_eq!(Command::parse(data), parsed, "the same line means the same");
    match &parsed {
        Ok(command) => {
            nothing_gets_through(data, command);
            format_is_undone(command);
            case_and_trailing_spaces_change_nothing(data, command);
        }
        Err(error) => the_place_is_in_the_line(data, *error),
    }
}

/// SECURITY.md D-9: a line break, a NUL or another control is in no argument that this server uses; letters of other
/// alphabets are in paths and values only.
fn nothing_gets_through(line: &[u8], command: &Command) {
    // What goes with AUTH is decoded by the session, which takes Base64 only.
    if matches!(
        command,
        Command::Auth(..)
            | Command::Noop
            | Command::Help
            | Command::Vrfy
            | Command::Expn
            | Command::Xclient(Err(_))
            | Command::Xforward(Err(_))
            | Command::NotOffered
    ) {
        return; // Their arguments are read by nobody.
    }
    let text = std::str::from_utf8(line).unwrap_or("\0").replace('\t', " ");
    let may_have_any = matches!(command, Command::Mail(..) | Command::Rcpt(..));
    assert!(is_visible(&text) && (may_have_any || text.is_ascii()), "{command:?} from {line:?}");
}

fn format_is_undone(command: &Command) {
    let line = match command {
        Command::Ehlo(host) => format!("EHLO {host}"),
        Command::Helo(host) => format!("HELO {host}"),
        Command::Lhlo(host) => format!("LHLO {host}"),
        Command::Mail(path, parameters) if parameters.unrecognized.is_none() => {
            format!("MAIL FROM:{path}{}", format_parameters(parameters))
        }
        Command::Mail(path, _) => {
            let formatted = Command::parse(format!("MAIL FROM:{path}").as_bytes());
            assert_eq!(formatted, Ok(Command::Mail(path.clone(), MailParameters::default())));
            return;
        }
        Command::Rcpt(path, parameters) => {
            let RcptParameters { dsn, valid_since, unrecognized } = parameters;
            let dsn = parameter("NOTIFY", dsn.notify.as_ref()) + &parameter("ORCPT", dsn.original_recipient.as_ref());
            let unrecognized = unrecognized.as_ref().map(|keyword| format!(" {keyword}")).unwrap_or_default();
            let since = parameter("RRVS", valid_since.as_ref());
            format!("RCPT TO:{path}{dsn}{since}{unrecognized}")
        }
        Command::Bdat(chunk) => format!("BDAT {}{}", chunk.octets, if chunk.is_last { " LAST" } else { "" }),
        Command::Auth(Some(mechanism), None) => format!("AUTH {mechanism}"),
        Command::Auth(Some(mechanism), Some(response)) => format!("AUTH {mechanism} {}", response.expose()),
        _ => return,
    };
    assert_eq!(Command::parse(line.as_bytes()).as_ref(), Ok(command), "{line:?}");
    if let Command::Ehlo(Host::Domain(domain))
    | Command::Helo(Host::Domain(domain))
    | Command::Lhlo(Host::Domain(domain)) = command
    {
        assert!(domain.as_str().len() <= 255);
    }
}

fn format_parameters(parameters: &MailParameters) -> String {
    let size = parameters.size_octets.map(|octets| format!(" SIZE={octets}"));
    let body = parameters.body.map(|body| match body {
        Body::EightBitMime => " BODY=8BITMIME",
        Body::BinaryMime => " BODY=BINARYMIME",
        _ => " BODY=7BIT",
    });
    let utf8 = if parameters.smtputf8 { " SMTPUTF8" } else { "" };
    let auth = parameters.auth.as_ref().map(|path| {
        let text = path.mailbox().map_or_else(|| "<>".to_owned(), ToString::to_string);
        text.bytes().fold(" AUTH=".to_owned(), |xtext, octet| format!("{xtext}+{octet:02X}"))
    });
    let dsn = &parameters.dsn;
    let dsn = parameter("RET", dsn.ret.as_ref()) + &parameter("ENVID", dsn.envelope_id.as_ref());
    let solicit = parameter("SOLICIT", parameters.solicit.as_ref());
    let prdr = if parameters.prdr { " PRDR" } else { "" };
    let requiretls = if parameters.requiretls { " REQUIRETLS" } else { "" };
    let by = parameter("BY", parameters.deliver_by.as_ref());
    let priority = parameter("MT-PRIORITY", parameters.priority.as_ref());
    let hold = match parameters.future_release {
        Some(FutureRelease::For(wait)) => parameter("HOLDFOR", Some(&wait.as_secs())),
        Some(FutureRelease::Until(moment)) => parameter("HOLDUNTIL", Some(&moment_text(moment))),
        _ => String::new(),
    };
    let flags = [utf8, prdr, requiretls].concat();
    let values = [dsn, solicit, by, priority, hold].concat();
    size.unwrap_or_default() + body.unwrap_or_default() + &flags + &auth.unwrap_or_default() + &values
}

fn parameter(keyword: &str, value: Option<&impl std::fmt::Display>) -> String {
    value.map(|value| format!(" {keyword}={value}")).unwrap_or_default()
}

/// RFC 5321 §2.4: verbs compare without case. §4.1.1: trailing spaces are let pass.
fn case_and_trailing_spaces_change_nothing(line: &[u8], command: &Command) {
    let verb = line.iter().take_while(|octet| octet.is_ascii_alphanumeric()).count();
    let mut changed = line.to_vec();
    for octet in &mut changed[..verb] {
        *octet ^= if octet.is_ascii_alphabetic() { 0x20 } else { 0 };
    }
    changed.push(b' ');
    if matches!(command, Command::Xclient(Err(_)) | Command::Xforward(Err(_))) {
        return; // The place of the error moves with the spaces.
    }
    assert_eq!(Command::parse(&changed).as_ref(), Ok(command), "{changed:?}");
}

fn the_place_is_in_the_line(line: &[u8], error: CommandError) {
    assert!(!error.is_transient() && !error.to_string().contains(['\r', '\n']));
    let (CommandError::Argument(place)
    | CommandError::Host(place)
    | CommandError::ReversePath(place)
    | CommandError::ForwardPath(place)
    | CommandError::Parameter(place)
    | CommandError::Chunk(place)) = error
    else {
        return;
    };
    assert!(place.offset() <= line.len(), "{error} in {} octets", line.len());
}
