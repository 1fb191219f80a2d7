//! The devices of the registry, kept in the store.
//!
//! Each is a document of the space `identities` under the name of its identity (`holdfast-auth`, `record`), sealed with the key
//! in `identity.key`. That file is made at the first start, for this user alone (mode 0600; on Windows the folder's own
//! access list holds). The document `check` in the space `seal` holds a known text under the same key, so that a lost or
//! foreign key is found before anything is sealed with another.

use crate::sync::Plan;
use anyhow::{Context, anyhow, bail};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use holdfast_auth::{DEVICES_MAX, Device, DeviceStatus, Registry, RegistryFault, SEAL_KEY_BYTES, Sealer};
use holdfast_hub::backend::{Backend, BackendError, Expect, Space, Write};
use holdfast_store::{Commit, DocumentWrite, Store};
use holdfast_types::Identity;
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write as _},
    path::Path,
    sync::Arc,
};
use tokio::sync::{Mutex, oneshot};

const SPACE: &str = "identities";
const CHECK_SPACE: &str = "seal";
const CHECK_KEY: &str = "check";
const CHECK_TEXT: &[u8] = b"holdfast";
const KEY_FILE: &str = "identity.key";

/// The registry, and its form on disk.
pub struct Identities {
    pub registry: Arc<Registry>,
    store: Store,
    sealer: Sealer,
    /// One change at a time: each is on disk before the registry has it.
    turn: Mutex<()>,
}

impl Identities {
    /// Reads all devices into the registry.
    pub fn open(folder: &Path, store: Store, registry: Registry) -> anyhow::Result<Self> {
        let sealer = sealer(folder, &store)?;
        for (key, sealed) in store.documents(SPACE, "", DEVICES_MAX)? {
            let device = sealer
                .open(&sealed_name(&key), &sealed)
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(Device::from_document(&key, &text)?));
            match device {
                Ok(device) => registry.add(device).map_err(at_start)?,
                // One that cannot be read cannot connect; the others can.
                Err(error) => {
                    tracing::error!(device = %key, error = format!("{error:#}"), "a device cannot be read from the store; remove and add it again");
                }
            }
        }
        Ok(Self { registry: Arc::new(registry), store, sealer, turn: Mutex::default() })
    }

    /// Adds a device; it is on disk when this returns.
    pub async fn add(&self, device: Device) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        self.registry.check_new(&device)?;
        self.record(vec![self.document(&device)?]).await?;
        Ok(self.registry.add(device)?)
    }

    /// Lets a device in or not.
    pub async fn set_status(&self, identity: &Identity, status: DeviceStatus) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let known = self.registry.device(identity).ok_or_else(|| anyhow!("there is no device {identity}"))?;
        let device = Device { status, ..(*known).clone() };
        self.record(vec![self.document(&device)?]).await?;
        Ok(self.registry.replace(device)?)
    }

    /// Forgets a device and its modules.
    pub async fn remove(&self, identity: &Identity) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        let all = self.registry.with_modules(identity);
        self.record(all.iter().map(|one| write(SPACE, &one.to_string(), None)).collect()).await?;
        self.registry.remove(identity)?;
        Ok(())
    }

    /// Changes many devices at once, as a hub says, in one commit with `beside`: all of it is on disk and in force, or nothing.
    /// Gives who is gone. A device whose name a user of the configuration has
    /// is left out: that user comes in with its password.
    pub async fn change(
        &self,
        plan: impl FnOnce(&[Arc<Device>]) -> Plan,
        beside: Vec<DocumentWrite>,
    ) -> anyhow::Result<Vec<Identity>> {
        let _turn = self.turn.lock().await;
        let Plan { mut put, remove } = plan(&self.registry.devices());
        put.retain(|device| {
            let clash = self.registry.is_user(&device.identity.device);
            if clash {
                tracing::info!(device = %device.identity, "a user in [[users]] has the name of a device of the hub; it comes in with its password here");
            }
            !clash
        });
        let gone: Vec<Identity> = remove.iter().flat_map(|one| self.registry.with_modules(one)).collect();
        if self.registry.devices_len().saturating_add(put.len()) > DEVICES_MAX.saturating_add(remove.len()) {
            return Err(RegistryFault::Full(DEVICES_MAX).into());
        }
        let mut documents = beside;
        documents.extend(gone.iter().map(|one| write(SPACE, &one.to_string(), None)));
        for device in &put {
            documents.push(self.document(device)?);
        }
        self.record(documents).await?;
        self.registry.apply(put, &remove)?;
        Ok(gone)
    }

    fn document(&self, device: &Device) -> anyhow::Result<DocumentWrite> {
        let key = device.identity.to_string();
        let text = device.to_document()?;
        Ok(write(SPACE, &key, Some(self.sealer.seal(&sealed_name(&key), &text, &random()?)?)))
    }

    async fn record(&self, documents: Vec<DocumentWrite>) -> anyhow::Result<()> {
        let (send, answer) = oneshot::channel();
        self.store.commit_when_room(Commit { documents, ..Commit::default() }, move |result| {
            // The receiver is below.
            let _ = send.send(result);
        });
        answer.await.context("the store is closing")??;
        Ok(())
    }
}

