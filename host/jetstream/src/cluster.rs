//! The connection to the servers, and the few things that are asked of them: store a message if the last one of its subject
//! is as expected, read one message, say where a stream begins and ends.

use crate::config::{JetStreamConfig, OpenError};
use async_nats::{
    Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, RequestErrorKind, ServerAddr, ServerError,
    jetstream::{
        Context,
        context::{ContextBuilder, PublishErrorKind},
        message::PublishMessage,
        stream::{Config, DiscardPolicy, LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a server may take to answer. While servers elect a leader nobody answers.
const ANSWER_TIME: Duration = Duration::from_secs(3);

/// How long a cluster that has just started may take until it makes a stream.
pub(crate) const START_TIME: Duration = Duration::from_secs(15);

/// What is said to be wrong while a start is being waited for.
pub(crate) const AGAIN: Duration = Duration::from_millis(250);

/// The oldest version with all that is needed: messages read one by one from any replica.
const VERSION_MIN: (i64, i64, i64) = (2, 9, 0);

/// The oldest version for more than one copy. With 2.9.10, when a server died under load, 9 runs of 120 read some messages twice and
/// others never; with 2.10.26 none of 59, with 2.11.0 none of 60, with 2.15.1 none of 117. Why is taken from nats-server issue 4320
/// and pull request 6194, which is for 2.11, and was not watched here: of a message that is published again with the same
/// expectation the leader may refuse what another copy stores, and the numbers of the two differ from then on.
const VERSION_MIN_COPIES: (i64, i64, i64) = (2, 11, 0);

/// Bytes of a message that are left for its head.
const HEAD_BYTES: usize = 32 * 1024;

/// Room of two writers with the same expectation: one of them stores.
pub(crate) enum Sent {
    /// It is stored on as many servers as are needed, under this sequence.
    Stored(u64),
    /// The last message of the subject is another one than expected.
    Conflict,
    /// It can never be stored.
    Refused(String),
    /// Nobody knows whether it is stored.
    Unknown(String),
}

/// One of the streams.
pub(crate) struct StreamName {
    /// Its name at the servers.
    pub(crate) name: String,
    handle: Stream<()>,
}

/// A connection to the servers.
pub(crate) struct Cluster {
    pub(crate) client: Client,
    context: Context,
    pub(crate) prefix: String,
    pub(crate) events: StreamName,
    pub(crate) documents: StreamName,
    pub(crate) snapshots: StreamName,
    /// Most bytes that one message may carry.
    pub(crate) payload_max: usize,
    pub(crate) snapshot_after: u64,
    /// Drawn at each start.
    pub(crate) process: u64,
    numbers: AtomicU64,
    fault: Arc<Mutex<Option<String>>>,
}

fn options(config: &JetStreamConfig, fault: &Arc<Mutex<Option<String>>>) -> ConnectOptions {
    let fault = fault.clone();
    let mut options = ConnectOptions::new()
        .name("holdfast hub")
        .connection_timeout(ANSWER_TIME)
        .request_timeout(Some(ANSWER_TIME))
        .ping_interval(Duration::from_secs(10))
        .subscription_capacity(4096)
        .event_callback(move |event| {
            let fault = fault.clone();
            async move { heard(&fault, &event) }
        });
    if let Some(user) = &config.user {
        options = options.user_and_password(user.name.clone(), user.password.clone());
    }
    if let Some(file) = &config.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &config.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    options
}

fn heard(fault: &Mutex<Option<String>>, event: &Event) {
    let mut fault = fault.lock().unwrap_or_else(PoisonError::into_inner);
    match event {
        Event::Connected => {
            if fault.take().is_some() {
                tracing::info!("a NATS server answers again");
            }
        }
        Event::Disconnected | Event::Closed => {
            if fault.is_none() {
                tracing::warn!("no NATS server answers; nothing is acknowledged until one does");
            }
            *fault = Some("no NATS server answers".to_owned());
        }
        Event::ServerError(ServerError::AuthorizationViolation) => {
            tracing::error!("the NATS server does not let this hub in any more");
            *fault = Some("the NATS server does not let this hub in".to_owned());
        }
        other => tracing::debug!(event = %other, "the connection to the NATS servers"),
    }
}

/// Whether a server was reached, and one of the two did not like what the other showed: that is told as a fault of input and output.
fn is_about_tls(error: &ConnectError, config: &JetStreamConfig) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    let mut causes = std::iter::successors(Some(first), |error| error.source());
    let io = causes.find_map(|cause| cause.downcast_ref::<std::io::Error>());
    config.servers.iter().any(|server| server.starts_with("tls://"))
        && io.is_some_and(|io| {
            use std::io::ErrorKind::{
                BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, UnexpectedEof,
            };
            matches!(
                io.kind(),
                InvalidData | UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe
            )
        })
}

/// A text as one part of a subject: letters, digits, hyphens and underscores stand for themselves, other bytes as `=` and two
/// hexadecimal digits.
pub(crate) fn token(text: &str) -> String {
    let mut token = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => token.push(char::from(byte)),
            byte => token.push_str(&format!("={byte:02X}")),
        }
    }
    token
}

