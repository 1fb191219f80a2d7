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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Files {
    /// The name of the component's file without `.wasm`.
    stem: String,
    /// None if the component comes from a registry.
    component: Option<Stamp>,
    settings: Option<(NamedAs, Stamp)>,
}

/// Under which name the settings file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NamedAs {
    /// That of the module.
    Module,
    /// That of the component.
    Component,
    /// That of the module whose next version it is.
    Base,
}

/// How the file of a module's next version ends, before `.wasm`: it runs in the shadow of the module.
pub(crate) const NEXT: &str = ".next";

/// The name under which the next version of a module is known.
pub fn next_name(module: &str) -> String {
    format!("{module}{NEXT}")
}

/// The module whose next version has this name; none if it is no such name.
pub fn base_of(name: &str) -> Option<&str> {
    name.strip_suffix(NEXT).filter(|base| !base.is_empty())
}

impl Files {
    /// Whether both were left alone for `settle`.
    pub(crate) fn are_old(&self, settle: Duration) -> bool {
        let is_old = |stamp: Option<Stamp>| stamp.is_none_or(|stamp| stamp.is_old(settle));
        is_old(self.component) && is_old(self.settings.map(|(_, stamp)| stamp))
    }

    /// Whether the component is fetched.
    pub(crate) const fn are_fetched(&self) -> bool {
        self.component.is_none()
    }

    /// The name of the component's file without `.wasm`.
    pub(crate) fn stem(&self) -> &str {
        &self.stem
    }

    /// The settings file of the module of this name, if there is one.
    pub(crate) fn settings_path(&self, folder: &Path, name: &str) -> Option<PathBuf> {
        let stem = match self.settings?.0 {
            NamedAs::Module => name,
            NamedAs::Component => &self.stem,
            NamedAs::Base => base_of(name).unwrap_or(name),
        };
        Some(folder.join(format!("{stem}.toml")))
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

/// What lies in the folder: every `name.wasm`, and every `name.toml`, some of which name a registry in its place.
pub(crate) struct Folder {
    /// None for what a registry has.
    components: BTreeMap<String, Option<Stamp>>,
    settings: BTreeMap<String, Stamp>,
    /// The next versions, by the name of the module; no stamp for what a registry has.
    next: BTreeMap<String, Option<Stamp>>,
}

impl Folder {
    /// The next versions that are there, by their names. Their settings are those of the module.
    pub(crate) fn next_versions(&self) -> impl Iterator<Item = (String, Files)> {
        self.next.iter().map(|(base, stamp)| {
            let settings = self.settings.get(base).map(|stamp| (NamedAs::Base, *stamp));
            let name = next_name(base);
            (name.clone(), Files { stem: name, component: *stamp, settings })
        })
    }

    /// Every component's name.
    pub(crate) fn stems(&self) -> impl Iterator<Item = &str> {
        self.components.keys().map(String::as_str)
    }

    /// The component of this name.
    pub(crate) fn component(&self, stem: &str) -> Option<&str> {
        self.components.get_key_value(stem).map(|(stem, _)| stem.as_str())
    }

    /// The files of a module that is made of this component. Its settings file has its own name, else the component's.
    pub(crate) fn files(&self, name: &str, stem: &str) -> Option<Files> {
        let component = *self.components.get(stem)?;
        let own = self.settings.get(name).map(|stamp| (NamedAs::Module, *stamp));
        let settings = own.or_else(|| self.settings.get(stem).map(|stamp| (NamedAs::Component, *stamp)));
        Some(Files { stem: stem.to_owned(), component, settings })
    }

    /// The files of a module whose component is in a registry: its settings, if it has some.
    pub(crate) fn fetched(&self, name: &str) -> Files {
        let settings = self.settings.get(name).map(|stamp| (NamedAs::Module, *stamp));
        Files { stem: name.to_owned(), component: None, settings }
    }
}

/// Looks what is there. Hidden files are left out: copying programs use them for what is not complete.
pub(crate) fn scan(folder: &Path) -> io::Result<Folder> {
    let mut found = Folder { components: BTreeMap::new(), settings: BTreeMap::new(), next: BTreeMap::new() };
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
            Some("wasm") => match base_of(&stem) {
                Some(base) => drop(found.next.insert(base.to_owned(), Some(Stamp::of(&about)))),
                None => drop(found.components.insert(stem, Some(Stamp::of(&about)))),
            },
            Some("toml") => drop(found.settings.insert(stem, Stamp::of(&about))),
            _ => {}
        }
    }
    for name in found.settings.keys() {
        let path = folder.join(format!("{name}.toml"));
        if !found.components.contains_key(name) && names_a_registry(&path, "[source]") {
            found.components.insert(name.clone(), None);
        }
        if !found.next.contains_key(name) && names_a_registry(&path, "[shadow]") {
            found.next.insert(name.clone(), None);
        }
    }
    Ok(found)
}

/// Whether a section of settings names a registry. Settings that were left behind by a module that is gone name none.
fn names_a_registry(path: &Path, section: &str) -> bool {
    let text = read(path, settings::BYTES_MAX).ok();
    let Some(text) = text.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()) else { return false };
    let mut lines = text.lines().map(str::trim_start).skip_while(|line| !line.starts_with(section)).skip(1);
    lines.by_ref().take_while(|line| !line.starts_with('[')).any(|line| line.starts_with("oci"))
}

/// The path of a component.
pub(crate) fn component_path(folder: &Path, stem: &str) -> PathBuf {
    folder.join(format!("{stem}.wasm"))
}

/// Reads a component and its digest, or fetches it from `oci`, which the module's settings name.
pub(crate) fn read_component(
    folder: &Path,
    files: &Files,
    oci: Option<&str>,
    source: Option<&dyn Source>,
) -> Result<(Vec<u8>, String), String> {
    let path = component_path(folder, &files.stem);
    let bytes = match (oci, source) {
        (Some(reference), _) if !files.are_fetched() => {
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
pub(crate) fn read_settings(
    folder: &Path,
    name: &str,
    files: &Files,
    limits: Limits,
) -> Result<Settings, String> {
    let Some(path) = files.settings_path(folder, name).filter(|path| path.exists()) else {
        return Ok(Settings::defaults(limits));
    };
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
