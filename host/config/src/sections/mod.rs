//! The sections of the file, each from its part of the tree to its checked form.

mod concierge;
mod gateway;
mod hub;
mod listen;
mod metrics;
mod net;
mod places;
mod routes;
mod small;
mod storage;
mod store;
mod upstream;
mod upstream_hub;
mod users;

pub(crate) use gateway::gateway;
pub(crate) use hub::hub;
pub(crate) use metrics::{http, metrics};
pub(crate) use net::net;
pub(crate) use routes::{ROUTES_MAX, route_name_fault, route_problem, routes};
pub(crate) use small::{deployment, edge, log, modules, paths};
pub(crate) use storage::storage;
pub(crate) use store::store;
pub(crate) use upstream::upstream;
pub(crate) use users::{devices, user_names, users};

use crate::reader::Problem;
use std::{io, path::Path};

/// What the text itself does not hold.
pub(crate) struct Context<'c> {
    /// The folder where relative paths begin.
    pub(crate) folder: &'c Path,
    /// The machine's own name.
    pub(crate) host_name: &'c str,
    /// Looks whether a file can be read.
    look: fn(&Path) -> io::Result<()>,
}

impl<'c> Context<'c> {
    pub(crate) fn new(folder: &'c Path, host_name: &'c str, look: fn(&Path) -> io::Result<()>) -> Self {
        Self { folder, host_name, look }
    }

    /// That the file at `path` can be read.
    pub(crate) fn readable(&self, path: &Path) -> Result<(), Problem> {
        (self.look)(path).map_err(|error| {
            let fix = match error.kind() {
                io::ErrorKind::NotFound => "correct the path, or put the file there".to_owned(),
                io::ErrorKind::PermissionDenied => "let the user who runs holdfast read it".to_owned(),
                _ => "name a file that can be read".to_owned(),
            };
            Problem::new(format!("cannot read {}: {error}", path.display()), fix)
        })
    }
}
