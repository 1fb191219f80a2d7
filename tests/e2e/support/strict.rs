//! A client of MQTT 3.1.1 and 5 that does of QoS 2 exactly what [MQTT-4.3.3] and [MQTT-4.4.0-1] say. It shares no code with
//! the host, keeps its session through every broken connection, takes nothing for granted, and remembers every packet.

use super::{
    Dice,
    edge::{PASSWORD, USER},
};
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const PUBREC: u8 = 5;
const PUBREL: u8 = 6;
const PUBCOMP: u8 = 7;
const SUBACK: u8 = 9;

/// Messages that are under way at once. Their identifiers are the lowest that are free, so that each is used again soon.
const WINDOW: usize = 50;
/// How long a client waits for a packet before it looks whether it is to end.
const GLANCE: Duration = Duration::from_millis(20);

/// Who is at work, and how far they are.
#[derive(Default)]
pub struct Work {
    /// Messages whose PUBCOMP the publisher has.
    pub acknowledged: AtomicU64,
    /// Messages that the subscriber has.
    pub delivered: AtomicU64,
    /// The publisher begins no more messages.
    pub enough: AtomicBool,
    /// The number of the last message, when it is known.
    last: AtomicU64,
}

/// A client with a session.
pub struct Strict {
    port: u16,
    version: u8,
    name: &'static str,
    dice: Dice,
    trace: VecDeque<String>,
    began: Instant,
    connections: u64,
    wire: Option<Wire>,
    /// Packets until the client itself breaks its connection.
    until_cut: u64,
    /// When the last packet came.
    heard: Instant,
}

struct Wire {
    stream: TcpStream,
    input: Vec<u8>,
}

