//! What a hub decides of this edge, kept: who may connect, how messages are kept, and how far that has been applied.
//!
//! The document `state` in the space `link` holds the hub, its revision, and the settings: JSON with a version. It is written in
//! one commit with the identities that belong to it, so that a sync is applied or is not, whenever the host is killed. A
//! device that came from a hub has a parent; one that was added at this edge has none, and no sync touches it unless the hub
//! knows one of its name.

use crate::identities::Identities;
use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use holdfast_auth::{Credential, DEVICES_MAX, Device, DeviceStatus, SharedKey, Thumbprint};
use holdfast_broker::Broker;
use holdfast_link::{Access, Change, DeploymentReport, IdentityRecord, Proof};
use holdfast_links::{ASSIGNED_SPACE, Below, Moved, Point};
use holdfast_store::{DocumentWrite, Store};
use holdfast_types::{Identity, Name, Text, UnixMillis};
use holdfast_upstream::{Identities as Given, Keeper, Kept, Known, Sync};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

const SPACE: &str = "link";
const KEY: &str = "state";
const VERSION: u32 = 1;

#[derive(Clone, Default, Serialize, Deserialize)]
struct State {
    v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time_to_live_s: Option<u32>,
}

/// Keeps what a hub decides.
pub struct HubKeeper {
    identities: Arc<Identities>,
    broker: Broker,
    /// The time to live of the configuration, for a hub that says none.
    configured: Option<Duration>,
    /// Who serves the edges below with it.
    below: Arc<Below>,
    state: State,
}

impl HubKeeper {
    /// Reads how far this edge is, and puts the settings in force that it was told last.
    pub fn open(
        identities: Arc<Identities>,
        broker: Broker,
        configured: Option<Duration>,
        below: Arc<Below>,
    ) -> anyhow::Result<Self> {
        let state = read(broker.store())?;
        let hub = state.hub.as_deref().map(Text::from);
        below.begins_at(hub.map(|hub| Point { hub, revision: state.revision }));
        let keeper = Self { identities, broker, configured, below, state };
        keeper.put_in_force(keeper.state.time_to_live_s);
        Ok(keeper)
    }

    fn put_in_force(&self, time_to_live_s: Option<u32>) {
        let told = time_to_live_s.map(|seconds| Duration::from_secs(seconds.into()));
        let life = told.or(self.configured);
        if self.broker.time_to_live() != life {
            self.broker.set_time_to_live(life);
        }
    }

    /// What is kept of edges below: those of which nothing is said any longer go.
    fn below(&self, sync: &Sync) -> anyhow::Result<Vec<DocumentWrite>> {
        let mut writes: BTreeMap<Text, Option<Bytes>> = BTreeMap::new();
        if let Given::All(_) = &sync.identities {
            let before = self.broker.store().documents(ASSIGNED_SPACE, "", DEVICES_MAX)?;
            writes.extend(before.into_iter().map(|(key, _)| (key, None)));
        }
        for one in &sync.below {
            writes.insert(one.edge.text().clone(), Some(serde_json::to_vec(one)?.into()));
        }
        let write = |(key, value)| DocumentWrite { space: ASSIGNED_SPACE.into(), key, value };
        Ok(writes.into_iter().map(write).collect())
    }

    /// What edges below are told of it. A device that moves may bring or leave behind what none of the changes names.
    fn moved(&self, sync: &Sync) -> Moved {
        let Given::Changes(changes) = &sync.identities else { return Moved::Everything };
        let moves = |record: &IdentityRecord| {
            let before = self.identities.registry.device(&record.identity);
            record.identity.module.is_none() && before.is_some_and(|before| before.parent != record.parent)
        };
        if changes.iter().any(|change| matches!(change, Change::Identity(record) if moves(record))) {
            return Moved::Everything;
        }
        Moved::Changes(changes.iter().cloned().chain(sync.below.iter().cloned().map(Change::Below)).collect())
    }

    async fn carry_out(&self, sync: Sync) -> anyhow::Result<Vec<Identity>> {
        let edge = self.broker.edge().clone();
        let before = read(self.broker.store())?;
        let time_to_live_s = match &sync.settings {
            Some(settings) => settings.time_to_live_s,
            None => before.time_to_live_s,
        };
        let state = State {
            v: VERSION,
            hub: sync.known.hub.as_deref().map(Into::into),
            revision: sync.known.revision,
            time_to_live_s,
        };
        let value = serde_json::to_vec(&state)?.into();
        let mut writes = vec![DocumentWrite { space: SPACE.into(), key: KEY.into(), value: Some(value) }];
        writes.extend(self.below(&sync)?);
        let moved = self.moved(&sync);
        let gone = self.identities.change(|known| plan(sync.identities, &edge, known), writes).await?;
        self.put_in_force(time_to_live_s);
        if let Some(hub) = sync.known.hub {
            self.below.has_applied(Point { hub, revision: sync.known.revision }, &moved);
        }
        Ok(gone)
    }
}

