//! The concierge: an address that is asked now and then which hub is the active one.
//!
//! It is asked with `GET` over HTTPS and answers with a [`ConciergeAnswer`]: a statement and its signature. So the answer may be
//! kept by anyone on the way, and whoever holds the concierge's server and not the key cannot send edges anywhere. A
//! statement that has expired, that comes from the future, or that was made before one that was followed already, is not
//! followed.
//!
//! What a statement says is done when it names another hub than the one before: the link then goes there, and nowhere else.
//! Until the next such statement an operator may say otherwise. Where the concierge is silent, the edge stays with what it
//! was told last, also after a restart (space `link/concierge`, key `followed`: the time of the statement and the hub).

use crate::probe::Shared;
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_broker::Documents;
use holdfast_link::{ActiveHub, ConciergeAnswer, Document, DocumentFault};
use holdfast_net::{DialError, Stream, Target, Timeouts, dial};
use holdfast_types::Text;
use ring::signature::{ED25519, UnparsedPublicKey};
use std::{
    convert::Infallible,
    io, mem,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// Most bytes of an answer, with its head.
const ANSWER_BYTES_MAX: u64 = 16 << 10;

/// How long the answer may take once there is a connection.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// How far the two clocks may differ.
const SKEW_MS: u64 = 300_000;

/// Where it stands which statement was followed last.
const SPACE: &str = "link/concierge";
const KEY: &str = "followed";

/// Whom to ask, and whom to believe.
#[derive(Clone, Debug)]
pub struct Concierge {
    /// Where it is; over TLS.
    pub target: Target,
    /// The path and query to get.
    pub path: Text,
    /// The public key that its statements are signed with.
    pub key: [u8; 32],
    /// How often it is asked.
    pub interval: Duration,
}

/// Why an answer is not followed.
#[derive(Debug, thiserror::Error)]
pub enum ConciergeFault {
    /// It cannot be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection broke.
    #[error("the answer could not be read: {0}")]
    Io(#[from] io::Error),
    /// It takes too long.
    #[error("it gave no answer within {ANSWER_WITHIN:?}")]
    TimedOut,
    /// It has another answer than 200.
    #[error(
        "it answered {0:?}; look at the path in upstream.concierge.url, and whether a statement was signed there \
         (holdfast hub concierge sign)"
    )]
    Status(String),
    /// The answer is none of HTTP.
    #[error("what answers there does not speak HTTP; look at upstream.concierge.url")]
    NotHttp,
    /// The answer is not what a concierge says.
    #[error("{0}; look at upstream.concierge.url")]
    Document(#[from] DocumentFault),
    /// Somebody else signed it.
    #[error(
        "its statement is not signed with the key in upstream.concierge.public_key; if the key was changed there, change it \
         here too"
    )]
    Signature,
    /// It is too old.
    #[error(
        "its statement expired {} s ago; sign a new one there (holdfast hub concierge sign), or set the clock of this machine",
        .0 / 1000
    )]
    Expired(u64),
    /// It is from the future.
    #[error("its statement was signed {} s in the future; set the clock of this machine, or of the one that signs", .0 / 1000)]
    Early(u64),
    /// It was followed before, and another one since.
    #[error(
        "its statement is older than the one that was followed last; something on the way keeps old answers"
    )]
    Older,
    /// The edge has no such hub.
    #[error("it names the hub {named:?}, and this edge knows {known}; give one of upstream.hubs that name")]
    Unknown {
        /// The hub that it names.
        named: String,
        /// Those that are known.
        known: String,
    },
}

/// What was followed last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Followed {
    issued_ms: u64,
    hub: String,
}

/// What is needed to ask.
pub(crate) struct Asking {
    pub(crate) concierge: Concierge,
    pub(crate) places: Vec<Text>,
    pub(crate) shared: Shared,
    pub(crate) timeouts: Timeouts,
    pub(crate) documents: Documents,
}

/// The same, with what was followed before.
pub(crate) struct Asked {
    asking: Asking,
    followed: Followed,
}

impl Concierge {
    /// Asks once. Gives the name of the active hub.
    ///
    /// # Errors
    /// Why what it says would not be followed by an edge that knows hubs of these names.
    pub async fn ask(&self, places: &[Text], timeouts: Timeouts) -> Result<String, ConciergeFault> {
        let statement = self.statement(timeouts, 0).await?;
        position(places, &statement.active).map(|_| statement.active)
    }

