//! The registry as a whole: handed from hub to hub, as a file or change by change.
//!
//! Merging is idempotent: what is there already changes nothing, however often it comes and in whatever order. A device is
//! as the newcomer says; of each half of a twin the higher version stays; a deployment is as the newcomer says.
//!
//! An exported file is lines of JSON. The first is `{"holdfast":"registry","v":1,…}`; each of the others is
//! `{"identity":{…}}`, `{"twin":{…}}` or `{"deployment":{…}}`. Credentials stand in `sealed`, in base64: the proof as JSON,
//! sealed with ChaCha20-Poly1305, with the name of the device authenticated. All else is readable. The key is either made of
//! a password and a `salt` by PBKDF2-HMAC-SHA256 with so many `iterations`, or agreed with a `recipient` (`recipient.rs`),
//! the hub that is to import it; then nobody else can open it, not even who exported it.

use crate::{
    backend::{BackendError, Space, Write},
    deployments::StoredDeployment,
    directory::DirectoryError,
    error::HubError,
    hub::{Hub, edge_of},
    recipient::{self, PrivateKey, PublicKey},
    twins::HubTwin,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_auth::{SEAL_KEY_BYTES, SEAL_RANDOM_BYTES, Sealer};
use holdfast_link::{IdentityRecord, Proof};
use holdfast_links::record_of;
use holdfast_types::{Identity, Name, UnixMillis};
use ring::pbkdf2;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{collections::BTreeSet, num::NonZeroU32};

/// Rounds of PBKDF2 that a new file has (OWASP, 2023: 600,000 for HMAC-SHA256).
const ITERATIONS: u32 = 600_000;

/// Most rounds that a file may ask for: some seconds.
const ITERATIONS_MAX: u32 = 10_000_000;

/// Fewest characters of a password: a file leaves the machine, and may be tried for years.
const PASSWORD_CHARACTERS_MIN: usize = 12;

/// Where the key stands that others export to.
const RECIPIENT_KEY: &str = "recipient";

/// Most changes of one revision.
const REVISION_CHANGES_MAX: usize = 20_000;

/// New devices that are added with one batch, so that they share a write to the disk or a message to the servers.
const ADDED_AT_ONCE: usize = 200;

/// Most changes that are handed over at once.
const CHANGES_MAX: usize = 500;

/// A part of the registry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Item {
    /// A device or module.
    Identity {
        #[serde(flatten)]
        record: IdentityRecord,
        #[serde(default)]
        added_ms: u64,
        /// The proof, in a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sealed: Option<String>,
    },
    /// A twin.
    Twin {
        /// Whose.
        who: String,
        #[serde(flatten)]
        twin: HubTwin,
    },
    /// A deployment.
    Deployment(StoredDeployment),
    /// A document that is gone.
    Gone {
        /// Of which space.
        space: String,
        /// Under which key.
        key: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    holdfast: String,
    v: u32,
    #[serde(flatten)]
    lock: Lock,
}

/// What the key of a file is made of, beside what is secret.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Lock {
    Password { salt: String, iterations: u32 },
    Recipient { recipient: String, ephemeral: String },
}

/// Who can open an export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportTo {
    /// Whoever knows a password.
    Password(String),
    /// The hub with this public key.
    Recipient(PublicKey),
}

/// What an import came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Imported {
    /// What was new or other than before.
    pub(crate) changed: usize,
    /// What was there already.
    pub(crate) same: usize,
    /// What was refused, and why.
    pub(crate) refused: Vec<String>,
}

fn bad(why: impl Into<String>) -> HubError {
    HubError::Bad(why.into())
}

fn sealer(password: &str, salt: &[u8], iterations: u32) -> Result<Sealer, HubError> {
    let iterations = NonZeroU32::new(iterations).filter(|count| count.get() <= ITERATIONS_MAX);
    let iterations = iterations
        .ok_or_else(|| bad(format!("the file asks for too many rounds; at most {ITERATIONS_MAX}")))?;
    let mut key = [0; SEAL_KEY_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password.as_bytes(), &mut key);
    Ok(Sealer::new(&key))
}

fn random<const N: usize>() -> Result<[u8; N], HubError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|why| BackendError::Failed(format!("the system gives no random numbers: {why}")))?;
    Ok(bytes)
}

fn blocking_failed<E>(_: E) -> HubError {
    HubError::Backend(BackendError::Stopping)
}