/// The connection is gone.
struct Broken;

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Wire {
    /// A packet, if one comes in a little while.
    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, Broken> {
        loop {
            if let Some((first, start, end)) = frame(&self.input) {
                let body = self.input[start..end].to_vec();
                self.input.drain(..end);
                return Ok(Some((first, body)));
            }
            let mut chunk = [0; 16 << 10];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(Broken),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The first byte of the packet at the beginning of `input`, and where its body begins and ends.
fn frame(input: &[u8]) -> Option<(u8, usize, usize)> {
    let mut length = 0;
    for (at, byte) in input.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let start = at + 2;
            return (input.len() >= start + length).then_some((input[0], start, start + length));
        }
    }
    None
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut length = body.len();
    loop {
        let more = if length > 0x7f { 0x80 } else { 0 };
        bytes.push((length & 0x7f) as u8 | more);
        length >>= 7;
        if length == 0 {
            break;
        }
    }
    bytes.extend_from_slice(body);
    bytes
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u16).to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn identifier(body: &[u8]) -> u16 {
    u16::from_be_bytes([body[0], body[1]])
}

impl Strict {
    /// A client of this version (4 is 3.1.1); what it breaks itself, and when, follows from the seed.
    pub fn new(port: u16, version: u8, name: &'static str, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let until_cut = dice.between(100, 4000);
        let (trace, began) = (VecDeque::new(), Instant::now());
        Self { port, version, name, dice, trace, began, connections: 0, wire: None, until_cut, heard: began }
    }

    fn note(&mut self, what: impl std::fmt::Display) {
        // Enough for whatever is under way, and for what was before it.
        if self.trace.len() == 40_000 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>10.3} ms {what}", self.began.elapsed().as_secs_f64() * 1000.0));
    }

    /// How often it has connected, and the packets of the end: those that name this text, and each connection.
    pub fn story(&self, of: &str) -> String {
        let about = |line: &&String| line.contains(of) || line.contains("connect");
        let lines: Vec<&str> = self.trace.iter().filter(about).map(String::as_str).collect();
        let from = lines.len().saturating_sub(200);
        format!("{} ({} connections):\n{}", self.name, self.connections, lines[from..].join("\n"))
    }

    /// How often it has connected.
    pub fn connections(&self) -> u64 {
        self.connections
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.wire.as_mut().ok_or(Broken)?.stream.write_all(bytes).map_err(Into::into)
    }

    fn next(&mut self) -> Result<Option<(u8, Vec<u8>)>, Broken> {
        let wire = self.wire.as_mut().ok_or(Broken)?;
        let next = wire.next()?;
        assert!(self.heard.elapsed() < super::PATIENCE, "nothing comes:\n{}", self.story("#1."));
        if next.is_some() {
            self.heard = Instant::now();
            self.until_cut -= 1;
            if self.until_cut == 0 {
                self.until_cut = self.dice.between(100, 4000);
                self.note("connection cut by this client");
                self.wire = None;
                return Err(Broken);
            }
        }
        Ok(next)
    }

    fn ack(&mut self, kind: u8, id: u16) -> Result<(), Broken> {
        self.note(format_args!("> {} #{id}.", name_of(kind)));
        // PUBREL has a flag that must be set.
        let first = kind << 4 | if kind == PUBREL { 2 } else { 0 };
        self.send(&packet(first, &id.to_be_bytes()))
    }

    fn publish(&mut self, id: u16, number: u64, again: bool) -> Result<(), Broken> {
        self.note(format_args!("> PUBLISH #{id}. number {number}.{}", if again { " again" } else { "" }));
        let mut body = text("plant/t");
        body.extend_from_slice(&id.to_be_bytes());
        if self.version == 5 {
            body.push(0);
        }
        body.extend_from_slice(format!("{number:09} {}", "x".repeat(100)).as_bytes());
        self.send(&packet(if again { 0x3c } else { 0x34 }, &body))
    }

    /// Connects until it is connected. Of all but the first time the session must be there.
    fn connect(&mut self) {
        let present = loop {
            match self.try_connect() {
                Ok(present) => break present,
                Err(Broken) => thread::sleep(Duration::from_millis(5)),
            }
        };
        self.connections += 1;
        assert!(present || self.connections == 1, "the session is gone:\n{}", self.story("session"));
    }

    fn try_connect(&mut self) -> Result<bool, Broken> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(GLANCE))?;
        let mut body = text("MQTT");
        // User, password, a session that is there already.
        body.extend_from_slice(&[self.version, 0xc0, 0, 60]);
        if self.version == 5 {
            // Session expiry interval: an hour.
            body.extend_from_slice(&[5, 0x11, 0, 0, 0x0e, 0x10]);
        }
        for one in [self.name, USER, PASSWORD] {
            body.extend(text(one));
        }
        self.wire = Some(Wire { stream, input: Vec::new() });
        self.send(&packet(0x10, &body))?;
        loop {
            if let Some((first, body)) = self.next()? {
                assert!(first >> 4 == CONNACK && body[1] == 0, "not welcome: {first:#x} {body:?}");
                self.note(format_args!("connected, session present: {}", body[0] == 1));
                return Ok(body[0] == 1);
            }
        }
    }

    /// Publishes 1, 2, 3, … until it is enough, each of them to its PUBCOMP.
    pub fn publish_all(&mut self, work: &Work) {
        let mut flights = Flights::default();
        loop {
            self.connect();
            if self.publish_on_connection(work, &mut flights).is_ok() {
                work.last.store(flights.last, Ordering::Release);
                return;
            }
        }
    }

    fn publish_on_connection(&mut self, work: &Work, flights: &mut Flights) -> Result<(), Broken> {
        for (id, number, released) in flights.in_order() {
            if released { self.ack(PUBREL, id)? } else { self.publish(id, number, true)? }
        }
        loop {
            while flights.open.len() < WINDOW && !work.enough.load(Ordering::Acquire) {
                let (id, number) = flights.begin();
                self.publish(id, number, false)?;
            }
            if flights.open.is_empty() {
                return Ok(());
            }
            let Some((first, body)) = self.next()? else { continue };
            let (kind, id) = (first >> 4, identifier(&body));
            self.note(format_args!("< {} #{id}. {:?}", name_of(kind), body.get(2)));
            let Some(flight) = flights.open.get_mut(&id) else {
                panic!(
                    "{} for #{id}, which is not in use:\n{}",
                    name_of(kind),
                    self.story(&format!("#{id}."))
                )
            };
            match kind {
                PUBREC => {
                    assert!(body.get(2).is_none_or(|reason| *reason < 0x80), "refused: {body:?}");
                    flight.released = true;
                    self.ack(PUBREL, id)?;
                }
                PUBCOMP => {
                    assert!(flight.released, "PUBCOMP without PUBREC:\n{}", self.story(&format!("#{id}.")));
                    flights.open.remove(&id);
                    work.acknowledged.fetch_add(1, Ordering::AcqRel);
                }
                other => panic!("{} came to a publisher", name_of(other)),
            }
        }
    }

    /// Subscribes; when that is acknowledged, takes messages until the last one is there, and gives their numbers.
    pub fn receive_all(&mut self, work: &Work, subscribed: &AtomicBool) -> Vec<u64> {
        let mut inbox = Inbox::default();
        loop {
            self.connect();
            if self.receive_on_connection(work, subscribed, &mut inbox).is_ok() {
                return inbox.delivered;
            }
        }
    }

    fn receive_on_connection(
        &mut self,
        work: &Work,
        subscribed: &AtomicBool,
        inbox: &mut Inbox,
    ) -> Result<(), Broken> {
        if !subscribed.load(Ordering::Acquire) {
            let mut body = vec![0, 1];
            if self.version == 5 {
                body.push(0);
            }
            body.extend(text("plant/#"));
            body.push(2);
            self.send(&packet(0x82, &body))?;
        }
        loop {
            let last = work.last.load(Ordering::Acquire);
            // What would come twice has come before the last one, and nothing is left open.
            if last > 0 && inbox.delivered.last() == Some(&last) && inbox.open.is_empty() {
                return Ok(());
            }
            let Some((first, body)) = self.next()? else { continue };
            match first >> 4 {
                SUBACK => {
                    assert_eq!(body.last(), Some(&2));
                    subscribed.store(true, Ordering::Release);
                }
                PUBLISH => self.take_message(work, inbox, first, &body)?,
                PUBREL => {
                    let id = identifier(&body);
                    self.note(format_args!("< PUBREL #{id}."));
                    inbox.open.remove(&id);
                    self.ack(PUBCOMP, id)?;
                }
                other => panic!("{} came to a subscriber", name_of(other)),
            }
        }
    }

    fn take_message(&mut self, work: &Work, inbox: &mut Inbox, first: u8, body: &[u8]) -> Result<(), Broken> {
        assert_eq!(first & 0b111, 0b100, "QoS 2, not retained");
        let topic = usize::from(identifier(body));
        let id = identifier(&body[topic + 2..]);
        let payload = &body[topic + 4 + usize::from(self.version == 5)..];
        let number: u64 = std::str::from_utf8(&payload[..9]).unwrap().parse().unwrap();
        let again = first & 8 != 0;
        self.note(format_args!("< PUBLISH #{id}. number {number}.{}", if again { " again" } else { "" }));
        match inbox.open.get(&id) {
            None => {
                inbox.open.insert(id, number);
                inbox.delivered.push(number);
                work.delivered.fetch_add(1, Ordering::AcqRel);
            }
            // Neither another message before PUBREL, nor the same without saying so.
            Some(open) => assert!(
                *open == number && again,
                "#{id} is that of {open}:\n{}",
                self.story(&format!("#{id}."))
            ),
        }
        self.ack(PUBREC, id)
    }
}

fn name_of(kind: u8) -> &'static str {
    match kind {
        PUBLISH => "PUBLISH",
        PUBREC => "PUBREC",
        PUBREL => "PUBREL",
        PUBCOMP => "PUBCOMP",
        _ => "another packet",
    }
}

/// Messages of the publisher that are not done with.
#[derive(Default)]
struct Flights {
    open: BTreeMap<u16, Flight>,
    last: u64,
}

struct Flight {
    number: u64,
    released: bool,
}

impl Flights {
    fn begin(&mut self) -> (u16, u64) {
        let id = (1..).find(|id| !self.open.contains_key(id)).unwrap();
        self.last += 1;
        self.open.insert(id, Flight { number: self.last, released: false });
        (id, self.last)
    }

    /// As they were sent first.
    fn in_order(&self) -> Vec<(u16, u64, bool)> {
        let mut all: Vec<_> = self.open.iter().map(|(id, one)| (*id, one.number, one.released)).collect();
        all.sort_by_key(|(_, number, _)| *number);
        all
    }
}

/// What the subscriber has.
#[derive(Default)]
struct Inbox {
    delivered: Vec<u64>,
    /// Identifiers between PUBLISH and PUBREL, with the message of each.
    open: BTreeMap<u16, u64>,
}