/// A change that the registry takes no more because the configuration has changed meanwhile.
fn at_start(fault: RegistryFault) -> anyhow::Error {
    match fault {
        RegistryFault::IsUser(name) => anyhow!(
            "a user of [[users]] has the name of the device {name}, and a client would be both; rename the user, or start \
             without it once and remove the device: holdfast device remove {name}"
        ),
        other => other.into(),
    }
}

/// The sealer of what is kept beside a store: its key is made at the first start, and is checked at each.
pub fn sealer(folder: &Path, store: &Store) -> anyhow::Result<Sealer> {
    let check = store.document(CHECK_SPACE, CHECK_KEY)?;
    let file = folder.join(KEY_FILE);
    let key = match (read_key(&file)?, &check) {
        (Some(key), _) => key,
        (None, None) => make_key(&file)?,
        (None, Some(_)) => bail!(
            "{} is missing, and the identities in the store are sealed with it; put it back from a backup of {}, or, \
             if it is lost, begin with an empty data folder and add the devices again",
            file.display(),
            folder.display()
        ),
    };
    let sealer = Sealer::new(&key);
    let name = format!("{CHECK_SPACE}/{CHECK_KEY}");
    match check {
        Some(sealed) => {
            sealer.open(&name, &sealed).with_context(|| {
                format!("{} is not the key of this store; put the right file back", file.display())
            })?;
        }
        None => {
            let documents =
                vec![write(CHECK_SPACE, CHECK_KEY, Some(sealer.seal(&name, CHECK_TEXT, &random()?)?))];
            store.commit_blocking(Commit { documents, ..Commit::default() })?;
        }
    }
    Ok(sealer)
}

/// The sealer of a hub whose storage is shared: every process has the same key file, which the first one makes.
pub async fn shared_sealer(folder: &Path, backend: &dyn Backend) -> anyhow::Result<Sealer> {
    let check = backend.get(Space::Hub, CHECK_SPACE).await?;
    let file = folder.join(KEY_FILE);
    let key = match (read_key(&file)?, &check) {
        (Some(key), _) => key,
        (None, None) => make_key(&file)?,
        (None, Some(_)) => bail!(
            "{} is missing, and the identities in the shared storage are sealed with it; copy it from the data folder of \
             another process of this hub",
            file.display()
        ),
    };
    let (sealer, name) = (Sealer::new(&key), format!("{CHECK_SPACE}/{CHECK_KEY}"));
    let sealed = match check {
        Some(check) => check.value,
        None => {
            let sealed = Bytes::from(sealer.seal(&name, CHECK_TEXT, &random()?)?);
            let write = Write::set(Space::Hub, CHECK_SPACE, sealed.clone()).when(Expect::Absent);
            match backend.put(vec![write]).await {
                Ok(_) => sealed,
                // Another process was first; with which key, is seen now.
                Err(BackendError::Conflict { .. }) => {
                    backend.get(Space::Hub, CHECK_SPACE).await?.map(|stored| stored.value).unwrap_or_default()
                }
                Err(error) => return Err(error.into()),
            }
        }
    };
    sealer.open(&name, &sealed).with_context(|| {
        format!(
            "{} is not the key that the shared storage is sealed with; copy that of another process of this hub",
            file.display()
        )
    })?;
    Ok(sealer)
}

fn sealed_name(key: &str) -> String {
    format!("{SPACE}/{key}")
}

fn write(space: &str, key: &str, value: Option<Vec<u8>>) -> DocumentWrite {
    DocumentWrite { space: space.into(), key: key.into(), value: value.map(Into::into) }
}

/// Random bytes of the system.
pub fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("the system gives no random numbers: {error}"))?;
    Ok(bytes)
}

fn read_key(file: &Path) -> anyhow::Result<Option<[u8; SEAL_KEY_BYTES]>> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let key = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
    key.map(Some).ok_or_else(|| {
        anyhow!(
            "{} is damaged: it must hold base64 of {SEAL_KEY_BYTES} bytes; put it back from a backup",
            file.display()
        )
    })
}

/// Makes the key: whole and on disk, or not at all.
fn make_key(file: &Path) -> anyhow::Result<[u8; SEAL_KEY_BYTES]> {
    let key = random()?;
    let new = file.with_extension("new");
    let make = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut out = options.open(&new)?;
        out.write_all(format!("{}\n", STANDARD.encode(key)).as_bytes())?;
        out.sync_all()?;
        fs::rename(&new, file)?;
        #[cfg(unix)]
        file.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())?;
        Ok(())
    };
    make().with_context(|| format!("cannot make {}", file.display()))?;
    Ok(key)
}
