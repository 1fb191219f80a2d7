//! Does what each message says, and counts messages in its state: sends count and message. Takes several at once, and
//! measures how many.

wit_bindgen::generate!({
    path: "../../../wit",
    world: "batch-module",
    generate_all,
});

use exports::holdfast::module::batch_handler::{Delivered, Guest as BatchHandler};
use exports::holdfast::module::handler::{Failure, Guest as Handler, Message};
use holdfast::module::types::{Outgoing, SystemProperties};
use holdfast::module::{metrics, outbox};
use wasi::keyvalue::store as keyvalue;

struct Guest;

fn send(output: &str, body: String) -> Result<(), Failure> {
    let system = SystemProperties {
        message_id: None,
        correlation_id: None,
        content_type: None,
        content_encoding: None,
        creation_time: None,
    };
    let message = Outgoing { body: body.into_bytes(), properties: Vec::new(), system };
    outbox::send(output, &message).map_err(|error| Failure::Reject(format!("{error:?}")))
}

fn count() -> Result<u64, keyvalue::Error> {
    let bucket = keyvalue::open("")?;
    let count = bucket.get("count")?.unwrap_or_default();
    let count = String::from_utf8_lossy(&count).parse().unwrap_or(0_u64) + 1;
    bucket.set("count", count.to_string().as_bytes())?;
    Ok(count)
}

/// Counts and sends first, so that a failure has something to take back.
fn obey(message: &Message) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(&message.body).into_owned();
    let count = count().map_err(|error| Failure::Retry(format!("{error:?}")))?;
    // Of what is large only the beginning is sent back.
    let shown: String = text.chars().take(20).collect();
    send("out", format!("{count} {shown}"))?;
    let (order, why) = text.split_once(' ').unwrap_or((&text, ""));
    match order {
        "trap" => panic!("as told"),
        "retry" => return Err(Failure::Retry(why.to_owned())),
        "reject" => return Err(Failure::Reject(why.to_owned())),
        "again" => send("again", why.to_owned())?,
        "send" => (0..why.parse().unwrap_or(0)).try_for_each(|n| send("more", format!("{why} {n}")))?,
        _ => {}
    }
    let mut n = 0_u64;
    while order == "loop" {
        n = std::hint::black_box(n.wrapping_add(1));
    }
    Ok(())
}

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_: String, message: Message) -> Result<(), Failure> {
        metrics::count("alone_total", 1).expect("it is measured");
        obey(&message)
    }

    fn stop() {}
}

impl BatchHandler for Guest {
    fn handle_batch(messages: Vec<Delivered>) -> Result<(), String> {
        let bytes: usize = messages.iter().map(|one| one.message.body.len()).sum();
        metrics::observe("batch_messages", messages.len() as f64).expect("it is measured");
        metrics::observe("batch_kib", bytes as f64 / 1024.0).expect("it is measured");
        messages.iter().try_for_each(|one| {
            obey(&one.message).map_err(|failure| match failure {
                Failure::Retry(why) | Failure::Reject(why) => format!("{:?}: {why}", one.input),
            })
        })
    }
}

export!(Guest);
