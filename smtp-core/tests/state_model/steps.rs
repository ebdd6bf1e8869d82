//! The words of a conversation: commands, and what policies, lookup and delivery may say to them.

/// How a hook says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct No {
    pub(crate) is_permanent: bool,
    pub(crate) is_immediate: bool,
    pub(crate) closes: bool,
}

/// What is said to a command by those who are asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everybody agrees.
    Continue,
    /// The policy exempts.
    Exempt,
    /// The policy refuses.
    Refuse(No),
    /// There is no room for content.
    NoRoom,
    /// The delivery refuses.
    NotTaken(No),
}

/// A `MAIL` whose syntax is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mail {
    Plain,
    Null,
    Sized,
    TooLarge,
    UnknownParameter,
}

impl Mail {
    pub(crate) fn path(self) -> &'static str {
        if self == Self::Null { "<>" } else { "<alice@client.example>" }
    }

    /// R5321e: or one whose extension is not offered, as `SIZE` behind `HELO`.
    pub(crate) fn has_unknown_parameter(self, is_esmtp: bool) -> bool {
        self == Self::UnknownParameter || (!is_esmtp && matches!(self, Self::Sized | Self::TooLarge))
    }

    /// RFC 1870 §6.1.
    pub(crate) fn is_too_large(self) -> bool {
        self == Self::TooLarge
    }

    fn line(self) -> String {
        let parameter = match self {
            Self::Plain | Self::Null => "",
            Self::Sized => " SIZE=500",
            Self::TooLarge => " SIZE=1001",
            Self::UnknownParameter => " RET=HDRS",
        };
        format!("MAIL FROM:{}{parameter}", self.path())
    }
}

/// A `RCPT` whose syntax is right, by what the lookup says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rcpt {
    Local,
    OtherLocal,
    Role,
    Postmaster,
    PostmasterLookupFails,
    Unknown,
    UnknownRole,
    NotLocal,
    LookupFails,
    UnknownParameter,
}

impl Rcpt {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Local | Self::LookupFails | Self::UnknownParameter => "<bob@example.org>",
            Self::OtherLocal => "<carol@example.org>",
            Self::Role => "<abuse@example.org>",
            Self::Postmaster | Self::PostmasterLookupFails => "<postmaster>",
            Self::Unknown => "<nobody@example.org>",
            Self::UnknownRole => "<security@example.org>",
            Self::NotLocal => "<dave@elsewhere.example>",
        }
    }

    /// PRACTICES P4.
    pub(crate) fn is_role(self) -> bool {
        matches!(self, Self::Role | Self::Postmaster | Self::UnknownRole)
    }

    /// What is wrong with it, in the order of PRACTICES P7: syntax, relay, lookup; an unknown answer is transient (P5).
    pub(crate) fn fault(self) -> Option<&'static str> {
        match self {
            Self::UnknownParameter => Some("555 5.5.4"),
            Self::NotLocal => Some("550 5.7.1"),
            Self::Unknown | Self::UnknownRole => Some("550 5.1.1"),
            Self::LookupFails | Self::PostmasterLookupFails => Some("451 4.3.0"),
            Self::Local | Self::OtherLocal | Self::Role | Self::Postmaster => None,
        }
    }

    fn line(self) -> String {
        let parameter = if self == Self::UnknownParameter { " NOTIFY=NEVER" } else { "" };
        format!("RCPT TO:{}{parameter}", self.path())
    }
}

/// What follows `354`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Good,
    Defective,
    TooLarge,
}

/// The limit on content in all sessions.
pub(crate) const MESSAGE_LIMIT_OCTETS: u64 = 1000;

impl Content {
    pub(crate) fn octets(self) -> Vec<u8> {
        match self {
            Self::Good => b"Subject: x\r\n\r\n..text\r\n.\r\n".to_vec(),
            Self::Defective => b"Subject: x\r\n\r\ntext\n.\nRSET\r\n.\r\n".to_vec(),
            Self::TooLarge => [&b"Subject: x\r\n\r\n"[..], &[b'x'; 1200], b"\r\n.\r\n"].concat(),
        }
    }
}

/// A chunk, octets included. All but the last mean that more may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chunk {
    First,
    TooLarge,
    Defective,
    Last,
}

impl Chunk {
    pub(crate) fn octets(self) -> u64 {
        match self {
            Self::First | Self::Last => 3,
            Self::Defective => 5,
            Self::TooLarge => 1200,
        }
    }

    pub(crate) fn is_last(self) -> bool {
        self == Self::Last
    }

    fn line(self) -> String {
        match self {
            Self::First => "BDAT 3\r\nx".to_owned(),
            Self::TooLarge => format!("BDAT 1200\r\n{}", "x".repeat(1198)),
            Self::Defective => "BDAT 5\r\na\nb".to_owned(),
            Self::Last => "bdat 3 last\r\ny".to_owned(),
        }
    }
}

/// One command, or the connection itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Connect,
    Ehlo,
    Helo,
    Mail(Mail),
    Rcpt(Rcpt),
    Data(Content),
    Bdat(Chunk),
    Rset,
    /// Achieves nothing: line and reply.
    Idle(&'static str, &'static str),
    /// Is an error in any state: line and reply.
    Wrong(&'static str, &'static str),
    Quit,
}

