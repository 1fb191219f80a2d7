//! Answers as it is told: retry, reject, or ok; sends and stores before it does.

use guest::{Failure, Handler, Message, keyvalue, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let text = text(&message);
        let bucket = keyvalue::open("").map_err(|error| Failure::Reject(format!("{error:?}")))?;
        bucket.set("last", text.as_bytes()).map_err(|error| Failure::Reject(format!("{error:?}")))?;
        out(text.as_str());
        match text.split_once(' ') {
            Some(("retry", why)) => Err(Failure::Retry(why.to_owned())),
            Some(("reject", why)) => Err(Failure::Reject(why.to_owned())),
            _ => Ok(()),
        }
    }

    fn stop() {}
}

guest::module!(Guest);
