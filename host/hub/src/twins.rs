//! Twins and tags, as the hub keeps them.
//!
//! A document of the space `twins` under the name of the identity:
//! `{"desired":{},"desiredVersion":1,"reported":{},"reportedVersion":1,"tags":{}}`. Desired properties and tags are decided
//! here; reported ones by their owner, or by the edge that it reports through, whose count their version is.

use crate::backend::{Backend, BackendError, DocumentChange, Expect, Space, Write};
use bytes::Bytes;
use holdfast_broker::{Twin, TwinError, twin_rules};
use holdfast_link::{ReportForm, TwinRecord, TwinReport};
use holdfast_types::{Identity, Name};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

type Object = Map<String, Value>;

/// How often a change is tried anew when another one came between.
const TRIES_MAX: usize = 100;

/// Documents read at once when the hub starts.
const PAGE: usize = 1000;

/// A twin with its tags.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HubTwin {
    /// What is wanted of its owner.
    pub desired: Object,
    /// Counts the changes of `desired`; 1 when there was none.
    pub desired_version: u64,
    /// What its owner says of itself.
    pub reported: Object,
    /// Counts the changes of `reported`; 1 when there was none.
    pub reported_version: u64,
    /// What the hub says of it, for queries.
    pub tags: Object,
}

impl Default for HubTwin {
    fn default() -> Self {
        let empty = Object::new;
        Self { desired: empty(), desired_version: 1, reported: empty(), reported_version: 1, tags: empty() }
    }
}

impl From<HubTwin> for Twin {
    fn from(twin: HubTwin) -> Self {
        let HubTwin { desired, desired_version, reported, reported_version, .. } = twin;
        Self { desired, desired_version, reported, reported_version }
    }
}

impl HubTwin {
    pub(crate) fn record(self, identity: Identity) -> TwinRecord {
        let half = |version, document| holdfast_link::Half { version, document };
        TwinRecord {
            identity,
            desired: half(self.desired_version, self.desired),
            reported: half(self.reported_version, self.reported),
        }
    }
}

/// What a service changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TwinPatch {
    /// Merged into the desired properties.
    pub desired: Option<Value>,
    /// Merged into the tags.
    pub tags: Option<Value>,
}

/// A change that was made.
pub(crate) struct Changed {
    pub(crate) before: HubTwin,
    pub(crate) after: HubTwin,
}

/// What a report of an edge came to.
pub(crate) enum Reported {
    /// The hub has this version now.
    Has(u64),
    /// The patch is for another version than the hub has.
    Conflict(u64),
}

/// The twins.
pub(crate) struct Twins {
    backend: Arc<dyn Backend>,
    /// Tags of devices that have any, and the revision that gave them.
    tags: RwLock<HashMap<Name, (u64, Arc<Object>)>>,
}

fn failed(who: &Identity, error: BackendError) -> TwinError {
    match error {
        BackendError::Stopping => TwinError::Stopping,
        BackendError::Conflict { .. } => {
            TwinError::NotRecorded(format!("{who} is changed too often; try again"))
        }
        error => TwinError::NotRecorded(error.to_string()),
    }
}

fn unreadable(who: &Identity, why: &impl ToString) -> TwinError {
    TwinError::Unreadable { who: who.to_string(), why: why.to_string() }
}

