//! Why a connection did not come about, or ended, with what to do about it.

use holdfast_broker::{ReadError, Refused};
use holdfast_mqtt::{ReasonCode, client::Fault};
use holdfast_net::{DialError, Settings};
use holdfast_types::Name;
use std::fmt;

/// Who a link speaks as, at a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AtHub {
    /// This edge.
    Edge(Name),
    /// A child, for which this edge acts.
    Child(Name),
}

/// Why a connection did not come about, or ended.
#[derive(Debug)]
pub enum LinkFault {
    /// Nobody could be reached.
    Dial(DialError),
    /// The session failed. Holds who is connected where the other side is a hub.
    Session(Fault, Box<Settings>, Option<AtHub>),
    /// The other side broke the protocol.
    Protocol(String),
    /// A packet that every server must take cannot be written.
    Unwritable(String),
    /// The stream broke; holds the cause.
    Broken(String),
    /// The other side closed the stream.
    Closed,
    /// The stream ended before the broker had welcomed us; holds the cause.
    NotWelcomed(String),
    /// The log cannot be read.
    Read(ReadError),
    /// The store did not record what was acknowledged.
    NotRecorded(Refused),
}

impl LinkFault {
    /// Whether another way may fare better: nobody was reached, or what was reached did not speak MQTT.
    pub(crate) fn is_about_the_way(&self) -> bool {
        matches!(
            self,
            Self::Dial(_)
                | Self::NotWelcomed(_)
                | Self::Broken(_)
                | Self::Closed
                | Self::Protocol(_)
                | Self::Session(Fault::NoConnAck { .. }, ..)
        )
    }

    /// Whether nobody was heard at all.
    pub(crate) fn is_silence(&self) -> bool {
        matches!(self, Self::Dial(error) if error.is_silence())
    }

    /// Whether the other side ended a connection that it had welcomed, perhaps over what it was sent.
    pub(crate) fn is_by_peer(&self) -> bool {
        match self {
            Self::Closed | Self::Broken(_) => true,
            Self::Session(Fault::Disconnected { reason, .. }, ..) => matches!(
                reason,
                ReasonCode::UnspecifiedError
                    | ReasonCode::MalformedPacket
                    | ReasonCode::ProtocolError
                    | ReasonCode::ImplementationSpecificError
                    | ReasonCode::NotAuthorized
                    | ReasonCode::TopicNameInvalid
                    | ReasonCode::PacketTooLarge
                    | ReasonCode::PayloadFormatInvalid
            ),
            _ => false,
        }
    }
}

impl fmt::Display for LinkFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial(error) => error.fmt(f),
            Self::Session(fault, settings, at_hub) => {
                write!(f, "{fault}")?;
                match fix(fault, settings, at_hub.as_ref()) {
                    Some(fix) => write!(f, "; {fix}"),
                    None => Ok(()),
                }
            }
            Self::Protocol(why) => write!(f, "the other side does not keep to MQTT: {why}"),
            Self::Unwritable(why) => write!(f, "the connection cannot be opened: {why}"),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Closed => f.write_str("the broker closed the connection without a word"),
            Self::NotWelcomed(why) => write!(
                f,
                "the connection ended before the broker had welcomed it ({why}); the broker may want TLS on this port, \
                 another version of MQTT, or a client certificate",
            ),
            Self::Read(error) => error.fmt(f),
            Self::NotRecorded(refused) => {
                write!(f, "the store did not record what the broker acknowledged: {refused}")
            }
        }
    }
}

/// What to do, where the fault itself does not say so.
fn fix(fault: &Fault, settings: &Settings, at_hub: Option<&AtHub>) -> Option<String> {
    let (Fault::Refused { reason, .. } | Fault::Disconnected { reason, .. }) = fault else { return None };
    let section = settings.address.rsplit_once('.').map_or("upstream", |(section, _)| section);
    if let Some(fix) = at_hub.and_then(|who| fix_at_hub(*reason, section, who)) {
        return Some(fix);
    }
    Some(match reason {
        ReasonCode::BadUserNameOrPassword => {
            format!("check {section}.user and {section}.password, and that the broker knows this user")
        }
        ReasonCode::NotAuthorized | ReasonCode::Banned => format!(
            "check {section}.user, {section}.password and {section}.client_id, and what the broker allows them"
        ),
        ReasonCode::ClientIdentifierNotValid => {
            format!("choose another {section}.client_id; some brokers take 1 to 23 letters and digits only")
        }
        ReasonCode::UnsupportedProtocolVersion => {
            format!(
                "set {section}.version to the version of MQTT that the broker speaks (\"3.1.1\" or \"5\")"
            )
        }
        ReasonCode::SessionTakenOver => {
            format!("another client uses the same {section}.client_id; give each edge its own")
        }
        ReasonCode::ServerUnavailable | ReasonCode::ServerBusy | ReasonCode::ServerShuttingDown => {
            "the broker will be tried again".to_owned()
        }
        _ => return None,
    })
}

/// The same for one who is a device of a hub; none if it is nothing about devices.
fn fix_at_hub(reason: ReasonCode, section: &str, who: &AtHub) -> Option<String> {
    match reason {
        ReasonCode::BadUserNameOrPassword
        | ReasonCode::NotAuthorized
        | ReasonCode::Banned
        | ReasonCode::ClientIdentifierNotValid => Some(match who {
            AtHub::Edge(edge) => format!(
                "check {section}.hub (or {section}.hubs.name) and {section}.key_file, and the device {edge} at the hub"
            ),
            AtHub::Child(child) => format!(
                "register the device {child} at the hub, enabled, with the key that it has here (`holdfast device show {child} \
                 --secrets` shows it); or remove it here, and it goes up as the edge's"
            ),
        }),
        ReasonCode::SessionTakenOver => Some(match who {
            AtHub::Edge(edge) => {
                format!("another edge is called {edge} as well; give each a name of its own")
            }
            AtHub::Child(child) => {
                format!("something else is connected to the hub as {child}; it can go one way only")
            }
        }),
        _ => None,
    }
}
