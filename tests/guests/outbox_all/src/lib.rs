//! Sends each message on with all its properties, and says who sent it.

use guest::{Failure, Handler, Message, Outgoing, Source};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, message: Message) -> Result<(), Failure> {
        let from = match &message.source {
            Source::Module(source) => format!("module {} {:?}", source.module, source.output),
            Source::Child(source) => format!("child {} {:?}", source.child, source.topic),
            Source::TwinChange((device, module)) => format!("twin {device} {module:?}"),
        };
        let mut properties = message.properties;
        properties.push(("from".to_owned(), from));
        let outgoing = Outgoing { body: message.body, properties, system: message.system };
        guest::holdfast::module::outbox::send("out", &outgoing)
            .map_err(|error| Failure::Reject(error.to_string()))
    }

    fn stop() {}
}

guest::module!(Guest);
