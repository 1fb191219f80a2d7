//! Waits for a minute on the message \"sleep\"; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        if text(&message) == "sleep" {
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