impl Keeper for HubKeeper {
    fn known(&self) -> Known {
        let State { hub, revision, .. } = &self.state;
        Known { hub: hub.as_deref().map(Into::into), revision: *revision }
    }

    fn apply(&self, sync: Sync) -> Kept<'_, Vec<Identity>> {
        Box::pin(async move { self.carry_out(sync).await.map_err(|error| format!("{error:#}")) })
    }

    fn next_status(&self) -> Kept<'_, DeploymentReport> {
        Box::pin(async { Ok(self.below.next_status().await) })
    }

    fn status_was_told<'a>(&'a self, report: &'a DeploymentReport) -> Kept<'a, ()> {
        Box::pin(async {
            self.below.status_was_told(report).await;
            Ok(())
        })
    }
}

fn read(store: &Store) -> anyhow::Result<State> {
    let Some(bytes) = store.document(SPACE, KEY)? else { return Ok(State::default()) };
    let bad = "the state of the link in the store cannot be read";
    let state: State = serde_json::from_slice(&bytes).context(bad)?;
    if state.v != VERSION {
        bail!("{bad}: it has version {}, and this host knows {VERSION}", state.v);
    }
    Ok(state)
}

/// What changes in the registry: devices as they are to be, and who is to go.
pub struct Plan {
    pub put: Vec<Device>,
    pub remove: Vec<Identity>,
}

/// Compares what the hub says with who is known.
fn plan(given: Given, edge: &Name, known: &[Arc<Device>]) -> Plan {
    let known: BTreeMap<&Identity, &Arc<Device>> =
        known.iter().map(|device| (&device.identity, device)).collect();
    let mut wanted: BTreeMap<Identity, IdentityRecord> = BTreeMap::new();
    let mut remove = Vec::new();
    match given {
        Given::All(records) => {
            wanted.extend(records.into_iter().map(|record| (record.identity.clone(), record)));
            let from_hub = known.values().filter(|device| device.parent.is_some());
            let gone = from_hub.filter(|device| !wanted.contains_key(&device.identity));
            remove.extend(gone.map(|device| device.identity.clone()));
        }
        Given::Changes(changes) => {
            for change in changes {
                match change {
                    Change::Identity(record) => {
                        remove.retain(|gone| *gone != record.identity);
                        wanted.insert(record.identity.clone(), record);
                    }
                    Change::Removed(who) => {
                        wanted.retain(|one, _| {
                            *one != who && (who.module.is_some() || one.device != who.device)
                        });
                        let is_of_hub = |device: &&&Arc<Device>| device.parent.is_some();
                        if known.get(&who).filter(is_of_hub).is_some() {
                            remove.push(who);
                        }
                    }
                    Change::Deployment(_) | Change::Settings(_) | Change::Below(_) => {}
                }
            }
        }
    }
    // The edge is no device of its own registry: its modules are run by the host.
    wanted.retain(|who, _| who.device != *edge);
    let mut put = Vec::new();
    for (who, record) in wanted {
        let before = known.get(&who);
        match device(record, edge, before.map(|device| device.added)) {
            Ok(device) if before.is_some_and(|before| ***before == device) => {}
            Ok(device) => put.push(device),
            Err(error) => {
                tracing::error!(device = %who, error = format!("{error:#}"), "what the hub says of a device cannot be used; it cannot connect");
                if before.is_some_and(|before| before.parent.is_some()) {
                    remove.push(who);
                }
            }
        }
    }
    Plan { put, remove }
}

