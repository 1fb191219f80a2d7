//! Who speaks: what a client of the dialect has proved.

use holdfast_auth::{Means, Proved};
use holdfast_broker::Broker;
use holdfast_mqtt::hub::Operation;
use holdfast_types::{Identity, Message, Name, Source, SystemKey, Text};

/// A client of the dialect that has proved who it is.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) identity: Identity,
    /// The generation of its entry in the registry.
    pub(crate) generation: Text,
    /// In the words of IoT Hub.
    auth_method: Text,
}

impl Caller {
    pub(crate) fn new(proved: &Proved) -> Self {
        let Proved { identity, generation, means, .. } = proved;
        let scope = if identity.module.is_some() { "module" } else { "device" };
        let (kind, issuer) = match means {
            Means::SharedKey => ("sas", "iothub"),
            Means::Thumbprint => ("x509Certificate", "external"),
            Means::CertificateAuthority => ("x509Certificate", "certificateAuthority"),
        };
        let auth_method = format!(r#"{{"scope":"{scope}","type":"{kind}","issuer":"{issuer}"}}"#);
        Self { identity: identity.clone(), generation: generation.clone(), auth_method: auth_method.into() }
    }

    /// Its name, if it is a module of this edge. Modules of children have no inputs, and what they send is a child's.
    pub(crate) fn own_module(&self, broker: &Broker) -> Option<&Name> {
        self.identity.module.as_ref().filter(|_| self.identity.device == *broker.edge())
    }

    /// Whether an operation names this client as its sender.
    pub(crate) fn is(&self, device: &str, module: Option<&str>) -> bool {
        self.identity.device.as_str() == device && self.identity.module.as_deref() == module
    }

    /// Whether the client may leave a will on this topic: it must be its own telemetry.
    pub(crate) fn may_will(&self, topic: &str) -> bool {
        matches!(Operation::parse(topic), Ok(Operation::Telemetry { device, module, .. }) if self.is(device, module))
    }

    /// Where its messages come from.
    pub(crate) fn source(&self, broker: &Broker, output: Option<Name>) -> Source {
        match self.own_module(broker) {
            Some(module) => Source::Module { module: module.clone(), output },
            None => Source::Child { child: self.identity.device.clone(), topic: None },
        }
    }

    /// Puts what is proved on a message.
    pub(crate) fn stamp(&self, message: &mut Message) {
        message.system.set(SystemKey::ConnectionAuthMethod, &self.auth_method);
        if !self.generation.is_empty() {
            message.system.set(SystemKey::ConnectionGeneration, &self.generation);
        }
        if let Some(module) = &self.identity.module {
            message.system.set(SystemKey::ConnectionModule, module);
        }
    }
}