impl Hub {
    /// The key that others export to. It is made when it is asked for first.
    ///
    /// # Errors
    /// The storage cannot be read or written.
    pub async fn recipient(&self) -> Result<PublicKey, HubError> {
        Ok(self.recipient_key().await?.public())
    }

    async fn recipient_key(&self) -> Result<PrivateKey, HubError> {
        if let Some(stored) = self.backend.get(Space::Hub, RECIPIENT_KEY).await? {
            let opened = self.directory().open_sealed(RECIPIENT_KEY, &stored.value)?;
            let bytes = <[u8; 32]>::try_from(&*opened);
            return bytes.map(PrivateKey).map_err(|_| bad("the key of this hub for imports is broken"));
        }
        let key = PrivateKey(random()?);
        let sealed = self.directory().seal(RECIPIENT_KEY, &key.0)?;
        self.backend.put(vec![Write::set(Space::Hub, RECIPIENT_KEY, sealed)]).await?;
        Ok(key)
    }

    /// The whole registry as lines of JSON, credentials sealed.
    ///
    /// # Errors
    /// The password is too short, the key is none, or the storage cannot be read.
    pub async fn export(&self, to: ExportTo) -> Result<String, HubError> {
        let (sealer, lock) = match to {
            ExportTo::Password(password) => {
                if password.chars().count() < PASSWORD_CHARACTERS_MIN {
                    return Err(bad(format!(
                        "the password is too short; give it at least {PASSWORD_CHARACTERS_MIN} characters"
                    )));
                }
                let salt = random::<16>()?;
                let made = tokio::task::spawn_blocking(move || sealer(&password, &salt, ITERATIONS));
                let sealer = made.await.map_err(blocking_failed)??;
                (sealer, Lock::Password { salt: BASE64_STANDARD.encode(salt), iterations: ITERATIONS })
            }
            ExportTo::Recipient(recipient) => {
                let (sealer, ephemeral) = recipient::sealer_to(&recipient, random()?)?;
                let (recipient, ephemeral) = (recipient.to_string(), ephemeral.to_string());
                (sealer, Lock::Recipient { recipient, ephemeral })
            }
        };
        let head = Head { holdfast: "registry".to_owned(), v: 1, lock };
        let mut text = format!("{}\n", json!(head));
        for device in self.directory().registry().devices() {
            let mut record = record_of(&device);
            let name = device.identity.to_string();
            let proof = std::mem::replace(&mut record.proof, Proof::None);
            let sealed =
                sealer.seal(&name, json!(proof).to_string().as_bytes(), &random::<SEAL_RANDOM_BYTES>()?);
            let sealed = sealed.map_err(|why| bad(why.to_string()))?;
            let item = Item::Identity {
                record,
                added_ms: device.added.0,
                sealed: Some(BASE64_STANDARD.encode(sealed)),
            };
            text.push_str(&format!("{}\n", json!(item)));
            let twin = self.twins().get(&device.identity).await?;
            if twin != HubTwin::default() {
                text.push_str(&format!("{}\n", json!(Item::Twin { who: name, twin })));
            }
        }
        for deployment in self.deployments().all() {
            text.push_str(&format!("{}\n", json!(Item::Deployment((*deployment).clone()))));
        }
        Ok(text)
    }

