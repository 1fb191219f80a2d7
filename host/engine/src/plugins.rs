//! The plugins folder as it is now: which modules it holds, and when their files were last changed.

use crate::cache::digest_of;
use crate::config::Limits;
use crate::load::FILE_BYTES_MAX;
use crate::settings::{self, Settings};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Size and time of change of a file: when neither changes, nobody writes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    bytes: u64,
    changed: SystemTime,
}

impl Stamp {
    fn of(about: &Metadata) -> Self {
        Self { bytes: about.len(), changed: about.modified().unwrap_or(SystemTime::UNIX_EPOCH) }
    }

    /// Whether the file was left alone for `settle`, by its own time of change.
    fn is_old(&self, settle: Duration) -> bool {
        SystemTime::now().duration_since(self.changed).is_ok_and(|age| age >= settle)
    }
}

/// The files of one module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// None if the component comes from a registry.
    component: Option<Stamp>,
    settings: Option<Stamp>,
}

impl Files {
    /// Whether both were left alone for `settle`.
    pub(crate) fn are_old(&self, settle: Duration) -> bool {
        let is_old = |stamp: Option<Stamp>| stamp.is_none_or(|stamp| stamp.is_old(settle));
        is_old(self.component) && is_old(self.settings)
    }

    /// Whether the component is fetched.
    pub(crate) const fn are_fetched(&self) -> bool {
        self.component.is_none()
    }
}

/// Fetches components from elsewhere. It is asked on a thread that may wait.
pub trait Source: Debug + Send + Sync + 'static {
    /// The component of this name; an error says what failed and the fix.
    ///
    /// # Errors
    /// What failed, and the fix.
    fn fetch(&self, reference: &str) -> Result<Vec<u8>, String>;
}

/// Every `name.wasm` in the folder, with the `name.toml` beside it; and every `name.toml` that names a registry. Hidden files are left out: copying programs use
/// them for what is not complete.
pub(crate) fn scan(folder: &Path) -> io::Result<BTreeMap<String, Files>> {
    let mut components = BTreeMap::new();
    let mut settings = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) = (path.file_stem(), path.extension()) else { continue };
        let stem = stem.to_string_lossy().into_owned();
        // A link is followed; a file that went away since it was listed is no fault.
        let Ok(about) = fs::metadata(&path) else { continue };
        if stem.starts_with('.') || !about.is_file() {
            continue;
        }
        match extension.to_str() {
            Some("wasm") => components.insert(stem, Stamp::of(&about)),
            Some("toml") => settings.insert(stem, Stamp::of(&about)),
            _ => None,
        };
    }
    let mut modules = BTreeMap::new();
    for (name, stamp) in &settings {
        if !components.contains_key(name) && names_a_source(&folder.join(format!("{name}.toml"))) {
            modules.insert(name.clone(), Files { component: None, settings: Some(*stamp) });
        }
    }
    for (name, component) in components {
        let settings = settings.get(&name).copied();
        modules.insert(name, Files { component: Some(component), settings });
    }
    Ok(modules)
}

/// Settings that were left behind by a module that is gone name none.
fn names_a_source(path: &Path) -> bool {
    let text = read(path, settings::BYTES_MAX).ok();
    let text = text.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
    text.is_some_and(|text| text.lines().any(|line| line.trim_start().starts_with("[source]")))
}

/// The path of a module's component.
pub(crate) fn component_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.wasm"))
}

/// Reads a module's component and its digest, or fetches it.
pub(crate) fn read_component(
    folder: &Path,
    name: &str,
    oci: Option<&str>,
    source: Option<&dyn Source>,
) -> Result<(Vec<u8>, String), String> {
    let path = component_path(folder, name);
    let bytes = match (oci, source) {
        (Some(reference), _) if path.exists() => {
            tracing::debug!(reference, path = %path.display(), "the file is there; it is not fetched");
            read(&path, FILE_BYTES_MAX)?
        }
        (Some(reference), Some(source)) => source.fetch(reference)?,
        (Some(reference), None) => {
            return Err(format!("{reference} cannot be fetched: this host has no registry"));
        }
        (None, _) => read(&path, FILE_BYTES_MAX)?,
    };
    let digest = digest_of(&bytes);
    Ok((bytes, digest))
}

/// Reads a module's settings; the defaults if it has none.
pub(crate) fn read_settings(folder: &Path, name: &str, limits: Limits) -> Result<Settings, String> {
    let path = folder.join(format!("{name}.toml"));
    if !path.exists() {
        return Ok(Settings::defaults(limits));
    }
    let bytes = read(&path, settings::BYTES_MAX)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        format!("{}: byte {} is not UTF-8", path.display(), error.utf8_error().valid_up_to())
    })?;
    Settings::parse(&text, limits).map_err(|faults| format!("{}: {faults}", path.display()))
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes, the most that are read", path.display()));
    }
    Ok(bytes)
}
