//! What edges below ask, answered from what is here.

use super::{Below, STATUSES_SPACE, lock, subtree};
use crate::{
    answer::{bad, encoded, failed, twin_failed},
    ingest::Ingest,
    link::Link,
    upper::{Answered, Upper, record_of},
};
use holdfast_broker::TwinError;
use holdfast_link::{
    Call, DeploymentReport, Document, Done, Half, Hello, IdentityRecord, PROTOCOL, Page, PageContent, Part,
    Problem, ReportForm, ReportedVersion, Status, SyncRequest, TwinGet, TwinRecord, TwinReport, Welcome,
    take_page,
};
use holdfast_types::{Identity, Name};
use serde_json::Value;
use std::sync::Arc;

impl Below {
    pub(super) async fn answer_call(
        &self,
        link: &Arc<Link>,
        ingest: &Arc<Ingest>,
        call: Call,
        body: &[u8],
    ) -> Answered {
        let edge = &link.edge;
        match call {
            Call::Hello => self.hello(link, ingest, &Hello::decode(body).map_err(bad)?).await,
            Call::Sync => self.sync(link, &SyncRequest::decode(body).map_err(bad)?),
            Call::TwinReport => self.twin_report(edge, TwinReport::decode(body).map_err(bad)?).await,
            Call::TwinGet => {
                let who = TwinGet::decode(body).map_err(bad)?.identity;
                self.may(edge, &who)?;
                encoded(&self.twin(who).map_err(twin_failed)?)
            }
            Call::DeploymentStatus => {
                self.deployment_status(edge, DeploymentReport::decode(body).map_err(bad)?).await
            }
            // Who is connected below is asked for when it matters.
            Call::ChildState => encoded(&Done {}),
            Call::Delta | Call::Desired | Call::Method | Call::CloudToDevice => {
                Err((Status::BAD, Problem::new(format!("{call} is a call of the upper side"))))
            }
        }
    }

    fn may(&self, edge: &Name, who: &Identity) -> Result<(), (Status, Problem)> {
        match self.may_speak_for(edge, &who.device) {
            true => Ok(()),
            false => Err((Status::FORBIDDEN, Problem::new(format!("{who} is not behind {edge}")))),
        }
    }

    fn point(&self) -> Result<super::Point, (Status, Problem)> {
        let none = || (Status::UNAVAILABLE, Problem::new("this edge was never synchronised with a hub"));
        lock(&self.point).clone().ok_or_else(none)
    }

    async fn hello(&self, link: &Link, ingest: &Arc<Ingest>, hello: &Hello) -> Answered {
        let stored = ingest.marks().await.map_err(failed)?;
        link.is_greeted();
        let super::Point { hub, revision } = self.point()?;
        link.begins_at(revision);
        let full_sync = hello.hub.as_deref() != Some(&*hub) || hello.revision != revision;
        tracing::info!(edge = %link.edge, revision, full_sync, "an edge below is linked");
        encoded(&Welcome {
            protocol: hello.protocol.min(PROTOCOL),
            hub: hub.to_string(),
            revision,
            marks: stored.iter().map(|one| one.mark).collect(),
            full_sync,
        })
    }

    fn sync(&self, link: &Link, request: &SyncRequest) -> Answered {
        let edge = &link.edge;
        let of = request.of.as_ref().unwrap_or(edge);
        self.may(edge, &Identity::device(of.clone()))?;
        let revision = self.point()?.revision;
        let begin = match request.page.as_ref().map(|token| Identity::parse(token)) {
            Some(None) => return Err((Status::BAD, Problem::new("the page token is none of this edge"))),
            Some(begin) => begin,
            None => None,
        };
        let known = subtree(self, edge);
        let known = known.iter().filter(|one| begin.as_ref().is_none_or(|begin| one.identity >= *begin));
        let (content, next) = match request.what {
            Part::Identities => {
                let record = |device: &Arc<holdfast_auth::Device>| {
                    let record = record_of(device);
                    // A module has the parent of its device.
                    let parent = record.parent.clone().filter(|_| record.identity.module.is_none());
                    IdentityRecord { parent, ..record }
                };
                let (page, next) = take_page(known.map(record));
                (PageContent::Identities(page), next.map(|one| one.identity))
            }
            Part::Twins => {
                let mut fault = None;
                let twins = known.map_while(|device| {
                    self.twin(device.identity.clone()).map_err(|error| fault = Some(error)).ok()
                });
                let (page, next) = take_page(twins);
                if let Some(fault) = fault {
                    return Err(twin_failed(fault));
                }
                (PageContent::Twins(page), next.map(|one| one.identity))
            }
            Part::Deployment => (
                PageContent::Deployment(self.assigned(of).map_err(failed)?.and_then(|one| one.deployment)),
                None,
            ),
            Part::Settings => {
                let assigned = self.assigned(of).map_err(failed)?;
                (PageContent::Settings(assigned.map(|one| one.settings).unwrap_or_default()), None)
            }
        };
        if next.is_none() {
            link.has_fetched();
        }
        encoded(&Page { revision, next: next.map(|one| one.to_string()), content })
    }

    fn twin(&self, identity: Identity) -> Result<TwinRecord, TwinError> {
        let twin = self.broker.twins().read(&identity)?;
        let half = |version, document| Half { version, document };
        Ok(TwinRecord {
            identity,
            desired: half(twin.desired_version, twin.desired),
            reported: half(twin.reported_version, twin.reported),
        })
    }

    /// What is reported below is this edge's to tell on, as its own reports are.
    async fn twin_report(&self, edge: &Name, report: TwinReport) -> Answered {
        let TwinReport { identity, version, form } = report;
        self.may(edge, &identity)?;
        let (from, value) = match form {
            ReportForm::Patch { from, patch } => (Some(from), patch),
            ReportForm::Document(document) => (None, document),
        };
        let twins = self.broker.twins();
        let has =
            twins.take_report(&identity, Value::Object(value), from, version).await.map_err(twin_failed)?;
        if has >= version {
            return encoded(&ReportedVersion { version: has });
        }
        let error = format!("{} has version {has} of what is reported; send the whole document", self.edge());
        Err((Status::CONFLICT, Problem { error, version: Some(has) }))
    }

    async fn deployment_status(&self, edge: &Name, report: DeploymentReport) -> Answered {
        let of = report.edge.clone().unwrap_or_else(|| edge.clone());
        self.may(edge, &Identity::device(of.clone()))?;
        let report = DeploymentReport { edge: Some(of.clone()), ..report };
        let value = serde_json::to_vec(&report).map_err(failed)?;
        lock(&self.statuses).insert(of.clone(), report);
        self.broker.documents().write(STATUSES_SPACE, &of, Some(value.into())).await.map_err(failed)?;
        self.told.notify_one();
        encoded(&Done {})
    }
}
