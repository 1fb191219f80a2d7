//! The backend on JetStream keeps what every backend must keep, and says what is wrong with the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

#[path = "../../net/tests/authority/mod.rs"]
mod authority;
#[path = "../../hub/tests/contract/mod.rs"]
mod contract;
mod nats;

use authority::{Authority, VALID};
use bytes::Bytes;
use contract::Maker;
use holdfast_hub::backend::{Backend, BackendError, Space, Write};
use holdfast_jetstream::{JetStream, JetStreamConfig, OpenError, User};
use holdfast_types::Text;
use nats::Nats;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

/// One server, and a process on it after the other.
struct OneServer {
    nats: Nats,
}

impl OneServer {
    fn new() -> Self {
        Self { nats: Nats::start(1) }
    }
}

impl Maker for OneServer {
    async fn open(&mut self) -> Arc<dyn Backend> {
        Arc::new(JetStream::open(&self.nats.config()).await.unwrap())
    }
}

contract!(OneServer::new());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_process_writes_the_others_hear_in_order_and_of_two_that_write_at_once_one_wins() {
    let nats = Nats::start(1);
    let one = JetStream::open(&nats.config()).await.unwrap();
    let two = JetStream::open(&nats.config()).await.unwrap();
    let mut heard = two.heard().await.unwrap().unwrap();
    let mut revisions = Vec::new();
    for n in 0..20 {
        let writes = vec![
            Write::set(Space::Twins, "a", n.to_string()),
            Write::set(Space::Twins, &format!("b{n}"), "x"),
        ];
        revisions.push(one.put(writes).await.unwrap());
    }
    for (n, revision) in revisions.into_iter().enumerate() {
        let changes = heard.recv().await.unwrap();
        assert_eq!(changes.len(), 2, "a batch is heard whole");
        assert_eq!(
            (changes[0].revision, changes[0].value.as_deref()),
            (revision, Some(n.to_string().as_bytes()))
        );
        let before = changes[0].before.as_ref().map(|stored| stored.value.to_vec());
        assert_eq!(before, (n > 0).then(|| (n - 1).to_string().into_bytes()));
    }
    assert_eq!(two.get(Space::Twins, "a").await.unwrap().unwrap().value, "19");
    // What a process writes itself it does not hear.
    two.put(vec![Write::set(Space::Twins, "a", "two")]).await.unwrap();
    one.put(vec![Write::set(Space::Twins, "a", "one")]).await.unwrap();
    let changes = heard.recv().await.unwrap();
    assert_eq!(changes[0].value.as_deref(), Some(b"one".as_slice()));
    // Both count; each count is made once.
    let both = [Arc::new(one), Arc::new(two)];
    let mut writers = tokio::task::JoinSet::new();
    for one in both.iter().cycle().take(6) {
        let backend = one.clone();
        writers.spawn(async move {
            let mut done = 0;
            while done < 20 {
                let found = backend.get(Space::Hub, "count").await.unwrap();
                let count: u32 =
                    found.as_ref().map_or(0, |s| std::str::from_utf8(&s.value).unwrap().parse().unwrap());
                let expect = found.map_or(holdfast_hub::backend::Expect::Absent, |stored| {
                    holdfast_hub::backend::Expect::Revision(stored.revision)
                });
                match backend
                    .put(vec![Write::set(Space::Hub, "count", (count + 1).to_string()).when(expect)])
                    .await
                {
                    Ok(_) => done += 1,
                    Err(BackendError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
    }
    writers.join_all().await;
    // What another process has written last is there when it has been heard of.
    let mut news = both[0].revision();
    while both[0].get(Space::Hub, "count").await.unwrap().unwrap().value != "120" {
        tokio::time::timeout(std::time::Duration::from_secs(30), news.changed()).await.unwrap().unwrap();
    }
}

async fn fault(config: &JetStreamConfig) -> OpenError {
    JetStream::check(config).await.expect_err("this cannot be used")
}

#[tokio::test]
async fn what_is_wrong_with_the_servers_is_said() {
    let mut nats = Nats::start(1);
    let good = nats.config();
    assert!(JetStream::check(&good).await.unwrap().contains("one copy"));
    let bad = JetStreamConfig { servers: vec!["nats://a b".to_owned()], ..good.clone() };
    assert!(matches!(fault(&bad).await, OpenError::Address { .. }));
    let alone = JetStreamConfig { replicas: 3, prefix: "other".to_owned(), ..good.clone() };
    let error = fault(&alone).await;
    assert!(matches!(&error, OpenError::Stream { name, .. } if name == "other-events"), "{error}");
    assert!(error.to_string().contains("storage.replicas"), "{error}");
    nats.kill(0);
    let error = fault(&good).await;
    assert!(matches!(&error, OpenError::NoServer { .. }), "{error:?}");

    let plain = Nats::with(1, "no-jetstream");
    let error = fault(&plain.config()).await;
    assert!(matches!(&error, OpenError::NoJetStream(_)), "{error:?}");

    let closed = Nats::with(1, "authorization { user: hub, password: secret }");
    assert_eq!(fault(&closed.config()).await, OpenError::NotLetIn);
    let user = |password: &str| Some(User { name: "hub".to_owned(), password: password.to_owned() });
    assert_eq!(fault(&JetStreamConfig { user: user("wrong"), ..closed.config() }).await, OpenError::NotLetIn);
    JetStream::check(&JetStreamConfig { user: user("secret"), ..closed.config() }).await.unwrap();
}

/// Greets as a server of a version does, and has nobody who answers what is asked.
async fn greeting(version: &'static str) -> String {
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", door.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((socket, _)) = door.accept().await {
            let (lines, mut answers) = socket.into_split();
            let info = format!(
                "INFO {{\"server_id\":\"a\",\"server_name\":\"a\",\"host\":\"a\",\"port\":1,\"version\":\"{version}\",\"proto\":1,\"go\":\"\",\"headers\":true,\"max_payload\":1048576,\"client_id\":1}}\r\n"
            );
            answers.write_all(info.as_bytes()).await.unwrap();
            let mut lines = BufReader::new(lines).lines();
            let mut subscription = String::new();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut words = line.split(' ');
                let answer = match (words.next(), words.nth(1)) {
                    (Some("PING"), _) => "PONG\r\n".to_owned(),
                    (Some("SUB"), Some(id)) => {
                        subscription = id.to_owned();
                        continue;
                    }
                    (Some("PUB"), Some(to)) => {
                        format!("HMSG {to} {subscription} 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
                    }
                    _ => continue,
                };
                answers.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    });
    url
}

#[tokio::test]
async fn servers_whose_copies_can_come_apart_are_refused_unless_one_copy_is_enough() {
    let refused = async |version: &'static str, replicas: usize| {
        JetStream::open(&nats::config(vec![greeting(version).await], replicas)).await.err().unwrap()
    };
    let old = refused("2.8.4", 1).await;
    assert!(matches!(&old, OpenError::TooOld { found } if found == "2.8.4"), "{old}");
    let apart = refused("2.10.29", 3).await;
    assert!(matches!(&apart, OpenError::TooOldForCopies { found } if found == "2.10.29"), "{apart}");
    assert!(apart.to_string().ends_with("update all servers, or set storage.replicas = 1"), "{apart}");
    // Those that will do are asked for more, which this one does not answer.
    for (version, replicas) in [("2.10.29", 1), ("2.11.0", 3)] {
        let error = refused(version, replicas).await;
        assert!(matches!(&error, OpenError::NoJetStream(_)), "{version}, {replicas}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_each_side_shows_who_it_is() {
    let (home, stranger) = (Authority::new("home"), Authority::new("stranger"));
    let (server, own, other) =
        (home.issue("127.0.0.1", VALID), home.issue("hub", VALID), stranger.issue("hub", VALID));
    let more = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}\n\
         authorization {{ user: hub, password: secret }}",
        server.certificates,
        server.key,
        home.root()
    );
    let nats = Nats::with(1, &more);
    let good = JetStreamConfig {
        servers: nats.urls().iter().map(|url| url.replace("nats://", "tls://")).collect(),
        user: Some(User { name: "hub".to_owned(), password: "secret".to_owned() }),
        ca_file: Some(home.root()),
        certificate: Some((own.certificates, own.key)),
        ..nats.config()
    };
    let backend = JetStream::open(&good).await.unwrap();
    backend.put(vec![Write::set(Space::Hub, "who", "hub")]).await.unwrap();
    backend.close().await;
    let backend = JetStream::open(&good).await.unwrap();
    assert_eq!(backend.get(Space::Hub, "who").await.unwrap().unwrap().value, "hub");

    let wrong = User { name: "hub".to_owned(), password: "wrong".to_owned() };
    let wrong = JetStreamConfig { user: Some(wrong), ..good.clone() };
    assert_eq!(fault(&wrong).await, OpenError::NotLetIn);
    for (what, bad) in [
        ("a server of another authority", JetStreamConfig { ca_file: Some(stranger.root()), ..good.clone() }),
        ("no certificate", JetStreamConfig { certificate: None, ..good.clone() }),
        (
            "a certificate of another authority",
            JetStreamConfig { certificate: Some((other.certificates, other.key)), ..good.clone() },
        ),
    ] {
        let error = fault(&bad).await;
        assert!(matches!(&error, OpenError::Tls { .. }), "{what}: {error:?}");
    }
}

async fn all(of: &JetStream) -> Vec<(Text, u64, Bytes)> {
    let listed = of.list(Space::Twins, "", None, 1000).await.unwrap();
    listed.into_iter().map(|(key, one)| (key, one.revision, one.value)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_log_of_documents_becomes_a_snapshot_from_which_processes_start() {
    const CHANGES: u64 = 2500;
    let nats = Nats::start(1);
    let config = JetStreamConfig { snapshot_after: 400, ..nats.config() };
    let (one, two) = (JetStream::open(&config).await.unwrap(), JetStream::open(&config).await.unwrap());
    // Large enough for two chunks, which a change more does not make longer.
    for n in 0..3 {
        one.put(vec![Write::set(Space::Twins, &format!("large-{n}"), "x".repeat(200_000))]).await.unwrap();
    }
    let mut last = 0;
    for n in 0..CHANGES {
        let writer = if n % 2 == 0 { &one } else { &two };
        let writes = vec![
            Write::set(Space::Twins, &format!("d-{}", n % 50), format!("{n} {}", "y".repeat(2000))),
            Write::delete(Space::Twins, &format!("d-{}", (n + 1) % 50)),
        ];
        last = writer.put(writes).await.unwrap();
    }
    let servers = async_nats::connect(nats.urls()).await.unwrap();
    let servers = async_nats::jetstream::new(servers);
    let info = async |name: &str| servers.get_stream(name).await.unwrap().get_info().await.unwrap().state;
    let end = std::time::Instant::now() + std::time::Duration::from_secs(30);
    // The log is let go behind a snapshot, and the snapshot before with it.
    let log = loop {
        let (log, snapshots) = (info("holdfast-documents").await, info("holdfast-snapshots").await);
        if log.first_sequence > 1 && (3..=4).contains(&snapshots.messages) {
            break log;
        }
        assert!(std::time::Instant::now() < end, "{log:?} {snapshots:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(log.messages < CHANGES, "{log:?}");
    let three = JetStream::open(&config).await.unwrap();
    assert_eq!(*three.revision().borrow(), last);
    let (found, expected) = (all(&three).await, all(&one).await);
    assert_eq!(found, expected);
    assert!(found.len() > 10, "{}", found.len());
    // It goes on with the others.
    let writes = vec![Write::set(Space::Twins, "d-0", "three")];
    let revision = three.put(writes).await.unwrap();
    let mut news = one.revision();
    tokio::time::timeout(std::time::Duration::from_secs(30), news.wait_for(|seen| *seen >= revision))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(one.get(Space::Twins, "d-0").await.unwrap().unwrap().value, "three");
}
