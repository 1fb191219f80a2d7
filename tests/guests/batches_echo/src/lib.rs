//! Sends each message on, with its input in front; takes several at once.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "batch-module",
    generate_all,
});

use exports::holdfast::module::batch_handler::{Delivered, Guest as BatchHandler};
use exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
use holdfast::module::outbox;
use holdfast::module::types::{Outgoing, SystemProperties};

struct Guest;

fn echo(input: &str, message: Message) {
    let system = SystemProperties {
        message_id: None,
        correlation_id: None,
        content_type: None,
        content_encoding: None,
        creation_time: None,
    };
    let body = [input.as_bytes(), b":", &message.body].concat();
    outbox::send("out", &Outgoing { body, properties: Vec::new(), system }).expect("the message is taken");
}

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(input: String, message: Message) -> Result<(), Failure> {
        echo(&input, message);
        Ok(())
    }

    fn stop() {}
}

impl BatchHandler for Guest {
    fn handle_batch(messages: Vec<Delivered>) -> Result<(), String> {
        messages.into_iter().for_each(|one| echo(&one.input, one.message));
        Ok(())
    }
}

export!(Guest);