    /// Takes what [`Self::export`] has made, at this hub or another. Gives what came of it as JSON.
    ///
    /// # Errors
    /// The text is no such export, or the password or the recipient is another one; then nothing has changed.
    pub async fn import(&self, text: &str, password: Option<&str>) -> Result<serde_json::Value, HubError> {
        let mut lines = text.lines().filter(|line| !line.trim().is_empty());
        let first = lines.next().ok_or_else(|| bad("there is nothing to import"))?;
        let head: Head = serde_json::from_str(first)
            .map_err(|_| bad("this is no export of a registry: its first line says nothing of it"))?;
        if head.holdfast != "registry" || head.v != 1 {
            return Err(bad(format!(
                "this export has version {}, this hub knows 1; use a newer one",
                head.v
            )));
        }
        let sealer = match (head.lock, password) {
            (Lock::Password { salt, iterations }, Some(password)) => {
                let salt = BASE64_STANDARD
                    .decode(&salt)
                    .map_err(|_| bad("the salt in the first line is no base64"))?;
                let password = password.to_owned();
                let made = tokio::task::spawn_blocking(move || sealer(&password, &salt, iterations));
                made.await.map_err(blocking_failed)??
            }
            (Lock::Password { .. }, None) => {
                return Err(bad("this export is sealed under a password; give it with --password-file"));
            }
            (Lock::Recipient { recipient, ephemeral }, _) => {
                let own = self.recipient_key().await?;
                if own.public().to_string() != recipient {
                    return Err(bad(format!(
                        "this export is for the hub whose key is {recipient}; that of this one is {}: export it again \
                         with --recipient {}",
                        own.public(),
                        own.public()
                    )));
                }
                recipient::sealer_from(&own, &PublicKey::parse(&ephemeral)?)?
            }
        };
        let mut items = Vec::new();
        for (at, line) in lines.enumerate() {
            let wrong = |why: String| bad(format!("line {}: {why}", at + 2));
            let mut item: Item = serde_json::from_str(line).map_err(|why| wrong(why.to_string()))?;
            if let Item::Identity { record, sealed: Some(sealed), .. } = &mut item {
                let bytes = BASE64_STANDARD.decode(sealed).map_err(|why| wrong(why.to_string()))?;
                let proof = sealer
                    .open(&record.identity.to_string(), &bytes)
                    .map_err(|_| wrong("its credential cannot be opened; the password is another one, or the file was changed".to_owned()))?;
                record.proof = serde_json::from_slice(&proof).map_err(|why| wrong(why.to_string()))?;
            }
            items.push(item);
        }
        let imported = self.merge_all(items).await?;
        self.has_whole_registry().await?;
        tracing::info!(
            changed = imported.changed,
            same = imported.same,
            refused = imported.refused.len(),
            "a registry was imported"
        );
        Ok(json!(imported))
    }

    /// Merges in such an order that parents and devices come before what needs them.
    async fn merge_all(&self, items: Vec<Item>) -> Result<Imported, HubError> {
        let mut imported = Imported::default();
        let mut left = items;
        loop {
            // Each time those who needed the ones before.
            let (added, others) = self.add_newcomers(left).await;
            left = others;
            imported.changed += added;
            if added == 0 {
                break;
            }
        }
        loop {
            let (count, mut again, mut why) = (left.len(), Vec::new(), Vec::new());
            for item in left {
                match self.merge(item.clone()).await {
                    Ok(true) => imported.changed += 1,
                    Ok(false) => imported.same += 1,
                    Err(error @ (HubError::Directory(DirectoryError::Backend(_)) | HubError::Backend(_))) => {
                        return Err(error);
                    }
                    Err(error) => {
                        again.push(item);
                        why.push(error.to_string());
                    }
                }
            }
            if again.len() == count || again.is_empty() {
                imported.refused = why;
                return Ok(imported);
            }
            left = again;
        }
    }

    /// Adds those that are new and need nobody else of these, many with one batch. Gives their number, and the others.
    async fn add_newcomers(&self, items: Vec<Item>) -> (usize, Vec<Item>) {
        let (mut added, mut others, mut newcomers) = (0, Vec::new(), Vec::new());
        let mut names = BTreeSet::new();
        for item in items {
            match item {
                Item::Identity { record, added_ms, sealed }
                    if self.is_newcomer(&record) && names.insert(record.identity.clone()) =>
                {
                    newcomers.push((record, added_ms, sealed));
                }
                other => others.push(other),
            }
        }
        for together in newcomers.chunks(ADDED_AT_ONCE) {
            let records: Vec<_> =
                together.iter().map(|(record, at, _)| (record.clone(), UnixMillis(*at))).collect();
            match self.add_devices(&records).await {
                Ok(()) => added += records.len(),
                // One by one it is found which of them is refused.
                Err(_) => {
                    let again = together.iter().cloned();
                    others.extend(again.map(|(record, added_ms, sealed)| Item::Identity {
                        record,
                        added_ms,
                        sealed,
                    }));
                }
            }
        }
        (added, others)
    }

    /// Adds several new devices or modules, of which none needs another, all or none.
    async fn add_devices(&self, records: &[(IdentityRecord, UnixMillis)]) -> Result<(), HubError> {
        self.tell(self.with_assigned(self.directory().add_all(records).await?));
        // Of many modules of one device it is looked at once.
        let edges: BTreeSet<&Name> = records.iter().filter_map(|(record, _)| edge_of(record)).collect();
        for edge in edges {
            self.reassign(edge).await?;
        }
        Ok(())
    }

