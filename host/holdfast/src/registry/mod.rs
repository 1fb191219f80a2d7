//! Modules in a registry (OCI): fetched by a pinned digest, kept for starts without a link, pushed, and checked for the
//! operator's signature.
//!
//! The form is that of the field: a manifest with the configuration `application/vnd.wasm.config.v0+json` and one layer
//! `application/wasm`, as `wkg` and others write it; signatures are those of cosign.

mod cache;
mod client;
mod reference;
mod signature;

pub use cache::Cache;
pub use client::{Client, digest_of};
pub use reference::Reference;
pub use signature::{Signer, Verifier};

use crate::dialer::Dialer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use std::path::Path;

/// The media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// Names of layers that others give components, which are taken too.
const LAYERS: [&str; 3] = [
    LAYER,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];

/// Name and password at one registry.
#[derive(Clone)]
pub struct Credentials {
    /// The name.
    pub user: String,
    /// The password or token.
    pub password: String,
}

impl Credentials {
    /// Those for a registry in a file of the form that `docker login` writes: `{"auths": {"HOST": {"auth": "…"}}}`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(file: &Path, registry: &str) -> Result<Option<Self>, RegistryError> {
        let wrong = |why: String| RegistryError::Credentials { file: file.display().to_string(), why };
        let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
        let all: Value =
            serde_json::from_str(&text).map_err(|error| wrong(format!("it is no JSON: {error}")))?;
        let Some(entry) = all.get("auths").and_then(|auths| auths.get(registry)) else { return Ok(None) };
        if let (Some(user), Some(password)) = (entry.get("username"), entry.get("password")) {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return Ok(Some(Self { user: text(user), password: text(password) }));
        }
        let auth = entry.get("auth").and_then(Value::as_str);
        let auth =
            auth.ok_or_else(|| wrong(format!("the entry of {registry} has no \"auth\"; log in again")))?;
        let plain = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = plain
            .as_deref()
            .and_then(|plain| plain.split_once(':'))
            .ok_or_else(|| wrong(format!("\"auth\" of {registry} is not base64 of name:password")))?;
        Ok(Some(Self { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// Why a module was not fetched or not put.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No answer.
    #[error("{reference} cannot be fetched: {why}")]
    Unreachable {
        /// What was wanted.
        reference: String,
        /// What failed.
        why: String,
    },
    /// 401.
    #[error(
        "{reference}: {registry} wants to know who asks (401); {}",
        if *known { "name or password in the file of credentials are wrong" } else {
            "put name and password for it into the file of credentials (modules.registry_credentials, --credentials), in the \
             form of docker login"
        }
    )]
    NotLoggedIn {
        /// What was wanted.
        reference: String,
        /// Who asks back.
        registry: String,
        /// Whether credentials were given.
        known: bool,
    },
    /// 403.
    #[error(
        "{reference}: who asks may not have it (403); let the owner of the repository give the right to read it"
    )]
    Forbidden {
        /// What was wanted.
        reference: String,
    },
    /// 404.
    #[error("{reference}: there is no such {what} ({wanted}, 404); check repository, tag and digest")]
    NotFound {
        /// What was wanted.
        reference: String,
        /// Manifest, layer…
        what: &'static str,
        /// Tag or digest.
        wanted: String,
    },
    /// Any other status.
    #[error("{reference}: the registry answered {status}: {told}")]
    Refused {
        /// What was wanted.
        reference: String,
        /// The status.
        status: u16,
        /// The beginning of its answer.
        told: String,
    },
    /// The content is not what was pinned.
    #[error(
        "{reference}: the {what} has the digest {found}, pinned is {wanted}; somebody changed it on the way: it is not used"
    )]
    WrongDigest {
        /// What was wanted.
        reference: String,
        /// Manifest or layer.
        what: &'static str,
        /// What was asked for.
        wanted: String,
        /// What came.
        found: String,
    },
    /// It is something else than a module.
    #[error(
        "{reference} is no WebAssembly component: {found}; a module has one layer of the media type {LAYER}"
    )]
    WrongType {
        /// What was wanted.
        reference: String,
        /// What it is.
        found: String,
    },
    /// The credentials cannot be read.
    #[error("the file of credentials {file} cannot be used: {why}")]
    Credentials {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// The operator's key has not signed it.
    #[error(
        "{reference}: {why}; sign it with `holdfast module push --sign-key`, or take modules.signature_keys out"
    )]
    NotSigned {
        /// What was wanted.
        reference: String,
        /// What is missing.
        why: String,
    },
    /// A key cannot be used.
    #[error("the key {file} cannot be used: {why}")]
    Key {
        /// The file.
        file: String,
        /// Why.
        why: String,
    },
    /// What was fetched cannot be kept.
    #[error("{path} cannot be written: {why}")]
    Cache {
        /// The file.
        path: String,
        /// Why.
        why: String,
    },
}

