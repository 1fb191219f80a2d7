//! The devices of the registry, which change while it is asked.

use crate::{
    claim::{Bench, Claim, DeviceNotProved, Known, Proved, judge},
    device::{Credential, Device, DeviceStatus, SharedKey},
    may::Grants,
    x509::{Shown, TrustBundle},
};
use holdfast_types::{Identity, Name, TopicFilter, UnixMillis};
use rustls_pki_types::CertificateDer;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

/// Most devices and modules in the registry of an edge, unless its rules say otherwise. An edge has hundreds; the bound keeps a
/// runaway sync from taking the memory.
pub const DEVICES_MAX: usize = 100_000;

/// The place in a rule where the name of the device stands.
const DEVICE_PLACE: &str = "{device}";

/// What holds for all devices.
#[derive(Clone)]
pub struct DeviceRules {
    /// The host names that a token may be for: the hub's, and the gateway's own.
    pub hosts: Vec<String>,
    /// The authorities that certificates of devices come from.
    pub authorities: TrustBundle,
    /// What a device may do on plain topics; `{device}` stands for its name. Empty lists allow nothing.
    pub grants: Grants,
    /// Most devices and modules.
    pub devices_max: usize,
}

impl Default for DeviceRules {
    fn default() -> Self {
        let (hosts, authorities, grants) = Default::default();
        Self { hosts, authorities, grants, devices_max: DEVICES_MAX }
    }
}

/// Why connections of a device end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It was removed.
    Removed,
    /// It was disabled.
    Disabled,
    /// It has another parent.
    Moved,
    /// Its credential is another one; whoever has the new one comes back.
    CredentialChanged,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "it was removed from the registry",
            Self::Disabled => "it was disabled",
            Self::Moved => "it has another parent",
            Self::CredentialChanged => "its credential was changed",
        })
    }
}

/// Why the registry does not take a change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryFault {
    /// There is one of that name.
    #[error("{0} exists already; choose another name, or remove it first")]
    Exists(Identity),
    /// There is none of that name.
    #[error("there is no device {0}")]
    NoSuchDevice(Identity),
    /// A module's device is not there.
    #[error("there is no device {0}, so it can have no module; add the device first")]
    NoDevice(Name),
    /// A user of the configuration has the name.
    #[error("{0} is the name of a user in [[users]]; a client would be both; choose another name")]
    IsUser(Name),
    /// A module cannot have this credential.
    #[error("{0} is a module, and modules cannot prove themselves with a certificate; give it a key")]
    ModuleByCertificate(Identity),
    /// There are as many as may be.
    #[error("there are {0} devices and modules, as many as may be; remove some")]
    Full(usize),
}

type Watcher = Box<dyn Fn(&Identity, Cut) + Send + Sync>;

/// The devices, and who wants to know when one is cut off.
pub(crate) struct Devices {
    rules: DeviceRules,
    decoy: Option<SharedKey>,
    entries: RwLock<Entries>,
    watchers: RwLock<Vec<Watcher>>,
}

#[derive(Default)]
struct Entries {
    /// In the order of names, so that a device stands before its modules.
    all: BTreeMap<Identity, Entry>,
    /// The devices whose parent each one is.
    children: BTreeMap<Name, BTreeSet<Name>>,
    /// Counts changes after which a proof is worth nothing.
    change: u64,
}

struct Entry {
    device: Arc<Device>,
    /// What it may do on plain topics.
    grants: Grants,
    /// The last change that made proofs of it worthless.
    change: u64,
}

impl Devices {
    pub(crate) fn new(random: &[u8; 32]) -> Self {
        Self {
            rules: DeviceRules::default(),
            decoy: SharedKey::new(random).ok(),
            entries: RwLock::default(),
            watchers: RwLock::default(),
        }
    }

    pub(crate) fn set_rules(&mut self, rules: DeviceRules) {
        self.rules = rules;
    }

