//! The stream as lines of JSON: `GET /events?from=…&follow=…&count=…`.

use super::{
    Context,
    body::{Body, respond},
};
use crate::{error::HubError, event_json};
use bytes::{BufMut, Bytes, BytesMut};
use hyper::Response;
use tokio::sync::mpsc;

/// Events read at once.
const EVENTS_MAX: usize = 512;
/// Bytes read at once, about.
const BYTES_MAX: usize = 1 << 20;
/// Chunks that wait for a consumer that reads slowly; then it is not read for.
const CHUNKS_MAX: usize = 4;

/// Where a consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Offset(u64),
    /// So many before the end.
    Last(u64),
    Earliest,
}

/// What a consumer wants.
pub(super) struct Wanted {
    from: From,
    follow: bool,
    count: Option<u64>,
    device: Option<String>,
}

impl Wanted {
    pub(super) fn of(query: &[(String, String)]) -> Result<Self, HubError> {
        let mut wanted = Self { from: From::Earliest, follow: false, count: None, device: None };
        for (name, value) in query {
            let bad = |what| HubError::Bad(format!("{name}={value} is not understood; give {what}"));
            match name.as_str() {
                "from" => {
                    wanted.from = match (value.as_str(), value.strip_prefix('-')) {
                        ("earliest", _) => From::Earliest,
                        ("latest", _) => From::Last(0),
                        (_, Some(last)) => From::Last(last.parse().map_err(|_| bad("a number"))?),
                        (offset, None) => From::Offset(
                            offset
                                .parse()
                                .map_err(|_| bad("an offset, earliest, latest, or -10 for the last ten"))?,
                        ),
                    }
                }
                "follow" => wanted.follow = value.parse().map_err(|_| bad("true or false"))?,
                "count" => wanted.count = Some(value.parse().map_err(|_| bad("a number"))?),
                "device" => wanted.device = Some(value.clone()),
                _ => {
                    return Err(HubError::Bad(format!(
                        "{name} is no parameter; give from, follow, count or device"
                    )));
                }
            }
        }
        Ok(wanted)
    }
}

/// Answers with the stream.
pub(super) async fn events(context: &Context, wanted: Wanted) -> Result<Response<Body>, HubError> {
    let span = context.hub.span().await?;
    let at = match wanted.from {
        From::Earliest => span.first,
        From::Last(count) => context.hub.before_end(count).await?,
        From::Offset(offset) if offset > span.next => {
            return Err(HubError::NotFound(format!(
                "there is no offset {offset} yet; the next event gets {}",
                span.next
            )));
        }
        From::Offset(offset) => offset,
    };
    let (chunks, body) = mpsc::channel(CHUNKS_MAX);
    let context = context.clone();
    let hub = context.hub.clone();
    hub.spawn(async move {
        if let Err(error) = produce(&context, wanted, at, &chunks).await {
            let line = format!("{}\n", serde_json::json!({ "error": error.to_string() }));
            // A consumer that has gone is not told.
            let _ = chunks.send(line.into()).await;
        }
    });
    Ok(respond(200, "application/x-ndjson", Body::Stream(body)))
}

async fn produce(
    context: &Context,
    wanted: Wanted,
    mut at: u64,
    chunks: &mpsc::Sender<Bytes>,
) -> Result<(), HubError> {
    let mut appends = context.hub.appends();
    let mut left = wanted.count.unwrap_or(u64::MAX);
    while left > 0 {
        appends.borrow_and_update();
        let read = context.hub.events(at, EVENTS_MAX, BYTES_MAX).await?;
        let is_end = read.events.is_empty() && read.next <= at;
        at = read.next.max(at);
        let mut chunk = BytesMut::new();
        for (offset, event) in &read.events {
            let event = event_json(*offset, event);
            if wanted
                .device
                .as_deref()
                .is_some_and(|device| event.get("device").and_then(serde_json::Value::as_str) != Some(device))
            {
                continue;
            }
            chunk.put_slice(event.to_string().as_bytes());
            chunk.put_u8(b'\n');
            left -= 1;
            if left == 0 {
                break;
            }
        }
        if !chunk.is_empty() {
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                sent = chunks.send(chunk.freeze()) => if sent.is_err() { return Ok(()) },
            }
        }
        if is_end {
            if !wanted.follow {
                return Ok(());
            }
            tokio::select! {
                () = context.stop.cancelled() => return Ok(()),
                () = chunks.closed() => return Ok(()),
                changed = appends.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }
    Ok(())
}