fn device(record: IdentityRecord, edge: &Name, added: Option<UnixMillis>) -> anyhow::Result<Device> {
    let key = |secret: &holdfast_link::Secret| SharedKey::parse(&secret.0);
    let credential = match &record.proof {
        Proof::Sas { primary, secondary } => Credential::SharedKey {
            primary: key(primary)?,
            secondary: secondary.as_ref().map(key).transpose()?,
        },
        Proof::SelfSigned { primary, secondary } => Credential::Thumbprints {
            primary: Thumbprint::parse(primary)?,
            secondary: secondary.as_deref().map(Thumbprint::parse).transpose()?,
        },
        Proof::CertificateAuthority => Credential::CertificateAuthority,
        Proof::None => Credential::None,
    };
    let by_certificate =
        matches!(credential, Credential::Thumbprints { .. } | Credential::CertificateAuthority);
    if by_certificate && record.identity.module.is_some() {
        return Err(anyhow!("modules cannot prove themselves with a certificate; give it a key at the hub"));
    }
    Ok(Device {
        identity: record.identity,
        credential,
        status: match record.status {
            Access::Enabled => DeviceStatus::Enabled,
            Access::Disabled => DeviceStatus::Disabled,
        },
        parent: Some(record.parent.unwrap_or_else(|| edge.clone())),
        generation: record.generation.into(),
        edge: record.edge,
        added: added.unwrap_or_else(crate::run::shown::now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str, generation: &str) -> IdentityRecord {
        IdentityRecord {
            identity: Identity::parse(text).unwrap(),
            proof: Proof::Sas {
                primary: holdfast_link::Secret("a2V5a2V5a2V5a2V5a2V5a2V5".into()),
                secondary: None,
            },
            status: Access::Enabled,
            parent: None,
            generation: generation.into(),
            edge: false,
        }
    }

    fn known(text: &str, generation: &str) -> Arc<Device> {
        let edge = Name::new("edge-1").unwrap();
        Arc::new(device(record(text, generation), &edge, Some(UnixMillis(1))).unwrap())
    }

    fn local(text: &str) -> Arc<Device> {
        Arc::new(Device { parent: None, ..(*known(text, "l")).clone() })
    }

    fn names(given: Given, known: &[Arc<Device>]) -> (Vec<String>, Vec<String>) {
        let Plan { put, remove } = plan(given, &Name::new("edge-1").unwrap(), known);
        let texts = |all: Vec<Identity>| all.iter().map(ToString::to_string).collect();
        (texts(put.into_iter().map(|device| device.identity).collect()), texts(remove))
    }

    #[test]
    fn a_whole_sync_puts_what_differs_removes_what_is_gone_and_leaves_what_was_added_here() {
        let before = [known("a", "1"), known("b", "1"), known("b/m", "1"), known("c", "1"), local("here")];
        let all = vec![record("a", "1"), record("b", "2"), record("d", "1"), record("edge-1", "1")];
        let (put, remove) = names(Given::All(all), &before);
        assert_eq!(put, ["b", "d"], "a is as it was, and the edge is no device of its own");
        assert_eq!(remove, ["b/m", "c"]);
        let (put, remove) = names(Given::All(vec![record("here", "9")]), &before[4..]);
        assert_eq!((put, remove.len()), (vec!["here".to_owned()], 0), "what the hub knows is the hub's");
    }

    #[test]
    fn changes_count_in_their_order_and_removing_touches_the_hubs_devices_only() {
        let before = [known("a", "1"), local("here")];
        let who = |text: &str| Identity::parse(text).unwrap();
        let changes = vec![
            Change::Removed(who("a")),
            Change::Identity(record("a", "2")),
            Change::Identity(record("b", "1")),
            Change::Identity(record("b/m", "1")),
            Change::Removed(who("b")),
            Change::Removed(who("here")),
        ];
        assert_eq!(names(Given::Changes(changes), &before), (vec!["a".to_owned()], vec![]));
    }

    #[test]
    fn a_device_that_cannot_be_read_is_left_out_and_the_others_are_taken() {
        let bad = IdentityRecord {
            proof: Proof::Sas { primary: holdfast_link::Secret("?".into()), secondary: None },
            ..record("a", "2")
        };
        let (put, remove) = names(Given::All(vec![bad, record("b", "1")]), &[known("a", "1")]);
        assert_eq!((put, remove), (vec!["b".to_owned()], vec!["a".to_owned()]));
    }

    #[test]
    fn settings_are_read_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(holdfast_store::SystemClock::new());
        let mut config = holdfast_store::StoreConfig::new(folder.path());
        config.ballast_bytes = 0;
        let (store, _) = holdfast_store::open(config, clock).unwrap();
        assert_eq!(read(&store).unwrap().revision, 0);
        for (text, good) in [
            (r#"{"v":1,"revision":7,"twins":3}"#, true),
            (r#"{"v":2,"revision":7,"twins":3}"#, false),
            ("x", false),
        ] {
            let value = Some(text.as_bytes().to_vec().into());
            let write = DocumentWrite { space: SPACE.into(), key: KEY.into(), value };
            let commit =
                holdfast_store::Commit { documents: vec![write], ..holdfast_store::Commit::default() };
            store.commit_blocking(commit).unwrap();
            assert_eq!(read(&store).is_ok(), good, "{text}");
        }
    }
}
