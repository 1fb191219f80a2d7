//! Panics on the message \"trap\", after it has sent; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        if text(&message) == "trap" {
            panic!("this is what was asked for");
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
