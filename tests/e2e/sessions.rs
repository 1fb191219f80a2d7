//! Sessions, retained messages and wills through SIGKILL, with paho on both sides; and QoS 2 with a client that is
//! strict, and with MQTT.js.

use crate::support::{Dice, Edge, Role, Strict, USER, Work, python_says, wait_for};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

const NO_ROUTES: &str = "";

/// Kills and starts the edge a few times while `at_work`, each time when something has happened since; gives how often.
fn kill_while(edge: &mut Edge, seed: u64, mut progress: impl FnMut() -> Option<u64>) -> u32 {
    let mut dice = Dice::new(seed);
    let (mut kills, mut last) = (0, 0);
    while kills < 8 {
        let aim = last + dice.between(20, 200);
        let reached = wait_for("messages go on, or the work is done", || match progress() {
            None => Some(None),
            Some(now) => (now >= aim).then_some(Some(now)),
        });
        let Some(now) = reached else { break };
        last = now;
        edge.kill();
        edge.start();
        kills += 1;
    }
    kills
}

/// Publisher and subscriber at work through kills: each message comes. How many come twice is printed and not judged here: at a
/// second attempt to connect, paho forgets that a message of QoS 2 was taken and publishes it once more. Whether one comes
/// twice is judged with the strict client.
fn through_kills(version: &str, qos: u8, seed: u64) {
    const COUNT: u64 = 2500;
    let mut edge = Edge::started(NO_ROUTES);
    let (port, q) = (edge.gateway().to_string(), qos.to_string());
    let receiver = Role::start(&[&port, version, "receive", "r", "plant/#", &q, &COUNT.to_string()]);
    receiver.wait_for("connected");
    let mut publisher = Role::start(&[&port, version, "publish", "p", "plant/t", &q, &COUNT.to_string()]);
    let kills =
        kill_while(&mut edge, seed, || (!publisher.has_ended()).then(|| publisher.lines().len() as u64));
    let acknowledged: BTreeSet<u64> = publisher.finish().iter().map(|line| line.parse().unwrap()).collect();
    assert_eq!(acknowledged.len() as u64, COUNT);
    let printed = receiver.printed();
    let seen: Vec<u64> = numbers(&receiver.finish());
    assert!(kills >= 3, "only {kills} kills hit the work");
    assert!(
        printed.lines().filter(|line| *line == "connected, session present: True").count() >= 3,
        "the session was not there after a kill:\n{printed}"
    );
    let different: BTreeSet<u64> = seen.iter().copied().collect();
    assert!(different.iter().copied().eq(1..=COUNT), "{} of {COUNT} came", different.len());
    println!("{kills} kills, {} of {COUNT} came twice", seen.len() as u64 - COUNT);
    assert!(edge.stop().success());
}

fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Strict clients at work while the host is killed at any moment, also while it starts, and while they break connections
/// themselves: each message comes once, in its order.
fn exactly_once(version: u8, seed: u64) {
    let kills = from_environment("HOLDFAST_E2E_KILLS", 12);
    let seed = from_environment("HOLDFAST_E2E_SEED", seed);
    let mut edge = Edge::started(NO_ROUTES);
    let (work, subscribed, mut dice) = (Work::default(), AtomicBool::new(false), Dice::new(seed));
    let mut publisher = Strict::new(edge.gateway(), version, "strict-p", seed + 1);
    let mut subscriber = Strict::new(edge.gateway(), version, "strict-s", seed + 2);
    let seen = thread::scope(|scope| {
        let seen = scope.spawn(|| subscriber.receive_all(&work, &subscribed));
        wait_for("it has subscribed", || subscribed.load(Ordering::Acquire).then_some(()));
        let published = scope.spawn(|| publisher.publish_all(&work));
        for _ in 0..kills {
            // One of four while the host starts or its clients come back, the others while messages go.
            if dice.between(0, 4) > 0 {
                let of = if dice.between(0, 2) == 0 { &work.acknowledged } else { &work.delivered };
                let aim = of.load(Ordering::Acquire) + dice.between(1, 400);
                wait_for("messages go on", || {
                    let over = published.is_finished() || seen.is_finished();
                    (over || of.load(Ordering::Acquire) >= aim).then_some(())
                });
            }
            thread::sleep(Duration::from_micros(dice.between(0, 150_000)));
            edge.kill();
            edge.launch();
        }
        work.enough.store(true, Ordering::Release);
        published.join().unwrap();
        wait_for("the subscriber has the last message", || seen.is_finished().then_some(()));
        seen.join().unwrap()
    });
    let count = work.acknowledged.load(Ordering::Acquire);
    let odd = seen.iter().zip(1..).find(|(number, expected)| *number != expected);
    if let Some((number, expected)) = odd {
        let text = format!("number {number}.");
        panic!(
            "{number} came where {expected} was to come, of {count}:\n{}\n{}",
            publisher.story(&text),
            subscriber.story(&text)
        );
    }
    assert_eq!(seen.len() as u64, count);
    println!(
        "{count} messages once through {kills} kills, {} and {} connections",
        publisher.connections(),
        subscriber.connections()
    );
    assert!(publisher.connections() > kills / 2);
    wait_for("it answers", || edge.run(&["list"]).good.then_some(()));
    assert!(edge.stop().success());
}

