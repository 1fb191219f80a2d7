//! What carries decisions out.

pub(crate) mod admission;
pub(crate) mod broker;
pub(crate) mod child_links;
pub(crate) mod deployments;
pub(crate) mod devicebound;
pub(crate) mod documents;
pub(crate) mod lane;
pub(crate) mod methods;
pub(crate) mod pass_on;
pub(crate) mod pending;
pub(crate) mod publish;
pub(crate) mod queue;
pub(crate) mod reader;
pub(crate) mod room;
pub(crate) mod sessions;
pub(crate) mod settle;
pub(crate) mod subscriber;
pub(crate) mod tap;
pub(crate) mod twins;
