//! Reads the file that the message names, or writes it if a text follows, or lists a folder, and sends what came of it.

use guest::{Failure, Handler, Message, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let text = text(&message);
        let answer = match text.split_once(' ') {
            Some(("list", path)) => {
                std::fs::read_dir(path).map(|entries| format!("{} entries", entries.count()))
            }
            Some((path, content)) => std::fs::write(path, content).map(|()| "written".to_owned()),
            None => std::fs::read_to_string(&text),
        };
        out(match answer {
            Ok(answer) => format!("ok {}", answer.trim()),
            Err(error) => format!("error {:?}", error.kind()),
        });
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
