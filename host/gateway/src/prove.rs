//! Who is it? From what CONNECT and the handshake showed to a proof.
//!
//! A user name of the form `{host}/{device}[/{module}]/?api-version=…` is that of a client of the IoT Hub dialect. A plain
//! client is a device if its password is a token, or if it has no password and shows a certificate; else it is a user.

use crate::{
    above::{LINK_VERSION, link_version},
    shared::Shared,
    stats::Stats,
};
use holdfast_auth::{Claim, DeviceNotProved, Evidence, NotProved, Proved, sas};
use holdfast_mqtt::{
    Connect, ReasonCode,
    hub::{ClientName, InvalidClientName},
};
use holdfast_types::{Identity, Name, UnixMillis};
use rustls_pki_types::CertificateDer;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::oneshot;

/// A client that has proved who it is.
pub(crate) struct Who {
    /// The user, or the device; a module speaks in the name of its device.
    pub(crate) name: Name,
    /// The proof, if it is a device or a module.
    pub(crate) proved: Option<Proved>,
    /// What it said of itself, if it speaks the dialect of IoT Hub.
    pub(crate) hub: Option<ClientName>,
    /// Whether it is an edge that wants to link to this hub.
    pub(crate) link: bool,
}

/// Why a client was refused.
pub(crate) struct Refused {
    /// What it is told.
    pub(crate) reason: ReasonCode,
    /// What the log says.
    pub(crate) why: String,
    /// Who it said it is, if there is one of that name: its episode is its own.
    pub(crate) known: Option<Identity>,
}

