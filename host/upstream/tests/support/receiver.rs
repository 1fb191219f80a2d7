//! A subscriber at a real broker, with a session that outlives its connections.

use super::account::Account;
use bytes::BytesMut;
use holdfast_mqtt::{Ack, Codec, Connect, Packet, PacketId, QoS, Subscribe, Subscription, Version};
use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};

pub struct Receiver {
    account: Arc<Mutex<Account>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Subscribes to `up/#`; the topics end in the stable id.
    pub async fn at(port: u16) -> Self {
        let account = Arc::new(Mutex::new(Account::default()));
        let (told, subscribed) = oneshot::channel();
        let mut told = Some(told);
        let noted = account.clone();
        let task = tokio::spawn(async move {
            loop {
                let _ = receive(port, &noted, &mut told).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        subscribed.await.unwrap();
        Self { account, task }
    }

    pub fn len(&self) -> usize {
        self.account.lock().unwrap().len()
    }

    /// How many of the first `count` arrivals were of priority 0.
    pub fn alarms_among_first(&self, count: usize) -> usize {
        let account = self.account.lock().unwrap();
        account.arrivals.iter().take(count).filter(|queue| queue.ends_with("/0")).count()
    }

    /// Waits for `count` messages and checks that they are whole and in order. Gives the number of duplicates.
    pub async fn has_all(&self, count: usize) -> usize {
        super::until("the receiver has all", || self.len() >= count).await;
        let account = self.account.lock().unwrap();
        assert_eq!(account.len(), count);
        account.assert_whole_and_in_order();
        account.duplicates
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn receive(
    port: u16,
    account: &Mutex<Account>,
    told: &mut Option<oneshot::Sender<()>>,
) -> io::Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut codec = Codec::client(Version::V311, 1 << 20);
    let (mut input, mut out) = (BytesMut::new(), BytesMut::new());
    let mut connect = Connect::new(Version::V311, "receiver");
    connect.clean_start = false;
    codec.encode(&Packet::Connect(Box::new(connect)), &mut out).unwrap();
    loop {
        stream.write_all_buf(&mut out).await?;
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
        while let Some(packet) = codec.decode(&mut input).unwrap() {
            let answer = match packet {
                Packet::ConnAck(_) => Packet::Subscribe(Box::new(Subscribe {
                    packet_id: PacketId::MIN,
                    subscription_id: None,
                    user_properties: Vec::new(),
                    subscriptions: vec![Subscription::new("up/#", QoS::AtLeastOnce)],
                })),
                Packet::SubAck(_) => {
                    told.take().map(|told| told.send(()));
                    continue;
                }
                Packet::Publish(publish) => {
                    let id = publish.topic.splitn(3, '/').nth(2).unwrap();
                    account.lock().unwrap().note(id, &publish.payload);
                    Packet::PubAck(Ack::new(publish.packet_id.unwrap()))
                }
                _ => continue,
            };
            codec.encode(&answer, &mut out).unwrap();
        }
    }
}
