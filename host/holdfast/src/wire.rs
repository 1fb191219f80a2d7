//! MQTT packets over a stream, for what this binary plays itself: the demo's device, and `check`.

use anyhow::{Context, bail};
use bytes::BytesMut;
use holdfast_mqtt::{Codec, Packet, Version};
use holdfast_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Largest packet that is taken.
const PACKET_BYTES_MAX: usize = 1024 * 1024;

/// One connection.
pub struct Wire {
    stream: Stream,
    codec: Codec,
    read: BytesMut,
    write: BytesMut,
}

impl Wire {
    /// The client's end.
    pub fn client(stream: Stream, version: Version) -> Self {
        let codec = Codec::client(version, PACKET_BYTES_MAX);
        Self { stream, codec, read: BytesMut::with_capacity(64 * 1024), write: BytesMut::new() }
    }

    /// The next packet. Cancel safe. An error when the other side has gone or sent something illegal.
    pub async fn receive(&mut self) -> anyhow::Result<Packet> {
        loop {
            if let Some(packet) = self.buffered()? {
                return Ok(packet);
            }
            if self.stream.read_buf(&mut self.read).await.context("the connection broke")? == 0 {
                bail!("the other side closed the connection");
            }
        }
    }

    /// A packet that has been read already.
    fn buffered(&mut self) -> anyhow::Result<Option<Packet>> {
        Ok(self.codec.decode(&mut self.read)?)
    }

    /// Puts a packet into the buffer that [`Wire::flush`] sends.
    pub fn push(&mut self, packet: &Packet) -> anyhow::Result<()> {
        self.codec.encode(packet, &mut self.write)?;
        Ok(())
    }

    /// Sends what was pushed, in one write.
    pub async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.write.is_empty() {
            self.stream.write_all(&self.write).await.context("the connection broke")?;
            self.stream.flush().await.context("the connection broke")?;
            self.write.clear();
        }
        Ok(())
    }
}
