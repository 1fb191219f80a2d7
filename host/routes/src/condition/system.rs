//! System properties, as `$name` reads them.
//!
//! Names ignore case. What a sender set is taken from the message; who sent it follows from its source, which the host has
//! proved. Times are written as .NET's round-trip format, `2026-01-31T12:00:00.0000000Z`.
//!
//! | quirk | IoT Edge | Holdfast |
//! |---|---|---|
//! | `$connectionDeviceId`, `$connectionModuleId` of a twin change | always the edge and `$edgeHub` | whose twin changed |
//! | `$correlationId` | filled by AMQP only, MQTT fills `$cid` | both names, whatever the protocol |

use super::context::Context;
use crate::Origin;
use holdfast_types::{Source, SystemKey, UnixMillis};
use std::borrow::Cow;

/// A system property that can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemName {
    /// Set by the sender.
    Stored(SystemKey),
    DeviceId,
    ModuleId,
    OutputName,
    EnqueuedTime,
    CreationTime,
    OriginInterface,
    MessageType,
    /// Known in IoT Edge, but no message has it while routes are asked.
    Later,
    /// Not known.
    Unknown,
}

/// The type of message that a change of a twin is.
const TWIN_CHANGE: &str = "twinChangeNotification";

impl SystemName {
    /// The property with this name, without the `$`.
    pub(crate) fn named(name: &str) -> Self {
        const DERIVED: [(&str, SystemName); 13] = [
            ("connectionDeviceId", SystemName::DeviceId),
            ("connectionModuleId", SystemName::ModuleId),
            ("outputName", SystemName::OutputName),
            ("enqueuedTime", SystemName::EnqueuedTime),
            ("creationTime", SystemName::CreationTime),
            ("edgeHubOriginInterface", SystemName::OriginInterface),
            ("messageType", SystemName::MessageType),
            ("cid", SystemName::Stored(SystemKey::CorrelationId)),
            ("absolute-expiry-time", SystemName::Stored(SystemKey::ExpiryTimeUtc)),
            ("componentName", SystemName::Stored(SystemKey::ComponentName)),
            ("inputName", SystemName::Later),
            ("edgeMessageId", SystemName::Later),
            ("sequenceNumber", SystemName::Later),
        ];
        let is = |known: &str| known.eq_ignore_ascii_case(name);
        let derived = DERIVED.iter().find(|(known, _)| is(known)).map(|(_, derived)| *derived);
        let stored = || SystemKey::ALL.iter().find(|key| is(key.route_name())).map(|key| Self::Stored(*key));
        derived.or_else(stored).unwrap_or(Self::Unknown)
    }

    /// Its value for a message.
    pub(crate) fn of<'a>(self, context: &'a Context<'_>) -> Option<Cow<'a, str>> {
        let envelope = context.envelope;
        let source = &envelope.source;
        let twin_change = matches!(source, Source::TwinChange { .. });
        match self {
            Self::Stored(key) => match envelope.message.system.value(key) {
                Some(value) => Some(value.into()),
                None if key == SystemKey::MessageSchema && twin_change => Some(TWIN_CHANGE.into()),
                None => None,
            },
            Self::DeviceId => Some(match source {
                Source::Module { .. } => context.edge.as_str().into(),
                Source::Child { child, .. } => child.as_str().into(),
                Source::TwinChange { device, .. } => device.as_str().into(),
            }),
            Self::ModuleId => match source {
                Source::Module { module, .. } | Source::TwinChange { module: Some(module), .. } => {
                    Some(module.as_str().into())
                }
                Source::Child { .. } => {
                    envelope.message.system.value(SystemKey::ConnectionModule).map(Into::into)
                }
                Source::TwinChange { module: None, .. } => None,
            },
            Self::OutputName => match source {
                Source::Module { output: Some(output), .. } => Some(output.as_str().into()),
                _ => None,
            },
            Self::EnqueuedTime => Some(round_trip(envelope.received).into()),
            Self::CreationTime => envelope.message.system.creation_time.map(|time| round_trip(time).into()),
            Self::OriginInterface => Some(match context.origin {
                Origin::Internal => "internal".into(),
                Origin::Downstream => "downstream".into(),
            }),
            Self::MessageType => twin_change.then_some(TWIN_CHANGE.into()),
            Self::Later | Self::Unknown => None,
        }
    }
}

/// `yyyy-MM-ddTHH:mm:ss.fffffffZ`.
fn round_trip(time: UnixMillis) -> String {
    let (seconds, millis) = (time.0 / 1000, time.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}0000Z")
}

/// The date, that many days after 1970-01-01. Years are counted from March on, so that the leap day is the last of a
/// year, and in eras of 400 years, which all have 146,097 days.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + next_year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dotnet_writes_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.0000000Z"),
            (951_782_400_123, "2000-02-29T00:00:00.1230000Z"),
            (1_740_787_199_999, "2025-02-28T23:59:59.9990000Z"),
            (1_795_226_400_000, "2026-11-21T02:00:00.0000000Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59.0000000Z"),
        ];
        for (millis, text) in cases {
            assert_eq!(round_trip(UnixMillis(millis)), text);
        }
    }
}
