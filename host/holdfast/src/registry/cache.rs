//! What was fetched, on disk: by digest, looked at again each time it is used, so that a module starts without a link.

use super::{Credentials, Pulled, Reference, RegistryError, Verifier, digest_of, layer_of, pull};
use crate::dialer::Dialer;
use bytes::Bytes;
use holdfast_engine::Source;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Fetches modules once.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
    credentials: Option<PathBuf>,
    keys: Vec<PathBuf>,
    dialer: Arc<Dialer>,
}

impl Cache {
    /// A cache in a folder, which is made when something is kept.
    pub fn new(
        folder: PathBuf,
        credentials: Option<PathBuf>,
        keys: Vec<PathBuf>,
        dialer: Arc<Dialer>,
    ) -> Self {
        Self { folder, credentials, keys, dialer }
    }

    fn path(&self, digest: &str, kind: &str) -> PathBuf {
        self.folder.join(format!("{}.{kind}", digest.replace(':', "-")))
    }

    /// What is kept, if it is whole. What was signed when it was fetched is not asked for again.
    fn kept(&self, reference: &Reference) -> Option<Bytes> {
        let digest = reference.digest.as_deref()?;
        let read = |digest: &str, kind| {
            let bytes = fs::read(self.path(digest, kind)).ok()?;
            (digest_of(&bytes) == digest).then_some(bytes)
        };
        let manifest = read(digest, "json")?;
        // Kept without a signature, and a key has been set since: it is fetched and checked once more.
        if !self.keys.is_empty() && !self.path(digest, "signed").exists() {
            return None;
        }
        read(&layer_of(reference, &manifest).ok()?, "wasm").map(Bytes::from)
    }

    fn keep(&self, reference: &Reference, pulled: &Pulled) -> Result<(), RegistryError> {
        let layer = layer_of(reference, &pulled.manifest)?;
        let write = |path: PathBuf, bytes: &[u8]| {
            place(&path, bytes).map_err(|error| RegistryError::Cache {
                path: path.display().to_string(),
                why: error.to_string(),
            })
        };
        write(self.path(&layer, "wasm"), &pulled.component)?;
        if !self.keys.is_empty() {
            write(self.path(&pulled.digest, "signed"), b"")?;
        }
        // Last, since it is what is looked for first.
        write(self.path(&pulled.digest, "json"), &pulled.manifest)
    }

    /// A module, from the cache or from its registry.
    ///
    /// # Errors
    /// The situation and its fix.
    pub async fn get(&self, reference: &Reference) -> Result<Bytes, RegistryError> {
        if let Some(kept) = self.kept(reference) {
            return Ok(kept);
        }
        let credentials = match &self.credentials {
            Some(file) => Credentials::read(file, &reference.registry)?,
            None => None,
        };
        let verifier = Verifier::read(&self.keys)?;
        let pulled = pull(&self.dialer, reference, credentials, verifier.as_ref()).await?;
        self.keep(reference, &pulled)?;
        Ok(pulled.component)
    }
}

/// Writes a file beside its place and moves it there.
fn place(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("part");
    fs::write(&beside, bytes)?;
    fs::rename(beside, path)
}

impl Source for Cache {
    fn fetch(&self, reference: &str) -> Result<Vec<u8>, String> {
        let reference = Reference::parse(reference)?;
        if reference.digest.is_none() {
            return Err(format!(
                "source.oci = \"{reference}\" names no digest, so what runs could change unseen; `holdfast module pull \
                 {reference}` says which it has now: pin it"
            ));
        }
        // The engine loads modules on threads of their own, beside the tasks.
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(self.get(&reference)).map(|bytes| bytes.to_vec()).map_err(|error| error.to_string())
    }
}
