//! `wasi:cli/stdout` and `stderr`: what a module prints becomes lines of its log.

use crate::logs::{LINE_BYTES_MAX, LogLevel, LogOrigin};
use crate::module_log::ModuleLog;
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// Cuts what is written to it into lines. Clones share the unfinished line.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Cutter>);

/// Where lines go, and the one that has not ended yet.
struct Cutter {
    log: ModuleLog,
    level: LogLevel,
    origin: LogOrigin,
    unfinished: Mutex<Vec<u8>>,
}

impl Lines {
    pub(crate) fn stdout(log: ModuleLog) -> Self {
        Self::to(log, LogLevel::Info, LogOrigin::Stdout)
    }

    pub(crate) fn stderr(log: ModuleLog) -> Self {
        Self::to(log, LogLevel::Warn, LogOrigin::Stderr)
    }

    fn to(log: ModuleLog, level: LogLevel, origin: LogOrigin) -> Self {
        Self(Arc::new(Cutter { log, level, origin, unfinished: Mutex::default() }))
    }

    fn write_bytes(&self, bytes: &[u8]) {
        let mut line = self.0.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            // What is over the bound is dropped here, so that a module that never ends its line takes no memory.
            let room = LINE_BYTES_MAX.saturating_sub(line.len());
            line.extend_from_slice(part.get(..room).unwrap_or(part));
            if part.ends_with(b"\n") {
                self.0.log.line(self.0.level, self.0.origin, &String::from_utf8_lossy(&line));
                line.clear();
            }
        }
    }
}

impl Drop for Cutter {
    /// The instance is gone: what it printed last is a line, also without an end.
    fn drop(&mut self) {
        let line = self.unfinished.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !line.is_empty() {
            self.log.line(self.level, self.origin, &String::from_utf8_lossy(line));
        }
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_bytes(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

impl tokio::io::AsyncWrite for Lines {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.write_bytes(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
