//! A broker that does what the story says.

use bytes::BytesMut;
use holdfast_mqtt::{Ack, Codec, ConnAck, Connect, Packet, PacketId, Publish, ReasonCode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

pub struct Scripted {
    pub port: u16,
    listener: TcpListener,
}

pub struct Visitor {
    stream: TcpStream,
    codec: Codec,
    input: BytesMut,
    pub connect: Connect,
}

impl Scripted {
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self { port: listener.local_addr().unwrap().port(), listener }
    }

    /// The next connection, up to its CONNECT.
    pub async fn visitor(&self) -> Visitor {
        let (stream, _) = self.listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let mut visitor = Visitor {
            stream,
            codec: Codec::server(1 << 20),
            input: BytesMut::new(),
            connect: Connect::new(holdfast_mqtt::Version::V5, ""),
        };
        match visitor.packet().await {
            Some(Packet::Connect(connect)) => visitor.connect = *connect,
            other => panic!("{other:?}"),
        }
        visitor
    }

    /// The next connection, welcomed.
    pub async fn welcomed(&self, ack: ConnAck) -> Visitor {
        let mut visitor = self.visitor().await;
        visitor.send(Packet::ConnAck(Box::new(ack))).await;
        visitor
    }

    /// The next bare connection.
    pub async fn stream(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }
}

pub fn welcome() -> ConnAck {
    ConnAck::new(ReasonCode::Success)
}

impl Visitor {
    /// The next packet; none when the connection is closed.
    pub async fn packet(&mut self) -> Option<Packet> {
        loop {
            if let Some(packet) = self.codec.decode(&mut self.input).unwrap() {
                return Some(packet);
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    /// The next PUBLISH.
    pub async fn publish(&mut self) -> Publish {
        match self.packet().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("{other:?}"),
        }
    }

    /// The next PUBLISH, as its body.
    pub async fn body(&mut self) -> (String, PacketId) {
        let publish = self.publish().await;
        (String::from_utf8(publish.payload.to_vec()).unwrap(), publish.packet_id.unwrap())
    }

    pub async fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        self.codec.encode(&packet, &mut out).unwrap();
        // The other side may be gone; the story goes on.
        let _ = self.stream.write_all(&out).await;
    }

    pub async fn answer(&mut self, id: PacketId, reason: ReasonCode) {
        self.send(Packet::PubAck(Ack::with(id, reason))).await;
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self) -> bool {
        tokio::time::timeout(std::time::Duration::from_millis(100), self.packet()).await.is_err()
    }
}

/// A user property.
pub fn property<'a>(publish: &'a Publish, name: &str) -> Option<&'a str> {
    let all = &publish.properties.as_ref()?.user_properties;
    all.iter().find(|(key, _)| &**key == name).map(|(_, value)| &**value)
}
