//! Where a subscription begins, as text.

use super::Start;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

/// A text that says of no place in a topic where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartError;

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "expected `new`, `earliest`, a time such as `2026-01-31T08:00:00Z`, or a number",
        )
    }
}

impl std::error::Error for StartError {}

/// `new`, `earliest`, a time with its offset as RFC 3339 has it, or a number.
impl FromStr for Start {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        match text {
            "new" => Ok(Self::New),
            "earliest" => Ok(Self::Earliest),
            _ if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                text.parse().map(Self::Number).map_err(|_| StartError)
            }
            _ => time(text).map(Self::Time).ok_or(StartError),
        }
    }
}

/// A time as RFC 3339 has it. A leap second is the one after it.
fn time(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_at_checked(10)?;
    let (year, date) = number(date, 4)?;
    let (month, date) = number(date.strip_prefix('-')?, 2)?;
    let (day, date) = number(date.strip_prefix('-')?, 2)?;
    let rest = rest.strip_prefix(['T', 't', ' '])?;
    let (hour, rest) = number(rest, 2)?;
    let (minute, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (second, rest) = number(rest.strip_prefix(':')?, 2)?;
    let (nanos, rest) = fraction(rest)?;
    let offset = offset(rest)?;
    let right = date.is_empty()
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !right {
        return None;
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    let seconds = seconds - offset;
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let time = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(distance),
        false => SystemTime::UNIX_EPOCH.checked_add(distance),
    };
    time?.checked_add(Duration::from_nanos(nanos))
}

/// A number of so many digits, and what is behind it.
fn number(text: &str, digits: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(digits)?;
    let all_digits = number.bytes().all(|byte| byte.is_ascii_digit());
    all_digits.then(|| number.parse().ok())?.map(|number| (number, rest))
}

/// The nanoseconds of a fraction, if there is one. What is finer is left out.
fn fraction(text: &str) -> Option<(u64, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, rest) = rest.split_at(end);
    let nanos = digits.bytes().chain(std::iter::repeat(b'0')).take(9);
    let nanos = nanos.fold(0, |nanos, digit| nanos * 10 + u64::from(digit - b'0'));
    (!digits.is_empty()).then_some((nanos, rest))
}

/// By how many seconds the clock is before that of UTC.
fn offset(text: &str) -> Option<i64> {
    if matches!(text, "Z" | "z") {
        return Some(0);
    }
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, rest) = number(&text[1..], 2)?;
    let (minutes, rest) = number(rest.strip_prefix(':')?, 2)?;
    (rest.is_empty() && hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// After Howard Hinnant's `days_from_civil`: years that begin in March, so that the
/// leap day is the last of a year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_numbers_are_read() {
        assert_eq!("new".parse(), Ok(Start::New));
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("42".parse(), Ok(Start::Number(42)));
        for text in ["", "New", "latest", "-1", "1.5", "99999999999999999999"] {
            assert_eq!(text.parse::<Start>(), Err(StartError), "{text}");
        }
    }

    #[test]
    fn times_are_read_as_calendars_have_them() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-28T23:59:59Z", 951_782_399),
            ("2000-02-29T00:00:00z", 951_782_400),
            ("2000-03-01t00:00:00Z", 951_868_800),
            ("2025-12-31 23:59:59Z", 1_767_225_599),
            ("2026-01-01T01:30:00+01:30", 1_767_225_600),
            ("2025-12-31T16:00:00-08:00", 1_767_225_600),
            ("2016-12-31T23:59:60Z", 1_483_228_800),
            ("2100-03-01T00:00:00Z", 4_107_542_400),
        ] {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            assert_eq!(text.parse(), Ok(Start::Time(time)), "{text}");
        }
        let before = SystemTime::UNIX_EPOCH - Duration::from_millis(500);
        assert_eq!("1969-12-31T23:59:59.5Z".parse(), Ok(Start::Time(before)));
        let fine = SystemTime::UNIX_EPOCH + Duration::from_nanos(123_456_789);
        assert_eq!("1970-01-01T00:00:00.1234567891Z".parse(), Ok(Start::Time(fine)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "2026-01-01",
            "2026-01-01T00:00:00",
            "2026-01-01T00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "2026-01-32T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+01:00x",
            "2026-01-01T00:00:00Ä",
            "2026-01-0éT00:00:00Z",
            "+026-01-01T00:00:00Z",
        ] {
            assert_eq!(text.parse::<Start>(), Err(StartError), "{text}");
        }
    }
}
