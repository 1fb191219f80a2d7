//! `holdfast:module/outbox`: sending.

use super::bindings::holdfast::module::outbox::{Host as Outward, SendError};
use super::bindings::holdfast::module::types::{Outgoing, SystemProperties as Given};
use super::{NO_TURN, Sharing};
use crate::config::Limits;
use crate::host::Host;
use crate::ports::Ports;
use holdfast_types::{
    BODY_BYTES_MAX, Message, Name, PROPERTIES_MAX, Properties, SystemKey, SystemProperties, UnixMillis,
};

/// Most output names that an instance remembers as checked. Modules have a handful; one that makes up names pays for
/// the check each time.
const NAMES_MAX: usize = 16;

/// What the running call has sent so far.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    sent: Vec<(Option<Name>, Message)>,
    bytes: u64,
    names: Vec<Name>,
}

impl Outbox {
    /// Takes what the call sent, in order.
    pub(crate) fn take(&mut self) -> impl ExactSizeIterator<Item = (Option<Name>, Message)> {
        self.bytes = 0;
        self.sent.drain(..)
    }

    /// What the call sent, in order.
    pub(crate) fn sent(&self) -> &[(Option<Name>, Message)] {
        &self.sent
    }

    /// How many bytes the call sent.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets what the call sent.
    pub(crate) fn clear(&mut self) {
        self.sent.clear();
        self.bytes = 0;
    }

    fn send(
        &mut self,
        output: &str,
        message: Outgoing,
        outputs: &Ports,
        limits: &Limits,
        sharing: Sharing,
    ) -> Result<(), SendError> {
        let output = self.output(output, outputs)?;
        if message.body.len() > BODY_BYTES_MAX {
            return Err(SendError::BodyTooLarge(BODY_BYTES_MAX as u64));
        }
        if message.properties.len() > PROPERTIES_MAX {
            return Err(SendError::TooManyProperties(PROPERTIES_MAX as u32));
        }
        if self.sent.len() >= sharing.times(limits.sends) as usize {
            return Err(SendError::QuotaExceeded(format!(
                "this call has sent {} messages, the most that one call may; raise limits.sends in the module's .toml",
                limits.sends
            )));
        }
        let message = received(message);
        let bytes = self.bytes + message.size_bytes() as u64;
        if bytes > limits.send_bytes {
            return Err(SendError::QuotaExceeded(format!(
                "this call would have sent {bytes} bytes, one call may send {}; raise limits.send_bytes in the \
                 module's .toml",
                limits.send_bytes
            )));
        }
        self.bytes = bytes;
        self.sent.push((output, message));
        Ok(())
    }

    /// An empty name is "no output": the message's source is then the module alone. Others have to be declared, if any are.
    fn output(&mut self, output: &str, outputs: &Ports) -> Result<Option<Name>, SendError> {
        if output.is_empty() {
            return Ok(None);
        }
        if let Some(known) = self.names.iter().find(|name| name.as_str() == output) {
            return Ok(Some(known.clone()));
        }
        let name = Name::new(output).map_err(|invalid| SendError::InvalidOutput(invalid.to_string()))?;
        if !outputs.have(output) {
            return Err(SendError::InvalidOutput(format!(
                "{output:?} is not declared, but {outputs}; if it may be sent by, add to the module's .toml: outputs = [{output:?}]"
            )));
        }
        if self.names.len() < NAMES_MAX {
            self.names.push(name.clone());
        }
        Ok(Some(name))
    }
}

fn received(message: Outgoing) -> Message {
    let mut properties = Properties::new();
    for (key, value) in &message.properties {
        properties.set(key, value);
    }
    Message { body: message.body.into(), properties, system: system(&message.system) }
}

fn system(given: &Given) -> SystemProperties {
    let mut system = SystemProperties::new();
    system.creation_time = given.creation_time.map(UnixMillis);
    let texts = [
        (SystemKey::MessageId, &given.message_id),
        (SystemKey::CorrelationId, &given.correlation_id),
        (SystemKey::ContentType, &given.content_type),
        (SystemKey::ContentEncoding, &given.content_encoding),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            system.set(key, value);
        }
    }
    system
}

impl super::bindings::holdfast::module::types::Host for Host {}

impl Outward for Host {
    fn send(&mut self, output: String, message: Outgoing) -> Result<(), SendError> {
        if !self.records {
            return Err(SendError::QuotaExceeded(NO_TURN.to_owned()));
        }
        let outputs = &self.settings.outputs;
        self.outbox.send(&output, message, outputs, &self.limits, self.sharing).inspect_err(|error| {
            match error {
                SendError::QuotaExceeded(why) => {
                    let limit =
                        if why.contains("limits.sends ") { "limits.sends" } else { "limits.send_bytes" };
                    if !self.sharing.meets(limit) {
                        self.log.refuse(limit, || format!("a send was refused: {why}"));
                    }
                }
                SendError::InvalidOutput(why) if !outputs.have(&output) => {
                    self.log.refuse("outputs", || format!("a send was refused: the output {why}"));
                }
                SendError::InvalidOutput(_)
                | SendError::BodyTooLarge(_)
                | SendError::TooManyProperties(_) => {}
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;

    fn outgoing(body: usize, properties: usize) -> Outgoing {
        let system = Given {
            message_id: None,
            correlation_id: None,
            content_type: Some("text/plain".to_owned()),
            content_encoding: None,
            creation_time: None,
        };
        let properties = (0..properties).map(|n| (format!("k{n}"), String::new())).collect();
        Outgoing { body: vec![0; body], properties, system }
    }

    #[test]
    fn each_bound_on_sending_refuses_with_its_number() {
        let limits = Limits { sends: 2, send_bytes: 1_000, ..Limits::of(Profile::Standard) };
        let mut outbox = Outbox::default();
        let mut send = |output: &str, body, properties| {
            outbox.send(output, outgoing(body, properties), &Ports::default(), &limits, Sharing::ALONE)
        };
        assert!(matches!(send("a/b", 1, 0), Err(SendError::InvalidOutput(why)) if why.contains("'/'")));
        assert!(matches!(send("a", BODY_BYTES_MAX + 1, 0), Err(SendError::BodyTooLarge(16_777_216))));
        assert!(matches!(send("a", 1, 257), Err(SendError::TooManyProperties(256))));
        assert!(
            matches!(send("a", 1_000, 0), Err(SendError::QuotaExceeded(why)) if why.contains("send_bytes"))
        );
        assert!(send("a", 100, 2).is_ok());
        assert!(send("", 100, 0).is_ok());
        assert!(
            matches!(send("a", 1, 0), Err(SendError::QuotaExceeded(why)) if why.contains("limits.sends"))
        );

        let sent: Vec<_> = outbox.take().collect();
        assert_eq!(sent[0].0.as_deref(), Some("a"));
        assert_eq!(sent[0].1.system.value(SystemKey::ContentType), Some("text/plain"));
        assert_eq!(sent[1].0, None);
        assert_eq!(outbox.take().len(), 0);
        assert_eq!(outbox.bytes(), 0);
    }
}
