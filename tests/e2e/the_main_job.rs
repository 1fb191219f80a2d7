//! Store, forward, lose nothing: a device that publishes, a link that is cut, a host that is killed, and a receiver that
//! knows nothing of Holdfast but the property with the stable id.

use crate::support::{Broker, Dice, Edge, Link, Publisher, Receiver, number, wait_for, wait_within};
use serde_json::Value;
use std::{
    collections::HashSet,
    thread,
    time::{Duration, Instant},
};

const CUTS: usize = 3;
const KILLS: usize = 5;

/// What happens when so many messages are acknowledged.
#[derive(Clone, Copy, Debug)]
enum Blow {
    Cut,
    Mend,
    Kill,
}

#[test]
fn with_three_cuts_and_five_kills_the_receiver_has_every_message_in_order() {
    let count = number("HOLDFAST_E2E_MESSAGES", 5_000);
    let seed = number("HOLDFAST_E2E_SEED", 1);
    let mut dice = Dice::new(seed);
    let blows = draw(&mut dice, count);
    println!("seed {seed}, {count} messages: {blows:?}");

    let broker = Broker::start();
    let link = Link::to(broker.port());
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let mut edge = Edge::started(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\n\
         backoff_min = \"100 ms\"\nbackoff_max = \"500 ms\"",
        link.port()
    ));
    let begin = Instant::now();
    let mut publisher = Publisher::start(edge.gateway(), "plant/counter", count);

    for (at, blow) in blows {
        wait_within(patience(count), &format!("{at} messages are acknowledged, then: {blow:?}"), || {
            (publisher.acknowledged() >= at).then_some(())
        });
        // Not always right behind an acknowledgement.
        thread::sleep(Duration::from_micros(dice.between(0, 20_000)));
        match blow {
            Blow::Cut => link.cut(),
            Blow::Mend => link.mend(),
            Blow::Kill => {
                edge.kill();
                edge.launch();
            }
        }
    }
    wait_within(patience(count), "every message is acknowledged", || {
        (publisher.acknowledged() == count).then_some(())
    });
    let (acknowledged, connections) = publisher.finish();
    let published = begin.elapsed();
    wait_within(patience(count), "the receiver has the last message", || {
        receiver.seen().iter().rev().take(1_000).any(|message| number_of(message) == count).then_some(())
    });
    wait_within(patience(count), "nothing waits for upstream", || {
        (edge.waiting("upstream") == 0).then_some(())
    });
    let whole = begin.elapsed();

    let (once, repeated) = without_duplicates(receiver.seen());
    in_one_dense_series(&once);
    let mut numbers: Vec<u64> = Vec::new();
    let mut sent_again = 0;
    for message in &once {
        // The device sends again what was not acknowledged; such a copy is a message of its own for the edge.
        let number = number_of(message);
        match numbers.last() {
            Some(last) if number <= *last => sent_again += 1,
            _ => numbers.push(number),
        }
    }
    let gaps = numbers.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
    println!(
        "{count} messages, {CUTS} cuts, {KILLS} kills, {connections} connections of the device; acknowledged after \
         {:.1} s, received after {:.1} s; {repeated} duplicates by id, {sent_again} by the device, {gaps} gaps",
        published.as_secs_f64(),
        whole.as_secs_f64()
    );
    assert_eq!(acknowledged.iter().collect::<HashSet<_>>().len() as u64, count);
    assert_eq!(gaps, 0, "numbers are missing or out of order");
    assert_eq!((numbers.first(), numbers.last(), numbers.len() as u64), (Some(&1), Some(&count), count));
    assert!(edge.stop().success());
}

