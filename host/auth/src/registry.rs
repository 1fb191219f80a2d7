//! Everybody who may connect: the users that the configuration names, and the devices, which come and go.

use crate::{
    claim::{Claim, DeviceNotProved, Proved},
    device::Device,
    devices::{Cut, DeviceRules, Devices, RegistryFault},
    may::{Action, Grants, Refusal},
    who::{Evidence, NotProved, Remembered, hash_password, keyed_digest, verify},
};
use argon2::password_hash::{PasswordHash, PasswordHashString};
use holdfast_types::{Identity, Name, TopicFilter, UnixMillis};
use rustls_pki_types::CertificateDer;
use std::{collections::HashMap, fmt, sync::Arc};

/// A password as the configuration gives it.
#[derive(Clone)]
pub enum Password {
    /// The password itself; it is hashed at once and forgotten.
    Plain(Vec<u8>),
    /// Its Argon2 hash in PHC form: `$argon2id$v=19$m=19456,t=2,p=1$salt$hash`.
    Hash(String),
}

/// Never shows the secret.
impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Plain(secret)",
            Self::Hash(_) => "Hash(secret)",
        })
    }
}

/// Why a user cannot be taken from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two users have one name.
    #[error("user {0} is named twice; keep one of them")]
    Twice(Name),
    /// The hash is no Argon2 hash in PHC form.
    #[error(
        "the password hash of user {user} is not an Argon2 hash in PHC form ({why}); the argon2 tool makes one: `argon2 SALT -id -e`"
    )]
    BadHash {
        /// Whose.
        user: Name,
        /// What is wrong with it.
        why: String,
    },
}

/// A user whose password is hashed.
pub struct UserRecord {
    hash: PasswordHashString,
    grants: Grants,
    remembered: Remembered,
}

impl UserRecord {
    pub(crate) fn hash(&self) -> &PasswordHashString {
        &self.hash
    }

    /// What the user may do.
    pub fn grants(&self) -> &Grants {
        &self.grants
    }
}

/// All users and devices, shared between tasks. The users are those of the start; devices change while it is asked.
pub struct Registry {
    users: HashMap<Name, UserRecord>,
    devices: Devices,
    key: [u8; 32],
    /// Checked for users that do not exist, so that an answer takes as long as for one that does.
    decoy: Option<PasswordHashString>,
}

