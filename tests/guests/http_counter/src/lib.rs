//! Counts messages in its state, and answers requests with the count and with what becomes of a send.

use guest::{Failure, Handler, Message, keyvalue, out, send};
use wasip2::exports::http::incoming_handler::Guest as Answers;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Guest;

fn count() -> Result<u64, keyvalue::Error> {
    let count = keyvalue::open("default")?.get("count")?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&count).parse().unwrap_or_default())
}

impl Handler for Guest {
    fn start() -> Result<(), String> {
        Ok(())
    }

    fn handle(_input: String, _message: Message) -> Result<(), Failure> {
        let failed = |error| Failure::Retry(format!("{error:?}"));
        let next = (count().map_err(failed)? + 1).to_string();
        keyvalue::open("default").and_then(|bucket| bucket.set("count", next.as_bytes())).map_err(failed)?;
        out(next);
        Ok(())
    }

    fn stop() {}
}

impl Answers for Guest {
    fn handle(_request: IncomingRequest, answer: ResponseOutparam) {
        let text = format!("{:?} {:?}", count(), send("out", "from a request"));
        let response = OutgoingResponse::new(Fields::new());
        let body = response.body().expect("the body is taken once");
        ResponseOutparam::set(answer, Ok(response));
        let stream = body.write().expect("the stream is taken once");
        stream.blocking_write_and_flush(text.as_bytes()).expect("the client is there");
        drop(stream);
        OutgoingBody::finish(body, None).expect("all of it was written");
    }
}

guest::module!(Guest);
wasip2::http::proxy::export!(Guest);
