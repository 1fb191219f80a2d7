//! Readers of single values.

use crate::{
    Identity, Secret,
    nearest::nearest,
    reader::{Problem, Section, Value},
    sections::Context,
    units::{self, UnitFault},
};
use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};
use toml::de::DeValue;

/// Most characters in a host name (requirement of IoT Edge; the limit of the common name in a certificate).
const HOST_CHARACTERS_MAX: usize = 64;

/// A text that is not empty.
pub(crate) fn text<'a>(value: Value<'a, '_>, example: &str) -> Result<&'a str, Problem> {
    match value.get() {
        DeValue::String(text) if text.is_empty() => {
            Err(Problem::new("the text is empty", format!("write {example}, or remove the line")))
        }
        DeValue::String(text) => Ok(text),
        _ => Err(value.mismatch("a text", example)),
    }
}

pub(crate) fn flag(value: Value<'_, '_>) -> Result<bool, Problem> {
    value
        .get()
        .as_bool()
        .ok_or_else(|| value.mismatch("true or false", "true or false, without quotation marks"))
}

/// Whether the switch `key` is on, and whether it may be meant to be: one that cannot be read is reported itself, and not
/// once more by what depends on it.
pub(crate) fn switch(section: &mut Section<'_, '_, '_>, key: &'static str) -> (bool, bool) {
    let on = section.take(key, flag).unwrap_or(false);
    (on, on || section.value_of(key).is_some_and(|value| flag(value).is_err()))
}

/// A whole number within bounds.
pub(crate) fn whole(value: Value<'_, '_>, least: u32, most: u32) -> Result<u32, Problem> {
    let bounds = || format!("a whole number from {least} to {most}");
    let DeValue::Integer(_) = value.get() else {
        return Err(value.mismatch("a whole number", &bounds()));
    };
    let number = integer(value).and_then(|number| u32::try_from(number).ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| Problem::new("the number is out of bounds", format!("write {}", bounds())))
}

/// The integer itself, if it fits.
pub(crate) fn integer(value: Value<'_, '_>) -> Option<i64> {
    let number = value.get().as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// One of some words.
pub(crate) fn choice<T: Copy>(value: Value<'_, '_>, words: &[(&str, T)]) -> Result<T, Problem> {
    let all = || words.iter().map(|(word, _)| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
    let DeValue::String(text) = value.get() else {
        return Err(value.mismatch("a text", &all()));
    };
    if let Some((_, meaning)) = words.iter().find(|(word, _)| word == text) {
        return Ok(*meaning);
    }
    let fix = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => format!("write {near:?}"),
        None => format!("write {}", all()),
    };
    Err(Problem::new(format!("{text:?} is not a choice here"), fix))
}

/// Bytes, within bounds that are written as sizes themselves.
pub(crate) fn size(value: Value<'_, '_>, least: u64, most: u64) -> Result<u64, Problem> {
    let example = "a size with its unit, such as \"512 MiB\"";
    let text = match value.get() {
        DeValue::Integer(number) => return Err(no_unit(number.as_str(), "MiB")),
        DeValue::String(text) => text,
        _ => return Err(value.mismatch("a size", example)),
    };
    let bytes = units::size(text).map_err(|fault| unit_problem(text, &fault, "size", example, "MiB"))?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    let fix = format!("write a size from \"{}\" to \"{}\"", size_text(least), size_text(most));
    Err(Problem::new(format!("{text:?} is out of bounds"), fix))
}

/// A time within bounds.
pub(crate) fn time(value: Value<'_, '_>, least: Duration, most: Duration) -> Result<Duration, Problem> {
    let example = "a time with its unit, such as \"10 s\"";
    let text = match value.get() {
        DeValue::Integer(number) => return Err(no_unit(number.as_str(), "s")),
        DeValue::String(text) => text,
        _ => return Err(value.mismatch("a time", example)),
    };
    let time = units::time(text).map_err(|fault| unit_problem(text, &fault, "time", example, "s"))?;
    if (least..=most).contains(&time) {
        return Ok(time);
    }
    let fix = format!("write a time from \"{}\" to \"{}\"", time_text(least), time_text(most));
    Err(Problem::new(format!("{text:?} is out of bounds"), fix))
}

/// How long a message is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeToLive {
    Forever,
    For(Duration),
    /// 0, as IoT Edge writes it in a route: the global one.
    Global,
}

/// A time to live: a time with its unit, `"forever"`, or a number of seconds as IoT Edge writes it, where -1 means for
/// ever.
pub(crate) fn time_to_live(value: Value<'_, '_>) -> Result<TimeToLive, Problem> {
    let bad_number = || {
        let most = units::TIME_MAX.as_secs();
        Problem::new(
            "the number of seconds is out of bounds",
            format!("write 1 to {most}, -1 for ever, or a time such as \"2 h\""),
        )
    };
    match value.get() {
        DeValue::Integer(_) => match integer(value) {
            Some(-1) => Ok(TimeToLive::Forever),
            Some(0) => Ok(TimeToLive::Global),
            Some(seconds) => {
                let time = u64::try_from(seconds).map(Duration::from_secs).map_err(|_| bad_number())?;
                if time > units::TIME_MAX { Err(bad_number()) } else { Ok(TimeToLive::For(time)) }
            }
            None => Err(bad_number()),
        },
        DeValue::String(text) if text == "forever" => Ok(TimeToLive::Forever),
        DeValue::String(_) => time(value, Duration::from_secs(1), units::TIME_MAX).map(TimeToLive::For),
        _ => Err(value.mismatch("a time", "a time with its unit, such as \"2 h\", or \"forever\"")),
    }
}

