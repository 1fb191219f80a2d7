//! The host's side: connections, requests, answers.

use crate::{
    BindError,
    line::{LineError, LineReader, line},
    local::{self, Held},
    wire::{Ask, Code, Content, End, Head, Item, REQUEST_BYTES_MAX, Refusal, Reply, Request, VERSION},
};
use holdfast_types::Soon;
use interprocess::local_socket::{tokio::Stream, traits::tokio::Listener as _};
use std::{io, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// What answers a request: it sends items and ends with success or a refusal.
pub type Answer<'a> = Soon<'a, Result<(), Refusal>>;

/// What the server asks. The binary implements it.
pub trait Host: Send + Sync + 'static {
    /// Carries out `request` and sends what there is to say to `items`. The future is dropped when the client goes before
    /// the end, or when the host stops; so what must be finished belongs elsewhere.
    fn answer(&self, request: Request, items: Items) -> Answer<'_>;
}

/// Takes the items of one answer. It waits while the client does not read.
#[derive(Debug)]
pub struct Items(mpsc::Sender<Item>);

/// The client has gone; the answer may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client has gone")]
pub struct Gone;

impl Items {
    /// Sends an item, when there is room.
    ///
    /// # Errors
    /// The client has gone.
    pub async fn send(&self, item: Item) -> Result<(), Gone> {
        self.0.send(item).await.map_err(|_| Gone)
    }
}

/// A client that goes is no failure of the answer.
impl From<Gone> for Refusal {
    fn from(gone: Gone) -> Self {
        Self::new(Code::Stopping, gone.to_string())
    }
}

/// How much clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most connections at once. One more is told that the host is busy.
    pub connections_max: usize,
    /// Longest time that a client may leave the answer unread, once the buffers are full. Then it is cut off.
    pub unread_max: Duration,
    /// Longest time that a client may be connected and ask nothing.
    pub idle_max: Duration,
    /// How long finite answers may go on when the host stops.
    pub grace: Duration,
}

impl Default for Limits {
    /// 32 connections: a few terminals and a few programs. 30 s unread: time to look at a page of a pager. 60 s idle.
    fn default() -> Self {
        Self {
            connections_max: 32,
            unread_max: Duration::from_secs(30),
            idle_max: Duration::from_secs(60),
            grace: Duration::from_secs(2),
        }
    }
}

/// Items that wait for a slow client before its answer has to wait too.
const ITEMS_WAITING_MAX: usize = 64;

/// Bytes that are written at once when many items wait.
const WRITE_BYTES: usize = 64 * 1024;

/// The open control socket.
pub struct Server {
    held: Held,
    limits: Limits,
}

impl Server {
    /// Opens the socket at `path`, within a tokio runtime. A socket that a dead host left behind is replaced.
    ///
    /// # Errors
    /// A living host has it, or the system refuses.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        Ok(Self { held: local::bind(path)?, limits: Limits::default() })
    }

    /// The same with other limits.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Serves until `stop`; then following answers end, others have their grace, and the socket is removed.
    pub fn serve(self, host: Arc<dyn Host>, stop: CancellationToken) -> Soon<'static, ()> {
        Box::pin(self.answer_all(host, stop))
    }

    async fn answer_all(self, host: Arc<dyn Host>, stop: CancellationToken) {
        let Self { held, limits } = self;
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                // The finished are taken away at once, so that the set holds no more than the limit.
                Some(_) = connections.join_next() => continue,
                accepted = held.listener.accept() => accepted,
            };
            match (accepted, Arc::clone(&places).try_acquire_owned()) {
                (Ok(stream), Ok(place)) => {
                    let connection = Connection::new(stream, Arc::clone(&host), limits, stop.clone());
                    connections.spawn(async move {
                        connection.run().await;
                        drop(place);
                    });
                }
                (Ok(stream), Err(_)) => refuse(stream, limits).await,
                (Err(error), _) => {
                    tracing::warn!(%error, "the control socket could not take a connection");
                    // Out of file descriptors, most likely: some will be free in a moment.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(held);
        let all = async { while connections.join_next().await.is_some() {} };
        if timeout(limits.grace, all).await.is_err() {
            tracing::warn!(
                open = connections.len(),
                "answers on the control socket were cut off at the stop"
            );
        }
        connections.shutdown().await;
    }
}

async fn refuse(stream: Stream, limits: Limits) {
    let (_, mut writer) = tokio::io::split(stream);
    let text = format!("the host has {} control connections, as many as it takes", limits.connections_max);
    let refusal =
        Refusal::new(Code::Busy, text).with_fix("end some of the commands that follow logs or messages");
    if let Ok(bytes) = line(&Reply { v: VERSION, content: Content::Error(refusal) }) {
        // The buffer of a fresh socket takes a line at once; there is nothing to wait for.
        let _ = timeout(Duration::from_millis(100), writer.write_all(&bytes)).await;
    }
}

struct Connection {
    lines: LineReader<ReadHalf<Stream>>,
    output: Output,
    host: Arc<dyn Host>,
    idle_max: Duration,
    stop: CancellationToken,
}

