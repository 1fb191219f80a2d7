//! The first words of a connection: what each side has, and then what this edge lacks.

use super::{Hub, Identities, Known, Sync, port::CallFault};
use holdfast_broker::{DeploymentOrder, DeploymentOrigin};
use holdfast_link::{
    Assigned, Call, Deployment, Held, Hello, IdentityRecord, PROTOCOL, Page, PageContent, Part, Settings,
    Status, SyncRequest, TwinRecord, Welcome,
};
use holdfast_types::{LogId, Name};
use std::{sync::Arc, time::Duration};
use tokio::{task::JoinSet, time::sleep};

/// Waits between two attempts to agree with the hub: the first, and the longest.
const AGAIN_MIN: Duration = Duration::from_millis(250);
const AGAIN_MAX: Duration = Duration::from_secs(60);

/// Most identities of one sync, as many as a registry takes.
const IDENTITIES_MAX: usize = holdfast_auth::DEVICES_MAX;

/// Why this edge is not where the hub wants it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncFault {
    #[error(transparent)]
    Call(#[from] CallFault),
    #[error("the hub changed while it was read")]
    Changed,
    #[error("the hub speaks version {0} of the link, this edge {PROTOCOL}; update the older side")]
    Protocol(u32),
    #[error("the hub sent a page of {sent:?} where {asked:?} was asked for")]
    OtherPart { asked: Part, sent: Part },
    #[error("the hub knows more than {IDENTITIES_MAX} identities for this edge; give it fewer children")]
    TooMany,
    #[error("what the hub decided was not applied: {0}")]
    NotApplied(String),
}

impl Hub {
    /// Greets and fetches, until this edge has all that the hub has; then tells what was reported here and how the
    /// deployment fares, for as long as the port is open.
    pub(super) async fn go_up(self: &Arc<Self>) {
        let mut wait = AGAIN_MIN;
        while let Err(fault) = self.agree().await {
            if !self.port.is_open() {
                return;
            }
            match fault {
                SyncFault::Changed => tracing::debug!("{fault}; it is read again"),
                fault => {
                    tracing::warn!(%fault, again_in_ms = wait.as_millis(), "this edge is not synchronised");
                }
            }
            tokio::select! {
                () = self.port.closed() => return,
                () = sleep(wait) => wait = (wait * 2).min(AGAIN_MAX),
            }
        }
        tokio::select! {
            () = self.port.closed() => {}
            ((), (), ()) = async {
                tokio::join!(self.tell_reports(), self.tell_deployments(), self.tell_statuses())
            } => {}
        }
    }

    async fn agree(self: &Arc<Self>) -> Result<(), SyncFault> {
        let mut known = self.known.lock().await;
        let welcome: Welcome = self.port.call(Call::Hello, &self.hello(&known)).await?;
        if welcome.protocol != PROTOCOL {
            return Err(SyncFault::Protocol(welcome.protocol));
        }
        self.port.greeted(welcome.marks);
        let same_hub = known.hub.as_deref() == Some(&*welcome.hub);
        // A change between the welcome and the last page may be in none of the deltas.
        let moved = self.compare_twins().await? > welcome.revision;
        if welcome.full_sync || !same_hub || known.revision != welcome.revision || moved {
            self.fetch(&welcome.hub, &mut known).await?;
        }
        Ok(())
    }

    /// Fetches everything anew and applies it; for who has seen that a change does not follow upon what is here.
    pub(super) async fn fetch(&self, hub: &str, known: &mut Known) -> Result<(), SyncFault> {
        let (identities, first) = self.identities().await?;
        let (settings, second) = self.settings(None).await?;
        let (deployment, third) = self.deployment(None).await?;
        let mut revisions = vec![second, third];
        // What edges below are to run is fetched with it: they are served from here when this link is down.
        let mut below = Vec::new();
        let is_below = |record: &&IdentityRecord| record.edge && record.identity.device != *self.edge();
        for edge in identities.iter().filter(is_below).map(|record| &record.identity.device) {
            let (settings, fourth) = self.settings(Some(edge)).await?;
            let (deployment, fifth) = self.deployment(Some(edge)).await?;
            revisions.extend([fourth, fifth]);
            below.push(Assigned { edge: edge.clone(), deployment, settings });
        }
        if revisions.iter().any(|other| *other != first) {
            return Err(SyncFault::Changed);
        }
        let new = Known { hub: Some(hub.into()), revision: first };
        let count = identities.len();
        let identities = Identities::All(identities);
        let sync = Sync { identities, settings: Some(settings), below, known: new.clone() };
        self.apply(sync).await.map_err(SyncFault::NotApplied)?;
        *known = new;
        self.order(deployment);
        tracing::info!(hub, revision = first, identities = count, "this edge is synchronised");
        Ok(())
    }

