//! What the link is told, and everything that can be wrong with it, found at once.

use crate::{
    BackoffConfig, ChoiceRules, Concierge, HubConfig, InvalidTemplate, IotHubConfig, KeepAcknowledged,
    Template,
};
use bytes::Bytes;
use holdfast_broker::Drain;
use holdfast_mqtt::Version;
use holdfast_net::{Settings, Target, Timeouts};
use holdfast_types::Text;
use std::{fmt, num::NonZeroU16, time::Duration};

/// How a message is packed into the payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    /// The body as it is. What else belongs to the message travels in user properties, which only MQTT 5 has.
    #[default]
    Raw,
    /// A JSON object that holds everything; its format stands at the head of `wire.rs`.
    Envelope,
}

/// A password. Its debug form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Bytes);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// One hub or broker, and the ways to it.
#[derive(Clone, Debug)]
pub struct Place {
    /// What people call it: its host, or the address that was given for it.
    pub name: Text,
    /// What tokens call the hub there; none is as [`HubConfig::hub`] says.
    pub hub: Option<Text>,
    /// The ways to it, the preferred one first.
    pub targets: Vec<Target>,
}

impl Place {
    /// One with one way, called `host:port`.
    pub fn of(target: Target) -> Self {
        Self { name: format!("{}:{}", target.host, target.port).into(), hub: None, targets: vec![target] }
    }
}

/// What the link is told.
#[derive(Clone, Debug)]
pub struct UpstreamConfig {
    /// The hubs or brokers, the preferred one first; messages go to one of them at a time. The names of settings in errors
    /// follow the [`holdfast_net::Settings`] of the first.
    pub places: Vec<Place>,
    /// When to leave one for another.
    pub choice: ChoiceRules,
    /// Who says which of them is the active one.
    pub concierge: Option<Concierge>,
    /// How long each step of dialling may take.
    pub timeouts: Timeouts,
    /// The version of MQTT to speak.
    pub version: Version,
    /// The client identifier; the name of the edge is a good one.
    pub client_id: Text,
    /// User name.
    pub user: Option<Text>,
    /// Password.
    pub password: Option<Secret>,
    /// Ask for an empty session at each connection. Off, the broker keeps the session, and messages in flight are sent
    /// again under their old packet identifiers.
    pub clean_start: bool,
    /// How long the broker keeps a session that is not clean (MQTT 5).
    pub session_expiry: Duration,
    /// Topic template of the messages whose route has none of its own.
    pub topic: Text,
    /// How a message is packed.
    pub payload: Payload,
    /// Most messages in flight.
    pub window: u16,
    /// Most payload bytes in flight; a single larger message passes alone.
    pub window_bytes: usize,
    /// Which priority goes first when several wait.
    pub drain: Drain,
    /// Whether each priority gets a stream of its own where the transport has them (QUIC).
    pub streams: bool,
    /// Most topic aliases to use (MQTT 5).
    pub topic_aliases_max: u16,
    /// Largest packet that the broker takes, where it does not say so itself (MQTT 3.1.1 cannot). Larger messages become
    /// dead letters.
    pub packet_bytes_max: usize,
    /// Longest silence before the broker is asked whether it is there.
    pub keep_alive: Duration,
    /// How long to wait for CONNACK and PINGRESP.
    pub answer_within: Duration,
    /// How long to wait while messages are in flight and none is acknowledged. The default is 120 s, longer than it takes to find
    /// out that nobody is there: a connection may go on after an outage, and where it answers nothing the way is tried anew
    /// beside it.
    pub ack_within: Duration,
    /// How much of what was acknowledged is kept for another hub.
    pub keep_acknowledged: KeepAcknowledged,
    /// How long to wait between attempts.
    pub backoff: BackoffConfig,
    /// How long to wait for the window when the host stops.
    pub drain_within: Duration,
    /// Who is on the other side. For a hub version, session, client identifier, user, password, topic and payload are what
    /// its dialect says they are.
    pub dialect: Dialect,
}

/// Who is on the other side, and so which words are spoken.
#[derive(Clone, Debug, Default)]
pub enum Dialect {
    /// Any MQTT broker.
    #[default]
    Plain,
    /// A hub of Holdfast.
    Hub(HubConfig),
    /// An IoT Hub of Azure.
    IotHub(IotHubConfig),
}

