//! Limits that hold everywhere. A limit that belongs to one room stands in that room.

/// Most bytes in the body of one message that stays on this machine: 16 MiB. One message must fit several times into
/// the memory of a small device; IoT Edge stops at 256 KB.
pub const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Most bytes of a message bound for IoT Hub, body and properties together: 262,144 (IoT Hub quotas, device-to-cloud).
pub const MESSAGE_BYTES_MAX_UPSTREAM: usize = 262_144;

/// Most application properties on one message.
pub const PROPERTIES_MAX: usize = 256;

/// Most bytes in the name of a module, child, input, output or route (IoT Hub: device ids have at most 128 characters).
pub const NAME_BYTES_MAX: usize = 128;

/// Most bytes in an MQTT topic: 65,535 (a UTF-8 string with a two-byte length, MQTT-1.5.3).
pub const TOPIC_BYTES_MAX: usize = 65_535;

/// How many times a message may enter the routes again by way of modules before it is given up. It ends loops.
pub const HOPS_MAX: u8 = 32;