#[test]
fn with_qos_2_every_message_comes_once_through_kills() {
    exactly_once(4, 7);
}

#[test]
fn with_qos_2_of_version_5_every_message_comes_once_through_kills() {
    exactly_once(5, 11);
}

#[test]
fn with_mqtt_js_and_qos_2_every_message_comes_once_through_kills() {
    const COUNT: u64 = 2000;
    let mut edge = Edge::started(NO_ROUTES);
    let port = edge.gateway().to_string();
    for version in ["3.1.1", "5"] {
        let receiver = Role::start_node(&[
            &port,
            version,
            "receive",
            &format!("r{version}"),
            "plant/#",
            &COUNT.to_string(),
        ]);
        receiver.wait_for("subscribed");
        let mut publisher = Role::start_node(&[
            &port,
            version,
            "publish",
            &format!("p{version}"),
            "plant/t",
            &COUNT.to_string(),
        ]);
        let kills =
            kill_while(&mut edge, 13, || (!publisher.has_ended()).then(|| publisher.lines().len() as u64));
        publisher.finish();
        let mut seen = numbers(&receiver.finish());
        println!("{} came, through {kills} kills", seen.len());
        seen.sort_unstable();
        assert!(kills >= 2, "only {kills} kills hit the work");
        assert!(seen.into_iter().eq(1..=COUNT), "each once");
    }
    assert!(edge.stop().success());
}

fn numbers(lines: &[String]) -> Vec<u64> {
    lines.iter().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect()
}

#[test]
fn with_qos_2_every_message_comes_through_kills() {
    through_kills("3.1.1", 2, 7);
}

#[test]
fn with_qos_2_of_version_5_every_message_comes_through_kills() {
    through_kills("5", 2, 11);
}

#[test]
fn with_qos_1_every_message_comes_through_kills() {
    through_kills("3.1.1", 1, 3);
}

#[test]
fn what_came_while_a_subscriber_was_away_is_there_after_kills() {
    const COUNT: u64 = 1500;
    let mut edge = Edge::started(NO_ROUTES);
    let port = edge.gateway().to_string();
    for (version, qos) in [("3.1.1", "1"), ("5", "2")] {
        python_says("session.py", &[&port, version, "leave", "away", "plant/#", qos]);
        let mut publisher =
            Role::start(&[&port, version, "publish", "p", "plant/t", qos, &COUNT.to_string()]);
        let kills =
            kill_while(&mut edge, 5, || (!publisher.has_ended()).then(|| publisher.lines().len() as u64));
        publisher.finish();
        edge.kill();
        edge.start();
        assert!(kills >= 2, "only {kills} kills hit the work");
        let receiver = Role::start(&[&port, version, "receive", "away", "plant/#", qos, &COUNT.to_string()]);
        let seen = numbers(&receiver.finish());
        let different: BTreeSet<u64> = seen.iter().copied().collect();
        assert!(different.iter().copied().eq(1..=COUNT), "{} of {COUNT} came", different.len());
        wait_for("nothing of it waits for the other version", || {
            (edge.json(&["status"])[0]["session_messages"] == 0).then_some(())
        });
    }
    assert!(edge.stop().success());
}

/// The session of a client as the operator sees it.
fn session(edge: &Edge, client: &str) -> Value {
    let all = edge.json(&["session", "list"]);
    all.into_iter().find(|one| one["client_id"] == client).unwrap_or_default()
}

