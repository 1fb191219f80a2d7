//! Twins: desired and reported properties of devices and modules.
//!
//! A twin has two halves, desired and reported, each a document of the store with a version of its own: the one is
//! written from above, the other by its owner, and neither waits for the other. What is answered is durable. A report
//! is one commit: the document, and the message about it for each route that takes it.
//!
//! On disk: space `twin/desired` or `twin/reported`, key `device` or `device/module`, value
//! `{"format":1,"version":n,"document":{…}}`. No document means an empty one of version 1. Deleted by
//! [`Twins::remove`] only.

mod error;
mod halves;
mod watch;

pub use error::TwinError;
pub(crate) use halves::{Half, Halves, InUse};
pub use watch::{DesiredPatch, DesiredWatch, TwinsWatch};

use super::{
    admission::{Receipt, Refused, check},
    broker::{Broker, Inner},
    pending::Pending,
    queue::Bells,
};
use crate::core::{
    publishing::Publishing,
    twin::{Object, change_body, checked_document, checked_patch, checked_size, difference, merge},
};
use halves::Versioned;
use holdfast_store::{Append, Chain, Commit, DocumentWrite};
use holdfast_types::{Identity, Message, Source, SystemKey};
use serde_json::{Map, Value};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Most twins that one look over them gives.
pub const TWINS_LISTED_MAX: usize = 10_000;

/// A twin as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// What is wanted of its owner.
    pub desired: Map<String, Value>,
    /// Counts the changes of `desired`; 1 when there was none.
    pub desired_version: u64,
    /// What its owner says of itself.
    pub reported: Map<String, Value>,
    /// Counts the changes of `reported`; 1 when there was none.
    pub reported_version: u64,
}

/// A report that a module made in a turn.
#[derive(Clone, Debug)]
pub struct Report {
    /// The patch; only [`Twins::apply_report`] makes one.
    pub(crate) patch: Object,
    pub(crate) hops: u8,
}

impl Report {
    /// The same with the hops of the message that was being handled and one more, or 0 from a timer.
    #[must_use]
    pub fn with_hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }
}

/// The twins of this edge and of its children. Clones mean the same.
#[derive(Clone)]
pub struct Twins(pub(super) Arc<Inner>);

impl Broker {
    /// The twins.
    pub fn twins(&self) -> Twins {
        Twins(self.inner.clone())
    }
}

impl Twins {
    /// The twin of an identity; an empty one if nothing was ever desired or reported.
    pub async fn get(&self, who: &Identity) -> Result<Twin, TwinError> {
        self.read(who)
    }

    /// The same for callers that are not async. It may read the disk.
    pub fn read(&self, who: &Identity) -> Result<Twin, TwinError> {
        let desired = halves::load(&self.0.store, Half::Desired, who)?;
        let reported = halves::load(&self.0.store, Half::Reported, who)?;
        Ok(Twin {
            desired: (*desired.document).clone(),
            desired_version: desired.version,
            reported: (*reported.document).clone(),
            reported_version: reported.version,
        })
    }

    /// Every identity that has a twin on disk, in order, at most [`TWINS_LISTED_MAX`].
    pub fn identities(&self) -> Result<Vec<Identity>, TwinError> {
        halves::identities(&self.0.store, TWINS_LISTED_MAX)
    }

    /// Merges a patch into the reported properties; null deletes. Answers with the new version when it is durable, and
    /// with it the message that tells the routes. Errors leave everything as it was.
    pub async fn report(&self, who: &Identity, patch: Value) -> Result<u64, TwinError> {
        self.report_if(who, patch, None).await
    }

    /// Reports what is different in a whole document; nothing if nothing is. For an owner who is the only one to report.
    pub async fn report_document(&self, who: &Identity, document: Value) -> Result<Option<u64>, TwinError> {
        let document = checked_document(document)?;
        let reported = halves::load(&self.0.store, Half::Reported, who)?;
        let patch = difference(&reported.document, &document);
        if patch.is_empty() {
            return Ok(None);
        }
        self.report(who, Value::Object(patch)).await.map(Some)
    }

    /// As [`Twins::report`], if the reported properties have `version` now.
    pub async fn report_if(
        &self,
        who: &Identity,
        patch: Value,
        version: Option<u64>,
    ) -> Result<u64, TwinError> {
        let patch = Arc::new(checked_patch(patch)?);
        let change = Change { patch: Some(patch.clone()), told: true };
        self.commit(Half::Reported, who, change, |old| changed(old?, &patch, version)).await
    }

