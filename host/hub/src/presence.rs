//! Edges and devices: which are known, which are linked or connected, and how they fare.

use crate::{
    backend::{BackendError, Space},
    error::HubError,
    hub::{CHILD_STATES_MAX, EdgeItem, Hub, lock},
    upper::Stream,
};
use holdfast_link::ChildState;
use holdfast_links::{Ingest, Link};
use holdfast_types::{Identity, Name};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};

impl Hub {
    /// Every edge, and how it fares.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn edges(&self) -> Result<Vec<EdgeItem>, HubError> {
        let mut items = Vec::new();
        let mut left_out = self.left_out(None);
        for edge in self.directory.edges() {
            let status = self.backend.get(Space::Statuses, &edge).await?;
            let mut deployment: Option<Value> =
                status.and_then(|status| serde_json::from_slice(&status.value).ok());
            // An edge tells nothing of having none: what it told last is of one that has been taken back.
            if let Some(Value::Object(told)) = &mut deployment
                && !self.deployments.is_any_for(&edge, &self.twins.tags(&edge))
            {
                told.insert("state".to_owned(), "removed".into());
            }
            items.push(EdgeItem {
                linked: self.linked(&edge).is_some_and(|link| link.is_ready()),
                revision: self.edge_revision(&edge).await?,
                progress: self.backend.progress(&edge).await?,
                layers_left_out: left_out.remove(&edge),
                deployment,
                edge,
            });
        }
        Ok(items)
    }

    /// How many edges are to run a deployment, alone or together with others.
    pub fn edges_of(&self, deployment: &str) -> usize {
        let edges = self.directory.edges().into_iter();
        edges.filter(|edge| self.deployments.is_for(deployment, edge, &self.twins.tags(edge))).count()
    }

    /// The edges that run their base deployment without its layers, since those do not fit, and why; of one deployment alone if that
    /// is asked for.
    pub fn left_out(&self, of: Option<&str>) -> BTreeMap<Name, String> {
        let edges = self.directory.edges().into_iter();
        self.deployments.left_out(edges.map(|edge| (edge.clone(), self.twins.tags(&edge))), of)
    }

    /// The revision that an edge should have: that of the last change that concerns it.
    pub(crate) async fn edge_revision(&self, edge: &Name) -> Result<u64, BackendError> {
        Ok(self.backend.get(Space::Edges, edge).await?.map_or(0, |stored| stored.revision))
    }

    pub(crate) fn linked(&self, edge: &Name) -> Option<Arc<Link>> {
        lock(&self.links).get(edge).filter(|link| !link.over.is_cancelled()).cloned()
    }

    pub(crate) fn forget_link(&self, link: &Arc<Link>) {
        let mut links = lock(&self.links);
        if links.get(&link.edge).is_some_and(|one| Arc::ptr_eq(one, link)) {
            links.remove(&link.edge);
            lock(&self.attended).remove(&link.edge);
        }
    }

    pub(crate) fn is_present(&self, who: &Identity) -> bool {
        lock(&self.present).contains_key(who)
    }

    pub(crate) fn child_states(&self, edge: &Name, states: Vec<ChildState>) {
        let mut all = lock(&self.child_states);
        for state in states {
            if self.directory.may_speak_for(edge, &state.identity.device)
                && (all.len() < CHILD_STATES_MAX || all.contains_key(&state.identity))
            {
                all.insert(state.identity.clone(), state);
            }
        }
    }

    /// Whether a device or module is connected: here, or at a linked edge.
    pub fn is_connected(&self, who: &Identity) -> bool {
        if self.is_present(who) {
            return true;
        }
        let linked = |edge: &Name| self.linked(edge).is_some_and(|link| link.is_ready());
        match self.directory.way_to(who) {
            Some(edge) if edge == who.device && who.module.is_none() => linked(&edge),
            Some(edge) => {
                linked(&edge) && lock(&self.child_states).get(who).is_some_and(|state| state.connected)
            }
            None => false,
        }
    }

    pub(crate) fn ingest(&self, edge: &Name) -> Arc<Ingest> {
        let mut ingests = lock(&self.ingests);
        let made = || {
            Arc::new(Ingest::new(edge.clone(), Arc::new(Stream(self.backend.clone())), self.counts.clone()))
        };
        ingests.entry(edge.clone()).or_insert_with(made).clone()
    }
}
