//! What hub processes ask one another: a question goes to the process that attends to a device, over a subject of its own.
//!
//! Who attends is known to the servers by the subscriptions; a device to which nobody attends is told at once.

use crate::cluster::{Cluster, token};
use async_nats::{RequestErrorKind, client::Request};
use bytes::Bytes;
use futures_util::StreamExt;
use holdfast_hub::peers::{AskFault, Asked, Attendance, Peers, Question};
use holdfast_types::Name;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Questions of other processes that wait for this hub; one more waits at the servers.
const QUESTIONS_MAX: usize = 1024;

/// The other processes of the fleet.
pub struct NatsPeers {
    cluster: Arc<Cluster>,
    ask: mpsc::Sender<Question>,
    questions: Mutex<Option<mpsc::Receiver<Question>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl NatsPeers {
    pub(crate) fn new(cluster: Arc<Cluster>, tasks: TaskTracker, stop: CancellationToken) -> Self {
        let (ask, questions) = mpsc::channel(QUESTIONS_MAX);
        Self { cluster, ask, questions: Mutex::new(Some(questions)), tasks, stop }
    }

    fn subject(&self, device: &Name) -> String {
        format!("{}.at.{}", self.cluster.prefix, token(device.as_str()))
    }
}

impl Peers for NatsPeers {
    fn attend(&self, device: &Name) -> Attendance {
        let over = self.stop.child_token();
        let (cluster, subject, ask, until) =
            (self.cluster.clone(), self.subject(device), self.ask.clone(), over.clone());
        let device = device.clone();
        self.tasks.spawn(async move {
            let mut asked = match cluster.client.subscribe(subject).await {
                Ok(asked) => asked,
                Err(error) => {
                    tracing::warn!(%device, %error, "other hub processes cannot reach a device through this one");
                    return;
                }
            };
            loop {
                let message = tokio::select! {
                    () = until.cancelled() => return,
                    message = asked.next() => message,
                };
                let Some(message) = message else { return };
                let (answer, answered) = oneshot::channel();
                let question = Question { device: device.clone(), body: message.payload, answer };
                if ask.send(question).await.is_err() {
                    return;
                }
                let (Some(reply), client) = (message.reply, cluster.client.clone()) else { continue };
                tokio::spawn(async move {
                    // A question that is not answered is over after its time.
                    if let Ok(answer) = answered.await {
                        let _ = client.publish(reply, answer).await;
                    }
                });
            }
        });
        Attendance::new(over.drop_guard())
    }

    fn ask(&self, device: &Name, body: Bytes, within: Duration) -> Asked<'_> {
        let subject = self.subject(device);
        Box::pin(async move {
            let request = Request::new().payload(body).timeout(Some(within));
            match self.cluster.client.send_request(subject, request).await {
                Ok(answer) => Ok(answer.payload),
                Err(error) => Err(match error.kind() {
                    RequestErrorKind::NoResponders => AskFault::Nobody,
                    RequestErrorKind::TimedOut => AskFault::TimedOut(within),
                    _ => AskFault::Failed(error.to_string()),
                }),
            }
        })
    }

    fn questions(&self) -> Option<mpsc::Receiver<Question>> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