/// A DNS name or an IP address, as it stands in a URL or a certificate.
pub(crate) fn host(host: &str) -> Result<String, Problem> {
    if host.parse::<IpAddr>().is_ok() {
        return Ok(host.to_owned());
    }
    let fix = "write a DNS name or an IP address (IPv6 in brackets), such as broker.example.com";
    let count = host.chars().count();
    let reason = if count == 0 {
        "the host name is empty".to_owned()
    } else if count > HOST_CHARACTERS_MAX {
        format!("the host name has {count} characters; at most {HOST_CHARACTERS_MAX} are allowed")
    } else if let Some(odd) = host.chars().find(|c| !c.is_ascii_alphanumeric() && !"-._".contains(*c)) {
        format!("character {odd:?} is not allowed in a host name")
    } else if host.chars().all(|c| c.is_ascii_digit() || c == '.') {
        format!("{host:?} looks like an IPv4 address but is none")
    } else if host
        .strip_suffix('.')
        .unwrap_or(host)
        .split('.')
        .any(|part| part.is_empty() || part.len() > 63 || part.starts_with('-') || part.ends_with('-'))
    {
        "each part of the host name between dots has 1 to 63 characters and no hyphen at its ends".to_owned()
    } else {
        return Ok(host.to_owned());
    };
    Err(Problem::new(reason, fix))
}

/// A path, joined to the folder of the file.
pub(crate) fn path(value: Value<'_, '_>, folder: &Path) -> Result<PathBuf, Problem> {
    let text = text(value, "a path, such as \"data\"")?;
    if text.contains('\0') {
        return Err(Problem::new("a path cannot hold the character U+0000", "remove it"));
    }
    Ok(folder.join(text))
}

/// The path of a file that is there.
pub(crate) fn file(
    section: &mut Section<'_, '_, '_>,
    key: &'static str,
    context: &Context<'_>,
) -> Option<PathBuf> {
    section.take(key, |value| {
        let path = path(value, context.folder)?;
        context.readable(&path).map(|()| path)
    })
}

/// A certificate with its key: `cert_file` and `key_file`, both or none.
pub(crate) fn identity(section: &mut Section<'_, '_, '_>, context: &Context<'_>) -> Option<Identity> {
    let cert_file = file(section, "cert_file", context);
    let key_file = file(section, "key_file", context);
    for (there, absent) in [("cert_file", "key_file"), ("key_file", "cert_file")] {
        if section.holds(there) && !section.holds(absent) {
            let reason = format!("there is {there} and no {absent}; a certificate needs both");
            section.missing(absent, Problem::new(reason, format!("add {absent} = \"…\", or remove {there}")));
        }
    }
    cert_file.zip(key_file).map(|(cert_file, key_file)| Identity { cert_file, key_file })
}

pub(crate) fn secret(value: Value<'_, '_>) -> Result<Secret, Problem> {
    text(value, "the password in quotation marks").map(Secret::new)
}

fn no_unit(number: &str, unit: &str) -> Problem {
    Problem::new("the number has no unit", format!("write \"{number} {unit}\""))
}

fn unit_problem(text: &str, fault: &UnitFault, kind: &str, example: &str, unit: &str) -> Problem {
    let fix = format!("write {example}");
    match fault {
        UnitFault::NoNumber => {
            Problem::new(format!("{text:?} is not a {kind}: it does not begin with a number"), fix)
        }
        UnitFault::NoUnit => no_unit(text.trim(), unit),
        UnitFault::UnknownUnit(unit) => {
            let units =
                if kind == "time" { "us, ms, s, min, h, d" } else { "B, KiB, MiB, GiB, TiB, KB, MB, GB, TB" };
            Problem::new(format!("{unit:?} is not a unit of {kind}"), format!("use one of the units {units}"))
        }
        UnitFault::TooLarge => Problem::new(format!("{text:?} is larger than any {kind} here may be"), fix),
    }
}

/// A size for people, in the largest unit that leaves no rest.
fn size_text(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.iter().find(|(_, shift)| bytes >= 1 << shift && bytes.trailing_zeros() >= *shift);
    unit.map_or_else(|| format!("{bytes} B"), |(name, shift)| format!("{} {name}", bytes >> shift))
}

/// A time for people, in the largest unit that leaves no rest.
fn time_text(time: Duration) -> String {
    let micros = time.as_micros();
    let units =
        [("d", 86_400_000_000), ("h", 3_600_000_000), ("min", 60_000_000), ("s", 1_000_000), ("ms", 1000)];
    let unit = units.iter().find(|(_, factor)| micros >= *factor && micros.is_multiple_of(*factor));
    unit.map_or_else(|| format!("{micros} us"), |(name, factor)| format!("{} {name}", micros / factor))
}
