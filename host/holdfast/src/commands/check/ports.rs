//! Whether the gateway can have its ports.

use super::Finding;
use crate::run::doors;
use holdfast_config::Config;
use holdfast_net::Listener;

pub async fn check(config: &Config, running: bool) -> Finding {
    let listen = &config.gateway.listen;
    if listen.is_empty() {
        return Finding::Ok("the gateway listens nowhere".to_owned());
    }
    let all: Vec<String> = listen.iter().map(ToString::to_string).collect();
    if running {
        return Finding::Ok(format!("the running edge has {}", all.join(", ")));
    }
    let doors = match doors::build(config) {
        Ok(doors) => doors,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    for door in doors.listen {
        if let Err(error) = Listener::bind(door).await {
            return Finding::Error(error.to_string());
        }
    }
    Finding::Ok(format!("{} can be had", all.join(", ")))
}
