//! Cutting off devices: one that was removed, disabled, or got another credential loses its connections at once, and a
//! connection does not outlive the token or certificate that it was proved with.

use crate::{end::End, prove::now};
use holdfast_auth::{Cut, Proved, Registry};
use holdfast_types::{Identity, Name};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::sleep};

/// The open connections of devices.
#[derive(Default)]
pub(crate) struct Cuts(Mutex<Open>);

#[derive(Default)]
struct Open {
    by_device: HashMap<Name, Vec<Connection>>,
    opened: u64,
}

struct Connection {
    number: u64,
    identity: Identity,
    cut: oneshot::Sender<Cut>,
}

/// A connection that can be cut. Dropped, it is forgotten.
pub(crate) struct Thread {
    cuts: Arc<Cuts>,
    number: u64,
    proved: Proved,
    cut: oneshot::Receiver<Cut>,
}

impl Cuts {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the registry can cut connections.
    pub(crate) fn follow(self: &Arc<Self>, registry: &Registry) {
        let cuts = Arc::downgrade(self);
        registry.watch_cuts(move |identity, cut| {
            cuts.upgrade().inspect(|cuts| cuts.cut(identity, cut));
        });
    }

    fn cut(&self, identity: &Identity, cut: Cut) {
        let meant = |one: &Connection| identity.module.is_none() || one.identity == *identity;
        if let Some(connections) = self.open().by_device.get_mut(&identity.device) {
            for one in connections.extract_if(.., |one| meant(one)) {
                // A connection that is ending needs no cut.
                let _ = one.cut.send(cut);
            }
        }
    }

    /// A device has connected.
    pub(crate) fn enter(self: &Arc<Self>, proved: Proved, registry: &Registry) -> Result<Thread, Cut> {
        let (sender, cut) = oneshot::channel();
        let number = {
            let mut open = self.open();
            open.opened += 1;
            let number = open.opened;
            let connection = Connection { number, identity: proved.identity.clone(), cut: sender };
            open.by_device.entry(proved.identity.device.clone()).or_default().push(connection);
            number
        };
        let thread = Thread { cuts: self.clone(), number, proved, cut };
        // It may have been removed after it proved itself and before it could be found here.
        registry.still_proved(&thread.proved)?;
        Ok(thread)
    }
}

impl Thread {
    /// Waits until the connection must end. Cancel safe.
    pub(crate) async fn ended(&mut self) -> End {
        let left = Duration::from_millis(self.proved.until.0.saturating_sub(now().0));
        tokio::select! {
            cut = &mut self.cut => cut.map_or(End::ProofExpired, End::Cut),
            () = sleep(left) => End::ProofExpired,
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        let mut open = self.cuts.open();
        let device = &self.proved.identity.device;
        if let Some(connections) = open.by_device.get_mut(device) {
            connections.retain(|one| one.number != self.number);
            if connections.is_empty() {
                open.by_device.remove(device);
            }
        }
    }
}