    async fn statement(&self, timeouts: Timeouts, newest_ms: u64) -> Result<ActiveHub, ConciergeFault> {
        let stream = dial(&self.target, timeouts).await?;
        let answer = timeout(ANSWER_WITHIN, self.get(stream)).await;
        let answer = answer.map_err(|_| ConciergeFault::TimedOut)??;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        believe(body(&answer)?, &self.key, now_ms, newest_ms)
    }

    /// With HTTP 1.0 the answer ends where the connection does, and comes in one piece.
    async fn get(&self, mut stream: Stream) -> io::Result<Vec<u8>> {
        let (Target { host, port, .. }, path) = (&self.target, &self.path);
        let request =
            format!("GET {path} HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: application/json\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        let mut answer = Vec::new();
        match stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await {
            // Many servers end TLS without a word.
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
            _ => Ok(answer),
        }
    }
}

impl Asking {
    /// Goes where the concierge said last before this start.
    pub(crate) fn begin(self) -> Asked {
        let stored = self.documents.value(SPACE, KEY).ok().flatten();
        let read = stored.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()?.split_once(' '));
        let followed = read.and_then(|(issued, hub)| {
            Some(Followed { issued_ms: issued.parse().ok()?, hub: hub.to_owned() })
        });
        let asked = Asked { followed: followed.unwrap_or_default(), asking: self };
        if let Ok(place) = position(&asked.asking.places, &asked.followed.hub) {
            asked.asking.shared.choice().tell(Some(place), Instant::now().into_std());
        }
        asked
    }
}

impl Asked {
    /// Asks for ever.
    pub(crate) async fn ask(mut self) -> Infallible {
        let mut told = None;
        loop {
            match self.follow().await {
                Ok(()) if told.take().is_some() => tracing::info!("the concierge is of help again"),
                Ok(()) => {}
                Err(fault) => {
                    // What repeats is told once.
                    let kind = mem::discriminant(&fault);
                    if told.replace(kind) != Some(kind) {
                        let host = &self.asking.concierge.target.host;
                        tracing::warn!(%host, %fault, "the concierge is not followed");
                    }
                }
            }
            sleep(self.asking.concierge.interval).await;
        }
    }

    async fn follow(&mut self) -> Result<(), ConciergeFault> {
        let Asking { concierge, places, shared, timeouts, documents } = &self.asking;
        let statement = concierge.statement(*timeouts, self.followed.issued_ms).await?;
        if statement.issued_ms == self.followed.issued_ms {
            return Ok(());
        }
        let place = position(places, &statement.active)?;
        let new = Followed { issued_ms: statement.issued_ms, hub: statement.active };
        let line = format!("{} {}", new.issued_ms, new.hub);
        if let Err(refused) = documents.write(SPACE, KEY, Some(line.into())).await {
            tracing::warn!(%refused, "what the concierge says was not recorded; after a restart it is asked again");
        }
        let is_other = new.hub != self.followed.hub;
        self.followed = new;
        if is_other {
            tracing::info!(hub = self.followed.hub, "the concierge names the active hub");
            shared.choice().tell(Some(place), Instant::now().into_std());
            shared.told.notify_one();
        }
        Ok(())
    }
}

fn position(places: &[Text], hub: &str) -> Result<usize, ConciergeFault> {
    let known = || places.iter().map(|place| &**place).collect::<Vec<_>>().join(", ");
    let found = places.iter().position(|place| **place == *hub);
    found.ok_or_else(|| ConciergeFault::Unknown { named: hub.to_owned(), known: known() })
}

fn body(answer: &[u8]) -> Result<&[u8], ConciergeFault> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").ok_or(ConciergeFault::NotHttp)?;
    let (head, body) = answer.split_at_checked(end + 4).ok_or(ConciergeFault::NotHttp)?;
    let head = std::str::from_utf8(head).map_err(|_| ConciergeFault::NotHttp)?;
    let line = head.lines().next().unwrap_or_default();
    match line.strip_prefix("HTTP/").and_then(|line| line.split_once(' ')) {
        None => Err(ConciergeFault::NotHttp),
        Some((_, status)) if status.starts_with("200") => Ok(body),
        Some((_, status)) => Err(ConciergeFault::Status(status.to_owned())),
    }
}

