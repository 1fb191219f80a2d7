//! `[metrics]` and `[http]`: doors without encryption, on this machine.

use crate::{
    Http, Metrics,
    reader::{Problem, Section},
    values,
};
use std::net::SocketAddr;

/// Where Prometheus looks for IoT Edge's metrics.
const EXAMPLE: &str = "\"127.0.0.1:9600\"";
const HTTP_EXAMPLE: &str = "\"127.0.0.1:8080\"";

pub(crate) fn metrics(section: Option<Section<'_, '_, '_>>) -> Metrics {
    let Some((listen, allow_remote_plain)) = section.map(|section| door(section, "metrics", EXAMPLE)) else {
        return Metrics::default();
    };
    Metrics { listen, allow_remote_plain }
}

/// `[http]`: the same two keys.
pub(crate) fn http(section: Option<Section<'_, '_, '_>>) -> Http {
    let Some((listen, allow_remote_plain)) = section.map(|section| door(section, "http", HTTP_EXAMPLE))
    else {
        return Http::default();
    };
    Http { listen, allow_remote_plain }
}

/// An address without encryption, on this machine unless it is said that others may come.
fn door(mut section: Section<'_, '_, '_>, name: &str, example: &'static str) -> (Option<SocketAddr>, bool) {
    let (allow_remote_plain, remote) = values::switch(&mut section, "allow_remote_plain");
    let listen = section.take("listen", |value| {
        let text = values::text(value, example)?;
        let address: SocketAddr = text.parse().map_err(|_| {
            Problem::new(format!("{text:?} is not an address with a port"), format!("write {example}"))
        })?;
        if !remote && !address.ip().is_loopback() {
            return Err(Problem::new(
                format!("{address} would answer other machines without encryption"),
                format!("listen on {example}, or add allow_remote_plain = true to [{name}] if the network is trusted"),
            ));
        }
        Ok(address)
    });
    section.finish();
    (listen, allow_remote_plain)
}
