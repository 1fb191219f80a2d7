//! A secondary hub follows a primary: it fetches what has changed in the registry there, and merges it.
//!
//! How far it has come is a document of the space `hub` under `follows/{id of the primary}`, written after what it stands for, so
//! that a kill in between repeats a merge, which changes nothing. What is changed here meanwhile, by edges that have moved
//! over, stays as far as the primary does not say otherwise.
//!
//! Before it has had all of the primary's registry once (the document `whole` of that space), a secondary lets no edge in: one
//! would learn that its children are gone. A registry that is imported by hand does as well.

use crate::{
    backend::{Space, Write},
    client::{Client, ClientError, Method},
    error::HubError,
    hub::Hub,
    transfer::Item,
};
use holdfast_types::Soon;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio_util::sync::CancellationToken;

/// How long the primary may wait for news before it answers.
pub(crate) const PATIENCE_S: u64 = 20;

/// How long to wait before a primary that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(5);

/// The answer to `GET /registry/changes`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Changes {
    /// The registry.
    pub(crate) hub: String,
    /// After this revision the next request goes on.
    pub(crate) revision: u64,
    /// In the order of their revisions.
    pub(crate) changes: Vec<Item>,
    /// Whether there are no more for now.
    pub(crate) is_all: bool,
}

/// Why nothing was merged.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the answer is not understood: {0}; are both hubs of the same version?")]
    Answer(String),
    #[error(transparent)]
    Hub(#[from] HubError),
    #[error("the primary is this hub itself; name another one in hub.primary")]
    Itself,
}

/// Where it stands that the registry was whole once.
const WHOLE: &str = "whole";

/// How far this hub has come, if it follows another one.
pub(crate) struct Following {
    /// Whether edges are let in: not while this hub has a part of a registry only.
    is_whole: AtomicBool,
    now: Mutex<Option<Now>>,
}

#[derive(Clone, Default)]
struct Now {
    address: String,
    /// Whose registry it is, and up to which revision it is merged.
    known: Option<(String, u64)>,
    /// Why nothing is merged for now.
    fault: Option<String>,
}

impl Default for Following {
    fn default() -> Self {
        Self { is_whole: AtomicBool::new(true), now: Mutex::default() }
    }
}

impl Following {
    fn now(&self) -> MutexGuard<'_, Option<Now>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.is_whole.load(Ordering::Acquire)
    }

    /// For services: null if it follows nobody.
    pub(crate) fn shown(&self) -> Value {
        let Some(Now { address, known, fault }) = self.now().clone() else { return Value::Null };
        let (id, revision) = known.unzip();
        json!({
            "address": address, "id": id, "revision": revision, "whole": self.is_whole(), "fault": fault,
        })
    }
}

/// Follows until `stop`.
pub fn follow(hub: Arc<Hub>, primary: Client, stop: CancellationToken) -> Soon<'static, ()> {
    Box::pin(keep_up(hub, primary, stop))
}

async fn keep_up(hub: Arc<Hub>, primary: Client, stop: CancellationToken) {
    *hub.following.now() = Some(Now { address: primary.address(), ..Now::default() });
    let mut failed: Option<String> = None;
    let mut known: Option<(String, u64)> = None;
    loop {
        let turn = tokio::select! {
            () = stop.cancelled() => return,
            turn = turn(&hub, &primary, &mut known) => turn,
        };
        if let Some(now) = &mut *hub.following.now() {
            (now.known, now.fault) = (known.clone(), turn.as_ref().err().map(ToString::to_string));
        }
        match turn {
            Ok(()) if failed.take().is_some() => tracing::info!("the primary hub answers again"),
            Ok(()) => {}
            Err(error) => {
                let error = error.to_string();
                if failed.as_ref() != Some(&error) {
                    tracing::warn!(
                        error,
                        "the registry of the primary hub is not followed for now; what is known of it stays"
                    );
                }
                failed = Some(error);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
        }
    }
}

async fn turn(hub: &Hub, primary: &Client, known: &mut Option<(String, u64)>) -> Result<(), FollowError> {
    let (after, wait) = known.as_ref().map_or((u64::MAX, 0), |(_, after)| (*after, PATIENCE_S));
    let answer =
        primary.ask(Method::GET, &format!("/registry/changes?after={after}&wait={wait}"), None).await?;
    let answer: Changes =
        serde_json::from_value(answer).map_err(|why| FollowError::Answer(why.to_string()))?;
    if answer.hub == hub.id() {
        return Err(FollowError::Itself);
    }
    match known {
        Some((id, after)) if *id == answer.hub && answer.revision < *after => {
            tracing::warn!(
                primary = %answer.hub, revision = answer.revision, followed_to = *after,
                "the registry of the primary hub was set back to an older state; all of it is merged again"
            );
            *after = 0;
        }
        Some((id, after)) if *id == answer.hub => {
            let any = !answer.changes.is_empty();
            for item in answer.changes {
                // One that is refused here does not hold up the others.
                if let Err(error) = hub.merge(item).await {
                    if matches!(error, HubError::Backend(_)) {
                        return Err(error.into());
                    }
                    tracing::warn!(%error, "a change of the primary hub was not merged");
                }
            }
            if any {
                hub.keep_followed(&answer.hub, answer.revision).await?;
            }
            if answer.is_all {
                hub.has_whole_registry().await?;
            }
            *after = answer.revision;
        }
        // Another registry than before, or the first answer: it tells whose it is.
        _ => *known = Some((answer.hub.clone(), hub.followed(&answer.hub).await?)),
    }
    Ok(())
}

impl Hub {
    /// This hub is to follow another: until it has had all of that registry once, it lets no edge in.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn awaits_registry(&self) -> Result<(), HubError> {
        let was_whole = self.backend.get(Space::Hub, WHOLE).await?.is_some();
        self.following.is_whole.store(was_whole, Ordering::Release);
        Ok(())
    }

    /// The registry is whole.
    pub(crate) async fn has_whole_registry(&self) -> Result<(), HubError> {
        if !self.following.is_whole() {
            self.backend.put(vec![Write::set(Space::Hub, WHOLE, "1")]).await?;
            self.following.is_whole.store(true, Ordering::Release);
            tracing::info!("the registry is whole; edges are let in");
        }
        Ok(())
    }

    async fn followed(&self, id: &str) -> Result<u64, HubError> {
        let stored = self.backend.get(Space::Hub, &format!("follows/{id}")).await?;
        Ok(stored
            .and_then(|stored| std::str::from_utf8(&stored.value).ok()?.parse().ok())
            .unwrap_or_default())
    }

    async fn keep_followed(&self, id: &str, revision: u64) -> Result<(), HubError> {
        let write = Write::set(Space::Hub, &format!("follows/{id}"), revision.to_string());
        Ok(self.backend.put(vec![write]).await.map(drop)?)
    }
}
