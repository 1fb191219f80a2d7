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
            deeper(&mut [0; 64]);
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);

#[expect(unconditional_recursion, reason = "that is what is tested")]
fn deeper(bytes: &mut [u64; 64]) -> u64 {
    let mut more = [bytes[0] + 1; 64];
    deeper(std::hint::black_box(&mut more)) + bytes[1]
}
