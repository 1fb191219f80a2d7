//! Lines of bounded length.

use serde::Serialize;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads lines and never keeps more than one line and one read's worth of what follows.
pub(crate) struct LineReader<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that hold no line end.
    searched: usize,
    ended: bool,
    bytes_max: usize,
}

#[derive(Debug)]
pub(crate) enum LineError {
    /// The line is longer than it may be.
    TooLong,
    Io(io::Error),
}

/// Most bytes that one read takes: what a line may be longer than its bound before it is refused.
const READ_BYTES_MAX: u64 = 64 * 1024;

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(reader: R, bytes_max: usize) -> Self {
        Self { reader, buffer: Vec::new(), searched: 0, ended: false, bytes_max }
    }

    /// The next line without its end; none at the end of the stream. A last line may lack its end. Cancel safe: what was
    /// read stays in the buffer.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<u8>>, LineError> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(found) = fresh.iter().position(|byte| *byte == b'\n') {
                let end = self.searched + found;
                let mut rest = self.buffer.split_off(end + 1);
                std::mem::swap(&mut rest, &mut self.buffer);
                let mut line = rest;
                line.truncate(end);
                self.searched = 0;
                return if line.len() > self.bytes_max { Err(LineError::TooLong) } else { Ok(Some(line)) };
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > self.bytes_max {
                return Err(LineError::TooLong);
            }
            if self.ended {
                self.searched = 0;
                let last = std::mem::take(&mut self.buffer);
                return Ok(Some(last).filter(|line| !line.is_empty()));
            }
            self.fill().await?;
        }
    }

    /// Waits until the other side closes. What it sends meanwhile is kept up to the bound of a line, and not read beyond.
    pub(crate) async fn end(&mut self) {
        while !self.ended && self.buffer.len() <= self.bytes_max {
            if self.fill().await.is_err() {
                return;
            }
        }
        if !self.ended {
            std::future::pending::<()>().await;
        }
    }

    async fn fill(&mut self) -> Result<(), LineError> {
        // Room is taken as bytes come, not as the bound allows; and one read takes a bounded part, or a quick writer
        // could fill all the room that the buffer has grown to.
        self.buffer.reserve(8 * 1024);
        match (&mut self.reader).take(READ_BYTES_MAX).read_buf(&mut self.buffer).await {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) => return Err(LineError::Io(error)),
        }
        Ok(())
    }
}

/// `value` as a line of JSON with its end.
pub(crate) fn line(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(mut text: &[u8], bytes_max: usize) -> Vec<String> {
        let mut reader = LineReader::new(&mut text, bytes_max);
        let mut lines = Vec::new();
        loop {
            match reader.next().await {
                Ok(Some(line)) => lines.push(String::from_utf8(line).unwrap()),
                Ok(None) => return lines,
                Err(error) => {
                    lines.push(format!("{error:?}"));
                    return lines;
                }
            }
        }
    }

    #[tokio::test]
    async fn lines_are_told_apart_and_bounded() {
        assert_eq!(lines(b"a\n\nbc", 8).await, ["a", "", "bc"]);
        assert_eq!(lines(b"", 8).await, [""; 0]);
        assert_eq!(lines(b"12345678\n123456789\n", 8).await, ["12345678", "TooLong"]);
        assert_eq!(lines(b"123456789", 8).await, ["TooLong"]);
    }
}