impl Cluster {
    /// Connects, looks what the servers can, and makes the streams that are not there.
    pub(crate) async fn open(config: &JetStreamConfig) -> Result<Self, OpenError> {
        let fault = Arc::new(Mutex::new(None));
        let servers = config.servers.join(", ");
        let addresses: Vec<ServerAddr> = config
            .servers
            .iter()
            .map(|server| {
                server.parse().map_err(|why: std::io::Error| OpenError::Address {
                    server: server.clone(),
                    why: why.to_string(),
                })
            })
            .collect::<Result<_, _>>()?;
        let connected = options(config, &fault).connect(addresses).await;
        let client = connected.map_err(|error| match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                OpenError::NotLetIn
            }
            kind if kind == ConnectErrorKind::Tls || is_about_tls(&error, config) => {
                OpenError::Tls { servers: servers.clone(), why: error.to_string() }
            }
            _ => OpenError::NoServer { servers: servers.clone(), why: error.to_string() },
        })?;
        let found = client.server_info().version;
        let has = |(major, minor, patch)| client.is_server_compatible(major, minor, patch);
        if !has(VERSION_MIN) {
            return Err(OpenError::TooOld { found });
        }
        if config.replicas > 1 && !has(VERSION_MIN_COPIES) {
            return Err(OpenError::TooOldForCopies { found });
        }
        let payload_max = client.max_payload().saturating_sub(HEAD_BYTES);
        let context = ContextBuilder::new()
            .timeout(ANSWER_TIME)
            .ack_timeout(ANSWER_TIME)
            .max_ack_inflight(100_000)
            .build(client.clone());
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|why| OpenError::NoServer { servers, why: why.to_string() })?;
        let prefix = config.prefix.clone();
        let until = Instant::now() + START_TIME;
        jetstream_is_there(&client, until).await?;
        let stream = |what: &str| format!("{prefix}-{what}");
        let events = Config {
            max_age: config.age_max.unwrap_or_default(),
            max_bytes: config.bytes_max.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            ..of(config, stream("events"), format!("{prefix}.events.>"))
        };
        let documents = of(config, stream("documents"), format!("{prefix}.documents"));
        let snapshots = Config {
            max_messages_per_subject: 1,
            ..of(config, stream("snapshots"), format!("{prefix}.snapshots.>"))
        };
        let mut made = Vec::new();
        for config in [events, documents, snapshots] {
            let name = config.name.clone();
            make(&client, config, until).await?;
            let handle = context
                .get_stream_no_info(&name)
                .await
                .map_err(|why| OpenError::Stream { name: name.clone(), why: why.to_string() })?;
            made.push(StreamName { name, handle });
        }
        let mut made = made.into_iter();
        let (Some(events), Some(documents), Some(snapshots)) = (made.next(), made.next(), made.next()) else {
            return Err(OpenError::NoJetStream("it made no streams".to_owned()));
        };
        Ok(Self {
            client,
            context,
            prefix,
            events,
            documents,
            snapshots,
            payload_max,
            snapshot_after: config.snapshot_after,
            process: u64::from_be_bytes(random),
            numbers: AtomicU64::new(1),
            fault,
        })
    }

    /// What is wrong with the connection now.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A number for a message that is written here.
    pub(crate) fn author(&self) -> crate::wire::Author {
        crate::wire::Author { process: self.process, number: self.numbers.fetch_add(1, Ordering::Relaxed) }
    }

    /// Stores a message if the last one of its subject has this sequence; 0 is that there is none.
    pub(crate) async fn put(&self, subject: String, expected: u64, body: Bytes) -> Sent {
        let message = PublishMessage::build().payload(body).expected_last_subject_sequence(expected);
        let sent = async { self.context.send_publish(subject, message).await?.await };
        match sent.await {
            Ok(stored) => Sent::Stored(stored.sequence),
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence => Sent::Conflict,
                PublishErrorKind::MaxPayloadExceeded => Sent::Refused(format!(
                    "it is larger than the NATS servers take: {error}; set max_payload in their configuration"
                )),
                _ => Sent::Unknown(error.to_string()),
            },
        }
    }

    /// The last message of a subject, as the leader of the stream has it.
    pub(crate) async fn last(
        &self,
        stream: &StreamName,
        subject: &str,
    ) -> Result<Option<(u64, Bytes)>, String> {
        let found = stream.handle.get_last_raw_message_by_subject(subject).await;
        one(found.map(|message| (message.sequence, message.payload)))
    }

    /// The message with this sequence, as the leader of the stream has it.
    pub(crate) async fn at(&self, stream: &StreamName, sequence: u64) -> Result<Option<Bytes>, String> {
        // Any copy will do where it has the message; one that lags may not have it yet.
        if let Ok(found) = stream.handle.direct_get(sequence).await {
            return Ok(Some(found.payload));
        }
        one(stream.handle.get_raw_message(sequence).await.map(|message| message.payload))
    }

    /// The first sequence that is kept, and the last that was given.
    pub(crate) async fn span(&self, stream: &StreamName) -> Result<(u64, u64), String> {
        let answer = asked(&self.client, &format!("STREAM.INFO.{}", stream.name), &json!({})).await;
        let answer = answer.map_err(|fault| fault.to_string())?;
        let number = |name: &str| answer.pointer(&format!("/state/{name}")).and_then(Value::as_u64);
        match (number("first_seq"), number("last_seq")) {
            (Some(first), Some(last)) => Ok((first.max(1), last)),
            _ => Err("the NATS server does not say where a stream begins and ends".to_owned()),
        }
    }

    /// Lets messages go: those below a sequence, or those of a subject.
    pub(crate) async fn purge(&self, stream: &StreamName, what: &Value) -> Result<(), String> {
        let asked = asked(&self.client, &format!("STREAM.PURGE.{}", stream.name), what).await;
        asked.map(drop).map_err(|fault| fault.to_string())
    }
}