impl UpstreamConfig {
    /// The defaults for hubs or brokers. The topic is `holdfast/{edge}/{source}`.
    pub fn new(places: Vec<Place>, client_id: impl Into<Text>) -> Self {
        let seconds = Duration::from_secs;
        Self {
            places,
            choice: ChoiceRules::default(),
            concierge: None,
            timeouts: Timeouts::default(),
            version: Version::V5,
            client_id: client_id.into(),
            user: None,
            password: None,
            clean_start: true,
            session_expiry: seconds(86_400),
            topic: "holdfast/{edge}/{source}".into(),
            payload: Payload::Raw,
            window: 256,
            window_bytes: 8 * 1024 * 1024,
            drain: Drain::InOrder,
            streams: true,
            topic_aliases_max: 64,
            packet_bytes_max: holdfast_mqtt::PACKET_BYTES_MAX,
            keep_alive: seconds(60),
            answer_within: seconds(20),
            ack_within: seconds(120),
            keep_acknowledged: KeepAcknowledged::default(),
            backoff: BackoffConfig::default(),
            drain_within: seconds(5),
            dialect: Dialect::Plain,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFault {
    /// The setting, by its full name.
    pub setting: String,
    /// What is wrong, and the fix.
    pub text: String,
}

/// Everything that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BuildError {
    /// At least one fault.
    pub faults: Vec<ConfigFault>,
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{}: {}", fault.setting, fault.text)?;
        }
        Ok(())
    }
}

/// What the checks made of the configuration.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) topic: Template,
    pub(crate) window: NonZeroU16,
    pub(crate) keep_alive_s: u16,
}

impl UpstreamConfig {
    /// The section of the configuration that this stands in.
    pub(crate) fn section(&self) -> &str {
        let setting = self.settings().map(|settings| &*settings.address);
        setting.and_then(|setting| setting.rsplit_once('.')).map_or("upstream", |(section, _)| section)
    }

    /// The names of the settings that the first place came from.
    pub(crate) fn settings(&self) -> Option<&Settings> {
        self.places.first()?.targets.first().map(|target| &target.settings)
    }

    fn fault(&self, name: &str, text: impl Into<String>) -> ConfigFault {
        ConfigFault { setting: format!("{}.{name}", self.section()), text: text.into() }
    }

    /// Whether a receiver can tell a message from its duplicate without looking at the topic.
    pub(crate) fn carries_id(&self) -> bool {
        self.version == Version::V5 || self.payload == Payload::Envelope
    }

    /// Checks everything.
    pub(crate) fn check(&self) -> Result<Checked, BuildError> {
        let mut faults = Vec::new();
        let template = Template::new(&self.topic)
            .map_err(|why: InvalidTemplate| faults.push(self.fault("topic", why.to_string())))
            .ok();
        let window = NonZeroU16::new(self.window);
        if window.is_none() {
            faults.push(self.fault("window", "0 is out of range; give 1 to 65535"));
        }
        let keep_alive_s = u16::try_from(self.keep_alive.as_secs()).ok();
        if keep_alive_s.is_none() {
            faults.push(self.fault("keep_alive", "MQTT allows at most 65535 s; 0 turns it off"));
        }
        if self.backoff.min.is_zero() || self.backoff.min > self.backoff.max {
            let text = format!(
                "{:?} to {:?} is no range; the shortest wait must be above 0 and not above the longest, backoff_max",
                self.backoff.min, self.backoff.max
            );
            faults.push(self.fault("backoff_min", text));
        }
        if self.places.is_empty() || self.places.iter().any(|place| place.targets.is_empty()) {
            faults.push(self.fault("url", "there is no way to a broker; give at least one"));
        }
        self.check_identity(&mut faults);
        match (template, window, keep_alive_s) {
            (Some(topic), Some(window), Some(keep_alive_s)) if faults.is_empty() => {
                Ok(Checked { topic, window, keep_alive_s })
            }
            _ => Err(BuildError { faults }),
        }
    }

    fn check_identity(&self, faults: &mut Vec<ConfigFault>) {
        for (name, text) in [("client_id", Some(&self.client_id)), ("user", self.user.as_ref())] {
            if text.is_some_and(|text| text.contains('\0') || text.len() > usize::from(u16::MAX)) {
                faults.push(self.fault(name, "MQTT allows at most 65535 bytes and no character U+0000"));
            }
        }
        if self.client_id.is_empty() {
            let text =
                "it is empty, and the broker could not tell this edge from others; give the name of the edge";
            faults.push(self.fault("client_id", text));
        }
        if self.version == Version::V311 && self.password.is_some() && self.user.is_none() {
            let text = "MQTT 3.1.1 allows no password without a user name; give one [MQTT-3.1.2-22]";
            faults.push(self.fault("user", text));
        }
    }
}
