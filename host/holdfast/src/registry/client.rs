//! What is asked of a registry: manifests and blobs, got and put (OCI distribution, version 1.1), with the two ways in
//! which registries ask who is there.

use super::{Credentials, Reference, RegistryError, reference::is_digest};
use crate::dialer::Dialer;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, Method, Request, StatusCode, Uri,
    client::conn::http1,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION, USER_AGENT, WWW_AUTHENTICATE},
};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// Longest time for one request, its body included: a large component over a slow link.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(300);

/// Most times that a registry may send elsewhere.
const REDIRECTS_MAX: usize = 4;

/// Most bytes of a manifest, as registries have it, and of an answer that gives a token.
const MANIFEST_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of a component.
pub const COMPONENT_BYTES_MAX: usize = 256 * 1024 * 1024;

/// What was got.
pub struct Got {
    /// How it went.
    pub status: StatusCode,
    /// The heads.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// One registry, as seen by who asks it for one repository.
pub struct Client<'a> {
    dialer: &'a Dialer,
    reference: &'a Reference,
    credentials: Option<Credentials>,
    /// What proved who asks, once the registry wanted to know.
    authorization: Option<String>,
}

/// A request that may have to be made twice.
struct Ask<'a> {
    method: Method,
    /// Path and query in the registry, or a whole address.
    at: String,
    accept: &'a str,
    content_type: Option<&'a str>,
    body: Bytes,
    bytes_max: usize,
}

