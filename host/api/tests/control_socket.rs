//! Stories of a client and a host over a real socket or pipe.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

mod fake;

use fake::Served;
use holdfast_api::{
    AskError, BindError, Client, Code, ConnectError, Item, Limits, ModuleAction, ModuleRequest, Request,
    Server, TailRequest,
};
use std::time::Duration;

fn tail() -> Request {
    Request::Tail(TailRequest::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_asks_is_answered_is_refused_and_asks_again() {
    let served = Served::start();
    let mut client = served.client().await;
    let [Item::Status(status)] = &client.ask_all(&Request::Status).await.unwrap()[..] else {
        panic!("no status")
    };
    assert_eq!(status.edge, "press-4");
    let restart = ModuleRequest { action: ModuleAction::Restart, module: Some("windwo".to_owned()) };
    let error = client.ask_all(&Request::Module(restart)).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no module windwo; see `holdfast list`");
    let counts = client.ask_all(&Request::Queues).await.unwrap();
    let wanted: Vec<Item> = (0..1000).map(Item::Count).collect();
    assert_eq!(counts, wanted, "every item, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_answer_ends_when_the_client_goes() {
    let served = Served::start();
    let mut client = served.client().await;
    let mut answers = client.ask(&tail()).await.unwrap();
    assert_eq!(answers.next().await.unwrap(), Some(Item::Skipped(1)));
    served.until(1, 1).await;
    assert!(matches!(client.ask(&Request::Status).await.err(), Some(AskError::Unfinished)));
    drop(client);
    served.until(1, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_does_not_read_is_cut_off_and_delays_nobody() {
    let limits = Limits { unread_max: Duration::from_millis(200), ..Limits::default() };
    let served = Served::with_limits(limits);
    let mut slow = served.client().await;
    let mut answers = slow.ask(&Request::Modules).await.unwrap();
    served.until(1, 1).await;
    let mut other = served.client().await;
    other.ask_all(&Request::Status).await.unwrap();
    served.until(2, 0).await;
    let end = loop {
        match answers.next().await {
            Ok(item) => assert!(item.is_some(), "an answer without end has ended"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, AskError::Closed | AskError::Unreadable(_)), "{end}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_too_many_is_told_that_the_host_is_busy_and_has_its_turn_later() {
    let served = Served::with_limits(Limits { connections_max: 1, ..Limits::default() });
    let mut first = served.client().await;
    first.ask_all(&Request::Status).await.unwrap();
    let error = served.client().await.ask_all(&Request::Status).await.unwrap_err();
    assert!(matches!(&error, AskError::Refused(refusal) if refusal.code == Code::Busy), "{error}");
    drop(first);
    while served.client().await.ask_all(&Request::Status).await.is_err() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_nothing_is_let_go() {
    let served = Served::with_limits(Limits { idle_max: Duration::from_millis(50), ..Limits::default() });
    let mut client = served.client().await;
    client.ask_all(&Request::Status).await.unwrap();
    let gone = async {
        while client.ask_all(&Request::Status).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_followers_gives_the_others_their_grace_and_removes_the_socket() {
    let served = Served::with_limits(Limits { grace: Duration::from_millis(50), ..Limits::default() });
    let (mut follower, mut hanging) = (served.client().await, served.client().await);
    let mut following = follower.ask(&tail()).await.unwrap();
    assert_eq!(following.next().await.unwrap(), Some(Item::Skipped(1)));
    let mut waiting = hanging.ask(&Request::Stop).await.unwrap();
    served.until(2, 2).await;
    served.stop.cancel();
    let error = following.next().await.unwrap_err();
    assert!(matches!(&error, AskError::Refused(refusal) if refusal.code == Code::Stopping), "{error}");
    assert!(matches!(waiting.next().await, Err(AskError::Closed)));
    let path = served.path.clone();
    let folder = served.folder.path().to_owned();
    served.ended().await;
    assert!(!path.exists(), "{}", folder.display());
    let error = Client::connect(&path).await.err().unwrap();
    assert!(matches!(error, ConnectError::NotRunning { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_host_the_client_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = Client::connect(&folder.path().join("control.sock")).await.err().unwrap();
    let said = error.to_string();
    assert!(said.contains("control.sock") && said.contains("start it with `holdfast run`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_host_is_refused_while_the_first_lives_and_takes_over_when_it_has_gone() {
    let served = Served::start();
    let error = Server::bind(&served.path).err().unwrap();
    assert!(matches!(error, BindError::AlreadyRunning { .. }), "{error}");
    assert!(error.to_string().starts_with("a host is running already at "), "{error}");
    served.client().await.ask_all(&Request::Status).await.unwrap();
    served.stop.cancel();
    let Served { folder, path, task, .. } = served;
    task.await.unwrap();
    assert!(Server::bind(&path).is_ok(), "{}", folder.path().display());
}
