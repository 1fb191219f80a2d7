//! A host that plays its part, a served socket in a folder of its own, and waiting for a state.

#![allow(dead_code, reason = "each test file uses its part")]

use holdfast_api::{Answer, Client, Code, Host, Item, Items, Limits, Refusal, Request, Server, StatusItem};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest wait for a state, far more than any machine needs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers `status` at once; floods `modules` without end; follows `tail` with one item and then silence; says no to the
/// rest. Counts the answers that are under way.
#[derive(Default)]
pub struct FakeHost {
    pub under_way: Arc<AtomicUsize>,
    pub begun: Arc<AtomicUsize>,
}

struct UnderWay(Arc<AtomicUsize>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Host for FakeHost {
    fn answer(&self, request: Request, items: Items) -> Answer<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let guard = UnderWay(Arc::clone(&self.under_way));
        Box::pin(async move {
            let _guard = guard;
            match request {
                Request::Status => {
                    let status = StatusItem { edge: "press-4".to_owned(), ..StatusItem::default() };
                    items.send(Item::Status(status)).await?;
                    Ok(())
                }
                Request::Queues => {
                    for number in 0..1000 {
                        items.send(Item::Count(number)).await?;
                    }
                    Ok(())
                }
                Request::Modules => loop {
                    items.send(Item::Done("x".repeat(4096))).await?;
                },
                Request::Tail(_) => {
                    items.send(Item::Skipped(1)).await?;
                    std::future::pending().await
                }
                Request::Stop => std::future::pending().await,
                _ => {
                    Err(Refusal::new(Code::NotFound, "there is no module windwo")
                        .with_fix("see `holdfast list`"))
                }
            }
        })
    }
}

/// A served socket.
pub struct Served {
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    pub stop: CancellationToken,
    pub under_way: Arc<AtomicUsize>,
    pub begun: Arc<AtomicUsize>,
    pub task: JoinHandle<()>,
}

impl Served {
    pub fn start() -> Self {
        Self::with_limits(Limits::default())
    }

    pub fn with_limits(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/control.sock");
        let server = Server::bind(&path).unwrap().with_limits(limits);
        let host = FakeHost::default();
        let (under_way, begun) = (Arc::clone(&host.under_way), Arc::clone(&host.begun));
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.serve(Arc::new(host), stop.clone()));
        Self { folder, path, stop, under_way, begun, task }
    }

    pub async fn client(&self) -> Client {
        Client::connect(&self.path).await.unwrap()
    }

    /// Waits until so many answers have begun, and so many are under way.
    pub async fn until(&self, begun: usize, under_way: usize) {
        let state = || (self.begun.load(Ordering::SeqCst), self.under_way.load(Ordering::SeqCst));
        let reached = async {
            while state() != (begun, under_way) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let result = tokio::time::timeout(PATIENCE, reached).await;
        assert!(result.is_ok(), "begun and under way: {:?}, wanted {:?}", state(), (begun, under_way));
    }

    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.expect("the server ends").unwrap();
    }
}