    /// Applies what is decided, and forgets the twins of who is gone.
    pub(super) async fn apply(&self, sync: Sync) -> Result<(), String> {
        for gone in self.keeper.apply(sync).await? {
            self.forget(&gone).await;
        }
        Ok(())
    }

    /// Orders what is to run. To order again what runs changes nothing.
    pub(super) fn order(&self, deployment: Option<Deployment>) {
        let origin = DeploymentOrigin::Hub;
        let deployments = self.broker.deployments();
        match deployment {
            Some(Deployment { id, manifest }) => {
                let manifest = Some(manifest.to_string().into_bytes().into());
                deployments.order(DeploymentOrder { id: id.as_str().into(), origin, manifest });
            }
            // Without one from above, what the operator deployed here stays.
            None if deployments.status().origin == DeploymentOrigin::Hub
                && !deployments.status().id.is_empty() =>
            {
                deployments.order(DeploymentOrder { id: "".into(), origin, manifest: None });
            }
            None => {}
        }
    }

    fn hello(&self, known: &Known) -> Hello {
        let store = self.broker.store();
        let held = store.positions(&LogId::upstream()).into_iter().map(|position| Held {
            priority: position.queue.priority,
            next: position.cursor,
            tail: position.tail,
        });
        Hello {
            protocol: PROTOCOL,
            epoch: store.epoch(),
            held: held.collect(),
            hub: known.hub.as_deref().map(Into::into),
            revision: known.revision,
        }
    }

    async fn page(&self, what: Part, of: Option<&Name>, page: Option<String>) -> Result<Page, SyncFault> {
        let of = of.cloned();
        let page: Page = self.port.call(Call::Sync, &SyncRequest { what, of, page }).await?;
        match page.content.part() {
            sent if sent == what => Ok(page),
            sent => Err(SyncFault::OtherPart { asked: what, sent }),
        }
    }

    async fn identities(&self) -> Result<(Vec<IdentityRecord>, u64), SyncFault> {
        let (mut all, mut next, mut revision) = (Vec::new(), None, None);
        loop {
            let page = self.page(Part::Identities, None, next).await?;
            if *revision.get_or_insert(page.revision) != page.revision {
                return Err(SyncFault::Changed);
            }
            if let PageContent::Identities(records) = page.content {
                all.extend(records);
            }
            if all.len() > IDENTITIES_MAX {
                return Err(SyncFault::TooMany);
            }
            next = page.next;
            if next.is_none() {
                return Ok((all, page.revision));
            }
        }
    }

    async fn settings(&self, of: Option<&Name>) -> Result<(Settings, u64), SyncFault> {
        let page = self.page(Part::Settings, of, None).await?;
        match page.content {
            PageContent::Settings(settings) => Ok((settings, page.revision)),
            other => Err(SyncFault::OtherPart { asked: Part::Settings, sent: other.part() }),
        }
    }

    async fn deployment(&self, of: Option<&Name>) -> Result<(Option<Deployment>, u64), SyncFault> {
        let page = self.page(Part::Deployment, of, None).await?;
        match page.content {
            PageContent::Deployment(deployment) => Ok((deployment, page.revision)),
            other => Err(SyncFault::OtherPart { asked: Part::Deployment, sent: other.part() }),
        }
    }

    /// Takes what is newer in the hub's twins. All of them come: a hub that was set back to an older state cannot say which
    /// have changed for this edge, and their versions do. Gives the highest revision of the pages.
    async fn compare_twins(self: &Arc<Self>) -> Result<u64, SyncFault> {
        let (mut next, mut revision) = (None, 0);
        loop {
            let page = self.page(Part::Twins, None, next).await?;
            revision = page.revision.max(revision);
            if let PageContent::Twins(twins) = page.content {
                // Together, so that they share an fsync.
                let mut taken = JoinSet::new();
                for twin in twins {
                    let hub = self.clone();
                    taken.spawn(async move { hub.take_twin(twin).await });
                }
                taken.join_all().await;
            }
            next = page.next;
            if next.is_none() {
                return Ok(revision);
            }
        }
    }

    /// Takes a twin as the hub has it, each half if it is newer there. One that cannot be taken holds up no other.
    pub(super) async fn take_twin(&self, twin: TwinRecord) {
        let (twins, who) = (self.broker.twins(), &twin.identity);
        let desired = twins.replace_desired(who, twin.desired.document.into(), twin.desired.version).await;
        let adopted = self.adopt(who, twin.reported).await;
        if let Err(error) = desired.and(adopted) {
            tracing::warn!(twin = %who, %error, "what the hub has of a twin was not taken");
        }
    }

    /// Whether a fault means that the hub does not know whom a call was about.
    pub(super) fn is_unknown(fault: &CallFault) -> bool {
        matches!(fault.status(), Some(Status::NOT_FOUND | Status::FORBIDDEN))
    }

    /// This edge itself, by name.
    pub(super) fn edge(&self) -> &Name {
        self.broker.edge()
    }
}
