//! Against a broker that keeps queued messages in a file: Mosquitto, when it is installed.
//!
//! A subscriber with a kept session is away; messages for it are published with QoS 1 and acknowledged; then the broker
//! is killed and started again, and the subscriber counts what it gets. Twice: saving on every change, and as installed.

use crate::{append, backlog, flash, flash::process_written_bytes, folder, row, slice};
use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const BYTES: usize = 256;
/// Messages under way at once, as many as the store's rows have producers.
const WINDOW: u64 = 64;
/// Longest time that the broker may say nothing.
const PATIENCE: Duration = Duration::from_secs(10);
const MESSAGES_MAX: u64 = 20_000;

struct Broker {
    process: Child,
    address: SocketAddr,
}

impl Broker {
    fn start(folder: &Path, saving: &str) -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = folder.join("mosquitto.conf");
        let text = format!(
            "listener {} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {}/\n\
             max_queued_messages 0\nmax_inflight_messages 0\nuser {}\n{saving}\n",
            port.port(),
            folder.display(),
            // It gives its rights away unless it is told whose to keep; the folder is ours.
            std::env::var("USER").unwrap_or_else(|_| "root".to_owned())
        );
        std::fs::write(&config, text).unwrap();
        let process = Command::new("mosquitto")
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let started = Instant::now();
        while TcpStream::connect(port).is_err() {
            assert!(started.elapsed() < PATIENCE, "mosquitto does not listen on {port}");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(Self { process, address: port })
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// As much of MQTT 3.1.1 as is needed.
struct Client {
    write: TcpStream,
    read: BufReader<TcpStream>,
}

impl Client {
    fn connect(address: SocketAddr, name: &str, clean: bool) -> Self {
        let write = TcpStream::connect(address).unwrap();
        write.set_nodelay(true).unwrap();
        write.set_read_timeout(Some(PATIENCE)).unwrap();
        let read = BufReader::new(write.try_clone().unwrap());
        let mut client = Self { write, read };
        let mut body = b"\x00\x04MQTT\x04".to_vec();
        body.extend([u8::from(clean) << 1, 0, 0]);
        text(&mut body, name.as_bytes());
        client.send(0x10, &body);
        assert_eq!(client.receive().map(|(kind, body)| (kind, body[1])), Some((0x20, 0)), "not let in");
        client
    }

    fn send(&mut self, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut length = body.len();
        while length > 127 {
            packet.push((length & 127) as u8 | 128);
            length >>= 7;
        }
        packet.push(length as u8);
        packet.extend(body);
        self.write.write_all(&packet).unwrap();
    }

    /// None when nothing comes any more.
    fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut byte = [0];
        self.read.read_exact(&mut byte).ok()?;
        let (kind, mut length, mut shift) = (byte[0], 0, 0);
        loop {
            self.read.read_exact(&mut byte).ok()?;
            length |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let mut body = vec![0; length];
        self.read.read_exact(&mut body).ok()?;
        Some((kind, body))
    }

    fn subscribe(&mut self) {
        let mut body = vec![0, 1];
        text(&mut body, b"readings");
        body.push(1);
        self.send(0x82, &body);
        assert_eq!(self.receive().map(|(kind, _)| kind), Some(0x90));
    }

    /// Publishes for so long, so many at once. Returns how many were acknowledged.
    fn publish(&mut self, time: Duration) -> u64 {
        let payload = append::body(BYTES, 5);
        let (started, mut sent, mut acknowledged) = (Instant::now(), 0, 0);
        loop {
            let goes_on = started.elapsed() < time && sent < MESSAGES_MAX;
            while goes_on && sent - acknowledged < WINDOW {
                let mut body = Vec::new();
                text(&mut body, b"readings");
                body.extend(((sent % 65_535) as u16 + 1).to_be_bytes());
                body.extend_from_slice(&payload);
                self.send(0x32, &body);
                sent += 1;
            }
            if sent == acknowledged {
                return acknowledged;
            }
            assert_eq!(self.receive().map(|(kind, _)| kind), Some(0x40), "no acknowledgement came");
            acknowledged += 1;
        }
    }

    /// Takes what waits. Ends when so many came, or nothing came for a while.
    fn count(&mut self, most: u64) -> u64 {
        self.write.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let mut count = 0;
        while count < most {
            let Some((kind, body)) = self.receive() else { break };
            if kind & 0xf0 == 0x30 {
                let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                self.send(0x40, &body[id..id + 2]);
                count += 1;
            }
        }
        count
    }
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text);
}

struct Found {
    rate: f64,
    /// Bytes written for each byte of payload.
    written: f64,
    acknowledged: u64,
    lost: u64,
}

fn measure(saving: &str) -> Option<Found> {
    let folder = folder();
    let broker = Broker::start(folder.path(), saving)?;
    Client::connect(broker.address, "away", false).subscribe();
    let process = broker.process.id().to_string();
    let before = process_written_bytes(&process);
    let started = Instant::now();
    let acknowledged = Client::connect(broker.address, "sender", true).publish(slice());
    let rate = acknowledged as f64 / started.elapsed().as_secs_f64();
    let written = (process_written_bytes(&process) - before) as f64 / (acknowledged * BYTES as u64) as f64;
    broker.kill();
    let broker = Broker::start(folder.path(), saving)?;
    let got = Client::connect(broker.address, "away", false).count(acknowledged);
    broker.kill();
    Some(Found { rate, written, acknowledged, lost: acknowledged - got })
}

pub fn persistence() {
    let Some(saving) = measure("autosave_on_changes true\nautosave_interval 1") else {
        return println!("against Mosquitto: skipped, it is not installed");
    };
    let Some(usual) = measure("") else { return };
    let ours = append::highest_rate();
    let our_written = flash::saturated();
    let (kept, of) = backlog::kept_after_a_kill(MESSAGES_MAX);
    let found = format!(
        "{:.0}x the rate [{ours:.0} to {:.0}/s], 1/{:.0} of the bytes written",
        ours / saving.rate,
        saving.rate,
        saving.written / our_written
    );
    let holds = ours >= 50.0 * saving.rate && our_written * 100.0 <= saving.written;
    row("against Mosquitto that saves on every change", &found, ">= 50x, <= 1/100", holds);
    let found = format!(
        "{} of {of} lost; Mosquitto as installed {} of {}, saving {} of {}",
        of - kept,
        usual.lost,
        usual.acknowledged,
        saving.lost,
        saving.acknowledged
    );
    row("acknowledged, then kill -9", &found, "0 lost", kept == of);
}
