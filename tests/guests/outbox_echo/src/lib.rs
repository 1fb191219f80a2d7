//! Sends each message on, with its input in front.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(input: String, message: Message) -> Result<(), Failure> {
        out(format!("{input}:{}", text(&message)));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
