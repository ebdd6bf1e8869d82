//! Moments as RFC 3339 writes them, read and written slowly: a day after the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// RFC 3339 §5.6 in UTC, to whole seconds, in upper case; not before 1970.
pub(crate) fn moment(value: &str) -> Option<SystemTime> {
    let (date, time) = value.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    if fraction.is_empty() || !fraction.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time, ':', [2, 2, 2])?;
    let is_date = year >= 1970 && (1..=12).contains(&month) && (1..=days_of(month, year)).contains(&day);
    if !(is_date && hour < 24 && minute < 60 && second <= 60) {
        return None;
    }
    let years: u64 = (1970..year).flat_map(|year| (1..=12).map(move |month| days_of(month, year))).sum();
    let months: u64 = (1..month).map(|month| days_of(month, year)).sum();
    let days = years + months + day - 1;
    Some(UNIX_EPOCH + Duration::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second))
}

/// The same way back.
pub(crate) fn moment_text(moment: SystemTime) -> String {
    let seconds = moment.duration_since(UNIX_EPOCH).expect("none is before 1970").as_secs();
    let (mut year, mut month, mut day) = (1970, 1, seconds / 86_400);
    while day >= days_of(month, year) {
        day -= days_of(month, year);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

fn days_of(month: u64, year: u64) -> u64 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Three numbers of so many digits each.
fn numbers(text: &str, separator: char, widths: [usize; 3]) -> Option<[u64; 3]> {
    let parts: Vec<&str> = text.split(separator).collect();
    let fits = |(part, width): (&&str, usize)| part.len() == width && part.bytes().all(|octet| octet.is_ascii_digit());
    if parts.len() != 3 || !parts.iter().zip(widths).all(fits) {
        return None;
    }
    let number = |place: usize| parts[place].parse().ok();
    Some([number(0)?, number(1)?, number(2)?])
}
