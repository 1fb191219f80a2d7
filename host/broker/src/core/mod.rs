//! Decisions, without tasks, clock or files.

pub(crate) mod decide;
pub(crate) mod drain;
pub(crate) mod ledger;
pub(crate) mod occupancy;
pub(crate) mod outstanding;
pub(crate) mod positions;
pub(crate) mod publishing;
pub(crate) mod sharing;
pub(crate) mod subscriptions;
pub(crate) mod twin;
