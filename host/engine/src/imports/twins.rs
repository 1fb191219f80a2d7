//! `holdfast:module/twins`: the module's own twin.
//!
//! A report takes effect with the call that made it: it is committed in one batch with the acknowledgement of the
//! message, the messages sent and the state. Desired properties are read as they are on disk.

use super::NO_TURN;
use super::bindings::holdfast::module::twins::{DesiredProperties, Host as Owner, TwinError};
use crate::host::Host;

/// The interface that a module exports to hear of desired changes.
pub(crate) const TWIN_HANDLER: &str = "holdfast:module/twin-handler@0.1.1";

impl Owner for Host {
    fn desired(&mut self) -> Result<DesiredProperties, TwinError> {
        let (version, json) = self.twin.desired()?;
        Ok(DesiredProperties { version, json })
    }

    fn reported(&mut self) -> Result<String, TwinError> {
        self.twin.reported()
    }

    fn report(&mut self, patch_json: String) -> Result<(), TwinError> {
        if !self.records {
            return Err(TwinError::Unavailable(NO_TURN.to_owned()));
        }
        self.twin.report(&patch_json, self.sharing).inspect_err(|error| {
            if matches!(error, TwinError::TooMany(_)) {
                self.sharing.meets("reports");
            }
        })
    }
}
