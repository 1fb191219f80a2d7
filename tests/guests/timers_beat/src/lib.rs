//! Sets timers as its configuration says, and sends a message each time one runs out.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "timed-module",
    generate_all,
});

use exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
use exports::holdfast::module::timer_handler::Guest as TimerHandler;
use holdfast::module::outbox;
use holdfast::module::timers;
use holdfast::module::types::{Outgoing, SystemProperties};
use wasi::config::store as config;

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        let ms = |key: &str| config::get(key).ok().flatten().and_then(|ms| ms.parse().ok());
        if let Some(ms) = ms("beat_ms") {
            timers::set_repeating("beat", ms).map_err(|error| error.to_string())?;
        }
        if let Some(ms) = ms("once_ms") {
            timers::set_once("once", ms).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn handle(_: String, message: Message) -> Result<(), Failure> {
        match message.body.as_slice() {
            b"stop" => timers::cancel("beat"),
            b"trap" => timers::set_once("trap", 10).map_err(|error| Failure::Reject(error.to_string()))?,
            _ => {}
        }
        Ok(())
    }

    fn stop() {}
}

impl TimerHandler for Guest {
    fn fire(name: String) -> Result<(), Failure> {
        let system = SystemProperties {
            message_id: None,
            correlation_id: None,
            content_type: None,
            content_encoding: None,
            creation_time: None,
        };
        let message = Outgoing { body: name.clone().into_bytes(), properties: Vec::new(), system };
        outbox::send("out", &message).map_err(|error| Failure::Reject(error.to_string()))?;
        assert_ne!(name, "trap", "as told");
        Ok(())
    }
}

export!(Guest);
