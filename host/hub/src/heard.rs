//! Several processes as one hub: what another one has changed is taken, and who is connected elsewhere is reached there.
//!
//! The storage tells every batch of documents that another process has written, in order. What follows from it in memory, and
//! for those who are connected here, happens here; whoever wrote it has done the same for its own. Nothing that is stored
//! follows from hearing alone, but what an edge should run that is linked here or behind one that is, since two processes may have changed tags and
//! deployments at once.

use crate::{
    backend::{DocumentChange, Space},
    down::EDGE_TIME,
    error::HubError,
    hub::{Hub, lock},
    peers::{AskFault, Question},
};
use bytes::Bytes;
use holdfast_broker::MethodTimes;
use holdfast_links::Link;
use holdfast_types::{Identity, Name};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How long the process that an edge was linked to before may take to let it go.
const YIELD_TIME: Duration = Duration::from_secs(3);

/// After how long all servers know to which processes an edge is linked.
const KNOWN_WITHIN: Duration = Duration::from_secs(2);

/// How often it is looked whether the last messages of an edge are stored.
const LOOK: Duration = Duration::from_millis(5);

impl Hub {
    /// Takes what other processes change, until the hub stops.
    pub(crate) async fn hear(self: Arc<Self>) {
        let mut news = self.backend.revision();
        loop {
            // IMPORTANT: seen before it is looked, so that what comes meanwhile is looked for again.
            news.borrow_and_update();
            self.catch_up().await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                changed = news.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Takes what the storage has told by now.
    pub(crate) async fn catch_up(&self) {
        let mut heard = self.heard.lock().await;
        while let Some(batch) = heard.as_mut().and_then(|heard| heard.try_recv().ok()) {
            // The storage may tell several batches at once; each leads to a revision of its own.
            for batch in batch.chunk_by(|one, next| one.revision == next.revision) {
                self.take_heard(batch).await;
            }
        }
    }

    async fn take_heard(&self, batch: &[DocumentChange]) {
        let before = self.directory.changes();
        let applied = self.directory.heard(batch).await;
        if self.directory.changes() != before {
            self.cut_off(batch);
        }
        self.tell(self.with_assigned(applied));
        for change in batch {
            match change.space {
                Space::Twins => {
                    let Some((who, changed)) = self.twins.heard(change) else { continue };
                    self.desired_changed(&who, &changed.before, &changed.after, None);
                    if who.module.is_none() && changed.before.tags != changed.after.tags {
                        self.reassign_soon(who.device);
                    }
                }
                Space::Deployments => {
                    self.deployments.heard(change).await;
                    self.directory.edges().into_iter().for_each(|edge| self.reassign_soon(edge));
                }
                Space::Hub => {
                    let tags = |edge: &Name| self.twins.tags(edge);
                    let assigned = self.deployments.heard_assigned(change, batch, tags);
                    if let Some(applied) = assigned {
                        self.tell(applied);
                    }
                }
                Space::Devicebound if change.value.is_some() => {
                    self.devicebound
                        .heard(&change.key)
                        .into_iter()
                        .for_each(|device| self.deliver_soon(&device));
                }
                _ => {}
            }
        }
    }

    /// Ends the links of those who are no edges any longer, or are to connect to their parent.
    fn cut_off(&self, batch: &[DocumentChange]) {
        let changed = batch.iter().filter(|change| change.space == Space::Identities);
        for who in
            changed.filter_map(|change| Identity::parse(&change.key)).filter(|who| who.module.is_none())
        {
            if !self.directory.get(&who).is_some_and(|device| device.edge && device.parent.is_none())
                && let Some(link) = self.linked(&who.device)
            {
                link.over.cancel();
            }
        }
    }

    /// Looks what an edge should run whose link, or that of an edge above it, is here. Not at once: hearing must not wait for
    /// what is stored.
    fn reassign_soon(&self, edge: Name) {
        let way = self.directory.way_to(&Identity::device(edge.clone()));
        let is_here = way.is_some_and(|way| self.linked(&way).is_some());
        let Some(me) = self.me.upgrade().filter(|_| is_here) else { return };
        self.spawn(async move {
            if let Err(error) = me.reassign(&edge).await {
                tracing::warn!(%edge, %error, "what an edge should run was not looked at; it is when it comes again");
            }
        });
    }

    /// From now on this process answers for a device.
    pub(crate) fn attend(&self, device: &Name) {
        if let Some(peers) = &self.peers {
            lock(&self.attended).entry(device.clone()).or_insert_with(|| peers.attend(device));
        }
    }

    /// Has the process that an edge was linked to before let it go, so that what it has under way is stored. Where it does not
    /// answer, the storage sees to it that only one of the two can write.
    pub(crate) async fn take_over(&self, edge: &Name) {
        if self.peers.is_none() {
            return;
        }
        drop(lock(&self.attended).remove(edge));
        match self.ask_peers(edge, self.yield_question(), YIELD_TIME).await {
            Ok(_) => tracing::info!(%edge, "an edge was taken over from another hub process"),
            Err(AskFault::Nobody) => {}
            Err(fault) => {
                tracing::warn!(%edge, %fault, "an edge is taken over from another hub process without its answer");
            }
        }
    }

    fn yield_question(&self) -> Bytes {
        json!({ "ask": "yield", "to": self.process }).to_string().into()
    }

    /// Asks for an edge once more when the servers surely know where it was: one that moved at once was not found there.
    pub(crate) fn take_over_again(&self, link: &Arc<Link>) {
        let Some(me) = self.me.upgrade().filter(|me| me.peers.is_some()) else { return };
        let link = link.clone();
        self.spawn(async move {
            tokio::select! {
                () = me.stop.cancelled() => return,
                () = link.over.cancelled() => return,
                () = tokio::time::sleep(KNOWN_WITHIN) => {}
            }
            // Whether somebody had it, and who of those that are asked answers first, does not matter.
            let _ = me.ask_peers(&link.edge, me.yield_question(), YIELD_TIME).await;
        });
    }

    /// Answers what other processes ask, until the hub stops.
    pub(crate) async fn answer_peers(self: Arc<Self>, mut questions: mpsc::Receiver<Question>) {
        loop {
            let question = tokio::select! {
                () = self.stop.cancelled() => return,
                question = questions.recv() => question,
            };
            let Some(Question { device, body, answer }) = question else { return };
            let me = self.clone();
            self.spawn(async move {
                let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
                let said = match asked.get("ask").and_then(Value::as_str) {
                    // This process attends to the edge too when it asks for it the second time.
                    Some("yield") if asked.get("to").and_then(Value::as_str) == Some(&me.process) => json!({}),
                    Some("yield") => me.yield_edge(&device).await,
                    Some("method") => me.method_asked(&asked).await,
                    _ => json!({ "status": 404, "error": "this hub process does not know such a question; update it" }),
                };
                // Who asked may not wait any longer.
                let _ = answer.send(said.to_string().into());
            });
        }
    }

    async fn yield_edge(&self, edge: &Name) -> Value {
        if let Some(link) = self.linked(edge) {
            link.over.cancel();
        }
        drop(lock(&self.attended).remove(edge));
        let until = Instant::now() + YIELD_TIME;
        while !self.backend.is_idle(edge) && Instant::now() < until {
            tokio::time::sleep(LOOK).await;
        }
        json!({})
    }

    /// Calls a method of who is connected to another process; none if nobody attends to it.
    pub(crate) async fn method_elsewhere(
        &self,
        who: &Identity,
        name: &str,
        payload: &Value,
        times: MethodTimes,
    ) -> Option<Result<(i32, Value), HubError>> {
        let question = json!({
            "ask": "method", "who": who.to_string(), "name": name, "payload": payload,
            "response_s": times.response.as_secs(), "connect_s": times.connect.as_secs(),
        });
        let within = times.response + times.connect + 2 * EDGE_TIME;
        // A device with a parent may be connected to a hub process itself.
        let way = self.directory.way_to(who).filter(|way| *way != who.device);
        let question: Bytes = question.to_string().into();
        let mut asked = self.ask_peers(&who.device, question.clone(), within).await;
        if let (Err(AskFault::Nobody), Some(way)) = (&asked, way) {
            asked = self.ask_peers(&way, question, within).await;
        }
        let answer = match asked {
            Ok(answer) => answer,
            Err(AskFault::Nobody) => return None,
            Err(fault) => {
                let why = format!("{who}: {fault}");
                return Some(Err(HubError::Edge { status: 504, why }));
            }
        };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let status = answer.get("status").and_then(Value::as_i64).unwrap_or(502);
        Some(match answer.get("error") {
            None => Ok((
                i32::try_from(status).unwrap_or_default(),
                answer.get("payload").cloned().unwrap_or_default(),
            )),
            Some(why) => Err(HubError::Edge {
                status: u16::try_from(status).unwrap_or(502),
                why: why.as_str().unwrap_or_default().to_owned(),
            }),
        })
    }

    async fn ask_peers(&self, device: &Name, question: Bytes, within: Duration) -> Result<Bytes, AskFault> {
        match &self.peers {
            Some(peers) => peers.ask(device, question, within).await,
            None => Err(AskFault::Nobody),
        }
    }

    async fn method_asked(&self, asked: &Value) -> Value {
        let text = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let seconds =
            |name: &str| Duration::from_secs(asked.get(name).and_then(Value::as_u64).unwrap_or_default());
        let Some(who) = Identity::parse(text("who")) else {
            return json!({ "status": 400, "error": "the question names nobody" });
        };
        let times = MethodTimes { response: seconds("response_s"), connect: seconds("connect_s") };
        let payload = asked.get("payload").cloned().unwrap_or_default();
        match self.method_here(&who, text("name"), payload, times).await {
            Ok((status, payload)) => json!({ "status": status, "payload": payload }),
            Err(error) => json!({ "status": error.status(), "error": error.to_string() }),
        }
    }
}
