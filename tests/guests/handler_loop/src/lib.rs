//! Computes for ever on the message \"loop\"; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        let mut n = 0_u64;
        while text(&message) == "loop" {
            n = std::hint::black_box(n.wrapping_add(1));
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
