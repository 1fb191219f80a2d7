//! Counts messages in its state, and sends count and message.

use guest::{Failure, Handler, Message, keyvalue, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let failed = |error| Failure::Retry(format!("{error:?}"));
        let bucket = keyvalue::open("default").map_err(failed)?;
        let count = bucket.get("count").map_err(failed)?.unwrap_or_default();
        let count = String::from_utf8_lossy(&count).parse().unwrap_or(0_u64) + 1;
        bucket.set("count", count.to_string().as_bytes()).map_err(failed)?;
        out(format!("{count} {}", text(&message)));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
