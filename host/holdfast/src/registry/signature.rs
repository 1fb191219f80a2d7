//! Signatures in the form of cosign: beside a manifest, under the tag `sha256-….sig`, lies a manifest whose layers say
//! which digest is meant, each with the signature of that text.

use super::{Client, MANIFEST, Reference, RegistryError, digest_of};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair,
        UnparsedPublicKey,
    },
};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// How the two kinds of public keys begin (RFC 5480 for P-256, RFC 8410 for Ed25519); the key follows.
const P256_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];
const ED25519_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

enum PublicKey {
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl PublicKey {
    fn read(file: &Path) -> Result<Self, RegistryError> {
        let wrong = |why: String| RegistryError::Key { file: file.display().to_string(), why };
        let key = SubjectPublicKeyInfoDer::from_pem_file(file).map_err(|error| wrong(error.to_string()))?;
        if let Some(key) = key.strip_prefix(&P256_HEAD[..]) {
            return Ok(Self::P256(key.to_vec()));
        }
        if let Some(key) = key.strip_prefix(&ED25519_HEAD[..]) {
            return Ok(Self::Ed25519(key.to_vec()));
        }
        Err(wrong("it is a public key of a kind that is not taken; ECDSA P-256 and Ed25519 are".to_owned()))
    }

    fn verifies(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::P256(key) => UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key).verify(text, signature),
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(text, signature),
        }
        .is_ok()
    }
}

/// The operator's keys: one of them must have signed.
pub struct Verifier {
    keys: Vec<PublicKey>,
}

impl Verifier {
    /// Reads the keys; none given means that nothing is checked.
    ///
    /// # Errors
    /// Which file is no key.
    pub fn read(files: &[PathBuf]) -> Result<Option<Self>, RegistryError> {
        let keys = files.iter().map(|file| PublicKey::read(file)).collect::<Result<Vec<_>, _>>()?;
        Ok((!keys.is_empty()).then_some(Self { keys }))
    }

    /// Checks that one of the keys has signed the manifest with this digest.
    ///
    /// # Errors
    /// What is missing.
    pub async fn check(
        &self,
        client: &mut Client<'_>,
        reference: &Reference,
        digest: &str,
    ) -> Result<(), RegistryError> {
        let not_signed =
            |why: &str| RegistryError::NotSigned { reference: reference.to_string(), why: why.to_owned() };
        let (manifest, _) = match client.manifest(&tag_of(digest)).await {
            Err(RegistryError::NotFound { .. }) => return Err(not_signed("it is not signed")),
            other => other?,
        };
        let manifest: Value =
            serde_json::from_slice(&manifest).map_err(|_| not_signed("its signature is no JSON"))?;
        for layer in manifest.get("layers").and_then(Value::as_array).into_iter().flatten() {
            let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
            let Some(at) = text(layer.get("digest")) else { continue };
            let signature = text(layer.get("annotations").and_then(|all| all.get(SIGNATURE)));
            let Some(signature) = signature.and_then(|text| STANDARD.decode(text).ok()) else { continue };
            let payload = client.blob(&at).await?;
            if self.is_signed(&payload, &signature, digest) {
                return Ok(());
            }
        }
        Err(not_signed("none of the operator's keys has signed it"))
    }

    fn is_signed(&self, payload: &[u8], signature: &[u8], digest: &str) -> bool {
        let means = |payload: &[u8]| -> Option<bool> {
            let payload: Value = serde_json::from_slice(payload).ok()?;
            let meant =
                payload.get("critical")?.get("image")?.get("docker-manifest-digest")?.as_str()?.to_owned();
            Some(meant == digest)
        };
        self.keys.iter().any(|key| key.verifies(payload, signature)) && means(payload) == Some(true)
    }
}

/// Who signs.
pub enum Signer {
    /// With ECDSA P-256.
    P256(Box<EcdsaKeyPair>),
    /// With Ed25519.
    Ed25519(Box<Ed25519KeyPair>),
}

impl Signer {
    /// Reads a private key: PKCS #8 in PEM, without a password, as `openssl genpkey` writes it.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn read(file: &Path) -> Result<Self, RegistryError> {
        let wrong = |why: String| RegistryError::Key { file: file.display().to_string(), why };
        let key = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| wrong(error.to_string()))?;
        let key = key.secret_pkcs8_der();
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(key) {
            return Ok(Self::Ed25519(Box::new(pair)));
        }
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, key, &SystemRandom::new())
            .map(|pair| Self::P256(Box::new(pair)))
            .map_err(|why| wrong(format!("{why}; ECDSA P-256 and Ed25519 are taken")))
    }

    fn signature(&self, text: &[u8]) -> Result<Vec<u8>, RegistryError> {
        match self {
            Self::Ed25519(pair) => Ok(pair.sign(text).as_ref().to_vec()),
            Self::P256(pair) => {
                pair.sign(&SystemRandom::new(), text).map(|signature| signature.as_ref().to_vec()).map_err(
                    |_| RegistryError::Key { file: "given".to_owned(), why: "it does not sign".to_owned() },
                )
            }
        }
    }

    /// Puts the signature of the manifest with this digest beside it.
    pub(super) async fn sign(
        &self,
        client: &mut Client<'_>,
        reference: &Reference,
        digest: &str,
    ) -> Result<(), RegistryError> {
        let name = format!("{}/{}", reference.registry, reference.repository);
        let payload = json!({
            "critical": {
                "identity": { "docker-reference": name },
                "image": { "docker-manifest-digest": digest },
                "type": "cosign container image signature",
            },
            "optional": null,
        });
        let payload = Bytes::from(payload.to_string());
        let signature = STANDARD.encode(self.signature(&payload)?);
        let bytes = payload.len();
        let layer = client.put_blob(payload).await?;
        let config = Bytes::from_static(b"{}");
        let config_bytes = config.len();
        let config = client.put_blob(config).await?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_bytes },
            "layers": [{
                "mediaType": PAYLOAD, "digest": layer, "size": bytes, "annotations": { SIGNATURE: signature },
            }],
        });
        let manifest = Bytes::from(manifest.to_string());
        tracing::debug!(signature = digest_of(&manifest), "signed");
        client.put_manifest(&tag_of(digest), manifest).await?;
        Ok(())
    }
}

/// The tag under which signatures of a digest lie.
fn tag_of(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}