    /// Whether it is not known here, and all that it needs is.
    fn is_newcomer(&self, record: &IdentityRecord) -> bool {
        let is_known = |who: &Identity| self.directory().get(who).is_some();
        let device = Identity::device(record.identity.device.clone());
        let needed = record.identity.module.is_some().then_some(device);
        let parent = record.parent.clone().map(Identity::device);
        !is_known(&record.identity) && needed.iter().chain(&parent).all(is_known)
    }

    /// Takes one part of another hub's registry. Says whether it changed anything.
    pub(crate) async fn merge(&self, item: Item) -> Result<bool, HubError> {
        match item {
            Item::Identity { record, added_ms, .. } => {
                let known = self.directory().get(&record.identity);
                if known.is_some_and(|known| record_of(&known) == record) {
                    return Ok(false);
                }
                self.put_device_added(record, UnixMillis(added_ms)).await?;
            }
            Item::Twin { who, twin } => {
                let who = Identity::parse(&who)
                    .ok_or_else(|| bad(format!("{who:?} is no name of a device or module")))?;
                let changed = self.twins().merge_from(&who, &twin).await?;
                if changed.before == changed.after {
                    return Ok(false);
                }
                self.desired_changed(&who, &changed.before, &changed.after, None);
                if who.module.is_none() {
                    self.reassign(&who.device).await?;
                }
            }
            Item::Deployment(deployment) => {
                let known = self.deployments().get(&deployment.id);
                let same = known.is_some_and(|known| {
                    StoredDeployment { revision: 0, ..(*known).clone() }
                        == StoredDeployment { revision: 0, ..deployment.clone() }
                });
                if same {
                    return Ok(false);
                }
                self.put_deployment(deployment).await?;
            }
            Item::Gone { space, key } => match Space::of(&space) {
                Some(Space::Identities) => match Identity::parse(&key) {
                    Some(who) if self.directory().get(&who).is_some() => {
                        self.remove_device(&who).await?;
                    }
                    _ => return Ok(false),
                },
                Some(Space::Deployments) if self.deployments().get(&key).is_some() => {
                    self.remove_deployment(&key).await?;
                }
                // A twin goes with its device.
                _ => return Ok(false),
            },
        }
        Ok(true)
    }

    /// What has changed after a revision, as parts of the registry as they are now, and the revision up to which that is
    /// all; and whether there are none behind it.
    pub(crate) async fn changes(&self, after: u64) -> Result<(Vec<Item>, u64, bool), HubError> {
        let last = self.revision();
        let mut changes = self.backend.changes(after, CHANGES_MAX).await?;
        let is_all = changes.len() < CHANGES_MAX;
        let newest = changes.last().map_or(last, |change| change.revision);
        let upto = if is_all {
            newest.max(last)
        } else if changes.first().is_some_and(|first| first.revision < newest) {
            // The last revision of a full page may go on behind it.
            changes.retain(|change| change.revision < newest);
            changes.last().map_or(after, |change| change.revision)
        } else {
            changes = self.backend.changes(after, REVISION_CHANGES_MAX).await?;
            changes.retain(|change| change.revision == newest);
            newest
        };
        // IMPORTANT: after the changes were read. One that is not in memory yet would be told as one that is gone.
        self.is_settled().await;
        let mut items = Vec::with_capacity(changes.len());
        for change in changes {
            let gone = || Item::Gone { space: change.space.name().to_owned(), key: change.key.to_string() };
            let who = Identity::parse(&change.key);
            items.push(match (change.space, who) {
                (Space::Identities, Some(who)) => match self.directory().get(&who) {
                    Some(device) => {
                        Item::Identity { record: record_of(&device), added_ms: device.added.0, sealed: None }
                    }
                    None => gone(),
                },
                (Space::Twins, Some(who)) => match self.twins().get(&who).await? {
                    twin if twin == HubTwin::default() => gone(),
                    twin => Item::Twin { who: who.to_string(), twin },
                },
                (Space::Deployments, _) => match self.deployments().get(&change.key) {
                    Some(deployment) => Item::Deployment((*deployment).clone()),
                    None => gone(),
                },
                _ => gone(),
            });
        }
        Ok((items, upto, is_all))
    }
}
