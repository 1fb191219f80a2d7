//! Times in property bags: `2026-01-31T23:59:59.999Z`, or with another offset.

use holdfast_types::UnixMillis;

const DAY_MS: i64 = 86_400_000;

/// Reads a time of RFC 3339; one without an offset is UTC. None if it is no such time, or before 1970.
pub(super) fn read(text: &str) -> Option<UnixMillis> {
    let (date, rest) = text.trim().split_once(['T', 't', ' '])?;
    let (clock, offset_min) = split_offset(rest)?;
    let [year, month, day] = numbers(date, '-')?;
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let [hour, minute, second] = numbers(clock, ':')?;
    let is_time =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 61;
    if !is_time || year > 9999 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let millis =
        fraction.bytes().chain(*b"000").take(3).fold(0, |all, digit| all * 10 + i64::from(digit - b'0'));
    let in_day = ((hour * 60 + minute - offset_min) * 60 + second) * 1000 + millis;
    u64::try_from(days(year, month, day) * DAY_MS + in_day).ok().map(UnixMillis)
}

/// Writes a time.
pub(super) fn write(time: UnixMillis) -> String {
    let in_day = time.0 % 86_400_000;
    let (year, month, day) = date(time.0 / 86_400_000);
    let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
    let (second, millis) = (in_day / 1000 % 60, in_day % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The time of day and the offset in minutes.
fn split_offset(text: &str) -> Option<(&str, i64)> {
    if let Some(clock) = text.strip_suffix(['Z', 'z']) {
        return Some((clock, 0));
    }
    let Some(at) = text.find(['+', '-']) else { return Some((text, 0)) };
    let (clock, offset) = text.split_at_checked(at)?;
    let (sign, offset) =
        if let Some(east) = offset.strip_prefix('+') { (1, east) } else { (-1, offset.get(1..)?) };
    let (hours, minutes) = offset.split_once(':').or_else(|| offset.split_at_checked(2))?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours.abs() < 24 && (0..60).contains(&minutes)).then_some((clock, sign * (hours * 60 + minutes)))
}

fn numbers(text: &str, between: char) -> Option<[i64; 3]> {
    let mut parts = text.split(between).map(|part| {
        let is_number = (1..=4).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse::<i64>().ok()).flatten()
    });
    let all = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(all)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar. Years begin in March, so that the leap day is the last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The other way.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_written() {
        for millis in [0, 951_782_400_123, 1_704_067_199_999, 1_795_226_400_000, 4_107_542_400_000] {
            assert_eq!(read(&write(UnixMillis(millis))), Some(UnixMillis(millis)));
        }
        for (text, millis) in [
            ("1970-01-01T00:00:00", 0),
            ("1970-01-01T00:00:01.5Z", 1500),
            ("1970-01-01 00:00:00.1234567Z", 123),
            ("1970-01-01T02:00:00+02:00", 0),
            ("1969-12-31T22:00:00-0200", 0),
            ("2024-02-29T12:00:00.000000+00:00", 1_709_208_000_000),
        ] {
            assert_eq!(read(text), Some(UnixMillis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "T",
            "now",
            "1970-01-01",
            "1970-13-01T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        for text in
            ["1970-01-01T00:00:00+é0", "1970-01-01T00:00:00.xZ", "1970-01-01T00:00:00+99:00", "-1-1-1T1:1:1Z"]
        {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
