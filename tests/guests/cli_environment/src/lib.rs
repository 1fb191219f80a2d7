//! Sends its environment, arguments and configuration.

use guest::{Failure, Handler, Message, config, out};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, _message: Message) -> Result<(), Failure> {
        let mut all: Vec<String> =
            std::env::vars().map(|(key, value)| format!("env {key}={value}")).collect();
        all.extend(std::env::args().map(|argument| format!("arg {argument}")));
        let config = config::get_all().unwrap_or_default();
        all.extend(config.into_iter().map(|(key, value)| format!("config {key}={value}")));
        out(all.join("\n"));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
