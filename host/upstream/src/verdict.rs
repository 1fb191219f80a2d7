//! What an acknowledgement means for the message.

use holdfast_mqtt::ReasonCode;

/// Attempts with a message that the server refuses without saying that the message is to blame. After them it becomes a
/// dead letter, so that one message cannot hold up all others for ever; with the default back-off this takes minutes.
pub(crate) const ATTEMPTS_MAX: u32 = 10;

/// What to do with a message that was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The server has it.
    Done,
    /// The server will never take it.
    Never,
    /// The server may take it later, and will take no others before.
    Later,
    /// It may work again, but not for ever.
    Again,
}

/// PUBACK reason codes (MQTT 5, section 3.4.2.1).
pub(crate) fn verdict(reason: ReasonCode) -> Verdict {
    if !reason.is_failure() {
        return Verdict::Done;
    }
    match reason {
        ReasonCode::NotAuthorized
        | ReasonCode::TopicNameInvalid
        | ReasonCode::PayloadFormatInvalid
        | ReasonCode::PacketTooLarge
        | ReasonCode::RetainNotSupported => Verdict::Never,
        ReasonCode::QuotaExceeded
        | ReasonCode::ServerBusy
        | ReasonCode::MessageRateTooHigh
        | ReasonCode::ReceiveMaximumExceeded => Verdict::Later,
        _ => Verdict::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_subscriber_is_no_failure_and_refusals_are_told_apart() {
        for (reason, expected) in [
            (ReasonCode::Success, Verdict::Done),
            (ReasonCode::NoMatchingSubscribers, Verdict::Done),
            (ReasonCode::NotAuthorized, Verdict::Never),
            (ReasonCode::TopicNameInvalid, Verdict::Never),
            (ReasonCode::PayloadFormatInvalid, Verdict::Never),
            (ReasonCode::QuotaExceeded, Verdict::Later),
            (ReasonCode::UnspecifiedError, Verdict::Again),
            (ReasonCode::ImplementationSpecificError, Verdict::Again),
            (ReasonCode::PacketIdentifierInUse, Verdict::Again),
        ] {
            assert_eq!(verdict(reason), expected, "{reason}");
        }
    }
}
