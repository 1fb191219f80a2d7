//! Sizes and times with units.

use std::time::Duration;

/// Why a text is no size or time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UnitFault {
    /// There is no number at its start.
    NoNumber,
    /// There is a number and nothing after it.
    NoUnit,
    /// What follows the number is not a unit.
    UnknownUnit(String),
    /// The value does not fit.
    TooLarge,
}

/// Most digits that a number may have before or after its point, so that all arithmetic stays within 128 bits.
const DIGITS_MAX: usize = 15;

/// Bytes: powers of 1024 with an `i`, powers of 1000 without.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
    ("GB", 1_000_000_000),
    ("GiB", 1 << 30),
    ("TB", 1_000_000_000_000),
    ("TiB", 1 << 40),
];

/// Microseconds in each unit of time.
const TIME_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("µs", 1),
    ("ms", 1000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("min", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Longest time that can be written: 4,294,967,295 seconds, IoT Edge's bound for a time to live.
pub(crate) const TIME_MAX: Duration = Duration::from_secs(u32::MAX as u64);

/// Bytes in a text such as `2 GiB`.
pub(crate) fn size(text: &str) -> Result<u64, UnitFault> {
    scaled(text, SIZE_UNITS)
}

/// The time in a text such as `1.5 h`.
pub(crate) fn time(text: &str) -> Result<Duration, UnitFault> {
    let time = Duration::from_micros(scaled(text, TIME_UNITS)?);
    if time > TIME_MAX { Err(UnitFault::TooLarge) } else { Ok(time) }
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, UnitFault> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim_start();
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole) || !digits(part) {
        return Err(UnitFault::NoNumber);
    }
    if unit.is_empty() {
        return Err(UnitFault::NoUnit);
    }
    let exact = units.iter().find(|(name, _)| *name == unit);
    let (_, factor) = exact
        .or_else(|| units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)))
        .ok_or_else(|| UnitFault::UnknownUnit(unit.to_owned()))?;
    if whole.len() > DIGITS_MAX || part.len() > DIGITS_MAX {
        return Err(UnitFault::TooLarge);
    }
    let value = |text: &str| text.parse::<u128>().map_err(|_| UnitFault::TooLarge);
    let factor = u128::from(*factor);
    let fraction = value(part)? * factor / 10_u128.pow(part.len() as u32);
    u64::try_from(value(whole)? * factor + fraction).map_err(|_| UnitFault::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_every_common_spelling() {
        let cases =
            [("2 GiB", 2 << 30), ("500MB", 500_000_000), ("1.5 kib", 1536), ("7 B", 7), ("0.5 KB", 500)];
        for (text, bytes) in cases {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn times_are_read_in_every_common_spelling() {
        let cases = [("2 h", 7_200_000), ("10ms", 10), ("1.5 s", 1500), ("1 min", 60_000), ("1m", 60_000)];
        for (text, ms) in cases {
            assert_eq!(time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_or_time_says_why() {
        assert_eq!(size("GiB"), Err(UnitFault::NoNumber));
        assert_eq!(size(""), Err(UnitFault::NoNumber));
        assert_eq!(size("-1 B"), Err(UnitFault::NoNumber));
        assert_eq!(size("1.2.3 B"), Err(UnitFault::NoNumber));
        assert_eq!(size("12"), Err(UnitFault::NoUnit));
        assert_eq!(size("12 parsecs"), Err(UnitFault::UnknownUnit("parsecs".to_owned())));
        assert_eq!(size("99999999 TiB"), Err(UnitFault::TooLarge));
        assert_eq!(size("9999999999999999999999 B"), Err(UnitFault::TooLarge));
        assert_eq!(time("50000 d"), Err(UnitFault::TooLarge));
    }
}
