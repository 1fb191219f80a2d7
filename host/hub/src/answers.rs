//! What edges ask, and what they are answered.

use crate::{hub::Hub, twins::Reported};
use holdfast_link::{
    Call, ChildStates, DeploymentReport, Document, Done, Hello, PROTOCOL, Page, PageContent, Part, Problem,
    ReportedVersion, Status, SyncRequest, TwinGet, TwinRecord, TwinReport, Welcome, take_page,
};
use holdfast_links::{Answered, Ingest, Link, bad, encoded, failed, twin_failed};
use holdfast_types::{Identity, Name};
use std::sync::Arc;

impl Hub {
    /// Answers a call of an edge. Every answer may be asked for again.
    pub(crate) async fn answer_call(
        &self,
        link: &Arc<Link>,
        ingest: &Arc<Ingest>,
        call: Call,
        body: &[u8],
    ) -> Answered {
        let edge = &link.edge;
        match call {
            Call::Hello => self.hello(link, ingest, &Hello::decode(body).map_err(bad)?).await,
            Call::Sync => self.sync(link, &SyncRequest::decode(body).map_err(bad)?).await,
            Call::TwinReport => self.twin_report(edge, TwinReport::decode(body).map_err(bad)?).await,
            Call::TwinGet => self.twin_get(edge, TwinGet::decode(body).map_err(bad)?.identity).await,
            Call::DeploymentStatus => {
                let report = DeploymentReport::decode(body).map_err(bad)?;
                let of = report.edge.as_ref().unwrap_or(edge);
                self.may(edge, &Identity::device(of.clone()))?;
                let mut status = serde_json::to_value(&report).map_err(failed)?;
                if let Some(status) = status.as_object_mut() {
                    status.insert("at".to_owned(), self.now().0.into());
                }
                self.keep_status(of, &status).await.map_err(failed)?;
                encoded(&Done {})
            }
            Call::ChildState => {
                self.child_states(edge, ChildStates::decode(body).map_err(bad)?.children);
                encoded(&Done {})
            }
            Call::Delta | Call::Desired | Call::Method | Call::CloudToDevice => {
                Err((Status::BAD, Problem::new(format!("{call} is a call of the hub"))))
            }
        }
    }

    async fn hello(&self, link: &Arc<Link>, ingest: &Arc<Ingest>, hello: &Hello) -> Answered {
        self.take_over(&link.edge).await;
        let stored = ingest.marks().await.map_err(failed)?;
        self.attend(&link.edge);
        self.take_over_again(link);
        // Another process may have chosen by what it knew then.
        self.reassign_behind(&link.edge).await.map_err(failed)?;
        // From here on changes are told; those before stand in the revision that is read next.
        link.is_greeted();
        let revision = self.edge_revision(&link.edge).await.map_err(failed)?;
        link.begins_at(revision);
        let full_sync = hello.hub.as_deref() != Some(self.id()) || hello.revision != revision;
        for held in &hello.held {
            let mark =
                stored.iter().find(|one| (one.mark.epoch, one.mark.priority) == (hello.epoch, held.priority));
            let next = mark.map_or(0, |one| one.mark.sequence.next().0);
            if next < held.next.0 {
                tracing::info!(
                    edge = %link.edge, priority = %held.priority, here = next, edge_begins = held.next.0,
                    "this hub has less of an edge's messages than the edge goes on from"
                );
            }
        }
        tracing::info!(edge = %link.edge, revision, full_sync, "an edge is linked");
        encoded(&Welcome {
            protocol: hello.protocol.min(PROTOCOL),
            hub: self.id().to_owned(),
            revision,
            marks: stored.iter().map(|one| one.mark).collect(),
            full_sync,
        })
    }

    async fn sync(&self, link: &Link, request: &SyncRequest) -> Answered {
        let edge = &link.edge;
        let revision = self.edge_revision(edge).await.map_err(failed)?;
        // IMPORTANT: after the revision was read, or the edge would take it for one that it has.
        self.is_settled().await;
        let of = request.of.as_ref().unwrap_or(edge);
        self.may(edge, &Identity::device(of.clone()))?;
        let begin = match &request.page {
            Some(token) => match Identity::parse(token) {
                Some(identity) => Some(identity),
                None => {
                    return Err((
                        Status::BAD,
                        Problem::new(format!("{token:?} is no page token of this hub")),
                    ));
                }
            },
            None => None,
        };
        let known = || {
            self.directory()
                .of_edge(edge)
                .into_iter()
                .filter(|one| begin.as_ref().is_none_or(|begin| one.identity >= *begin))
        };
        let (content, next) = match request.what {
            Part::Identities => {
                let (page, next) = take_page(known().map(|one| crate::record_of(&one)));
                (PageContent::Identities(page), next.map(|one| one.identity))
            }
            Part::Twins => {
                let mut records: Vec<TwinRecord> = Vec::new();
                let mut next = None;
                // As many as fit on a page, and one more.
                for device in known() {
                    let twin = self.twins().get(&device.identity).await.map_err(twin_failed)?;
                    records.push(twin.record(device.identity.clone()));
                    if records.len().is_multiple_of(64) {
                        let (page, rest) = take_page(records);
                        records = page;
                        next = rest.map(|one| one.identity);
                        if next.is_some() {
                            break;
                        }
                    }
                }
                if next.is_none() {
                    let (page, rest) = take_page(records);
                    records = page;
                    next = rest.map(|one| one.identity);
                }
                (PageContent::Twins(records), next)
            }
            Part::Deployment => {
                let (deployment, _) = self.deployments().for_edge(of, &self.twins().tags(of));
                (PageContent::Deployment(deployment), None)
            }
            Part::Settings => {
                let (_, settings) = self.deployments().for_edge(of, &self.twins().tags(of));
                (PageContent::Settings(settings), None)
            }
        };
        if next.is_none() {
            link.has_fetched();
        }
        encoded(&Page { revision, next: next.map(|one| one.to_string()), content })
    }

    fn may(&self, edge: &Name, who: &Identity) -> Result<(), (Status, Problem)> {
        match self.directory().may_speak_for(edge, &who.device) {
            true => Ok(()),
            false => Err((Status::FORBIDDEN, Problem::new(format!("{who} is not behind {edge}")))),
        }
    }

    async fn twin_report(&self, edge: &Name, report: TwinReport) -> Answered {
        self.may(edge, &report.identity)?;
        match self.twins().reported(report).await.map_err(twin_failed)? {
            Reported::Has(version) => encoded(&ReportedVersion { version }),
            Reported::Conflict(version) => {
                let error =
                    format!("the hub has version {version} of what is reported; send the whole document");
                Err((Status::CONFLICT, Problem { error, version: Some(version) }))
            }
        }
    }

    async fn twin_get(&self, edge: &Name, who: Identity) -> Answered {
        self.may(edge, &who)?;
        let twin = self.twins().get(&who).await.map_err(twin_failed)?;
        encoded(&twin.record(who))
    }
}
