//! What the link proves itself with at a hub: tokens that are good for some time, and the connection made anew before one ends.

use crate::{Place, Secret};
use holdfast_auth::{SharedKey, sas};
use holdfast_types::{Identity, Name, Text};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a token is good for.
pub const TOKEN_LIFE: Duration = Duration::from_secs(3600);

/// How long before the end of a token the connection is made anew with another one.
const RENEW_BEFORE: Duration = Duration::from_secs(300);

/// Makes the tokens of one link.
pub(crate) struct Tokens {
    who: Identity,
    /// What the hub of each place is called, and the name where a place has none of its own.
    names: Vec<Text>,
    name: Text,
    /// None if the edge shows a certificate.
    key: Option<SharedKey>,
    life: Duration,
}

impl Tokens {
    /// For hubs at these places; one without a name of its own is called `name`.
    pub(crate) fn new(
        who: Identity,
        name: Text,
        places: &[Place],
        key: Option<SharedKey>,
        life: Duration,
    ) -> Self {
        let names = places.iter().map(|place| place.hub.clone().unwrap_or_else(|| name.clone())).collect();
        Self { who, names, name, key, life }
    }

    /// What the hub of a place is called: a token names it, and is good nowhere else.
    pub(crate) fn name(&self, place: usize) -> &str {
        self.names.get(place).unwrap_or(&self.name)
    }

    /// What this edge is called as a device of the hub.
    pub(crate) fn device(&self) -> &Name {
        &self.who.device
    }

    /// A fresh token for the hub of a place, if this edge proves itself with one.
    pub(crate) fn password(&self, place: usize) -> Option<Secret> {
        let key = self.key.as_ref()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expiry_s = now.saturating_add(self.life).as_secs();
        Some(Secret(sas::token(self.name(place), &self.who, key, expiry_s).into_bytes().into()))
    }

    /// How long a connection may live before it is made anew with another token; none if it needs none.
    pub(crate) fn renew_after(&self) -> Option<Duration> {
        self.key.as_ref().map(|_| self.life.saturating_sub(RENEW_BEFORE).max(self.life / 2))
    }
}