/// A module and the digest that pins it.
pub struct Pulled {
    /// The component.
    pub component: Bytes,
    /// The manifest.
    pub manifest: Bytes,
    /// The digest of the manifest.
    pub digest: String,
}

/// Fetches a module.
///
/// # Errors
/// The situation and its fix.
pub async fn pull(
    dialer: &Dialer,
    reference: &Reference,
    credentials: Option<Credentials>,
    verifier: Option<&Verifier>,
) -> Result<Pulled, RegistryError> {
    let mut client = Client::new(dialer, reference, credentials);
    let (manifest, digest) = client.manifest(reference.wanted()).await?;
    let layer = layer_of(reference, &manifest)?;
    if let Some(verifier) = verifier {
        verifier.check(&mut client, reference, &digest).await?;
    }
    let component = client.blob(&layer).await?;
    Ok(Pulled { component, manifest, digest })
}

/// Puts a component under its tag, and signs it if a key is given. Gives the digest that pins it.
///
/// # Errors
/// The situation and its fix.
pub async fn push(
    dialer: &Dialer,
    reference: &Reference,
    credentials: Option<Credentials>,
    component: Bytes,
    signer: Option<&Signer>,
) -> Result<String, RegistryError> {
    let mut client = Client::new(dialer, reference, credentials);
    let bytes = component.len();
    let layer = client.put_blob(component).await?;
    let config = json!({
        "created": "1970-01-01T00:00:00Z", "architecture": "wasm", "os": "wasip2", "layerDigests": [layer],
    });
    let config = Bytes::from(config.to_string());
    let config_bytes = config.len();
    let config = client.put_blob(config).await?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": { "mediaType": CONFIG, "digest": config, "size": config_bytes },
        "layers": [{ "mediaType": LAYER, "digest": layer, "size": bytes }],
    });
    let tag = reference.tag.as_deref().unwrap_or("latest");
    let digest = client.put_manifest(tag, Bytes::from(manifest.to_string())).await?;
    if let Some(signer) = signer {
        signer.sign(&mut client, reference, &digest).await?;
    }
    Ok(digest)
}

/// The digest of the one layer that is a component.
fn layer_of(reference: &Reference, manifest: &[u8]) -> Result<String, RegistryError> {
    let wrong = |found: String| RegistryError::WrongType { reference: reference.to_string(), found };
    let manifest: Value = serde_json::from_slice(manifest)
        .map_err(|error| wrong(format!("its manifest is no JSON ({error})")))?;
    if manifest.get("manifests").is_some() {
        return Err(wrong("it is an index of several manifests".to_owned()));
    }
    let layers = manifest.get("layers").and_then(Value::as_array).cloned().unwrap_or_default();
    let kind = |layer: &Value| layer.get("mediaType").and_then(Value::as_str).unwrap_or("none").to_owned();
    let kinds: Vec<String> = layers.iter().map(kind).collect();
    match layers.as_slice() {
        [layer] if LAYERS.contains(&kind(layer).as_str()) => {
            let digest =
                layer.get("digest").and_then(Value::as_str).filter(|digest| reference::is_digest(digest));
            digest.map(str::to_owned).ok_or_else(|| wrong("its layer has no digest".to_owned()))
        }
        [] => Err(wrong("it has no layers".to_owned())),
        _ => Err(wrong(format!("its layers are {}", kinds.join(", ")))),
    }
}
