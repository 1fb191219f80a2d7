//! Does with its state what the message says, one word a line, and sends the answers.

use guest::{Failure, Handler, Message, keyvalue, out, text};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let bucket = match keyvalue::open("") {
            Ok(bucket) => bucket,
            Err(error) => return Err(Failure::Reject(format!("{error:?}"))),
        };
        let mut answers = Vec::new();
        for line in text(&message).lines() {
            let words: Vec<&str> = line.split(' ').collect();
            answers.push(match words[..] {
                ["set", key, value] => format!("{:?}", bucket.set(key, value.as_bytes())),
                ["fill", key, bytes] => {
                    format!("{:?}", bucket.set(key, &vec![b'x'; bytes.parse().unwrap_or(0)]))
                }
                ["get", key] => match bucket.get(key) {
                    Ok(value) => {
                        format!("{:?}", value.map(|value| String::from_utf8_lossy(&value).into_owned()))
                    }
                    Err(error) => format!("{error:?}"),
                },
                ["delete", key] => format!("{:?}", bucket.delete(key)),
                ["exists", key] => format!("{:?}", bucket.exists(key)),
                ["keys"] => format!("{:?}", bucket.list_keys(None).map(|page| page.keys)),
                ["open", name] => format!("{:?}", keyvalue::open(name).map(|_| ())),
                ["fail"] => return Err(Failure::Reject("as told".to_owned())),
                _ => format!("what is {line:?}?"),
            });
        }
        out(answers.join("\n"));
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
