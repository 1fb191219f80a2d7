//! Sends without end until it is refused, and then tells what it was told.

use guest::{Failure, Handler, Message, send, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let bytes = text(&message).parse().unwrap_or(0);
        loop {
            if let Err(error) = send("flood", vec![0; bytes]) {
                return Err(Failure::Reject(format!("{error:?}")));
            }
        }
    }

    fn stop() {}
}

guest::module!(Guest);
