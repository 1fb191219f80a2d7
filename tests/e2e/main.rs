//! The whole binary against software that nobody here wrote: Mosquitto as the broker above and as the clients below, and
//! Python's paho on both sides. Each file is a story.
//!
//! Needs `mosquitto`, `mosquitto_pub`, `mosquitto_sub`, `nats-server`, a Python with paho-mqtt and aioquic, another with
//! azure-iot-device, docker-registry, clang for WebAssembly, and Node.js with mqtt and azure-iot-device; `tests/run` gets them. What can be chosen by environment:
//!
//! | variable | meaning |
//! |---|---|
//! | `HOLDFAST_BIN` | another binary to test than the one that cargo just built |
//! | `HOLDFAST_TEST_PYTHON` | a Python that has paho-mqtt, aioquic and componentize-py |
//! | `HOLDFAST_TEST_AZURE_PYTHON` | a Python that has azure-iot-device |
//! | `HOLDFAST_TEST_NODE_MODULES` | a folder of packages of Node.js that has mqtt, azure-iot-device, azure-iot-device-mqtt and componentize-qjs |
//! | `HOLDFAST_TEST_NATS_SERVER` | a nats-server, 2.11 or newer; else the one on the path |
//! | `HOLDFAST_E2E_MESSAGES` | messages of the main job, 5000 unless said |
//! | `HOLDFAST_E2E_KILLS` | kills of the host in each story of QoS 2, 12 unless said |
//! | `HOLDFAST_E2E_SEED` | from which the moments of cuts and kills are drawn |
//! | `HOLDFAST_SOAK_SECONDS` | how long the soak takes, 25 unless said |
//! | `HOLDFAST_SOAK_SEED` | from which its blows are drawn |

// These are tests from the first line to the last: what fails there must fail loudly, and figures are printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod agent;
mod azure;
mod below_a_hub;
mod command_line;
mod demo;
mod deployments;
mod developer;
mod devices;
mod disaster;
mod doors;
mod fleet;
mod gateway_peers;
mod hub;
mod languages;
mod modules;
#[path = "../../host/jetstream/tests/nats/mod.rs"]
mod nats;
mod nested;
mod offline;
mod own_children;
mod registry;
mod service;
mod sessions;
mod soak;
mod support;
mod the_main_job;
mod twins;
mod upstream_forms;