fn one<T>(found: Result<T, async_nats::jetstream::stream::LastRawMessageError>) -> Result<Option<T>, String> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            LastRawMessageErrorKind::NoMessageFound => Ok(None),
            _ => Err(error.to_string()),
        },
    }
}

fn of(config: &JetStreamConfig, name: String, subject: String) -> Config {
    Config {
        name,
        subjects: vec![subject],
        num_replicas: config.replicas,
        discard: DiscardPolicy::Old,
        max_bytes: -1,
        max_messages: -1,
        max_messages_per_subject: -1,
        max_consumers: -1,
        allow_direct: true,
        ..Config::default()
    }
}

/// What a server says instead of doing what it is asked for.
#[derive(Debug)]
enum Fault {
    Silent(String),
    Nobody,
    Said { code: u64, text: String },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Silent(why) => write!(f, "the NATS servers do not answer: {why}"),
            Self::Nobody => f.write_str("no NATS server with JetStream answers"),
            Self::Said { code, text } => write!(f, "{text} (error {code} of JetStream)"),
        }
    }
}

/// Asks the API of JetStream.
async fn asked(client: &Client, what: &str, body: &Value) -> Result<Value, Fault> {
    let answer = client.request(format!("$JS.API.{what}"), body.to_string().into()).await;
    let answer = answer.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => Fault::Nobody,
        _ => Fault::Silent(error.to_string()),
    })?;
    let answer: Value =
        serde_json::from_slice(&answer.payload).map_err(|why| Fault::Silent(why.to_string()))?;
    match answer.get("error") {
        None => Ok(answer),
        Some(error) => Err(Fault::Said {
            code: error.get("err_code").and_then(Value::as_u64).unwrap_or_default(),
            text: error.get("description").and_then(Value::as_str).unwrap_or("no reason").to_owned(),
        }),
    }
}

/// JetStream is off, or off for this user.
const NOT_ENABLED: [u64; 2] = [10076, 10039];
/// A stream of that name is there with other settings.
const NAME_IN_USE: u64 = 10058;
/// No leader, too few servers known yet.
const NOT_YET: [u64; 6] = [10004, 10005, 10007, 10008, 10009, 10023];

async fn jetstream_is_there(client: &Client, until: Instant) -> Result<(), OpenError> {
    loop {
        let fault = match asked(client, "INFO", &json!({})).await {
            Ok(_) => return Ok(()),
            Err(Fault::Nobody) => return Err(OpenError::NoJetStream("nobody answers for it".to_owned())),
            Err(Fault::Said { code, text }) if NOT_ENABLED.contains(&code) => {
                return Err(OpenError::NoJetStream(text));
            }
            Err(fault) => fault,
        };
        if Instant::now() > until {
            return Err(OpenError::NoQuorum(fault.to_string()));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Makes a stream, or changes the one that is there to these settings.
async fn make(client: &Client, config: Config, until: Instant) -> Result<(), OpenError> {
    let name = config.name.clone();
    let unmade = |why: String| OpenError::Stream { name: name.clone(), why };
    let body = serde_json::to_value(&config).map_err(|why| unmade(why.to_string()))?;
    loop {
        let mut made = asked(client, &format!("STREAM.CREATE.{name}"), &body).await;
        if matches!(made, Err(Fault::Said { code: NAME_IN_USE, .. })) {
            made = asked(client, &format!("STREAM.UPDATE.{name}"), &body).await;
        }
        let fault = match made {
            Ok(_) => return Ok(()),
            Err(fault) => fault,
        };
        let (may_pass, is_quorum) = match &fault {
            Fault::Silent(_) | Fault::Nobody => (true, true),
            Fault::Said { code, .. } => (NOT_YET.contains(code), *code == 10008),
        };
        if !may_pass || Instant::now() > until {
            let why = fault.to_string();
            return Err(if is_quorum { OpenError::NoQuorum(why) } else { unmade(why) });
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_part_of_a_subject_each_and_no_two_the_same() {
        assert_eq!(token("edge-1"), "edge-1");
        assert_eq!(token("a.b*c>d e=2E"), "a=2Eb=2Ac=3Ed=20e=3D2E");
    }
}
