//! Recurses without end on the message \"deep\"; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        if text(&message) == "deep" {
            std::hint::black_box(deeper(0));
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);

#[expect(unconditional_recursion, reason = "that is what is tested")]
fn deeper(n: u64) -> u64 {
    std::hint::black_box(deeper(n + 1)) + n
}
