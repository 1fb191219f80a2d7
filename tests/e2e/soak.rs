//! A soak: edge and two hubs under random blows for as long as one lets it run. A device publishes all the time and keeps its own
//! account of what was acknowledged to it; consumers read the streams of both hubs. In the end each acknowledged message is
//! in the union of the streams, each stream has it at most once, and all of it is in order.
//!
//! ```sh
//! HOLDFAST_SOAK_SECONDS=1200 HOLDFAST_SOAK_SEED=7 cargo nextest run -p holdfast --test e2e soak --no-capture
//! ```

use crate::support::{Above, Dice, Edge, Link, Publisher, number, wait_for, wait_within};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs, thread,
    time::{Duration, Instant},
};

/// Messages of the device in a second.
const RATE: u64 = 200;

/// How long the last message may take to arrive when all blows are over.
const PATIENCE: Duration = Duration::from_secs(120);

/// A hub, the link to it, and the consumer of its stream.
struct Side {
    hub: Above,
    link: Link,
    /// The next offset.
    next: u64,
    /// The sequence of what this stream had last, by the life of the edge's store.
    last: BTreeMap<String, u64>,
    is_up: bool,
}

/// What consumers have seen of both streams: the device's number by the stable identity.
#[derive(Default)]
pub struct Union {
    numbers: BTreeMap<(String, u64), u64>,
    events: u64,
}

impl Side {
    fn new(hub: Above) -> Self {
        let link = Link::to(hub.port());
        Self { hub, link, next: 0, last: BTreeMap::new(), is_up: true }
    }

    fn down(&mut self) {
        if self.is_up {
            self.hub.kill();
            self.is_up = false;
        }
    }

    fn up(&mut self) {
        if !self.is_up {
            self.hub.start();
            self.is_up = true;
        }
    }

    /// Reads on where the consumer was, and checks the order.
    fn read(&mut self, union: &mut Union) {
        if !self.is_up {
            return;
        }
        let from = self.next.to_string();
        for event in self.hub.json(&["monitor", "--from", &from, "--no-follow"]) {
            let offset = event["offset"].as_u64().unwrap();
            assert_eq!(offset, self.next, "offsets are dense");
            self.next = offset + 1;
            let (life, sequence, number) = read(&event);
            if let Some(last) = self.last.insert(life.clone(), sequence) {
                assert!(last < sequence, "{sequence} stands behind {last} in the stream: {event}");
            }
            union.take(life, sequence, number);
        }
    }
}

/// The life of the edge's store, the sequence and the device's number.
pub fn read(event: &Value) -> (String, u64, u64) {
    let (life, sequence) =
        event["id"].as_str().unwrap_or_else(|| panic!("{event}")).rsplit_once('/').unwrap();
    (life.to_owned(), sequence.parse().unwrap(), event["body"]["number"].as_u64().unwrap())
}

impl Union {
    /// Notes an event.
    pub fn take(&mut self, life: String, sequence: u64, number: u64) {
        let known = self.numbers.insert((life, sequence), number);
        assert!(
            known.is_none_or(|known| known == number),
            "the identity {sequence} is of {known:?} and {number}"
        );
        self.events += 1;
    }

    /// The highest number up to which all are there.
    pub fn complete_to(&self) -> u64 {
        let (mut last, mut before) = (0, None);
        for ((life, sequence), number) in &self.numbers {
            if before.as_ref().is_some_and(|(l, s)| (l, s + 1) != (life, *sequence)) {
                return last;
            }
            before = Some((life.clone(), *sequence));
            // The device sends again what the edge could not acknowledge; such a copy is a message of its own.
            assert!(*number <= last + 1, "{number} stands behind {last}");
            last = last.max(*number);
        }
        last
    }
}