/// What the wire has for a line over the limit.
const TOO_LONG: &str = "NOOP with a line too long";

impl Command {
    pub(crate) fn line(self) -> Vec<u8> {
        let mut line = match self {
            Self::Connect => return Vec::new(),
            Self::Ehlo => "EHLO client.example".to_owned(),
            Self::Helo => "HELO client.example".to_owned(),
            Self::Mail(mail) => mail.line(),
            Self::Rcpt(rcpt) => rcpt.line(),
            Self::Bdat(chunk) => chunk.line(),
            Self::Data(_) => "DATA".to_owned(),
            Self::Rset => "RSET".to_owned(),
            Self::Wrong(TOO_LONG, _) => format!("NOOP {}", "x".repeat(2048)),
            Self::Idle(line, _) | Self::Wrong(line, _) => line.to_owned(),
            Self::Quit => "QUIT".to_owned(),
        };
        line.push_str("\r\n");
        line.into_bytes()
    }
}

/// R5321e and R5321f: lines whose reply does not depend on the state.
const IDLE: [Command; 4] = [
    Command::Idle("NOOP", "250 2.0.0"),
    Command::Idle("VRFY bob", "252 2.0.0"),
    Command::Idle("HELP", "214 2.0.0"),
    Command::Idle("noop at all", "250 2.0.0"),
];
const WRONG: [Command; 15] = [
    Command::Wrong("FOO", "500 5.5.1"),
    Command::Wrong("", "500 5.5.1"),
    Command::Wrong(TOO_LONG, "500 5.5.2"),
    Command::Wrong("EHLO", "501 5.5.2"),
    Command::Wrong("HELO a b", "501 5.5.2"),
    Command::Wrong("MAIL FROM:alice@client.example", "501 5.1.7"),
    Command::Wrong("MAIL", "501 5.5.4"),
    Command::Wrong("MAIL FROM:<alice@client.example> SIZE=many", "501 5.5.4"),
    Command::Wrong("RCPT TO:<>", "501 5.1.3"),
    Command::Wrong("RCPT TO bob", "501 5.5.4"),
    Command::Wrong("DATA now", "501 5.5.4"),
    Command::Wrong("RSET now", "501 5.5.4"),
    Command::Wrong("VRFY", "501 5.5.4"),
    Command::Wrong("EXPN staff", "502 5.5.1"),
    Command::Wrong("STARTTLS", "502 5.5.1"),
];

fn every_no() -> impl Iterator<Item = No> {
    (0..8).map(|bits| No { is_permanent: bits & 1 > 0, is_immediate: bits & 2 > 0, closes: bits & 4 > 0 })
}

/// The verdicts that make a difference to a command; and to one that nobody should be asked about, one that would show.
fn verdicts(command: Command) -> Vec<Verdict> {
    let policy = [Verdict::Continue, Verdict::Exempt].into_iter().chain(every_no().map(Verdict::Refuse));
    let would_show = Verdict::Refuse(No { is_permanent: true, is_immediate: true, closes: true });
    match command {
        Command::Connect
        | Command::Ehlo
        | Command::Helo
        | Command::Mail(Mail::Plain | Mail::Null | Mail::Sized)
        | Command::Rcpt(Rcpt::Local | Rcpt::OtherLocal | Rcpt::Role | Rcpt::Postmaster) => policy.collect(),
        Command::Data(Content::Good) | Command::Bdat(Chunk::Last) => {
            let not_taken = every_no().filter(|no| !no.is_immediate).map(Verdict::NotTaken);
            policy.chain(not_taken).chain([Verdict::NoRoom]).collect()
        }
        Command::Data(_) | Command::Bdat(_) => vec![Verdict::Continue, would_show, Verdict::NoRoom],
        Command::Mail(_) | Command::Rcpt(_) => vec![Verdict::Continue, would_show],
        _ => vec![Verdict::Continue],
    }
}

/// Every command behind the greeting with every verdict.
pub(crate) fn every_step() -> Vec<(Command, Verdict)> {
    let mut commands = vec![Command::Ehlo, Command::Helo, Command::Rset, Command::Quit];
    commands.extend([Mail::Plain, Mail::Null, Mail::Sized, Mail::TooLarge, Mail::UnknownParameter].map(Command::Mail));
    commands.extend([Rcpt::Local, Rcpt::OtherLocal, Rcpt::Role, Rcpt::Postmaster].map(Command::Rcpt));
    commands.extend([Rcpt::PostmasterLookupFails, Rcpt::Unknown, Rcpt::UnknownRole].map(Command::Rcpt));
    commands.extend([Rcpt::NotLocal, Rcpt::LookupFails, Rcpt::UnknownParameter].map(Command::Rcpt));
    commands.extend([Content::Good, Content::Defective, Content::TooLarge].map(Command::Data));
    commands.extend([Chunk::First, Chunk::TooLarge, Chunk::Defective, Chunk::Last].map(Command::Bdat));
    commands.extend(IDLE);
    commands.extend(WRONG);
    let each = |command| verdicts(command).into_iter().map(move |verdict| (command, verdict));
    commands.into_iter().flat_map(each).collect()
}

/// The connection with every verdict.
pub(crate) fn every_greeting() -> Vec<(Command, Verdict)> {
    verdicts(Command::Connect).into_iter().map(|verdict| (Command::Connect, verdict)).collect()
}
