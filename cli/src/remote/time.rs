//! Durations and times as people write them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When(pub(crate) SystemTime);

/// Reads `100us`, `500ms`, `90s`, `5m`, `2h`, `1d`, or seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let seconds = match unit {
        "us" => 1e-6,
        "ms" => 1e-3,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return Err(format!("the unit {unit:?} is none of us, ms, s, m, h, d")),
    };
    let number: f64 = number.parse().map_err(|_| "no duration such as 500ms, 90s, 5m, 2h or 1d".to_owned())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())
}

/// Reads `+DURATION`, seconds since 1970, or `2030-12-31T23:59:59Z`.
pub(crate) fn when(text: &str) -> Result<When, String> {
    let time = if let Some(later) = text.strip_prefix('+') {
        SystemTime::now().checked_add(duration(later)?)
    } else if let Ok(seconds) = text.parse() {
        UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    } else {
        let wrong = || "no time such as +90s, 1924991999 or 2030-12-31T23:59:59Z (UTC)".to_owned();
        UNIX_EPOCH.checked_add(Duration::from_secs(calendar(text).ok_or_else(wrong)?))
    };
    time.map(When).ok_or_else(|| "so late a time cannot be told".to_owned())
}

/// Seconds since 1970 of a date and time in UTC.
fn calendar(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once(['T', ' '])?;
    let numbers = |text: &str, by: char| -> Option<[u64; 3]> {
        let parts: Option<Vec<u64>> = text.split(by).map(|part| part.parse().ok()).collect();
        parts?.try_into().ok()
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let is_leap = |year: u64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let february = if is_leap(year) { 29 } else { 28 };
    let lengths = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let is_real = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=lengths[month as usize - 1]).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !is_real {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths[..month as usize - 1].iter().sum();
    Some((((years + months + day - 1) * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let millis = |text| duration(text).map(|duration| duration.as_millis());
        assert_eq!(["500ms", "1.5", "90s", "5m", "2h"].map(millis), [500, 1500, 90_000, 300_000, 7_200_000].map(Ok));
        for wrong in ["", "s", "5x", "-1s", "1e300", "NaN"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_seconds_or_dates_or_from_now() {
        let seconds = |text| when(text).map(|when| when.0.duration_since(UNIX_EPOCH).unwrap().as_secs());
        assert_eq!(seconds("0"), Ok(0));
        assert_eq!(seconds("2000-02-29T00:00:00Z"), Ok(951_782_400));
        assert_eq!(seconds("2030-12-31T23:59:59Z"), Ok(1_924_991_999));
        assert!(when("+1h").unwrap().0 > SystemTime::now());
        for wrong in ["", "+", "tomorrow", "2001-02-29T00:00:00Z", "2030-13-01T00:00:00Z", "2030-12-31T23:59:59"] {
            assert!(when(wrong).is_err(), "{wrong}");
        }
    }
}
