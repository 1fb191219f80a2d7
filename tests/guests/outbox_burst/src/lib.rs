//! Sends as many messages to itself as the message says, in its number; echoes what is no number.

use guest::{Failure, Handler, Message, out, send, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let text = text(&message);
        match text.parse::<u32>() {
            Ok(count) => (0..count)
                .try_for_each(|n| send("self", format!("echo {n}")))
                .map_err(|error| Failure::Reject(format!("{error:?}"))),
            Err(_) => {
                out(text);
                Ok(())
            }
        }
    }

    fn stop() {}
}

guest::module!(Guest);