    /// Merges a patch into the desired properties: the side of the operator and of the hub. Watchers hear of it when
    /// it is durable. Answers with the new version.
    pub async fn desire(&self, who: &Identity, patch: Value) -> Result<u64, TwinError> {
        let patch = Arc::new(checked_patch(patch)?);
        let change = Change { patch: Some(patch.clone()), told: false };
        self.commit(Half::Desired, who, change, |old| changed(old?, &patch, None)).await
    }

    /// Takes the whole desired document from above, with its version there. One that is not newer changes nothing.
    pub async fn replace_desired(
        &self,
        who: &Identity,
        desired: Value,
        version: u64,
    ) -> Result<(), TwinError> {
        let document = Arc::new(checked_document(desired)?);
        let replaced = |old: Result<&Versioned, TwinError>| {
            let newer = version > old?.version;
            Ok(newer.then(|| Versioned { version, document: document.clone() }))
        };
        self.commit(Half::Desired, who, Change::default(), replaced).await.map(|_| ())
    }

    /// Takes the reported properties that the hub has, with their version there, where its version is newer: another edge
    /// has told it, or this one lost what it had. `acknowledged` is the last version of here that the hub has taken; what
    /// was reported here after it stands above what the hub has, under a version that is newer still. Gives the version.
    pub async fn adopt_reported(
        &self,
        who: &Identity,
        reported: Value,
        version: u64,
        acknowledged: u64,
    ) -> Result<u64, TwinError> {
        let document = Arc::new(checked_document(reported)?);
        let adopted = |old: Result<&Versioned, TwinError>| {
            let old = old?;
            if version <= old.version {
                return Ok(None);
            }
            if old.version <= acknowledged {
                return Ok(Some(Versioned { version, document: document.clone() }));
            }
            let mut merged = (*document).clone();
            merge(&mut merged, &old.document);
            checked_size(&merged)?;
            Ok(Some(Versioned { version: version.saturating_add(1), document: Arc::new(merged) }))
        };
        self.commit(Half::Reported, who, Change::default(), adopted).await
    }

    /// Takes what an edge below tells of one of its own: a patch onto the version `from`, or without one the whole document.
    /// It leads to `version`; what is not newer, or follows upon another version, changes nothing. Gives the version that is
    /// here then.
    pub async fn take_report(
        &self,
        who: &Identity,
        value: Value,
        from: Option<u64>,
        version: u64,
    ) -> Result<u64, TwinError> {
        let given = Arc::new(match from {
            Some(_) => checked_patch(value)?,
            None => checked_document(value)?,
        });
        let taken = |old: Result<&Versioned, TwinError>| {
            let old = old?;
            if old.version >= version || from.is_some_and(|from| from != old.version) {
                return Ok(None);
            }
            let document = match from {
                Some(_) => {
                    let mut document = (*old.document).clone();
                    merge(&mut document, &given);
                    checked_size(&document)?;
                    Arc::new(document)
                }
                None => given.clone(),
            };
            Ok(Some(Versioned { version, document }))
        };
        self.commit(Half::Reported, who, Change::default(), taken).await
    }

    /// Whose reported properties change, from now on.
    pub fn watch_reported(&self) -> TwinsWatch {
        self.0.halves.watches.watch_all(&self.0, Half::Reported)
    }

    /// Whose desired properties change, from now on.
    pub fn watch_desired(&self) -> TwinsWatch {
        self.0.halves.watches.watch_all(&self.0, Half::Desired)
    }

    /// The patch that turns one document into another.
    pub fn difference(old: &Map<String, Value>, new: &Map<String, Value>) -> Map<String, Value> {
        difference(old, new)
    }

    /// Puts a whole document in the place of the desired properties: the side of the operator, with a deployment. The same
    /// document changes nothing. Answers with the version.
    pub async fn set_desired(&self, who: &Identity, desired: Value) -> Result<u64, TwinError> {
        let document = Arc::new(checked_document(desired)?);
        let set = |old: Result<&Versioned, TwinError>| {
            let old = old?;
            let version = old.version.saturating_add(1);
            Ok((old.document != document).then(|| Versioned { version, document: document.clone() }))
        };
        self.commit(Half::Desired, who, Change::default(), set).await
    }

