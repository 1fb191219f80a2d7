//! A message while the routes are asked.

use super::body::{self, BodyFault};
use crate::Origin;
use holdfast_types::{Envelope, Name};
use serde_json::Value as Json;
use std::cell::OnceCell;

/// What a condition can ask. The body is read at most once, and only when a condition asks for it.
pub(crate) struct Context<'m> {
    pub(crate) envelope: &'m Envelope,
    pub(crate) edge: &'m Name,
    pub(crate) origin: Origin,
    body: OnceCell<Result<Json, BodyFault>>,
}

impl<'m> Context<'m> {
    pub(crate) const fn new(envelope: &'m Envelope, edge: &'m Name, origin: Origin) -> Self {
        Self { envelope, edge, origin, body: OnceCell::new() }
    }

    pub(crate) fn property(&self, name: &str) -> Option<&'m str> {
        self.envelope.message.properties.value(name)
    }

    pub(crate) fn body(&self) -> Result<&Json, &BodyFault> {
        self.body.get_or_init(|| body::parse(self.envelope)).as_ref()
    }
}
