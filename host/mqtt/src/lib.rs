//! MQTT packets and session rules, without I/O and without a clock.