    fn read(&self) -> RwLockReadGuard<'_, Entries> {
        self.entries.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Entries> {
        self.entries.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn who(&self, claim: &Claim<'_>) -> Result<Proved, DeviceNotProved> {
        let Some(decoy) = &self.decoy else {
            return Err(DeviceNotProved::NoSuchDevice(claim.identity.to_string()));
        };
        // The entries are let go before anything is computed, so that a storm of claims holds up no change.
        let (device, module, change) = {
            let entries = self.read();
            let one = |identity: &Identity| entries.all.get(identity).map(|entry| entry.device.clone());
            let device = one(&Identity::device(claim.identity.device.clone()));
            let module = claim.identity.module.as_ref().and_then(|_| one(claim.identity));
            (device, module, entries.change)
        };
        let known = Known { device: device.as_deref(), module: module.as_deref() };
        let (hosts, authorities) = (&self.rules.hosts, &self.rules.authorities);
        judge(claim, &known, &Bench { hosts, authorities, decoy, change })
    }

    /// Who shows this certificate and says nothing else.
    pub(crate) fn who_shows(
        &self,
        certificates: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<Proved, DeviceNotProved> {
        let anonymous = |why: &str| DeviceNotProved::Anonymous(why.to_owned());
        let shown = match Shown::read(certificates) {
            Some(Ok(shown)) => shown,
            Some(Err(why)) => return Err(anonymous(&why.to_string())),
            None => return Err(anonymous("there is none")),
        };
        let named = shown.device().map(Identity::device);
        let identity = match named.filter(|identity| self.device(identity).is_some()) {
            Some(identity) => identity,
            None => self.by_thumbprint(&shown)?,
        };
        self.who(&Claim { identity: &identity, password: None, certificates, now })
    }

    /// The one device that a certificate belongs to by its thumbprint.
    fn by_thumbprint(&self, shown: &Shown<'_>) -> Result<Identity, DeviceNotProved> {
        let entries = self.read();
        let mut owners = entries.all.values().filter(|entry| match &entry.device.credential {
            Credential::Thumbprints { primary, secondary } => {
                shown.has(primary) || secondary.as_ref().is_some_and(|secondary| shown.has(secondary))
            }
            _ => false,
        });
        let why = match (owners.next(), owners.next()) {
            (Some(one), None) => return Ok(one.device.identity.clone()),
            (Some(_), Some(_)) => "several devices have it; say which one in the MQTT user name",
            (None, _) => "no device has its thumbprint, and its common name is that of no device here",
        };
        Err(DeviceNotProved::Anonymous(why.to_owned()))
    }

    /// Whether a proof is still worth something.
    pub(crate) fn still(&self, proved: &Proved) -> Result<(), Cut> {
        let entries = self.read();
        let device = Identity::device(proved.identity.device.clone());
        let Some(entry) = entries.all.get(&device) else { return Err(Cut::Removed) };
        let own = entries.all.get(&proved.identity);
        for entry in [Some(entry), own].into_iter().flatten() {
            if entry.device.status == DeviceStatus::Disabled {
                return Err(Cut::Disabled);
            }
            if entry.change > proved.change {
                return Err(Cut::CredentialChanged);
            }
        }
        Ok(())
    }

    pub(crate) fn grants<T>(&self, device: &Name, ask: impl FnOnce(&Grants) -> T) -> Option<T> {
        let entries = self.read();
        entries.all.get(&Identity::device(device.clone())).map(|entry| ask(&entry.grants))
    }

    pub(crate) fn device(&self, identity: &Identity) -> Option<Arc<Device>> {
        self.read().all.get(identity).map(|entry| entry.device.clone())
    }

    pub(crate) fn all(&self) -> Vec<Arc<Device>> {
        self.read().all.values().map(|entry| entry.device.clone()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().all.len()
    }

    pub(crate) fn watch(&self, watcher: Watcher) {
        self.watchers.write().unwrap_or_else(PoisonError::into_inner).push(watcher);
    }

    fn tell(&self, identity: &Identity, cut: Cut) {
        let watchers = self.watchers.read().unwrap_or_else(PoisonError::into_inner);
        watchers.iter().for_each(|watcher| watcher(identity, cut));
    }

    /// Whether [`Self::add`] would take it.
    pub(crate) fn check(&self, device: &Device) -> Result<(), RegistryFault> {
        check(&self.read(), device, self.rules.devices_max)
    }

    pub(crate) fn add(&self, device: Device) -> Result<(), RegistryFault> {
        let mut entries = self.write();
        check(&entries, &device, self.rules.devices_max)?;
        entries.put(device, &self.rules.grants, true);
        Ok(())
    }

    pub(crate) fn replace(&self, device: Device) -> Result<(), RegistryFault> {
        check_credential(&device)?;
        let (identity, cut) = {
            let mut entries = self.write();
            let Some(before) = entries.all.get(&device.identity).map(|entry| entry.device.clone()) else {
                return Err(RegistryFault::NoSuchDevice(device.identity));
            };
            let cut = cut(&before, &device);
            let identity = device.identity.clone();
            entries.put(device, &self.rules.grants, cut.is_some());
            (identity, cut)
        };
        cut.inspect(|cut| self.tell(&identity, *cut));
        Ok(())
    }

    pub(crate) fn remove(&self, identity: &Identity) -> Result<Vec<Identity>, RegistryFault> {
        let removed = {
            let mut entries = self.write();
            let removed = entries.with_modules(identity);
            if removed.is_empty() {
                return Err(RegistryFault::NoSuchDevice(identity.clone()));
            }
            removed.iter().for_each(|one| entries.forget(one));
            entries.vouch_anew(identity);
            removed
        };
        self.tell(identity, Cut::Removed);
        Ok(removed)
    }

    /// Puts and removes many at once: who asks sees all of it or nothing. What is put as it is already changes nothing.
    pub(crate) fn apply(&self, put: Vec<Device>, remove: &[Identity]) -> Result<(), RegistryFault> {
        put.iter().try_for_each(check_credential)?;
        let mut cuts = Vec::new();
        {
            let mut entries = self.write();
            let most = self.rules.devices_max;
            if entries.all.len().saturating_add(put.len()) > most.saturating_add(remove.len()) {
                return Err(RegistryFault::Full(most));
            }
            for identity in remove {
                let gone = entries.with_modules(identity);
                gone.iter().for_each(|one| entries.forget(one));
                if !gone.is_empty() {
                    cuts.push((identity.clone(), Cut::Removed));
                    entries.vouch_anew(identity);
                }
            }
            for device in put {
                let before = entries.all.get(&device.identity).map(|entry| entry.device.clone());
                let cut = before.and_then(|before| cut(&before, &device));
                cuts.extend(cut.map(|cut| (device.identity.clone(), cut)));
                entries.put(device, &self.rules.grants, cut.is_some());
            }
        }
        cuts.iter().for_each(|(identity, cut)| self.tell(identity, *cut));
        Ok(())
    }

    pub(crate) fn with_modules(&self, identity: &Identity) -> Vec<Identity> {
        self.read().with_modules(identity)
    }

    pub(crate) fn children(&self, parent: &Name) -> Vec<Name> {
        self.read().children.get(parent).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn behind(&self, edge: &Name, levels: usize) -> Vec<Arc<Device>> {
        self.read().behind(edge, levels)
    }
}

/// Whether connections of a device end when it becomes another.
fn cut(before: &Device, after: &Device) -> Option<Cut> {
    match after.status {
        _ if before.generation != after.generation => Some(Cut::Removed),
        // It reaches the hub another way from now on.
        _ if before.parent.is_some() && after.parent.is_some() && before.parent != after.parent => {
            Some(Cut::Moved)
        }
        DeviceStatus::Disabled => Some(Cut::Disabled),
        DeviceStatus::Enabled if before.credential != after.credential => Some(Cut::CredentialChanged),
        DeviceStatus::Enabled => None,
    }
}

impl Entries {
    fn put(&mut self, device: Device, rules: &Grants, cut: bool) {
        self.change += u64::from(cut);
        let before = self.all.get(&device.identity).map_or(0, |entry| entry.change);
        let entry = Entry {
            grants: grants_of(&device.identity, rules),
            change: if cut { self.change } else { before },
            device: Arc::new(device),
        };
        self.unlink(&entry.device.identity);
        if let (None, Some(parent)) = (&entry.device.identity.module, &entry.device.parent) {
            self.children.entry(parent.clone()).or_default().insert(entry.device.identity.device.clone());
        }
        self.all.insert(entry.device.identity.clone(), entry);
    }

    fn forget(&mut self, identity: &Identity) {
        self.unlink(identity);
        self.all.remove(identity);
    }

    /// Takes a device from its parent.
    fn unlink(&mut self, identity: &Identity) {
        let known = self.all.get(identity).filter(|_| identity.module.is_none());
        if let Some(parent) = known.and_then(|entry| entry.device.parent.as_ref())
            && let Some(children) = self.children.get_mut(parent)
        {
            children.remove(&identity.device);
            if children.is_empty() {
                self.children.remove(parent);
            }
        }
    }

    /// A device with its modules, and so many levels of children below it with theirs, by name.
    fn behind(&self, device: &Name, levels: usize) -> Vec<Arc<Device>> {
        let (mut found, mut level) = (BTreeSet::from([device]), vec![device]);
        for _ in 0..levels {
            let below = level.iter().filter_map(|one| self.children.get(*one)).flatten();
            // Who was met already is not looked at again, whatever the parents say.
            level = below.filter(|one| found.insert(*one)).collect();
        }
        let family = found.into_iter().flat_map(|one| {
            let from = self.all.range(Identity::device(one.clone())..);
            from.take_while(move |(identity, _)| identity.device == *one)
        });
        family.map(|(_, entry)| entry.device.clone()).collect()
    }

    /// A module that its device vouched for must prove itself anew where it is no longer known.
    fn vouch_anew(&mut self, removed: &Identity) {
        self.change += 1;
        let change = self.change;
        if let Some(device) = self.all.get_mut(&Identity::device(removed.device.clone())) {
            device.change = change;
        }
    }

    /// The identity and, of a device, its modules; those that are there.
    fn with_modules(&self, identity: &Identity) -> Vec<Identity> {
        let from = self.all.range(identity..).map(|(one, _)| one);
        from.take_while(|one| match identity.module {
            Some(_) => *one == identity,
            None => one.device == identity.device,
        })
        .cloned()
        .collect()
    }
}

fn check(entries: &Entries, device: &Device, devices_max: usize) -> Result<(), RegistryFault> {
    check_credential(device)?;
    if entries.all.contains_key(&device.identity) {
        return Err(RegistryFault::Exists(device.identity.clone()));
    }
    let parent = Identity::device(device.identity.device.clone());
    if device.identity.module.is_some() && !entries.all.contains_key(&parent) {
        return Err(RegistryFault::NoDevice(device.identity.device.clone()));
    }
    if entries.all.len() >= devices_max {
        return Err(RegistryFault::Full(devices_max));
    }
    Ok(())
}

fn check_credential(device: &Device) -> Result<(), RegistryFault> {
    match device.credential {
        Credential::Thumbprints { .. } | Credential::CertificateAuthority
            if device.identity.module.is_some() =>
        {
            Err(RegistryFault::ModuleByCertificate(device.identity.clone()))
        }
        _ => Ok(()),
    }
}

/// The rules with the name of the device in them. A module has no plain topics.
fn grants_of(identity: &Identity, rules: &Grants) -> Grants {
    if identity.module.is_some() {
        return Grants::default();
    }
    let own = |filters: &[TopicFilter]| {
        let named = filters.iter().map(|filter| filter.as_str().replace(DEVICE_PLACE, &identity.device));
        // A rule that is too long with the name in it allows nothing.
        named.filter_map(|filter| TopicFilter::new(&filter).ok()).collect()
    };
    Grants { publish: own(&rules.publish), subscribe: own(&rules.subscribe), deny: own(&rules.deny) }
}
