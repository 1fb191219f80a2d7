//! A hub without sockets: its storage in a folder, and edges that hand it packets as the gateway does.
#![allow(dead_code, reason = "each test uses its part")]

use bytes::Bytes;
use holdfast_auth::{Registry, Sealer};
use holdfast_broker::{Broker, BrokerConfig};
use holdfast_gateway::{EdgeDoor, Fates, Links};
use holdfast_hub::{
    Hub, HubConfig,
    backend::{Backend, Embedded, EmbeddedConfig},
    peers::Peers,
};
use holdfast_link::{
    ANSWER_TOPIC, Access, Call, Document, EVENTS_TOPIC, Hello, IdentityRecord, Proof, STATUS_PROPERTY,
    Secret, Welcome, event,
};
use holdfast_mqtt::{
    Packet, PacketId, Publish, PublishProperties, QoS, Version,
    server::{Action, Connection, Outcome, Rules, Session, Ticket},
};
use holdfast_routes::RouteTable;
use holdfast_store::{Store, StoreConfig, StoreError, SystemClock};
use holdfast_types::{Identity, Message, Name, Offset, Priority, Source, StableId, SystemKey};
use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const EPOCH: u64 = 0xe0;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn device(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

/// A hub on a store in this folder; the store is closed when it is dropped.
pub struct TestHub {
    pub hub: Arc<Hub>,
    pub broker: Broker,
    store: Store,
}

impl TestHub {
    pub async fn open(folder: &Path) -> Self {
        let embedded =
            |store: &Store| Arc::new(Embedded::open(store.clone(), EmbeddedConfig::default()).unwrap()) as _;
        Self::on(folder, embedded, None).await
    }

    /// On a backend of the story's own; what sessions need is in the folder.
    pub async fn on(
        folder: &Path,
        backend: impl FnOnce(&Store) -> Arc<dyn Backend>,
        peers: Option<Arc<dyn Peers>>,
    ) -> Self {
        let clock = Arc::new(SystemClock::new());
        let mut config = StoreConfig::new(folder);
        config.ballast_bytes = 0;
        // The tasks of the hub before let the folder go when they have ended.
        let end = Instant::now() + Duration::from_secs(30);
        let store = loop {
            match holdfast_store::open(config.clone(), clock.clone()) {
                Ok((store, _)) => break store,
                Err(StoreError::InUse { .. }) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("{error}"),
            }
        };
        let routes = RouteTable::compile(Vec::new()).unwrap();
        let broker =
            Broker::new(BrokerConfig { edge: name("hub"), routes, time_to_live: None }, store.clone(), clock);
        let hub = Hub::open(HubConfig {
            name: name("hub"),
            backend: backend(&store),
            registry: Arc::new(Registry::new([], [1; 32]).unwrap_or_else(|_| panic!("no users, no faults"))),
            sealer: Sealer::new(&[7; 32]),
            broker: broker.clone(),
            peers,
        })
        .await
        .unwrap();
        Self { hub, broker, store }
    }

    /// As if the process were killed: nothing but what is on disk remains.
    pub fn close(self) {
        self.store.close().unwrap();
    }

    pub async fn put(&self, who: &str, edge: bool, parent: Option<&str>) -> u64 {
        self.hub.put_device(record(who, edge, parent)).await.unwrap()
    }

    /// Identities of the messages in the stream, with their bodies, in order.
    pub async fn stream(&self) -> Vec<(String, String)> {
        let end = self.hub.span().await.unwrap().next;
        let (mut events, mut next) = (Vec::new(), 0);
        // A read ends where something cannot be read now, and the next one goes on there.
        while next < end {
            let read = self.hub.events(next, 100_000, usize::MAX).await.unwrap();
            events.extend(read.events);
            next = read.next;
        }
        let shown = |(offset, event): &(u64, _)| {
            let event = holdfast_hub::event_json(*offset, event);
            (
                event["id"].as_str().unwrap_or_default().to_owned(),
                event["text"].as_str().unwrap_or_default().to_owned(),
            )
        };
        events.iter().map(shown).collect()
    }

    /// The bodies alone.
    pub async fn bodies(&self) -> Vec<String> {
        self.stream().await.into_iter().map(|(_, body)| body).collect()
    }
}

pub fn record(who: &str, edge: bool, parent: Option<&str>) -> IdentityRecord {
    IdentityRecord {
        identity: device(who),
        proof: Proof::Sas {
            primary: Secret("a2V5IG9mIDMyIGJ5dGVzIGZvciB0aGVzZSB0ZXN0cyE=".into()),
            secondary: None,
        },
        status: Access::Enabled,
        parent: parent.map(name),
        generation: "1".into(),
        edge,
    }
}

/// Remembers what was told.
#[derive(Default)]
pub struct Told(Mutex<Vec<(Ticket, Outcome)>>);

impl Fates for Told {
    fn tell(&self, fates: Vec<(Ticket, Outcome)>) {
        self.0.lock().unwrap().extend(fates);
    }
}

/// An edge at the hub's door.
pub struct Edge {
    pub name: Name,
    connection: Connection,
    door: Option<Box<dyn EdgeDoor>>,
    outgoing: mpsc::Receiver<Publish>,
    pub over: CancellationToken,
    told: Arc<Told>,
    settled: usize,
    packets: u16,
}

/// Waits until something is there.
pub async fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(what, Duration::from_secs(30), look).await
}

