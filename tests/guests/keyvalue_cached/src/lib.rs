//! Counts messages in memory, beginning with the state it reads at its start; stores each count.

use guest::{Failure, Handler, Message, keyvalue, out, text};

use std::sync::atomic::{AtomicU64, Ordering};

static COUNT: AtomicU64 = AtomicU64::new(0);

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        let bucket = keyvalue::open("").map_err(|error| format!("{error:?}"))?;
        let count = bucket.get("count").map_err(|error| format!("{error:?}"))?.unwrap_or_default();
        COUNT.store(String::from_utf8_lossy(&count).parse().unwrap_or(0), Ordering::Relaxed);
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
        let failed = |error| Failure::Retry(format!("{error:?}"));
        let bucket = keyvalue::open("").map_err(failed)?;
        bucket.set("count", count.to_string().as_bytes()).map_err(failed)?;
        out(format!("{count} {}", text(&message)));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
