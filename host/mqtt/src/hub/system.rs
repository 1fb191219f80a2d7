//! System properties: the names in a bag that have a meaning.

macro_rules! system_properties {
    ($($variant:ident $name:literal $text:literal;)*) => {
        /// A property whose meaning IoT Hub has fixed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SystemProperty { $(#[doc = $text] $variant,)* }

        impl SystemProperty {
            /// Every one.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// Its name on the wire, not encoded.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

system_properties! {
    MessageId "$.mid" "Identifier of the message, of the sender's choice.";
    CorrelationId "$.cid" "What the message answers.";
    UserId "$.uid" "Origin of the message, of the sender's choice.";
    To "$.to" "Where a message from the cloud was sent to.";
    Expiry "$.exp" "When the message is of no use any more.";
    ContentType "$.ct" "Type of the body.";
    ContentEncoding "$.ce" "Encoding of the body.";
    Output "$.on" "The output of a module that the message was sent to.";
    ConnectionDevice "$.cdid" "The device that sent a message. Only in messages to clients.";
    ConnectionModule "$.cmid" "The module that sent a message. Only in messages to clients.";
    Schema "$.schema" "Schema of the body.";
    CreationTime "$.ctime" "When the message was made.";
    Interface "$.ifid" "Interface of a digital twin.";
    Component "$.sub" "Component of a digital twin.";
    Ack "iothub-ack" "Which feedback the sender of a message from the cloud wants. IoT Edge writes `ack`.";
    Operation "iothub-operation" "Which operation the message tells of.";
}

impl SystemProperty {
    /// The property with this name, which is decoded.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ack" => Some(Self::Ack),
            _ => Self::ALL.iter().copied().find(|property| property.name() == name),
        }
    }

    /// Whether a client may set it. The others say who sent a message; a client cannot say that itself.
    pub const fn is_for_senders(self) -> bool {
        !matches!(self, Self::ConnectionDevice | Self::ConnectionModule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_property_is_found_by_its_name_and_no_two_share_one() {
        for property in SystemProperty::ALL {
            assert_eq!(SystemProperty::named(property.name()), Some(*property));
        }
        assert_eq!(SystemProperty::named("ack"), Some(SystemProperty::Ack));
        for name in ["$.MID", "mid", "%24.mid", ""] {
            assert_eq!(SystemProperty::named(name), None, "{name}");
        }
    }

    #[test]
    fn only_the_names_of_senders_cannot_be_set() {
        let fixed: Vec<_> =
            SystemProperty::ALL.iter().filter(|p| !p.is_for_senders()).map(|p| p.name()).collect();
        assert_eq!(fixed, ["$.cdid", "$.cmid"]);
    }
}
