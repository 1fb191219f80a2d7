//! The process is killed at any moment: messages, what was sent, and state agree, as if each message was handled once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::large_futures,
    reason = "a test that cannot go on says so by ending"
)]

mod support;

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::Plan;

const FOLDER: &str = "HOLDFAST_TEST_CRASH_FOLDER";
const MESSAGES: usize = 2_000;
const KILLS: u64 = 5;

/// Not a story of its own: the process that the test below kills. It runs an edge in the folder that it is given.
#[test]
fn the_edge_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Arc::new(support::Folder::of(PathBuf::from(folder)));
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
        let edge = Plan::new(&["m"]).in_folder(&folder).start().await;
        edge.until_running("m").await;
        println!("running");
        std::future::pending::<()>().await;
        drop(edge);
    });
}

#[test]
fn after_a_kill_each_message_has_had_its_effect_once() {
    let folder = Arc::new(support::Folder::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // The messages are all there before the module is.
        let edge = Plan::new(&["m"]).in_folder(&folder).start().await;
        let plugins = edge.plugins();
        for n in 1..=MESSAGES {
            let (broker, n) = (edge.broker.clone(), n.to_string());
            let published =
                broker.publish(support::feeder("m"), holdfast_types::Message::new(n.into_bytes()));
            published.await.unwrap();
        }
        edge.stop().await;
        support::install(&plugins, "m", "keyvalue_counter", "[limits]\ninbox_messages = 7\n");
    });
    for kill in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_edge_that_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert!(lines.any(|line| line.unwrap().contains("running")));
        std::thread::sleep(Duration::from_millis(3 + 5 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    runtime.block_on(async {
        let mut edge = Plan::new(&["m"]).in_folder(&folder).start().await;
        for n in 1..=MESSAGES {
            assert_eq!(edge.received().await.1, format!("{n} {n}"));
        }
        assert!(edge.nothing_more());
        edge.stop().await;
    });
}
