//! Takes memory without end on the message \"grow\"; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        let mut taken = Vec::new();
        while text(&message) == "grow" {
            taken.push(std::hint::black_box(vec![1_u8; 1024 * 1024]));
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
