//! The law of parameters: those of `MAIL` and `RCPT` mean what a slow reading of RFC 5321 §4.1.2, RFC 1870 §4 and RFC
//! 6152 §3 says.

use smtp_core::{Body, Command, CommandError, MailParameters, RcptParameters};

/// Checks what follows `MAIL FROM:<> ` and `RCPT TO:<postmaster> `.
///
/// # Panics
/// Where the law is broken.
pub fn law(data: &[u8]) {
    let expected = words(data);

    let line = [b"MAIL FROM:<> ", data].concat();
    let found = match Command::parse(&line) {
        Ok(Command::Mail(path, parameters)) if path.is_null() => Some(parameters),
        Err(CommandError::Parameter(error)) if error.offset() <= line.len() => None,
        other => panic!("{other:?} from {data:?}"),
    };
    assert_eq!(found, expected.as_deref().and_then(mail_parameters), "{data:?}");

    let line = [b"RCPT TO:<postmaster> ", data].concat();
    let found = match Command::parse(&line) {
        Ok(Command::Rcpt(_, parameters)) => Some(parameters),
        Err(CommandError::Parameter(error)) if error.offset() <= line.len() => None,
        other => panic!("{other:?} from {data:?}"),
    };
    let expected = expected.map(|words| RcptParameters { unrecognized: words.first().map(|word| word.0.clone()) });
    assert_eq!(found, expected, "{data:?}");
}

/// A keyword and its value.
type Word = (Box<str>, Option<String>);

/// `keyword[=value]` between spaces; `None` where one of them is neither.
fn words(data: &[u8]) -> Option<Vec<Word>> {
    let text = std::str::from_utf8(data).ok()?;
    text.split(' ').filter(|word| !word.is_empty()).map(word).collect()
}

fn word(text: &str) -> Option<Word> {
    let (keyword, value) = match text.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (text, None),
    };
    let is_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let is_value = |value: &str| !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '=');
    (is_keyword && value.is_none_or(is_value)).then(|| (keyword.into(), value.map(str::to_owned)))
}

fn mail_parameters(words: &[Word]) -> Option<MailParameters> {
    let mut parameters = MailParameters::default();
    for (keyword, value) in words {
        let value = value.as_deref().map(str::to_ascii_uppercase);
        let unrecognized = match (keyword.to_ascii_uppercase().as_str(), value.as_deref()) {
            ("SIZE", value) => {
                if parameters.size_octets.replace(size(value?)?).is_some() {
                    return None;
                }
                continue;
            }
            ("BODY", Some("BINARYMIME")) => "BODY=BINARYMIME",
            ("BODY", value) => {
                let body = match value? {
                    "7BIT" => Body::SevenBit,
                    "8BITMIME" => Body::EightBitMime,
                    _ => return None,
                };
                if parameters.body.replace(body).is_some() {
                    return None;
                }
                continue;
            }
            _ => keyword,
        };
        parameters.unrecognized.get_or_insert_with(|| unrecognized.into());
    }
    Some(parameters)
}

/// RFC 1870 §4: one to twenty digits; what exceeds 64 bits is the largest number.
fn size(digits: &str) -> Option<u64> {
    let is_size = (1..=20).contains(&digits.len()) && digits.bytes().all(|octet| octet.is_ascii_digit());
    let number: u128 = if is_size { digits.parse().ok()? } else { return None };
    Some(u64::try_from(number).unwrap_or(u64::MAX))
}
