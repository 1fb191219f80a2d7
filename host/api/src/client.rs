//! The command line's side.

use crate::{
    line::{LineError, LineReader, line},
    local,
    wire::{Ask, Code, Content, Head, Item, REPLY_BYTES_MAX, Refusal, Reply, Request, VERSION},
};
use holdfast_types::Soon;
use interprocess::local_socket::tokio::Stream;
use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncWriteExt, ReadHalf, WriteHalf},
    time::timeout,
};

/// Longest wait for a connection on this machine. A host that takes longer hangs.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// Why there is no connection to a host.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens.
    #[error(
        "no host is running here: nothing listens at {}; start it with `holdfast run`, or name the configuration of the \
         one that you mean with --config", path.display()
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// This user may not.
    #[error(
        "this user may not open the control socket {}; run the command as the user who runs the host, or with sudo",
        path.display()
    )]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The host does not take the connection.
    #[error(
        "the host at {} does not answer within {} s; see its log, and whether its process hangs",
        path.display(), CONNECT_TIME_MAX.as_secs()
    )]
    Hanging {
        /// The socket.
        path: PathBuf,
    },
    /// The system refuses for another reason.
    #[error("cannot connect to the control socket {}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Why a request has no answer, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The host refused it, or could not carry it out.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The host speaks another version.
    #[error(
        "the host speaks version {theirs} of the control socket, and this command version {VERSION}; \
         use the holdfast command of the host's own version"
    )]
    Version {
        /// The host's version.
        theirs: u32,
    },
    /// The connection ended before the answer did.
    #[error(
        "the host ended the connection before the answer was complete; see its log, and whether it still runs"
    )]
    Closed,
    /// What came back is no answer.
    #[error(
        "what the host at the control socket says cannot be read: {0}; check that it is holdfast that listens there"
    )]
    Unreadable(String),
    /// An answer is still under way on this connection.
    #[error("an answer is under way on this connection; read it to its end, or connect once more")]
    Unfinished,
    /// The connection failed.
    #[error("the connection to the host failed")]
    Io(#[from] io::Error),
}

/// A connection to the host of this machine.
pub struct Client {
    lines: LineReader<ReadHalf<Stream>>,
    writer: WriteHalf<Stream>,
    /// Whether an answer is under way.
    answering: bool,
}

impl Client {
    /// Connects to the host whose control socket is at `path`.
    ///
    /// # Errors
    /// Says whether there is no host, or this user may not talk to it.
    pub fn connect(path: &Path) -> Soon<'_, Result<Self, ConnectError>> {
        Box::pin(Self::open(path))
    }

    async fn open(path: &Path) -> Result<Self, ConnectError> {
        let path = path.to_owned();
        // No host can have bound a socket whose path the system does not take.
        if local::too_long(&path) {
            return Err(ConnectError::NotRunning { path });
        }
        let stream = match timeout(CONNECT_TIME_MAX, local::connect(&path)).await {
            Err(_) => return Err(ConnectError::Hanging { path }),
            Ok(Ok(stream)) => stream,
            Ok(Err(source)) => {
                return Err(match source.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        ConnectError::NotRunning { path }
                    }
                    io::ErrorKind::PermissionDenied => ConnectError::Denied { path },
                    _ => ConnectError::Io { path, source },
                });
            }
        };
        let (reader, writer) = tokio::io::split(stream);
        Ok(Self { lines: LineReader::new(reader, REPLY_BYTES_MAX), writer, answering: false })
    }

    /// Asks; the answer is read from what comes back.
    ///
    /// # Errors
    /// The connection failed, or the answer before this was not read to its end.
    pub fn ask(&mut self, request: &Request) -> Soon<'_, Result<Answers<'_>, AskError>> {
        let line = line(&Ask { v: VERSION, request });
        Box::pin(async move { self.send(&line?).await })
    }

    async fn send(&mut self, line: &[u8]) -> Result<Answers<'_>, AskError> {
        if self.answering {
            return Err(AskError::Unfinished);
        }
        self.answering = true;
        match self.writer.write_all(line).await {
            Ok(()) => {}
            // A busy host says so and closes without reading; what it said is still to be read.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Answers { client: self })
    }

    /// Asks and reads the whole answer.
    ///
    /// # Errors
    /// The request was refused, or the connection failed.
    pub fn ask_all(&mut self, request: &Request) -> Soon<'_, Result<Vec<Item>, AskError>> {
        let line = line(&Ask { v: VERSION, request });
        Box::pin(async move {
            let mut answers = self.send(&line?).await?;
            let mut items = Vec::new();
            while let Some(item) = answers.next().await? {
                items.push(item);
            }
            Ok(items)
        })
    }
}

/// The items of one answer, as they come.
pub struct Answers<'c> {
    client: &'c mut Client,
}

impl Answers<'_> {
    /// The next item; none at the end. Cancel safe.
    ///
    /// # Errors
    /// The request was refused or failed, or the connection did.
    pub async fn next(&mut self) -> Result<Option<Item>, AskError> {
        if !self.client.answering {
            return Ok(None);
        }
        let text = match self.client.lines.next().await {
            Ok(Some(text)) => text,
            Ok(None) => return Err(AskError::Closed),
            Err(LineError::TooLong) => {
                return Err(AskError::Unreadable(format!("a line has more than {REPLY_BYTES_MAX} bytes")));
            }
            Err(LineError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(AskError::Closed);
            }
            Err(LineError::Io(error)) => return Err(error.into()),
        };
        let unreadable = |error: serde_json::Error| AskError::Unreadable(error.to_string());
        let Head { v } = serde_json::from_slice(&text).map_err(unreadable)?;
        if v != VERSION {
            return Err(AskError::Version { theirs: v });
        }
        match serde_json::from_slice::<Reply>(&text).map_err(unreadable)?.content {
            Content::Item(item) => Ok(Some(*item)),
            Content::End(_) => {
                self.client.answering = false;
                Ok(None)
            }
            Content::Error(refusal) => {
                // After these the host closes, and nothing more can be asked.
                self.client.answering = matches!(refusal.code, Code::Busy | Code::TooLarge | Code::Stopping);
                Err(refusal.into())
            }
        }
    }
}