    /// Whether a document could be the desired properties of somebody.
    ///
    /// # Errors
    /// Which rule it breaks.
    pub fn check_desired(desired: Value) -> Result<(), TwinError> {
        Ok(checked_document(desired).map(drop)?)
    }

    /// Changes of the desired properties from now on.
    pub fn watch(&self, who: &Identity) -> DesiredWatch {
        self.0.halves.watches.watch(&self.0, who)
    }

    /// Tells watchers of a change of desired properties that somebody else has recorded.
    pub fn changed_elsewhere(
        &self,
        who: &Identity,
        before: Map<String, Value>,
        after: Map<String, Value>,
        version: u64,
        patch: Option<Map<String, Value>>,
    ) {
        let new = Versioned { version, document: Arc::new(after) };
        let patch = patch.map(Arc::new);
        self.0.halves.watches.changed(who, &Arc::new(before), &new, patch.as_ref());
    }

    /// Forgets a twin, even one that cannot be read: for an identity that is gone.
    pub async fn remove(&self, who: &Identity) -> Result<(), TwinError> {
        for half in [Half::Desired, Half::Reported] {
            let removed = |old: Result<&Versioned, TwinError>| match old {
                Ok(_) | Err(TwinError::Unreadable { .. }) => Ok(Some(Versioned::default())),
                Err(error) => Err(error),
            };
            self.commit(half, who, Change::default(), removed).await?;
        }
        Ok(())
    }

    /// Applies a patch to `reported` if it would be taken. For a module's turn: what this gives is recorded with it.
    pub fn apply_report(
        reported: &mut Map<String, Value>,
        patch: Value,
        hops: u8,
    ) -> Result<Report, TwinError> {
        let patch = checked_patch(patch)?;
        let mut merged = reported.clone();
        merge(&mut merged, &patch);
        checked_size(&merged)?;
        *reported = merged;
        Ok(Report { patch, hops })
    }

    /// Makes one change of one half: waits until no one else's is under way, commits, and waits for the disk. Gives
    /// the version.
    async fn commit(
        &self,
        half: Half,
        who: &Identity,
        change: Change,
        reckon: impl Fn(Result<&Versioned, TwinError>) -> Result<Option<Versioned>, TwinError>,
    ) -> Result<u64, TwinError> {
        let slot = Halves::of(&self.0, half, who);
        loop {
            let freed = slot.freed();
            if let Some(answer) = self.submit(&slot, &change, &reckon)? {
                return answer.await.unwrap_or(Err(TwinError::Stopping));
            }
            freed.await;
        }
    }

    /// None while another's commits are under way.
    fn submit(
        &self,
        slot: &InUse,
        change: &Change,
        reckon: impl Fn(Result<&Versioned, TwinError>) -> Result<Option<Versioned>, TwinError>,
    ) -> Result<Option<Answer>, TwinError> {
        let _in_order = slot.in_order();
        let entered = slot.enter(None, || {
            let found = halves::load(&self.0.store, slot.half, &slot.who);
            let new = reckon(found.as_ref().map_err(Clone::clone))?;
            Ok((found.unwrap_or_default(), new))
        })?;
        let Some((old, loaded)) = entered else { return Ok(None) };
        let new = match loaded {
            Some(new) => new,
            None => reckon(Ok(&old.tip))?,
        };
        let (send, answer) = oneshot::channel();
        let Some(new) = new else {
            // The receiver is here.
            let _ = send.send(Ok(old.tip.version));
            return Ok(Some(answer));
        };
        let version = new.version;
        let done = move |result: Result<Receipt, Refused>| {
            // One who no longer waits is no fault: the change stands.
            let _ = send.send(result.map(|_| version).map_err(TwinError::from));
        };
        let pending = Pending::new(Receipt::default(), Box::new(done));
        let documents = vec![new.write(slot.half, &slot.who)];
        let mut commit = Commit { chain: Some(old.chain), documents, ..Commit::default() };
        if let (true, Some(patch)) = (change.told, &change.patch) {
            commit.appends = self.0.tell(&slot.who, patch, version, 0, &pending);
        }
        slot.submitted(new.clone());
        let (inner, slot, patch, part) =
            (self.0.clone(), slot.clone(), change.patch.clone(), pending.open_part());
        self.0.commit(commit, move |answer, _, _| {
            match slot.half {
                Half::Desired if answer.is_ok() => {
                    inner.halves.watches.changed(&slot.who, &old.tip.document, &new, patch.as_ref());
                }
                Half::Reported if answer.is_ok() => inner.halves.watches.reported(&slot.who),
                _ => {}
            }
            slot.ended(answer.is_ok());
            drop(slot);
            part.part_done(answer, |_| {});
        });
        pending.part_done(Ok(()), |_| {});
        Ok(Some(answer))
    }
}

