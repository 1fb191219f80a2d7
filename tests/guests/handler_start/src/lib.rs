//! Starts as its configuration says: fails, traps, or takes its time.

use guest::{Failure, Handler, Message, config, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        let key = |key: &str| config::get(key).ok().flatten();
        if let Some(ms) = key("sleep_ms") {
            let ms = ms.parse().map_err(|error| format!("sleep_ms: {error}"))?;
            std::thread::sleep(std::time::Duration::from_millis(ms));
        }
        if let Some(why) = key("trap") {
            panic!("{why}");
        }
        out("started");
        key("fail").map_or(Ok(()), Err)
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        Ok(())
    }

    fn stop() {
        out("stopped");
    }
}

guest::module!(Guest);
