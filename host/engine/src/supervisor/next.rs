//! Next versions: files `NAME.next.wasm`, or what `[shadow] oci` of `NAME.toml` names. They run in the shadow of `NAME`
//! until they are promoted or dropped.

use super::{Supervisor, is_same};
use crate::handle::CommandError;
use crate::module::{Control, Next, Version};
use crate::plan::Unfit;
use crate::plugins::{Files, Folder, base_of, component_path, next_name};
use holdfast_types::Name;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use tokio::sync::mpsc::error::TrySendError;

impl Supervisor {
    /// The modules that are to be there and their next versions, each with its files; and modules whose files are missing.
    pub(super) fn wanted(&self, folder: &Folder) -> (BTreeMap<String, Files>, Vec<Unfit>) {
        let (mut wanted, missing) = self.plan.wanted(folder);
        wanted.extend(folder.next_versions());
        (wanted, missing)
    }

    /// The version of this name that is loaded: code that has not changed is not loaded again.
    pub(super) fn loaded_version(&self, name: &str) -> Option<Arc<Version>> {
        match base_of(name) {
            Some(base) => self.nexts.get(base).cloned(),
            None => self.running.get(name).map(|running| running.version.clone()),
        }
    }

    /// The next version of a module has been loaded, or refused.
    pub(super) fn next_loaded_for(&mut self, base: &str, name: &str, version: Result<Version, String>) {
        let version = version.and_then(|version| match version.code.serves.messages() {
            true => Ok(version),
            false => {
                Err("only what handles messages can be tried in the shadow of a module: put it in place of \
                          its file instead"
                    .to_owned())
            }
        });
        match version {
            Err(reason) => {
                self.uncast(base);
                self.refuse(name, &reason);
                self.shared(name).status().shadow.get_or_insert_default();
            }
            Ok(version) if self.nexts.get(base).is_some_and(|known| is_same(known, &version)) => {}
            Ok(version) => {
                self.nexts.insert(base.to_owned(), Arc::new(version));
                let shared = self.shared(name);
                shared.status().shadow = Some(crate::status::ShadowReport::default());
                shared.waits(base);
                self.cast(base);
            }
        }
    }

    /// Lets the next version of a module run in its shadow, if both are there.
    pub(super) fn cast(&mut self, base: &str) {
        let Some(version) = self.nexts.get(base).cloned() else { return };
        let known_as = next_name(base);
        let name = match Name::new(&known_as) {
            Ok(name) => name,
            Err(invalid) => return self.refuse(&known_as, &format!("its name is too long: {invalid}")),
        };
        let next = Next { name, version, shared: self.shared(&known_as) };
        self.tell(base, Some(next));
    }

    /// The next version of a module is gone.
    pub(super) fn uncast(&mut self, base: &str) {
        if self.nexts.remove(base).is_some() {
            self.tell(base, None);
        }
    }

    fn tell(&mut self, base: &str, next: Option<Next>) {
        let Some(running) = self.running.get(base) else { return };
        if let Err(TrySendError::Full(_)) = running.controls.try_send(Control::Shadow(next)) {
            self.nexts.remove(base);
            self.look_again(&next_name(base));
        }
    }

    /// The file of the next version takes the place of the module's.
    pub(super) fn promote(&mut self, base: &str) -> Result<(), CommandError> {
        let next = self.next_file(base)?;
        if self.seen.get(base).is_some_and(|seen| seen.files.are_fetched()) {
            return Err(CommandError::Hidden { name: base.to_owned() });
        }
        let into = component_path(&self.config.plugins_dir, base);
        fs::rename(&next, &into).map_err(|error| CommandError::File {
            path: next.display().to_string(),
            what: "renamed",
            reason: error.to_string(),
        })?;
        tracing::info!(module = base, "its next version is promoted: it is {} now", into.display());
        self.changed.notify_one();
        Ok(())
    }

    /// The next version goes, with its file.
    pub(super) fn drop_next(&mut self, base: &str) -> Result<(), CommandError> {
        let next = self.next_file(base)?;
        fs::remove_file(&next).map_err(|error| CommandError::File {
            path: next.display().to_string(),
            what: "removed",
            reason: error.to_string(),
        })?;
        tracing::info!(module = base, "its next version is dropped");
        self.changed.notify_one();
        Ok(())
    }

    fn next_file(&self, base: &str) -> Result<std::path::PathBuf, CommandError> {
        let path = component_path(&self.config.plugins_dir, &next_name(base));
        let name = base.to_owned();
        match self.seen.get(&next_name(base)) {
            _ if path.is_file() => Ok(path),
            Some(seen) if seen.files.are_fetched() => Err(CommandError::NextFetched { name }),
            _ => Err(CommandError::NoNext { name }),
        }
    }
}