/// Why a connection ends.
enum Close {
    /// The client went, or did not read.
    Gone,
    /// The host stops.
    Stopping,
    /// What follows in the stream cannot be told apart any more.
    Unreadable,
}

impl Connection {
    fn new(stream: Stream, host: Arc<dyn Host>, limits: Limits, stop: CancellationToken) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            lines: LineReader::new(reader, REQUEST_BYTES_MAX),
            output: Output { writer, unread_max: limits.unread_max },
            host,
            idle_max: limits.idle_max,
            stop,
        }
    }

    async fn run(mut self) {
        while let Ok(Some(request)) = self.request().await {
            if self.answer(request).await.is_err() {
                return;
            }
        }
    }

    /// The next request; refuses what is none. None at the end of the stream.
    async fn request(&mut self) -> Result<Option<Request>, Close> {
        loop {
            let next = tokio::select! {
                () = self.stop.cancelled() => return Err(Close::Stopping),
                next = timeout(self.idle_max, self.lines.next()) => next.map_err(|_| Close::Gone)?,
            };
            match next {
                Ok(None) => return Ok(None),
                Ok(Some(text)) => match parse(&text) {
                    Ok(request) => return Ok(Some(request)),
                    Err(refusal) => self.output.write(&Content::Error(refusal)).await?,
                },
                Err(LineError::TooLong) => {
                    let text =
                        format!("a request has at most {REQUEST_BYTES_MAX} bytes, and this one has more");
                    let refusal =
                        Refusal::new(Code::TooLarge, text).with_fix("send large messages over MQTT");
                    self.output.write(&Content::Error(refusal)).await?;
                    return Err(Close::Unreadable);
                }
                Err(LineError::Io(_)) => return Err(Close::Gone),
            }
        }
    }

    async fn answer(&mut self, request: Request) -> Result<(), Close> {
        let follows = request.follows();
        let (sender, mut items) = mpsc::channel(ITEMS_WAITING_MAX);
        let mut answering = self.host.answer(request, Items(sender));
        let mut result = None;
        let mut count = 0;
        loop {
            tokio::select! {
                // In this order, so that a flood of items does not hide a stop or a client that has gone.
                biased;
                done = &mut answering, if result.is_none() => result = Some(done),
                () = self.stop.cancelled(), if follows => {
                    let refusal = Refusal::new(Code::Stopping, "the host stops");
                    self.output.write(&Content::Error(refusal)).await?;
                    return Err(Close::Stopping);
                }
                () = self.lines.end(), if follows => return Err(Close::Gone),
                item = items.recv() => match item {
                    Some(item) => count += self.output.write_items(item, &mut items).await?,
                    None => break,
                },
            }
        }
        // The items have ended, so the answer has, or is about to.
        let result = match result {
            Some(result) => result,
            None => answering.await,
        };
        let last = result.map_or_else(Content::Error, |()| Content::End(End { items: count }));
        self.output.write(&last).await
    }
}

fn parse(text: &[u8]) -> Result<Request, Refusal> {
    let bad = |error: serde_json::Error| {
        Refusal::new(Code::BadRequest, format!("this line is no request: {error}"))
            .with_fix("a request looks like {\"v\":1,\"request\":\"status\"}")
    };
    let Head { v } = serde_json::from_slice(text).map_err(bad)?;
    if v != VERSION {
        let text =
            format!("the client speaks version {v} of the control socket, and this host version {VERSION}");
        return Err(
            Refusal::new(Code::Version, text).with_fix("use the holdfast command of the host's own version")
        );
    }
    serde_json::from_slice::<Ask<Request>>(text).map(|ask| ask.request).map_err(bad)
}

struct Output {
    writer: WriteHalf<Stream>,
    unread_max: Duration,
}

impl Output {
    /// Writes an item and those that wait behind it; says how many.
    async fn write_items(&mut self, first: Item, more: &mut mpsc::Receiver<Item>) -> Result<u64, Close> {
        let mut bytes = Vec::new();
        let mut next = Some(first);
        let mut count = 0;
        while let Some(item) = next {
            bytes.extend(encode(&Content::Item(Box::new(item)))?);
            count += 1;
            next = if bytes.len() < WRITE_BYTES { more.try_recv().ok() } else { None };
        }
        self.write_bytes(&bytes).await.map(|()| count)
    }

    async fn write(&mut self, content: &Content) -> Result<(), Close> {
        let bytes = encode(content)?;
        self.write_bytes(&bytes).await
    }

    async fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), Close> {
        let written: Result<io::Result<()>, _> = timeout(self.unread_max, self.writer.write_all(bytes)).await;
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Close::Gone),
            Err(_) => {
                tracing::warn!("a client of the control socket was cut off since it did not read its answer");
                Err(Close::Gone)
            }
        }
    }
}

#[derive(serde::Serialize)]
struct BorrowedReply<'a> {
    v: u32,
    #[serde(flatten)]
    content: &'a Content,
}

fn encode(content: &Content) -> Result<Vec<u8>, Close> {
    line(&BorrowedReply { v: VERSION, content }).map_err(|error| {
        tracing::error!(%error, "an answer on the control socket could not be written as JSON");
        Close::Unreadable
    })
}
