//! Whether the gateway can have its ports.

use super::Finding;
use crate::commands::check_settings;
use holdfast_config::Config;
use holdfast_net::{ListenConfig, Listener, PlainTcp};

pub async fn check(config: &Config, running: bool) -> Finding {
    let listen = &config.gateway.listen;
    if listen.is_empty() {
        return Finding::Ok("the gateway listens nowhere".to_owned());
    }
    let all: Vec<String> = listen.iter().map(ToString::to_string).collect();
    if running {
        return Finding::Ok(format!("the running edge has {}", all.join(", ")));
    }
    for address in listen {
        let plain =
            if config.gateway.allow_remote_plain { PlainTcp::Allowed } else { PlainTcp::LoopbackOnly };
        let settings = check_settings();
        if let Err(error) =
            Listener::bind(ListenConfig { address: *address, tls: None, plain, settings }).await
        {
            return Finding::Error(error.to_string());
        }
    }
    Finding::Ok(format!("{} can be had", all.join(", ")))
}