/// Decides. A password that is not remembered is checked where blocking is allowed, a few at a time.
pub(crate) async fn prove(
    shared: &Arc<Shared>,
    connect: &Connect,
    certificates: &[CertificateDer<'_>],
    peer: SocketAddr,
) -> Result<Who, Refused> {
    let user_name = connect.user_name.as_deref();
    let password = connect.password.as_deref().filter(|password| !password.is_empty());
    if let Some(name) = user_name {
        match ClientName::parse(&connect.client_id, name) {
            Ok(hub) => return by_dialect(shared, hub, password, certificates, link_version(name)),
            Err(InvalidClientName::NotDialect(_)) => {}
            // Codes that make an SDK give up rather than come again every few seconds.
            Err(why) => return Err(refused(ReasonCode::NotAuthorized, why.to_string())),
        }
    }
    let device = |claimed: Result<Proved, DeviceNotProved>, identity: Option<&Identity>| match claimed {
        Ok(proved) => {
            belongs_here(shared, &proved.identity.device)?;
            Ok(Who { name: proved.identity.device.clone(), proved: Some(proved), hub: None, link: false })
        }
        Err(why) => Err(Refused {
            known: identity.filter(|identity| shared.registry.device(identity).is_some()).cloned(),
            ..refused(ReasonCode::BadUserNameOrPassword, why.to_string())
        }),
    };
    let named = user_name.and_then(|name| Name::new(name).ok()).map(Identity::device);
    match (named, password) {
        (Some(identity), Some(token)) if sas::is_token(token) => {
            let claim = Claim { identity: &identity, password: Some(token), certificates, now: now() };
            device(shared.registry.who_device(&claim), Some(&identity))
        }
        (Some(identity), None) if !certificates.is_empty() => {
            let claim = Claim { identity: &identity, password: None, certificates, now: now() };
            device(shared.registry.who_device(&claim), Some(&identity))
        }
        (None, None) if user_name.is_none() && !certificates.is_empty() => {
            device(shared.registry.who_shows(certificates, now()), None)
        }
        (None, None)
            if connect.user_name.is_none() && connect.password.is_none() && peer.ip().is_loopback() =>
        {
            match &shared.unsaid.user {
                Some(user) => Ok(Who { name: user.clone(), proved: None, hub: None, link: false }),
                None => Err(refused(
                    ReasonCode::BadUserNameOrPassword,
                    NotProved::Missing("user name").to_string(),
                )),
            }
        }
        _ => match by_password(shared, connect, peer).await {
            Ok(name) => Ok(Who { name, proved: None, hub: None, link: false }),
            Err(why) => Err(refused(ReasonCode::BadUserNameOrPassword, why.to_string())),
        },
    }
}

fn refused(reason: ReasonCode, why: String) -> Refused {
    Refused { reason, why, known: None }
}

/// An edge knows who is behind the edges below it, and is not where those come in: only one way leads to each.
fn belongs_here(shared: &Shared, device: &Name) -> Result<(), Refused> {
    let is_hub = shared.above.is_some();
    let known = shared.registry.device(&Identity::device(device.clone()));
    match known.and_then(|known| known.parent.clone()) {
        Some(parent) if !is_hub && parent != *shared.broker.edge() => Err(Refused {
            known: Some(Identity::device(device.clone())),
            ..refused(
                ReasonCode::NotAuthorized,
                format!("{device} is a child of the edge {parent}; let it connect there"),
            )
        }),
        _ => Ok(()),
    }
}

fn by_dialect(
    shared: &Shared,
    hub: ClientName,
    password: Option<&[u8]>,
    certificates: &[CertificateDer<'_>],
    link: Option<&str>,
) -> Result<Who, Refused> {
    if let Some(version) = link.filter(|version| shared.links.is_none() || *version != LINK_VERSION) {
        let why = match &shared.links {
            Some(_) => format!("version {version:?} of the link is not spoken here, but {LINK_VERSION} is"),
            None => "an edge wants to link here, and nothing here serves links".to_owned(),
        };
        return Err(refused(ReasonCode::NotAuthorized, why));
    }
    let name = |text: &str| {
        Name::new(text).map_err(|why| refused(ReasonCode::NotAuthorized, format!("{text:?}: {why}")))
    };
    let device = name(&hub.device)?;
    let identity = match &hub.module {
        // The certificate of an edge is that of its device.
        Some(_) if link.is_some() && password.is_none() => Identity::device(device.clone()),
        Some(module) => Identity::module(device.clone(), name(module)?),
        None => Identity::device(device.clone()),
    };
    let claim = Claim { identity: &identity, password, certificates, now: now() };
    match shared.registry.who_device(&claim) {
        Ok(proved) => {
            belongs_here(shared, &device)?;
            Ok(Who { name: device, proved: Some(proved), hub: Some(hub), link: link.is_some() })
        }
        Err(why) => Err(Refused {
            known: shared.registry.device(&identity).map(|_| identity),
            ..refused(ReasonCode::NotAuthorized, why.to_string())
        }),
    }
}

async fn by_password(shared: &Arc<Shared>, connect: &Connect, peer: SocketAddr) -> Result<Name, NotProved> {
    let evidence = Evidence { user: connect.user_name.as_deref(), password: connect.password.as_deref() };
    if let Some(answer) = shared.registry.who_quickly(evidence) {
        return answer;
    }
    let turn = shared.password_checks.take(peer.ip()).await;
    if turn.waited {
        Stats::one(&shared.stats.password_checks_waited);
    }
    // Another connection of the same user may have proved the password in the meantime.
    if let Some(answer) = shared.registry.who_quickly(evidence) {
        return answer;
    }
    let (registry, behind) = (shared.registry.clone(), shared.strangers.behind);
    let (user, password) = (connect.user_name.clone(), connect.password.clone());
    let (answer, checked) = oneshot::channel();
    // A thread for each check: the megabytes of one that has ended are there for the next, while each thread of a pool would
    // keep its own. The turn lasts as long as the check, also where the client is gone before.
    let check = std::thread::Builder::new().name("password".into()).spawn(move || {
        let _turn = turn;
        behind.step_back();
        // Who asked may be gone.
        let _ = answer.send(registry.who(Evidence { user: user.as_deref(), password: password.as_deref() }));
    });
    if let Err(error) = check {
        tracing::warn!(%error, "no thread can be started for the check of a password; the client is refused");
    }
    checked.await.unwrap_or(Err(NotProved::Missing("proof that could be checked now")))
}

/// The time of the wall clock, which tokens and certificates go by.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
