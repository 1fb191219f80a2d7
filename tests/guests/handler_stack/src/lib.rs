//! Recurses without end on the message \"deep\", and so deep on \"depth N\"; echoes all others.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        out(text(&message));
        if text(&message) == "deep" {
            std::hint::black_box(deeper(0, u64::MAX));
        }
        if let Some(depth) = text(&message).strip_prefix("depth ") {
            std::hint::black_box(deeper(0, depth.parse().unwrap_or(0)));
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);

fn deeper(n: u64, depth: u64) -> u64 {
    if n >= depth { n } else { std::hint::black_box(deeper(n + 1, depth)) + n }
}
