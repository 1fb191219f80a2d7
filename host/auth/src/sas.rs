//! Shared access signatures, as IoT Hub has them.
//!
//! A token is `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}[&skn={policy}]` with its fields in any
//! order. The signature is base64 of HMAC-SHA256 with the device's key over the resource as it was sent, a line feed, and
//! the expiry in seconds since 1970. The resource is `{host}/devices/{device}[/modules/{module}]`, percent-encoded; the
//! signature covers the encoded form, whatever case its escapes have.

use crate::device::SharedKey;
use base64::{Engine, engine::general_purpose::STANDARD};
use holdfast_types::Identity;
use ring::hmac;
use std::fmt::Write;

/// What every token begins with.
const SCHEME: &str = "SharedAccessSignature ";

/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 32;

/// Most digits of an expiry: more than any time that will come, and it fits into 64 bits.
const EXPIRY_DIGITS_MAX: usize = 18;

/// Whether a password claims to be a token.
pub fn is_token(password: &[u8]) -> bool {
    password.starts_with(SCHEME.as_bytes())
}

/// A token, parsed; nothing of it is proved.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The resource as it was sent.
    sent: &'a str,
    expiry: &'a str,
    signature: [u8; SIGNATURE_BYTES],
    pub(crate) resource: Resource,
    /// Seconds since 1970.
    pub(crate) expiry_s: u64,
    /// The policy of a hub whose key has signed it, where it is not the device's own.
    pub(crate) policy: Option<&'a str>,
}

/// What a token is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) host: String,
    device: String,
    module: Option<String>,
}

/// Why a password is no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotText,
    /// It does not begin as every token does.
    #[error("it does not begin with \"{SCHEME}\"")]
    Scheme,
    /// A field is not there.
    #[error("it has no field {0}")]
    Missing(&'static str),
    /// A field is there twice.
    #[error("it has the field {0} twice")]
    Twice(&'static str),
    /// A percent sign without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("its field {0} is not percent-encoded text")]
    Encoding(&'static str),
    /// The expiry is no number of seconds.
    #[error("its expiry is not a number of seconds since 1970")]
    Expiry,
    /// The signature is not base64 of 32 bytes.
    #[error("its signature is not base64 of {SIGNATURE_BYTES} bytes")]
    Signature,
    /// The resource is not that of a device or module.
    #[error("its resource {0:?} is not of the form host/devices/device[/modules/module]")]
    Resource(String),
}

impl<'a> Token<'a> {
    pub(crate) fn parse(password: &'a [u8]) -> Result<Self, BadToken> {
        let text = std::str::from_utf8(password).map_err(|_| BadToken::NotText)?;
        let fields = text.strip_prefix(SCHEME).ok_or(BadToken::Scheme)?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for (name, value) in fields.split('&').filter_map(|field| field.split_once('=')) {
            let (slot, name) = match name {
                "sr" => (&mut sr, "sr"),
                "sig" => (&mut sig, "sig"),
                "se" => (&mut se, "se"),
                "skn" => (&mut skn, "skn"),
                // Nothing that is not signed can widen what a token is good for.
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(BadToken::Twice(name));
            }
        }
        let sent = sr.ok_or(BadToken::Missing("sr"))?;
        let sig = sig.ok_or(BadToken::Missing("sig"))?;
        let expiry = se.ok_or(BadToken::Missing("se"))?;
        if expiry.len() > EXPIRY_DIGITS_MAX || !expiry.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(BadToken::Expiry);
        }
        let signature = decode(sig).ok_or(BadToken::Encoding("sig"))?;
        let signature = STANDARD.decode(signature).map_err(|_| BadToken::Signature)?;
        Ok(Self {
            sent,
            expiry,
            signature: signature.try_into().map_err(|_| BadToken::Signature)?,
            resource: Resource::parse(&decode(sent).ok_or(BadToken::Encoding("sr"))?)?,
            expiry_s: expiry.parse().map_err(|_| BadToken::Expiry)?,
            // Some SDKs send the field empty when the key is the device's own.
            policy: skn.filter(|policy| !policy.is_empty()),
        })
    }

    /// Whether this key has signed it. Takes the same time wherever the first difference is.
    pub(crate) fn is_signed_by(&self, key: &SharedKey) -> bool {
        let signed = [self.sent, "\n", self.expiry].concat();
        hmac::verify(&key.signing(), signed.as_bytes(), &self.signature).is_ok()
    }
}

impl Resource {
    fn parse(text: &str) -> Result<Self, BadToken> {
        let parts: Vec<&str> = text.split('/').collect();
        let (host, device, module) = match parts.as_slice() {
            [host, "devices", device] => (host, device, None),
            [host, "devices", device, "modules", module] => (host, device, Some(module)),
            _ => return Err(BadToken::Resource(text.to_owned())),
        };
        if host.is_empty() || device.is_empty() || module.is_some_and(|module| module.is_empty()) {
            return Err(BadToken::Resource(text.to_owned()));
        }
        Ok(Self {
            host: (*host).to_owned(),
            device: (*device).to_owned(),
            module: module.map(|module| (*module).to_owned()),
        })
    }

    /// Whether it names this identity.
    pub(crate) fn is(&self, identity: &Identity) -> bool {
        let module = match (&self.module, &identity.module) {
            (None, None) => true,
            (Some(sent), Some(meant)) => names(sent, meant),
            _ => false,
        };
        module && names(&self.device, &identity.device)
    }

    /// Whether it names the device of this identity, and no module.
    pub(crate) fn is_device_of(&self, identity: &Identity) -> bool {
        self.module.is_none() && names(&self.device, &identity.device)
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/devices/{}", self.host, self.device)?;
        self.module.iter().try_for_each(|module| write!(f, "/modules/{module}"))
    }
}

/// Whether a part of a resource means a name. Case does not count, as in IoT Edge; some SDKs encode the parts before the
/// whole.
fn names(sent: &str, name: &str) -> bool {
    sent.eq_ignore_ascii_case(name) || decode(sent).is_some_and(|sent| sent.eq_ignore_ascii_case(name))
}

/// Takes percent-encoding away; `+` stays. None if it is not such.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        bytes.push(u8::try_from(digit()? << 4 | digit()?).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3).
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            // Writing to a String cannot fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
    out
}