#[test]
fn what_a_module_sends_arrives_exactly_once_by_id_through_kills_and_a_cut() {
    const READINGS: usize = 1_000;
    let mut dice = Dice::new(number("HOLDFAST_E2E_SEED", 1));
    let broker = Broker::start();
    let link = Link::to(broker.port());
    let mut receiver = Receiver::start(broker.port(), "up/#");
    let mut edge = Edge::prepare(&format!(
        "[upstream]\nurl = \"mqtt://127.0.0.1:{}\"\nversion = \"5\"\ntopic = \"up/{{source}}\"\n\
         backoff_min = \"100 ms\"\nbackoff_max = \"500 ms\"",
        link.port()
    ));
    edge.plug("simulator", "simulator", "[config]\nperiod = \"20ms\"\nburst = 5\ncount = 1000\n");
    edge.start();
    for kill in 0..KILLS {
        let part = READINGS / (KILLS + 1);
        let at = part * kill + usize::try_from(dice.between(1, part as u64 / 2)).unwrap();
        wait_for(&format!("{at} readings upstream"), || (receiver.seen().len() >= at).then_some(()));
        // One kill while the link is down, with messages in the log and the simulator at work.
        if kill == 2 {
            link.cut();
            let before = edge.waiting("upstream");
            wait_for("readings wait", || (edge.waiting("upstream") > before + 20).then_some(()));
        }
        thread::sleep(Duration::from_micros(dice.between(0, 25_000)));
        edge.kill();
        edge.start();
        link.mend();
    }
    wait_for("the last reading", || {
        receiver.seen().iter().any(|message| number_of(message) == READINGS as u64).then_some(())
    });
    let (once, repeated) = without_duplicates(receiver.seen());
    in_one_dense_series(&once);
    let numbers: Vec<u64> = once.iter().map(number_of).collect();
    println!("{READINGS} readings, {KILLS} kills, 1 cut: {repeated} duplicates by id");
    // The module's counter, its output and its turn are one commit: no number is missing, and none has two ids.
    assert_eq!(numbers, (1..=READINGS as u64).collect::<Vec<_>>());
    assert!(edge.stop().success());
}

/// When what happens: by the count of acknowledged messages, so that it falls into the work on any machine.
fn draw(dice: &mut Dice, count: u64) -> Vec<(u64, Blow)> {
    let mut blows = Vec::new();
    let part = count * 85 / 100 / CUTS as u64;
    for cut in 0..CUTS as u64 {
        let at = count / 20 + part * cut + dice.between(0, part / 3);
        blows.push((at, Blow::Cut));
        blows.push((at + dice.between(part / 10, part / 2), Blow::Mend));
    }
    // Apart from each other, so that each hits a host at work and not one that is still starting.
    let part = count * 9 / 10 / KILLS as u64;
    for kill in 0..KILLS as u64 {
        blows.push((count / 20 + part * kill + dice.between(0, part * 2 / 3), Blow::Kill));
    }
    blows.sort_by_key(|(at, _)| *at);
    blows
}

/// What is left when each id counts once, and how many were more than that.
fn without_duplicates(seen: &[Value]) -> (Vec<Value>, usize) {
    let mut known = HashSet::new();
    let once: Vec<Value> = seen
        .iter()
        .filter(|message| known.insert(message["id"].as_str().expect("has an id")))
        .cloned()
        .collect();
    let repeated = seen.len() - once.len();
    (once, repeated)
}

/// The ids alone tell that nothing is missing: one series, sequences in order without a gap.
fn in_one_dense_series(once: &[Value]) {
    let ids: Vec<(&str, u64)> = once.iter().map(|message| split(message["id"].as_str().unwrap())).collect();
    let (series, first) = ids[0];
    for (position, (name, sequence)) in ids.iter().enumerate() {
        assert_eq!(
            (*name, *sequence),
            (series, first + position as u64),
            "the series breaks at arrival {position}"
        );
    }
}

fn split(id: &str) -> (&str, u64) {
    let (series, sequence) = id.rsplit_once('/').expect("an id ends with its sequence");
    (series, sequence.parse().unwrap())
}

fn number_of(message: &Value) -> u64 {
    let body: Value = serde_json::from_str(message["payload"].as_str().unwrap()).unwrap();
    body["number"].as_u64().unwrap()
}

/// A slow machine takes 200 messages a second at least.
fn patience(count: u64) -> Duration {
    Duration::from_secs(60 + count / 200)
}
