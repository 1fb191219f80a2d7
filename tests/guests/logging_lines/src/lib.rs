//! Logs, prints and complains.

use guest::{Failure, Handler, Message, logging, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let text = text(&message);
        logging::log(logging::Level::Error, "guest", &text);
        println!("printed {text}");
        eprintln!("complained {text}");
        for _ in 0..text.parse().unwrap_or(0) {
            logging::log(logging::Level::Info, "", "again");
        }
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
