//! Reports what it is told, and tells what is desired of it.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "full-module",
    generate_all,
});

use exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
use exports::holdfast::module::method_handler::{Guest as MethodHandler, MethodReply};
use exports::holdfast::module::timer_handler::Guest as TimerHandler;
use exports::holdfast::module::twin_handler::Guest as TwinHandler;
use holdfast::module::types::{Outgoing, SystemProperties};
use holdfast::module::{outbox, twins};

struct Guest;

fn out(body: String) {
    let system = SystemProperties {
        message_id: None,
        correlation_id: None,
        content_type: None,
        content_encoding: None,
        creation_time: None,
    };
    let message = Outgoing { body: body.into_bytes(), properties: Vec::new(), system };
    outbox::send("out", &message).expect("the message is taken");
}

impl Handler for Guest {
    fn start() -> Result<(), String> {
        let desired = twins::desired().map_err(|error| error.to_string())?;
        out(format!("start {} {}", desired.version, desired.json));
        Ok(())
    }

    fn handle(_: String, message: Message) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&message.body).into_owned();
        let (order, patch) = text.split_once(' ').unwrap_or((&text, ""));
        match order {
            "reported" => {
                let reported = twins::reported().map_err(|error| Failure::Reject(error.to_string()))?;
                out(format!("reported {reported}"));
                return Ok(());
            }
            "many" => {
                for _ in 0..64 {
                    twins::report("{}").map_err(|error| Failure::Reject(error.to_string()))?;
                }
            }
            _ => {}
        }
        match twins::report(patch) {
            Err(error) => out(format!("refused {error:?}")),
            Ok(()) => out(format!("took {patch}")),
        }
        match order {
            "retry" => Err(Failure::Retry("as told".to_owned())),
            "reject" => Err(Failure::Reject("as told".to_owned())),
            "trap" => panic!("as told"),
            _ => Ok(()),
        }
    }

    fn stop() {}
}

impl TimerHandler for Guest {
    fn fire(_: String) -> Result<(), Failure> {
        Ok(())
    }
}

impl TwinHandler for Guest {
    fn desired(version: u64, patch: String) -> Result<(), Failure> {
        out(format!("desired {version} {patch}"));
        twins::report(&format!("{{\"followed\":{version}}}"))
            .map_err(|error| Failure::Reject(error.to_string()))?;
        match () {
            () if patch.contains("retry") => Err(Failure::Retry("as told".to_owned())),
            () if patch.contains("reject") => Err(Failure::Reject("as told".to_owned())),
            () if patch.contains("trap") => panic!("as told"),
            () => Ok(()),
        }
    }
}

impl MethodHandler for Guest {
    fn invoke(name: String, _: String) -> Result<MethodReply, Failure> {
        Err(Failure::Reject(format!("no method {name}")))
    }
}

export!(Guest);
