//! How hard the delivery of a message is tried.

/// Quality of service (MQTT 5, section 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// 0: sent once, not acknowledged.
    AtMostOnce = 0,
    /// 1: acknowledged; may come twice. What counts where nobody says.
    #[default]
    AtLeastOnce = 1,
    /// 2: acknowledged in two steps; comes once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The quality of service with this number.
    pub const fn from_level(level: u8) -> Option<Self> {
        match level {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// 0, 1 or 2.
    pub const fn level(self) -> u8 {
        self as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_names_are_the_same_thing() {
        for level in 0..=u8::MAX {
            assert_eq!(QoS::from_level(level).map(QoS::level), (level < 3).then_some(level));
        }
        assert!(QoS::AtMostOnce < QoS::AtLeastOnce && QoS::AtLeastOnce < QoS::ExactlyOnce);
    }
}