/// The same where it may take longer.
pub async fn until_within<T>(what: &str, within: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + within;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Edge {
    /// Connects and does not say hello.
    pub fn connect(hub: &TestHub, edge: &str) -> Self {
        let link = hub.hub.link(&name(edge)).unwrap();
        let rules = Rules {
            version: Version::V5,
            keep_alive_s: 0,
            window: 100,
            unacked_max: u16::MAX,
            topic_alias_maximum: 0,
            client_aliases: 0,
        };
        let told = Arc::new(Told::default());
        let mut door = link.door;
        door.begin(told.clone());
        Self {
            name: name(edge),
            connection: Connection::new(rules, Session::default(), Instant::now()),
            door: Some(door),
            outgoing: link.outgoing,
            over: link.over,
            told,
            settled: 0,
            packets: 0,
        }
    }

    /// Connects and says hello with this revision.
    pub async fn linked(hub: &TestHub, edge: &str, revision: u64) -> (Self, Welcome) {
        let mut edge = Self::connect(hub, edge);
        let hello = Hello {
            protocol: 1,
            epoch: EPOCH,
            held: Vec::new(),
            hub: Some(hub.hub.id().to_owned()),
            revision,
        };
        let welcome = edge.call(Call::Hello, &hello).await.unwrap();
        (edge, welcome)
    }

    /// As many packets wait for their fates as a real connection may have.
    fn settle(&mut self) {
        let told = self.told.0.lock().unwrap();
        for (ticket, outcome) in told.iter().skip(self.settled) {
            self.connection.settle(*ticket, *outcome);
        }
        self.settled = told.len();
        // One that ends the connection has been looked at by the story.
        let _ = self.connection.ready(|_| {});
    }

    fn hand_over(&mut self, mut publish: Publish) {
        if self.connection.unsettled() > 10_000 {
            self.settle();
        }
        self.packets = self.packets.checked_add(1).unwrap_or(1);
        publish.qos = QoS::AtLeastOnce;
        publish.packet_id = PacketId::new(self.packets);
        let mut actions = Vec::new();
        self.connection.packet(Packet::Publish(publish), &mut actions).unwrap();
        for action in actions {
            let Action::Publish { ticket, publish } = action else { panic!("{action:?}") };
            self.door.as_mut().unwrap().publish(ticket, publish);
        }
    }

    /// Sends messages of a source with these sequences, in one read.
    pub fn send_from(&mut self, source: &Source, sequences: impl IntoIterator<Item = u64>) {
        for sequence in sequences {
            let mut message = Message::new(format!("message {sequence}"));
            message.properties.set("n", &sequence.to_string());
            self.event(source, sequence, &message);
        }
        self.door.as_mut().unwrap().flush();
    }

    /// The same from a module, with bodies of so many bytes.
    pub fn send_body(&mut self, sequences: impl IntoIterator<Item = u64>, bytes: usize) {
        let source = Source::Module { module: name("m"), output: None };
        let message = Message::new(vec![b'x'; bytes]);
        sequences.into_iter().for_each(|sequence| self.event(&source, sequence, &message));
        self.door.as_mut().unwrap().flush();
    }

    fn event(&mut self, source: &Source, sequence: u64, message: &Message) {
        let id = StableId {
            edge: self.name.clone(),
            epoch: EPOCH,
            priority: Priority::DEFAULT,
            sequence: Offset(sequence),
        };
        let fields = event::encode(Some(&id), source, message);
        let user = fields.user.iter().map(|(name, value)| ((&**name).into(), (&**value).into()));
        let properties =
            PublishProperties { user_properties: user.collect(), ..PublishProperties::default() };
        self.hand_over(Publish {
            properties: Some(Box::new(properties)),
            ..Publish::new(EVENTS_TOPIC, message.body.clone())
        });
    }

    /// Passes on what an edge below sent, whose identity there is `origin`.
    pub fn pass_on(&mut self, sequence: u64, origin: &StableId, source: &Source) {
        let mut message = Message::new(format!("{origin}"));
        message.system.set(SystemKey::Origin, &event::origin(origin, source));
        self.event(source, sequence, &message);
        self.door.as_mut().unwrap().flush();
    }

    /// The same from a module of the edge.
    pub fn send(&mut self, sequences: impl IntoIterator<Item = u64>) {
        self.send_from(&Source::Module { module: name("m"), output: None }, sequences);
    }

    /// What the edge was told of its packets, in order; waits until it is so many.
    pub async fn told(&self, count: usize) -> Vec<Outcome> {
        self.told_within(count, Duration::from_secs(30)).await
    }

    /// The same where it may take longer.
    pub async fn told_within(&self, count: usize, within: Duration) -> Vec<Outcome> {
        until_within(&format!("{count} fates"), within, || {
            let told = self.told.0.lock().unwrap();
            (told.len() >= count).then(|| told.iter().map(|(_, outcome)| *outcome).collect())
        })
        .await
    }

    /// How many fates were told.
    pub fn fates(&self) -> usize {
        self.told.0.lock().unwrap().len()
    }

    /// Calls the hub, and gives its answer or status and reason.
    pub async fn call<A: Document>(&mut self, call: Call, body: &impl Document) -> Result<A, (u16, String)> {
        let correlation = Bytes::copy_from_slice(&[self.packets as u8, 9]);
        let properties = PublishProperties {
            response_topic: Some(ANSWER_TOPIC.into()),
            correlation_data: Some(correlation.clone()),
            ..PublishProperties::default()
        };
        self.hand_over(Publish {
            properties: Some(Box::new(properties)),
            ..Publish::new(call.topic(), body.encode().unwrap())
        });
        let packet = self.next().await;
        assert_eq!(&*packet.topic, ANSWER_TOPIC);
        let properties = packet.properties.unwrap();
        assert_eq!(properties.correlation_data, Some(correlation));
        let (_, status) =
            properties.user_properties.iter().find(|(name, _)| **name == *STATUS_PROPERTY).unwrap();
        match status.parse().unwrap() {
            200 => Ok(A::decode(&packet.payload).unwrap()),
            status => Err((status, holdfast_link::Problem::decode(&packet.payload).unwrap().error)),
        }
    }

    /// The next packet for the edge.
    pub async fn next(&mut self) -> Publish {
        tokio::time::timeout(Duration::from_secs(30), self.outgoing.recv())
            .await
            .expect("in time")
            .expect("a link")
    }

    /// The next call of the hub, which is this one.
    pub async fn called<D: Document>(&mut self, call: Call) -> (D, Publish) {
        let packet = self.next().await;
        assert_eq!(*packet.topic, *call.topic());
        (D::decode(&packet.payload).unwrap(), packet)
    }

    /// Answers a call of the hub.
    pub fn answer(&mut self, packet: &Publish, status: u16, body: &impl Document) {
        let properties = PublishProperties {
            correlation_data: packet.properties.as_ref().unwrap().correlation_data.clone(),
            user_properties: vec![(STATUS_PROPERTY.into(), status.to_string().into())],
            ..PublishProperties::default()
        };
        self.hand_over(Publish {
            properties: Some(Box::new(properties)),
            ..Publish::new(ANSWER_TOPIC, body.encode().unwrap())
        });
    }

    /// The connection ends.
    pub fn cut(&mut self) {
        self.door = None;
    }
}