#[test]
fn an_operator_sees_each_session_also_after_a_kill() {
    let mut edge = Edge::started(NO_ROUTES);
    let port = edge.gateway().to_string();
    python_says("session.py", &[&port, "5", "leave", "away", "plant/#", "2"]);
    let receiver = Role::start(&[&port, "3.1.1", "receive", "here", "plant/t", "1", "3"]);
    receiver.wait_for("connected");
    wait_for("its subscription is there", || (session(&edge, "here")["subscriptions"] == 1).then_some(()));
    Role::start(&[&port, "3.1.1", "publish", "p", "plant/t", "1", "3"]).finish();
    receiver.finish();
    edge.kill();
    edge.start();
    let away = session(&edge, "away");
    let expires = away["expires_in_s"].as_u64().unwrap();
    assert!((1..=3600).contains(&expires), "{away}");
    assert_eq!(
        (&away["user"], &away["connected"], &away["durable"]),
        (&USER.into(), &false.into(), &true.into())
    );
    assert_eq!(
        (&away["subscriptions"], &away["queued"], &away["in_flight"]),
        (&1.into(), &3.into(), &0.into())
    );
    wait_for("the other has acknowledged all", || (session(&edge, "here")["queued"] == 0).then_some(()));
    let shown = edge.run(&["session", "list"]).expect_good();
    assert!(shown.contains("away") && shown.contains("QUEUED"), "{shown}");
    let status = edge.run(&["status"]).expect_good();
    assert!(status.contains("3 messages for them"), "{status}");
    assert!(edge.stop().success());
}

#[test]
fn a_retained_message_and_its_removal_survive_kills() {
    let mut edge = Edge::started(NO_ROUTES);
    let port = edge.gateway().to_string();
    for n in 0..3 {
        for topic in ["plant/a", "plant/b"] {
            python_says("session.py", &[&port, "3.1.1", "say", "s", topic, "1", &format!("{n} of {topic}")]);
        }
        python_says("session.py", &[&port, "5", "say", "s", "plant/a", "1", ""]);
        edge.kill();
        edge.start();
        let receiver = Role::start(&[&port, "5", "receive", &format!("r{n}"), "plant/#", "1", "1"]);
        assert_eq!(
            receiver.finish(),
            [format!("plant/b {n} 1")],
            "the last of one topic, and none of the other"
        );
    }
    assert!(edge.stop().success());
}

#[test]
fn the_will_of_a_client_that_was_connected_when_the_host_was_killed_is_said() {
    let mut edge = Edge::started(NO_ROUTES);
    let port = edge.gateway().to_string();
    python_says("session.py", &[&port, "3.1.1", "leave", "mourner", "plant/will/#", "1"]);
    for (version, delay) in [("3.1.1", "0"), ("5", "0"), ("5", "2")] {
        let text = format!("will-{version}-{delay}");
        let topic = format!("plant/will/{version}/{delay}");
        let will = Role::start(&[&port, version, "will", "dying", &topic, &text, delay]);
        will.wait_for("connected");
        edge.kill();
        drop(will);
        edge.start();
        let started = std::time::Instant::now();
        let receiver = Role::start(&[&port, "3.1.1", "receive", "mourner", "plant/will/#", "1", "1"]);
        assert_eq!(receiver.finish(), [format!("{topic} {text} 0")]);
        let least = Duration::from_secs(delay.parse().unwrap());
        assert!(started.elapsed() + Duration::from_millis(500) >= least, "said before its delay was over");
    }
    edge.kill();
    edge.start();
    let receiver = Role::start(&[&port, "3.1.1", "receive", "mourner", "plant/will/#", "1", "1"]);
    python_says("session.py", &[&port, "3.1.1", "say", "s", "plant/will/end", "1", "end"]);
    assert_eq!(receiver.finish(), ["plant/will/end end 0"], "no will is said twice");
    assert!(edge.stop().success());
}

#[test]
fn a_subscriber_that_never_comes_back_costs_bounded_memory_and_others_do_not_wait() {
    let mut edge = Edge::started("");
    let port = edge.gateway().to_string();
    python_says("session.py", &[&port, "3.1.1", "leave", "gone", "plant/#", "1"]);
    let publisher = Role::start(&[&port, "3.1.1", "publish", "p", "plant/t", "1", "12000"]);
    publisher.finish();
    // 10,000 messages wait for one session at most; the oldest go.
    let status = &edge.json(&["status"])[0];
    assert_eq!(status["session_messages"], 10_000, "{status}");
    edge.wait_log("a session loses its oldest messages");
    edge.kill();
    edge.start();
    let receiver = Role::start(&[&port, "3.1.1", "receive", "gone", "plant/#", "1", "10000"]);
    assert!(numbers(&receiver.finish()).into_iter().eq(2001..=12_000));
    assert!(edge.stop().success());
}
