//! Measures what it is told: `count name 2`, `gauge name 1.5`, `observe name 0.3`, `trap name 1`; sends what came of it.

use guest::{Failure, Handler, Message, metrics, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let text = text(&message);
        let words: Vec<&str> = text.split(' ').collect();
        let value: f64 = words[2].parse().expect("a number");
        let taken = match words[0] {
            "gauge" => metrics::gauge(words[1], value),
            "observe" => metrics::observe(words[1], value),
            _ => metrics::count(words[1], value as u64),
        };
        if words[0] == "trap" {
            panic!("as told");
        }
        out(format!("{taken:?}"));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
