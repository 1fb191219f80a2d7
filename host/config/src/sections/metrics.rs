//! `[metrics]`.

use crate::{
    Metrics,
    reader::{Problem, Section},
    values,
};
use std::net::SocketAddr;

/// Where Prometheus looks for IoT Edge's metrics.
const EXAMPLE: &str = "\"127.0.0.1:9600\"";

pub(crate) fn metrics(section: Option<Section<'_, '_, '_>>) -> Metrics {
    let Some(mut section) = section else { return Metrics::default() };
    let (allow_remote_plain, remote) = values::switch(&mut section, "allow_remote_plain");
    let listen = section.take("listen", |value| {
        let text = values::text(value, EXAMPLE)?;
        let address: SocketAddr = text.parse().map_err(|_| {
            Problem::new(format!("{text:?} is not an address with a port"), format!("write {EXAMPLE}"))
        })?;
        if !remote && !address.ip().is_loopback() {
            return Err(Problem::new(
                format!("{address} would show other machines what this edge does"),
                "listen on \"127.0.0.1:9600\", or add allow_remote_plain = true to [metrics] if the network is trusted",
            ));
        }
        Ok(address)
    });
    section.finish();
    Metrics { listen, allow_remote_plain }
}
