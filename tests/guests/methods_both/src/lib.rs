//! Calls methods as it is told, and serves some.

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
use holdfast::module::{methods, outbox, twins};
use wasi::keyvalue::store as keyvalue;

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

/// `target name milliseconds payload`
fn call(order: &str) -> String {
    let mut parts = order.splitn(4, ' ');
    let mut next = || parts.next().unwrap_or_default();
    let (target, name, ms, payload) = (next(), next(), next().parse().unwrap_or(0), next());
    match methods::call(target, name, payload, ms) {
        Ok(reply) => format!("{} {}", reply.status, reply.payload_json),
        Err(error) => format!("{error:?}"),
    }
}

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_: String, message: Message) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&message.body).into_owned();
        match text.strip_prefix("call ") {
            Some(order) => out(call(order)),
            None => out(text),
        }
        Ok(())
    }

    fn stop() {}
}

impl TimerHandler for Guest {
    fn fire(_: String) -> Result<(), Failure> {
        Ok(())
    }
}

impl TwinHandler for Guest {
    fn desired(_: u64, _: String) -> Result<(), Failure> {
        Ok(())
    }
}

impl MethodHandler for Guest {
    fn invoke(name: String, payload: String) -> Result<MethodReply, Failure> {
        let reply = |status, payload_json| Ok(MethodReply { status, payload_json });
        if name != "echo" {
            out(format!("invoked {name}"));
            twins::report(&format!("{{\"invoked\":\"{name}\"}}"))
                .map_err(|error| Failure::Reject(error.to_string()))?;
        }
        match name.as_str() {
            "echo" => reply(200, payload),
            "count" => {
                let bucket = keyvalue::open("").map_err(|error| Failure::Reject(format!("{error:?}")))?;
                let count = bucket.get("count").map_err(|error| Failure::Reject(format!("{error:?}")))?;
                let count = count.map_or(0, |count| count.len()) + 1;
                bucket
                    .set("count", &vec![b'x'; count])
                    .map_err(|error| Failure::Reject(format!("{error:?}")))?;
                reply(200, count.to_string())
            }
            // The payload is a JSON text that holds what to call.
            "back" => reply(200, format!("{:?}", call(payload.trim_matches('"')))),
            "retry" => Err(Failure::Retry("as told".to_owned())),
            "reject" => Err(Failure::Reject("as told".to_owned())),
            "trap" => panic!("as told"),
            "loop" => loop {
                std::hint::black_box(());
            },
            _ => reply(404, format!("{{\"error\":\"no method {name}\"}}")),
        }
    }
}

export!(Guest);
