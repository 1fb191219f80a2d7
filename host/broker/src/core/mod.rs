//! Decisions, without tasks, clock or files.

pub(crate) mod decide;
pub(crate) mod outstanding;
pub(crate) mod subscriptions;
pub(crate) mod twin;