impl Twins {
    pub(crate) async fn open(backend: Arc<dyn Backend>) -> Result<Self, BackendError> {
        let mut tags = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = backend.list(Space::Twins, "", after.as_deref(), PAGE).await?;
            for (key, stored) in &page {
                let twin = serde_json::from_slice::<HubTwin>(&stored.value);
                if let (Some(who), Ok(twin)) = (Identity::parse(key), twin)
                    && who.module.is_none()
                    && !twin.tags.is_empty()
                {
                    tags.insert(who.device, (stored.revision, Arc::new(twin.tags)));
                }
            }
            match page.last() {
                Some((key, _)) if page.len() == PAGE => after = Some(key.to_string()),
                _ => return Ok(Self { backend, tags: RwLock::new(tags) }),
            }
        }
    }

    pub(crate) fn tags(&self, device: &Name) -> Arc<Object> {
        let tags = self.tags.read().unwrap_or_else(PoisonError::into_inner);
        tags.get(device).map(|(_, tags)| tags.clone()).unwrap_or_default()
    }

    fn keep_tags(&self, device: &Name, revision: u64, new: &Object) {
        let mut tags = self.tags.write().unwrap_or_else(PoisonError::into_inner);
        if tags.get(device).is_none_or(|(before, _)| *before < revision) {
            tags.insert(device.clone(), (revision, Arc::new(new.clone())));
        }
    }

    /// Takes what another process has changed; none if it cannot be read.
    pub(crate) fn heard(&self, change: &DocumentChange) -> Option<(Identity, Changed)> {
        let twin = |value: &Bytes| serde_json::from_slice::<HubTwin>(value).ok();
        let who = Identity::parse(&change.key)?;
        let before =
            change.before.as_ref().map_or_else(|| Some(HubTwin::default()), |one| twin(&one.value))?;
        let after = change.value.as_ref().map_or_else(|| Some(HubTwin::default()), twin)?;
        if who.module.is_none() && before.tags != after.tags {
            self.keep_tags(&who.device, change.revision, &after.tags);
        }
        Some((who, Changed { before, after }))
    }

    pub(crate) fn forget(&self, device: &Name) {
        self.tags.write().unwrap_or_else(PoisonError::into_inner).remove(device);
    }

    pub(crate) async fn get(&self, who: &Identity) -> Result<HubTwin, TwinError> {
        Ok(self.load(who).await?.0)
    }

    async fn load(&self, who: &Identity) -> Result<(HubTwin, Expect), TwinError> {
        let found = self.backend.get(Space::Twins, &who.to_string()).await.map_err(|why| failed(who, why))?;
        match found {
            None => Ok((HubTwin::default(), Expect::Absent)),
            Some(stored) => {
                let twin = serde_json::from_slice(&stored.value).map_err(|why| unreadable(who, &why))?;
                Ok((twin, Expect::Revision(stored.revision)))
            }
        }
    }

    /// Changes a twin on top of what is there; `change` says no with an error and changes nothing with false.
    async fn change(
        &self,
        who: &Identity,
        change: impl Fn(&mut HubTwin) -> Result<bool, TwinError>,
    ) -> Result<Changed, TwinError> {
        let mut last = BackendError::Stopping;
        for _ in 0..TRIES_MAX {
            let (before, expect) = self.load(who).await?;
            let mut after = before.clone();
            if !change(&mut after)? {
                return Ok(Changed { after: before.clone(), before });
            }
            let value = serde_json::to_vec(&after).map_err(|why| unreadable(who, &why))?;
            let write = Write::set(Space::Twins, &who.to_string(), value).when(expect);
            match self.backend.put(vec![write]).await {
                Ok(revision) => {
                    if who.module.is_none() && before.tags != after.tags {
                        self.keep_tags(&who.device, revision, &after.tags);
                    }
                    return Ok(Changed { before, after });
                }
                Err(conflict @ BackendError::Conflict { .. }) => last = conflict,
                Err(error) => return Err(failed(who, error)),
            }
        }
        Err(failed(who, last))
    }

    /// A service changes what is desired, and tags.
    pub(crate) async fn patch(&self, who: &Identity, patch: TwinPatch) -> Result<Changed, TwinError> {
        let desired = patch.desired.map(twin_rules::checked_patch).transpose()?;
        let tags = patch.tags.map(twin_rules::checked_patch).transpose()?;
        self.change(who, |twin| {
            if let Some(patch) = &desired {
                twin_rules::merge(&mut twin.desired, patch);
                twin_rules::checked_size(&twin.desired)?;
                twin.desired_version += 1;
            }
            if let Some(patch) = &tags {
                twin_rules::merge(&mut twin.tags, patch);
                twin_rules::checked_size(&twin.tags)?;
            }
            Ok(desired.is_some() || tags.is_some())
        })
        .await
    }

    /// A device that is connected here reports; gives the new version.
    pub(crate) async fn report(
        &self,
        who: &Identity,
        patch: Value,
        expected: Option<u64>,
    ) -> Result<u64, TwinError> {
        let patch = twin_rules::checked_patch(patch)?;
        let changed = self
            .change(who, |twin| {
                let version = twin.reported_version;
                if let Some(expected) = expected.filter(|expected| *expected != version) {
                    return Err(TwinError::OtherVersion { expected, version });
                }
                twin_rules::merge(&mut twin.reported, &patch);
                twin_rules::checked_size(&twin.reported)?;
                twin.reported_version += 1;
                Ok(true)
            })
            .await?;
        Ok(changed.after.reported_version)
    }

    /// An edge reports for one of its own: its versions count. An older one than is here changes nothing.
    pub(crate) async fn reported(&self, report: TwinReport) -> Result<Reported, TwinError> {
        let TwinReport { identity, version, form } = report;
        let form = match form {
            ReportForm::Patch { from, patch } => {
                ReportForm::Patch { from, patch: twin_rules::checked_patch(Value::Object(patch))? }
            }
            ReportForm::Document(document) => {
                ReportForm::Document(twin_rules::checked_document(Value::Object(document))?)
            }
        };
        let changed = self
            .change(&identity, |twin| {
                if twin.reported_version >= version {
                    return Ok(false);
                }
                match &form {
                    ReportForm::Patch { from, .. } if *from != twin.reported_version => return Ok(false),
                    ReportForm::Patch { patch, .. } => twin_rules::merge(&mut twin.reported, patch),
                    ReportForm::Document(document) => twin.reported.clone_from(document),
                }
                twin_rules::checked_size(&twin.reported)?;
                twin.reported_version = version;
                Ok(true)
            })
            .await?;
        let has = changed.after.reported_version;
        Ok(if has >= version { Reported::Has(has) } else { Reported::Conflict(has) })
    }

    /// Takes a twin of another hub: of each half the newer one.
    pub(crate) async fn merge_from(&self, who: &Identity, other: &HubTwin) -> Result<Changed, TwinError> {
        self.change(who, |twin| {
            let before = twin.clone();
            if other.desired_version > twin.desired_version {
                (twin.desired, twin.desired_version) = (other.desired.clone(), other.desired_version);
            }
            if other.reported_version > twin.reported_version {
                (twin.reported, twin.reported_version) = (other.reported.clone(), other.reported_version);
            }
            twin.tags.clone_from(&other.tags);
            Ok(*twin != before)
        })
        .await
    }
}