impl Registry {
    /// A registry of the users of the configuration. `random` is 32 random bytes, drawn anew by every process: they key
    /// the remembered digests and salt the hashes of plain passwords. Gives every fault at once. Slow if there are plain
    /// passwords, since each is hashed.
    pub fn new(
        users: impl IntoIterator<Item = (Name, Password, Grants)>,
        random: [u8; 32],
    ) -> Result<Self, Vec<Fault>> {
        let mut all = HashMap::new();
        let mut faults = Vec::new();
        for (name, password, grants) in users {
            match hash_of(&name, password, &random) {
                Ok(_) if all.contains_key(&name) => faults.push(Fault::Twice(name)),
                Ok(hash) => {
                    all.insert(name, UserRecord { hash, grants, remembered: Remembered::default() });
                }
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        let decoy = all.values().next().map(|user| user.hash.clone());
        Ok(Self { users: all, devices: Devices::new(&random), key: random, decoy })
    }

    /// The registry with rules for its devices. Without them no token is for the right host and no authority is trusted.
    #[must_use]
    pub fn with_rules(mut self, rules: DeviceRules) -> Self {
        self.devices.set_rules(rules);
        self
    }

    /// The quick half of the question who it is: an answer only if the password is the one that was proved last, or if
    /// something is missing. Takes about a microsecond.
    pub fn who_quickly(&self, evidence: Evidence<'_>) -> Option<Result<Name, NotProved>> {
        let (user, password) = match complete(evidence) {
            Ok(complete) => complete,
            Err(missing) => return Some(Err(missing)),
        };
        let (name, record) = self.users.get_key_value(user)?;
        record.remembered.is(&keyed_digest(&self.key, record, password)).then(|| Ok(name.clone()))
    }

    /// Who it is. Takes tens of milliseconds: call it where blocking is allowed, after [`Self::who_quickly`] had no
    /// answer.
    pub fn who(&self, evidence: Evidence<'_>) -> Result<Name, NotProved> {
        let (user, password) = complete(evidence)?;
        let Some((name, record)) = self.users.get_key_value(user) else {
            if let Some(decoy) = &self.decoy {
                verify(decoy, password);
            }
            return Err(NotProved::NoSuchUser(user.to_owned()));
        };
        if !verify(&record.hash, password) {
            return Err(NotProved::WrongPassword(name.clone()));
        }
        record.remembered.set(keyed_digest(&self.key, record, password));
        Ok(name.clone())
    }

    /// Whether a user, or a device on plain topics, may do something.
    pub fn may(&self, user: &Name, action: Action<'_>) -> Result<(), Refusal> {
        if let Some(record) = self.users.get(user) {
            return record.grants.may(user, action);
        }
        let answer = self.devices.grants(user, |grants| grants.may_device(user, action));
        answer.unwrap_or_else(|| Err(Refusal::NoSuchUser(user.clone())))
    }

    /// What is kept from a user or device, whatever it has subscribed to.
    pub fn denied(&self, user: &Name) -> Vec<TopicFilter> {
        match self.users.get(user) {
            Some(record) => record.grants.deny.clone(),
            None => self.devices.grants(user, |grants| grants.deny.clone()).unwrap_or_default(),
        }
    }

    /// Whether a client is the device or module it says it is. Takes microseconds with a token, and less than a
    /// millisecond with a certificate.
    pub fn who_device(&self, claim: &Claim<'_>) -> Result<Proved, DeviceNotProved> {
        self.devices.who(claim)
    }

    /// Which device shows these certificates, its own first, and gives no name.
    pub fn who_shows(
        &self,
        certificates: &[CertificateDer<'_>],
        now: UnixMillis,
    ) -> Result<Proved, DeviceNotProved> {
        self.devices.who_shows(certificates, now)
    }

    /// Whether what was proved still holds. Ask again after a connection can be found by who watches
    /// [`Self::watch_cuts`]: between the proof and then the device may have been removed.
    pub fn still_proved(&self, proved: &Proved) -> Result<(), Cut> {
        self.devices.still(proved)
    }

    /// From now on `cut` is called when open connections of an identity must end. A device stands for its modules too.
    /// It is called by who makes the change, which waits for it: it must be quick and must not change the registry.
    pub fn watch_cuts(&self, cut: impl Fn(&Identity, Cut) + Send + Sync + 'static) {
        self.devices.watch(Box::new(cut));
    }

    /// A device or module.
    pub fn device(&self, identity: &Identity) -> Option<Arc<Device>> {
        self.devices.device(identity)
    }

    /// All devices and modules by name, each device before its modules.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        self.devices.all()
    }

    /// How many devices and modules there are.
    pub fn devices_len(&self) -> usize {
        self.devices.len()
    }

    /// Whether [`Self::add`] would take a device.
    pub fn check_new(&self, device: &Device) -> Result<(), RegistryFault> {
        if device.identity.module.is_none() && self.users.contains_key(&device.identity.device) {
            return Err(RegistryFault::IsUser(device.identity.device.clone()));
        }
        self.devices.check(device)
    }

    /// Adds a device or a module of one.
    pub fn add(&self, device: Device) -> Result<(), RegistryFault> {
        self.check_new(&device)?;
        self.devices.add(device)
    }

    /// Changes a device. If it may no longer connect, or its credential is another one, its connections are cut.
    pub fn replace(&self, device: Device) -> Result<(), RegistryFault> {
        self.devices.replace(device)
    }

    /// Removes a device with its modules, or a module. Connections are cut. Gives what was removed.
    pub fn remove(&self, identity: &Identity) -> Result<Vec<Identity>, RegistryFault> {
        self.devices.remove(identity)
    }

    /// Puts and removes many devices and modules at once, as an authority above says: who asks meanwhile sees all of it or
    /// nothing. Connections of who was removed, disabled or given another credential are cut; who is put as it is already
    /// keeps them. A device stands before its modules.
    pub fn apply(&self, put: Vec<Device>, remove: &[Identity]) -> Result<(), RegistryFault> {
        let is_user = |device: &&Device| {
            device.identity.module.is_none() && self.users.contains_key(&device.identity.device)
        };
        if let Some(device) = put.iter().find(is_user) {
            return Err(RegistryFault::IsUser(device.identity.device.clone()));
        }
        self.devices.apply(put, remove)
    }

    /// Whether a user of the configuration has this name, so that no device can.
    pub fn is_user(&self, name: &Name) -> bool {
        self.users.contains_key(name)
    }

    /// What [`Self::remove`] would remove; empty if there is none of that name.
    pub fn with_modules(&self, identity: &Identity) -> Vec<Identity> {
        self.devices.with_modules(identity)
    }

    /// The devices whose parent this one is, by name.
    pub fn children(&self, parent: &Name) -> Vec<Name> {
        self.devices.children(parent)
    }

    /// A device and so many levels of children below it, all with their modules, by name: each device before its modules.
    pub fn behind(&self, device: &Name, levels: usize) -> Vec<Arc<Device>> {
        self.devices.behind(device, levels)
    }

    /// Whether there is a user or a device of this name.
    pub fn knows(&self, user: &Name) -> bool {
        self.users.contains_key(user) || self.device(&Identity::device(user.clone())).is_some()
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there are no users.
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }
}

fn complete(evidence: Evidence<'_>) -> Result<(&str, &[u8]), NotProved> {
    let user = evidence.user.ok_or(NotProved::Missing("user name"))?;
    let password = evidence.password.ok_or(NotProved::Missing("password"))?;
    Ok((user, password))
}

fn hash_of(name: &Name, password: Password, random: &[u8; 32]) -> Result<PasswordHashString, Fault> {
    let bad = |why: String| Fault::BadHash { user: name.clone(), why };
    let text = match password {
        Password::Hash(text) => text,
        Password::Plain(plain) => {
            let mut salt = [0; 16];
            let digest =
                <sha2::Sha256 as sha2::Digest>::digest([random.as_slice(), name.as_bytes()].concat());
            salt.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
            hash_password(&plain, salt).map_err(|error| bad(error.to_string()))?
        }
    };
    let hash = PasswordHash::new(&text).map_err(|error| bad(error.to_string()))?;
    if !hash.algorithm.as_str().starts_with("argon2") {
        return Err(bad(format!("its algorithm is {}", hash.algorithm)));
    }
    if hash.hash.is_none() {
        return Err(bad("it has parameters but no hash".to_owned()));
    }
    Ok(hash.serialize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::Topic;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn registry() -> Registry {
        let publish = vec![TopicFilter::new("plant/#").unwrap()];
        let grants = Grants { publish, ..Grants::default() };
        let users = [
            (name("press"), Password::Plain(b"secret".to_vec()), grants),
            (name("oven"), Password::Hash(hash_password(b"other", [7; 16]).unwrap()), Grants::default()),
        ];
        Registry::new(users, [1; 32]).unwrap_or_else(|faults| panic!("{faults:?}"))
    }

    fn evidence<'a>(user: &'a str, password: &'a str) -> Evidence<'a> {
        Evidence { user: Some(user), password: Some(password.as_bytes()) }
    }

    #[test]
    fn the_right_password_proves_a_user_and_every_other_case_says_what_is_wrong() {
        let registry = registry();
        assert_eq!(registry.who(evidence("press", "secret")), Ok(name("press")));
        assert_eq!(registry.who(evidence("oven", "other")), Ok(name("oven")));
        assert_eq!(registry.who(evidence("oven", "secret")), Err(NotProved::WrongPassword(name("oven"))));
        assert_eq!(registry.who(evidence("x/y", "secret")), Err(NotProved::NoSuchUser("x/y".into())));
        let nobody = Evidence { user: None, password: None };
        assert_eq!(registry.who(nobody), Err(NotProved::Missing("user name")));
        let silent = Evidence { user: Some("press"), password: None };
        assert_eq!(registry.who_quickly(silent), Some(Err(NotProved::Missing("password"))));
    }

    #[test]
    fn a_proved_password_is_recognised_quickly_and_only_that_one() {
        let registry = registry();
        assert_eq!(registry.who_quickly(evidence("press", "secret")), None);
        registry.who(evidence("press", "secret")).unwrap();
        assert_eq!(registry.who_quickly(evidence("press", "secret")), Some(Ok(name("press"))));
        assert_eq!(registry.who_quickly(evidence("press", "Secret")), None);
        assert_eq!(registry.who_quickly(evidence("oven", "secret")), None);
        registry.who(evidence("press", "Secret")).unwrap_err();
        assert_eq!(registry.who_quickly(evidence("press", "Secret")), None);
    }

    #[test]
    fn all_faults_of_the_configuration_come_at_once() {
        let users = [
            (name("a"), Password::Hash("nonsense".into()), Grants::default()),
            (name("b"), Password::Plain(b"x".to_vec()), Grants::default()),
            (name("b"), Password::Plain(b"y".to_vec()), Grants::default()),
            (
                name("c"),
                Password::Hash("$scrypt$ln=15$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo".into()),
                Grants::default(),
            ),
        ];
        let faults = Registry::new(users, [1; 32]).err().unwrap();
        assert!(matches!(&faults[0], Fault::BadHash { user, .. } if *user == name("a")));
        assert_eq!(faults[1], Fault::Twice(name("b")));
        assert!(matches!(&faults[2], Fault::BadHash { why, .. } if why.contains("scrypt")));
    }

    #[test]
    fn an_unknown_user_may_nothing() {
        let registry = registry();
        let topic = Topic::new("plant/1").unwrap();
        assert_eq!(registry.may(&name("press"), Action::Publish(&topic)), Ok(()));
        assert!(matches!(registry.may(&name("oven"), Action::Publish(&topic)), Err(Refusal::Publish { .. })));
        assert!(matches!(registry.may(&name("x"), Action::Publish(&topic)), Err(Refusal::NoSuchUser(_))));
    }

    #[test]
    fn no_secret_shows_in_debug_output() {
        assert_eq!(format!("{:?}", Password::Plain(b"secret".to_vec())), "Plain(secret)");
        assert!(!format!("{:?}", Password::Hash("$argon2".into())).contains("argon2"));
    }
}