/// A token for an identity at a host, good until `expiry_s` (seconds since 1970).
pub fn token(host: &str, identity: &Identity, key: &SharedKey, expiry_s: u64) -> String {
    let mut resource = format!("{host}/devices/{}", identity.device);
    if let Some(module) = &identity.module {
        resource.push_str("/modules/");
        resource.push_str(module);
    }
    let resource = encode(&resource);
    let signature = hmac::sign(&key.signing(), format!("{resource}\n{expiry_s}").as_bytes());
    format!("{SCHEME}sr={resource}&sig={}&se={expiry_s}", encode(&STANDARD.encode(signature)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Token<'_>, BadToken> {
        Token::parse(text.as_bytes())
    }

    fn fault(text: &str) -> BadToken {
        parse(text).err().unwrap_or_else(|| panic!("{text} was taken"))
    }

    #[test]
    fn what_is_no_token_says_what_is_missing() {
        let sig = STANDARD.encode([1; 30]);
        let good = STANDARD.encode([1; 32]);
        assert_eq!(fault("hunter2"), BadToken::Scheme);
        assert_eq!(Token::parse(b"\xff").err(), Some(BadToken::NotText));
        assert_eq!(fault("SharedAccessSignature "), BadToken::Missing("sr"));
        assert_eq!(fault("SharedAccessSignature sr=h&se=1"), BadToken::Missing("sig"));
        assert_eq!(fault(&format!("SharedAccessSignature sr=h&sig={good}")), BadToken::Missing("se"));
        assert_eq!(fault("SharedAccessSignature sr=h&sr=h"), BadToken::Twice("sr"));
        assert_eq!(fault(&format!("SharedAccessSignature sr=h&se=1&sig={sig}")), BadToken::Signature);
        for se in ["", "-1", "1e9", "1234567890123456789", " 1", "+1", "%31"] {
            let text = format!("SharedAccessSignature sr=h%2fdevices%2fd&se={se}&sig={good}");
            assert!(matches!(parse(&text).err(), Some(BadToken::Expiry)), "{se}");
        }
        for (sr, wrong) in [
            ("h%2fdevices%2", BadToken::Encoding("sr")),
            ("h%2fdevices%2fd%zz", BadToken::Encoding("sr")),
            ("h%2fdevices%2fd%ff", BadToken::Encoding("sr")),
            ("h", BadToken::Resource("h".into())),
            ("h%2Fdevices%2F", BadToken::Resource("h/devices/".into())),
            ("%2Fdevices%2Fd", BadToken::Resource("/devices/d".into())),
            ("h%2fdevices%2fd%2fmodules%2f", BadToken::Resource("h/devices/d/modules/".into())),
            ("h/d/x", BadToken::Resource("h/d/x".into())),
            ("h/devices/d/modules/m/n", BadToken::Resource("h/devices/d/modules/m/n".into())),
        ] {
            assert_eq!(fault(&format!("SharedAccessSignature sr={sr}&se=1&sig={good}")), wrong, "{sr}");
        }
    }

    #[test]
    fn a_resource_names_identities_whatever_their_case_and_however_often_encoded() {
        let identity = |text: &str| Identity::parse(text).unwrap();
        let hub = identity("edge-1/$edgeHub");
        for text in ["h/devices/EDGE-1/modules/$edgehub", "h/devices/edge-1/modules/%24edgeHub"] {
            let resource = Resource::parse(text).unwrap();
            assert!(resource.is(&hub) && !resource.is(&identity("edge-1")) && !resource.is_device_of(&hub));
        }
        let device = Resource::parse("h/devices/edge-1").unwrap();
        assert!(device.is(&identity("edge-1")) && device.is_device_of(&hub) && !device.is(&hub));
        assert!(!device.is(&identity("edge-2")));
    }
}