/// The statement, if it is to be followed.
fn believe(body: &[u8], key: &[u8; 32], now_ms: u64, newest_ms: u64) -> Result<ActiveHub, ConciergeFault> {
    let answer = ConciergeAnswer::decode(body)?;
    let signature = BASE64_STANDARD.decode(&answer.signature).map_err(|_| ConciergeFault::Signature)?;
    // IMPORTANT: nothing of the statement is looked at before its signature was found good.
    UnparsedPublicKey::new(&ED25519, key)
        .verify(answer.statement.as_bytes(), &signature)
        .map_err(|_| ConciergeFault::Signature)?;
    let statement = ActiveHub::decode(answer.statement.as_bytes())?;
    if now_ms > statement.expires_ms.saturating_add(SKEW_MS) {
        return Err(ConciergeFault::Expired(now_ms - statement.expires_ms));
    }
    if statement.issued_ms > now_ms.saturating_add(SKEW_MS) {
        return Err(ConciergeFault::Early(statement.issued_ms - now_ms));
    }
    if statement.issued_ms < newest_ms {
        return Err(ConciergeFault::Older);
    }
    Ok(statement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    fn key(seed: u8) -> (Ed25519KeyPair, [u8; 32]) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        let public = pair.public_key().as_ref().try_into().unwrap();
        (pair, public)
    }

    fn said(pair: &Ed25519KeyPair, statement: &str) -> Vec<u8> {
        let signature = BASE64_STANDARD.encode(pair.sign(statement.as_bytes()));
        ConciergeAnswer { statement: statement.to_owned(), signature }.encode().unwrap().into()
    }

    #[test]
    fn a_statement_is_followed_only_if_it_is_signed_alive_and_no_older_than_the_last() {
        let ((pair, public), (other, _)) = (key(1), key(2));
        let good = r#"{"v":1,"active":"hub-b","issued_ms":1000000,"expires_ms":2000000}"#;
        let asked = |body: &[u8], now_ms, newest_ms| believe(body, &public, now_ms, newest_ms);
        assert_eq!(asked(&said(&pair, good), 1_500_000, 1_000_000).unwrap().active, "hub-b");
        assert!(asked(&said(&pair, good), 2_300_000, 0).is_ok(), "clocks differ");
        assert!(asked(&said(&pair, good), 700_000, 0).is_ok(), "clocks differ");
        let refused = |body: &[u8], now_ms, newest_ms| asked(body, now_ms, newest_ms).unwrap_err();
        assert!(matches!(refused(&said(&other, good), 1_500_000, 0), ConciergeFault::Signature));
        let forged = String::from_utf8(said(&pair, good)).unwrap().replace("hub-b", "hub-x");
        assert!(matches!(refused(forged.as_bytes(), 1_500_000, 0), ConciergeFault::Signature));
        assert!(matches!(refused(&said(&pair, good), 2_300_001, 0), ConciergeFault::Expired(300_001)));
        assert!(matches!(refused(&said(&pair, good), 699_999, 0), ConciergeFault::Early(300_001)));
        assert!(matches!(refused(&said(&pair, good), 1_500_000, 1_000_001), ConciergeFault::Older));
        let newer = good.replace("\"v\":1", "\"v\":2");
        assert!(matches!(refused(&said(&pair, &newer), 1_500_000, 0), ConciergeFault::Document(_)));
        assert!(matches!(refused(b"<html>", 1_500_000, 0), ConciergeFault::Document(_)));
    }

    #[test]
    fn an_answer_that_is_none_is_told_by_its_status() {
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}").unwrap(), b"{}");
        let refused = body(b"HTTP/1.1 404 Not Found\r\n\r\n").unwrap_err().to_string();
        assert!(refused.contains("404 Not Found"), "{refused}");
        for junk in [&b"garbage"[..], b"garbage\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"\xff\r\n\r\n"] {
            assert!(matches!(body(junk), Err(ConciergeFault::NotHttp)), "{junk:?}");
        }
    }
}
