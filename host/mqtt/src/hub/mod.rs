//! The MQTT dialect of IoT Hub, as its device SDKs speak it to a hub or to a gateway.
//!
//! What is here: the name that a client gives itself in CONNECT ([`ClientName`]), what it asks for by publishing
//! ([`Operation`]), what it asks for by subscribing ([`Feature`]), the topics of what it is sent and sends ([`topics`]), what it
//! makes of what it is sent ([`Arrival`]), and the properties that travel in topics ([`PropertyBag`], [`SystemProperty`]). It turns text into values and back, and
//! decides nothing: whether a client is who it says, and what comes of its request, is for others to say.
//!
//! Sources: IoT Hub, "Communicate with your IoT hub using the MQTT protocol"; the device SDKs; IoT Edge's edgeHub.

mod arrival;
mod bag;
mod client_name;
mod feature;
mod operation;
mod percent;
mod system;
pub mod topics;

pub use arrival::Arrival;
pub use bag::{MalformedBag, PropertyBag};
pub use client_name::{ClientName, InvalidClientName};
pub use feature::Feature;
pub use operation::{NoOperation, Operation};
pub use system::SystemProperty;