#[test]
fn soak_each_acknowledged_message_is_there_once_and_in_order_whatever_dies() {
    let (seconds, seed) = (number("HOLDFAST_SOAK_SECONDS", 25), number("HOLDFAST_SOAK_SEED", 1));
    let mut dice = Dice::new(seed);
    let first = Above::named("hub-a.test", "");
    let second = Above::following("hub-b.test", &first);
    let (mut first, mut second) = (Side::new(first), Side::new(second));
    let above = format!(
        "hubs = [{}, {}]\nfailover_after = \"1 s\"\nreturn_after = \"1 s\"\n[routes]\nup = 'FROM /messages/* INTO $upstream'\n",
        first.hub.entry(&first.link, 1),
        second.hub.entry(&second.link, 2)
    );
    let mut edge = first.hub.edge_above(&above, &[], "");
    first.hub.add(&["sensor-1", "--parent", "edge-1"]);
    wait_for("the second hub knows the device", || second.hub.knows("sensor-1").then_some(()));
    edge.start();
    let count = seconds * RATE;
    let mut publisher = Publisher::start_paced(edge.gateway(), "plant/counter", count, RATE);
    let mut union = Union::default();
    let mut blows = BTreeMap::<&str, u64>::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        let blow = strike(&mut dice, &mut edge, &mut first, &mut second);
        *blows.entry(blow).or_default() += 1;
        thread::sleep(Duration::from_millis(dice.between(100, 2_000)));
        // Not before each blow: what nobody has read yet is what a dying hub takes with it.
        if dice.between(0, 3) == 0 {
            first.read(&mut union);
            second.read(&mut union);
        }
    }
    wait_for("the edge answers", || edge.run(&["list"]).good.then_some(()));
    wait_within(PATIENCE, "the device is done", || (publisher.acknowledged() == count).then_some(()));
    let (acknowledged, connections) = publisher.finish();
    assert_eq!(acknowledged.len() as u64, count);
    wait_within(PATIENCE, "all that was acknowledged is at the consumers", || {
        first.read(&mut union);
        second.read(&mut union);
        (union.complete_to() == count).then_some(())
    });
    println!(
        "seed {seed}, {seconds} s: {count} messages acknowledged over {connections} connections of the device, {} in the union, \
         {} read at both hubs together, last offsets {} and {}; blows {blows:?}",
        union.numbers.len(),
        union.events,
        first.next,
        second.next
    );
    let dead: u64 = edge
        .json(&["queue", "list"])
        .iter()
        .filter(|queue| queue["log"].as_str().is_some_and(|log| log.contains("dead")))
        .map(|queue| queue["waiting"].as_u64().unwrap())
        .sum();
    assert_eq!(dead, 0, "nothing was given up");
    assert!(edge.stop().success());
}

/// One blow, with all standing again at its end.
fn strike(dice: &mut Dice, edge: &mut Edge, first: &mut Side, second: &mut Side) -> &'static str {
    let pause = |low, high, dice: &mut Dice| thread::sleep(Duration::from_millis(dice.between(low, high)));
    match dice.between(0, 9) {
        0 => {
            first.link.cut();
            second.link.cut();
            pause(0, 300, dice);
            first.link.mend();
            second.link.mend();
            "both links cut"
        }
        1 => {
            first.link.cut();
            pause(1_200, 3_000, dice);
            first.link.mend();
            "the link to the first hub cut for longer"
        }
        2 => {
            edge.kill();
            pause(0, 500, dice);
            edge.launch();
            "edge killed"
        }
        3 => {
            first.down();
            pause(0, 3_000, dice);
            first.up();
            "first hub killed"
        }
        4 => {
            second.down();
            pause(0, 3_000, dice);
            second.up();
            "second hub killed"
        }
        5 => {
            first.down();
            edge.kill();
            second.down();
            edge.launch();
            first.up();
            second.up();
            "all killed"
        }
        6 | 7 => {
            let to = if dice.between(0, 2) == 0 { "hub-a.test" } else { "hub-b.test" };
            // An edge that has just been killed does not hear it.
            let _ = edge.run(&["upstream", "--use", to]);
            pause(0, 1_500, dice);
            let _ = edge.run(&["upstream", "--use", "auto"]);
            "told where to go"
        }
        _ => {
            second.down();
            fs::remove_dir_all(second.hub.folder().join("data")).unwrap();
            // Edges are let in when it has the registry again.
            second.link.cut();
            (second.next, second.last) = (0, BTreeMap::new());
            second.up();
            wait_for("the new hub has the registry", || second.hub.knows("sensor-1").then_some(()));
            second.link.mend();
            "second hub lost with its disk"
        }
    }
}