type Answer = oneshot::Receiver<Result<u64, TwinError>>;

/// What is told of a change.
#[derive(Default)]
struct Change {
    /// The patch that makes it; none if the whole document is replaced.
    patch: Option<Arc<Object>>,
    /// Whether a message tells the routes of it.
    told: bool,
}

/// The half after a patch.
fn changed(old: &Versioned, patch: &Object, expected: Option<u64>) -> Result<Option<Versioned>, TwinError> {
    if let Some(expected) = expected.filter(|expected| *expected != old.version) {
        return Err(TwinError::OtherVersion { expected, version: old.version });
    }
    let mut document = (*old.document).clone();
    merge(&mut document, patch);
    checked_size(&document)?;
    Ok(Some(Versioned { version: old.version.saturating_add(1), document: Arc::new(document) }))
}

impl Inner {
    /// Reckons the reports of a turn onto what is under way: the document and the messages that go into its commit.
    /// The caller holds the half's order, and the turn's commit is the next that it submits. An error if somebody else
    /// is changing the half, or it cannot be read: the turn is to be tried again.
    pub(crate) fn join_reports(
        &self,
        slot: &InUse,
        chain: &Arc<Chain>,
        reports: &[Report],
        pending: &Arc<Pending>,
    ) -> Result<(DocumentWrite, Vec<Append>), TwinError> {
        let load = || halves::load(&self.store, slot.half, &slot.who).map(|found| (found, ()));
        let Some((entry, _)) = slot.enter(Some(chain), load)? else {
            return Err(TwinError::NotRecorded(
                "somebody else is changing the reported properties".to_owned(),
            ));
        };
        let mut tip = entry.tip;
        let mut appends = Vec::new();
        for report in reports {
            match changed(&tip, &report.patch, None) {
                Ok(Some(new)) => {
                    appends.extend(self.tell(&slot.who, &report.patch, new.version, report.hops, pending));
                    tip = new;
                }
                Ok(None) => {}
                Err(why) => {
                    tracing::warn!(twin = %slot.who, %why, "a report was lost: somebody else changed the twin");
                }
            }
        }
        slot.submitted(tip.clone());
        Ok((tip.write(slot.half, &slot.who), appends))
    }

    /// Lets the message about a reported change in. Gives what must be recorded for it.
    pub(crate) fn tell(
        &self,
        who: &Identity,
        patch: &Object,
        version: u64,
        hops: u8,
        pending: &Arc<Pending>,
    ) -> Vec<Append> {
        let mut message = Message::new(change_body(patch, version));
        message.system.set(SystemKey::ContentType, "application/json");
        message.system.set(SystemKey::ContentEncoding, "utf-8");
        message.system.set(SystemKey::MessageSchema, "twinChangeNotification");
        if let Err(refused) = check(&message, hops) {
            self.counters.refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            tracing::warn!(twin = %who, %refused, "the message about a reported change was not sent; the change stands");
            return Vec::new();
        }
        let source = Source::TwinChange { device: who.device.clone(), module: who.module.clone() };
        let entered = self.enter(source, message, Publishing::default(), hops);
        let (_, mut appends) = self.fan_out(entered.group(), &mut Bells::default());
        self.push_volatile(entered.group(), &mut || pending.open_part());
        appends.extend(entered.group().appends());
        appends
    }
}

impl Versioned {
    fn write(&self, half: Half, who: &Identity) -> DocumentWrite {
        // A half that was never changed needs no document: one is deleted.
        let value = (self.version > 1 || !self.document.is_empty()).then(|| halves::encode(self));
        DocumentWrite { space: half.space().into(), key: who.to_string().into(), value }
    }
}
