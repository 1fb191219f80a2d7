//! Whether the gateway can have its ports.

use super::Finding;
use crate::{commands::check_settings, run::doors};
use holdfast_config::Config;
use holdfast_net::probe;

pub async fn check(config: &Config, running: bool) -> Finding {
    let listen = &config.gateway.listen;
    if listen.is_empty() {
        return Finding::Ok("the gateway listens nowhere".to_owned());
    }
    let all: Vec<String> = listen.iter().map(ToString::to_string).collect();
    if running {
        return Finding::Ok(format!("the running edge has {}", all.join(", ")));
    }
    for one in listen {
        if let Err(error) = probe(one.address, doors::transport(one.transport), check_settings()).await {
            return Finding::Error(error.to_string());
        }
    }
    Finding::Ok(format!("{} can be had", all.join(", ")))
}