/// The digest of some bytes, as registries write it.
pub fn digest_of(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl<'a> Client<'a> {
    /// Asks nothing yet.
    pub fn new(dialer: &'a Dialer, reference: &'a Reference, credentials: Option<Credentials>) -> Self {
        Self { dialer, reference, credentials, authorization: None }
    }

    /// A manifest by its digest or tag, with its digest.
    pub async fn manifest(&mut self, wanted: &str) -> Result<(Bytes, String), RegistryError> {
        let got = self.get(&format!("manifests/{wanted}"), super::MANIFEST, MANIFEST_BYTES_MAX).await?;
        self.expect(&got, "manifest", wanted)?;
        let found = digest_of(&got.body);
        if is_digest(wanted) && found != wanted {
            return Err(self.wrong_digest("manifest", wanted, &found));
        }
        Ok((got.body, found))
    }

    /// A blob by its digest.
    pub async fn blob(&mut self, wanted: &str) -> Result<Bytes, RegistryError> {
        let got = self.get(&format!("blobs/{wanted}"), "*/*", COMPONENT_BYTES_MAX).await?;
        self.expect(&got, "layer", wanted)?;
        let found = digest_of(&got.body);
        if found != wanted {
            return Err(self.wrong_digest("layer", wanted, &found));
        }
        Ok(got.body)
    }

    /// Puts a blob, unless it is there.
    pub async fn put_blob(&mut self, bytes: Bytes) -> Result<String, RegistryError> {
        let name = digest_of(&bytes);
        let base = format!("/v2/{}/blobs", self.reference.repository);
        let head = self.ask(Method::HEAD, format!("{base}/{name}"), "*/*", None, Bytes::new()).await?;
        if head.status == StatusCode::OK {
            return Ok(name);
        }
        let begun = self.ask(Method::POST, format!("{base}/uploads/"), "*/*", None, Bytes::new()).await?;
        self.expect(&begun, "upload", &name)?;
        let location = begun.headers.get(LOCATION).and_then(|at| at.to_str().ok()).unwrap_or_default();
        let joint = if location.contains('?') { '&' } else { '?' };
        let at = format!("{location}{joint}digest={name}");
        let done = self.ask(Method::PUT, at, "*/*", Some("application/octet-stream"), bytes).await?;
        self.expect(&done, "upload", &name)?;
        Ok(name)
    }

    /// Puts a manifest under a tag or digest. Gives its digest.
    pub async fn put_manifest(&mut self, under: &str, manifest: Bytes) -> Result<String, RegistryError> {
        let name = digest_of(&manifest);
        let at = format!("/v2/{}/manifests/{under}", self.reference.repository);
        let done = self.ask(Method::PUT, at, "*/*", Some(super::MANIFEST), manifest).await?;
        self.expect(&done, "manifest", under)?;
        Ok(name)
    }

    fn wrong_digest(&self, what: &'static str, wanted: &str, found: &str) -> RegistryError {
        RegistryError::WrongDigest {
            reference: self.reference.to_string(),
            what,
            wanted: wanted.to_owned(),
            found: found.to_owned(),
        }
    }

    /// The situations that a status tells of.
    fn expect(&self, got: &Got, what: &'static str, wanted: &str) -> Result<(), RegistryError> {
        let reference = self.reference.to_string();
        match got.status {
            status if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED => Err(RegistryError::NotLoggedIn {
                reference,
                registry: self.reference.registry.clone(),
                known: self.credentials.is_some(),
            }),
            StatusCode::FORBIDDEN => Err(RegistryError::Forbidden { reference }),
            StatusCode::NOT_FOUND => {
                Err(RegistryError::NotFound { reference, what, wanted: wanted.to_owned() })
            }
            status => {
                let told: String = String::from_utf8_lossy(&got.body).chars().take(300).collect();
                Err(RegistryError::Refused { reference, status: status.as_u16(), told })
            }
        }
    }

    async fn get(&mut self, what: &str, accept: &str, bytes_max: usize) -> Result<Got, RegistryError> {
        let at = format!("/v2/{}/{what}", self.reference.repository);
        self.carry_out(&Ask {
            method: Method::GET,
            at,
            accept,
            content_type: None,
            body: Bytes::new(),
            bytes_max,
        })
        .await
    }

    async fn ask(
        &mut self,
        method: Method,
        at: String,
        accept: &str,
        content_type: Option<&str>,
        body: Bytes,
    ) -> Result<Got, RegistryError> {
        self.carry_out(&Ask { method, at, accept, content_type, body, bytes_max: MANIFEST_BYTES_MAX }).await
    }

    /// Asks, proves who asks if that is wanted, and goes where the registry sends.
    async fn carry_out(&mut self, ask: &Ask<'_>) -> Result<Got, RegistryError> {
        let mut got = self.follow(ask).await?;
        if got.status == StatusCode::UNAUTHORIZED
            && let Some(challenge) = got.headers.get(WWW_AUTHENTICATE).and_then(|text| text.to_str().ok())
            && let Some(authorization) = self.prove(challenge).await?
        {
            self.authorization = Some(authorization);
            got = self.follow(ask).await?;
        }
        Ok(got)
    }

    async fn follow(&self, ask: &Ask<'_>) -> Result<Got, RegistryError> {
        let (host, port, tls) = self.reference.address();
        let mut uri = self.whole(&ask.at)?;
        for _ in 0..REDIRECTS_MAX {
            // Credentials are for the registry, not for the store that it sends to.
            let own = uri.host() == Some(host.as_str())
                && uri.port_u16().unwrap_or(if tls { 443 } else { 80 }) == port;
            let authorization = self.authorization.as_deref().filter(|_| own);
            let got = self.once(ask, &uri, authorization).await?;
            let elsewhere = got.headers.get(LOCATION).and_then(|at| at.to_str().ok());
            match elsewhere {
                Some(at) if got.status.is_redirection() => uri = self.whole(at)?,
                _ => return Ok(got),
            }
        }
        Err(self.unreachable("it sends from one place to another without end".to_owned()))
    }

    /// An address of the registry, whether it is written whole or from its root.
    fn whole(&self, at: &str) -> Result<Uri, RegistryError> {
        let (_, _, tls) = self.reference.address();
        let scheme = if tls { "https" } else { "http" };
        let text = if at.starts_with('/') {
            format!("{scheme}://{}{at}", self.reference.registry)
        } else {
            at.to_owned()
        };
        text.parse().map_err(|error| self.unreachable(format!("{text:?} is no address: {error}")))
    }

    fn unreachable(&self, why: String) -> RegistryError {
        RegistryError::Unreachable { reference: self.reference.to_string(), why }
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        uri: &Uri,
        authorization: Option<&str>,
    ) -> Result<Got, RegistryError> {
        let tls = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let failed = |error: hyper::Error| self.unreachable(error.to_string());
        let stream =
            self.dialer.open(host, port, tls).await.map_err(|error| self.unreachable(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        let mut request = Request::builder()
            .method(ask.method.clone())
            .uri(uri.path_and_query().map_or("/", |path| path.as_str()))
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(USER_AGENT, concat!("holdfast/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, ask.accept);
        if let Some(kind) = ask.content_type {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request =
            request.body(Full::new(ask.body.clone())).map_err(|error| self.unreachable(error.to_string()))?;
        let asked = async {
            let response = sender.send_request(request).await.map_err(failed)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ask.bytes_max).collect().await;
            let body = body.map_err(|error| self.unreachable(error.to_string()))?.to_bytes();
            Ok(Got { status: head.status, headers: head.headers, body })
        };
        let driven = async {
            tokio::pin!(asked);
            tokio::select! {
                got = &mut asked => got,
                // The connection may end before the answer has been looked at.
                _ = connection => asked.await,
            }
        };
        let late = || self.unreachable(format!("no answer within {} s", REQUEST_TIME_MAX.as_secs()));
        timeout(REQUEST_TIME_MAX, driven).await.map_err(|_| late())?
    }

    /// What proves who asks: name and password themselves, or a token that they are changed for. Public repositories
    /// give tokens to everybody.
    async fn prove(&self, challenge: &str) -> Result<Option<String>, RegistryError> {
        let basic = self
            .credentials
            .as_ref()
            .map(|known| format!("Basic {}", STANDARD.encode(format!("{}:{}", known.user, known.password))));
        let (scheme, rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Ok(basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Ok(None);
        }
        let Some(realm) = parameter(rest, "realm") else { return Ok(None) };
        let mut at = realm.to_owned();
        let mut joint = if at.contains('?') { '&' } else { '?' };
        for key in ["service", "scope"] {
            if let Some(value) = parameter(rest, key) {
                at.push_str(&format!("{joint}{key}={value}"));
                joint = '&';
            }
        }
        let uri = self.whole(&at)?;
        let ask = Ask {
            method: Method::GET,
            at,
            accept: "application/json",
            content_type: None,
            body: Bytes::new(),
            bytes_max: MANIFEST_BYTES_MAX,
        };
        let got = self.once(&ask, &uri, basic.as_deref()).await?;
        self.expect(&got, "token", "token")?;
        let answer: Value = serde_json::from_slice(&got.body)
            .map_err(|error| self.unreachable(format!("the token is no JSON: {error}")))?;
        let token = ["token", "access_token"].iter().find_map(|key| answer.get(key)?.as_str());
        Ok(token.map(|token| format!("Bearer {token}")))
    }
}

/// A parameter of a challenge: `key="value"`.
fn parameter<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = text.find(&format!("{key}=\""))? + key.len() + 2;
    let rest = text.get(at..)?;
    rest.get(..rest.find('"')?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let text = "realm=\"https://auth.example/token\",service=\"r\",scope=\"repository:a/b:pull\"";
        assert_eq!(parameter(text, "realm"), Some("https://auth.example/token"));
        assert_eq!(parameter(text, "scope"), Some("repository:a/b:pull"));
        assert_eq!(parameter(text, "error"), None);
    }

    #[test]
    fn a_digest_is_written_as_registries_do() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest_of(b""), empty);
    }
}
