//! The name of a module in a registry: `registry/repository:tag@sha256:…`.

use std::fmt;

/// Where a module lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The host, with its port if it names one.
    pub registry: String,
    /// The repository in it.
    pub repository: String,
    /// The tag; `latest` if none is named.
    pub tag: Option<String>,
    /// The digest of the manifest: `sha256:` and 64 hexadecimal digits.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// What is wrong with it, and how one looks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| {
            Err(format!(
                "{text:?} {what}; a module in a registry is named like ghcr.io/owner/module:1.0@sha256:…"
            ))
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        if digest.is_some_and(|digest| !is_digest(digest)) {
            return wrong("has a digest that is not sha256: and 64 hexadecimal digits");
        }
        let Some((registry, path)) = rest.split_once('/') else { return wrong("names no registry") };
        // A colon in the last part separates the tag; one in the registry the port.
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (path, None),
        };
        let is_host = registry.contains('.') || registry.contains(':') || registry == "localhost";
        if !is_host {
            return wrong("names no registry");
        }
        let in_repository =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/');
        if repository.is_empty()
            || repository.split('/').any(str::is_empty)
            || !repository.chars().all(in_repository)
        {
            return wrong("names no repository (lower-case letters, digits, - _ . and / between)");
        }
        let in_tag = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if tag.is_some_and(|tag| tag.is_empty() || tag.len() > 128 || !tag.chars().all(in_tag)) {
            return wrong("has a tag that is none (letters, digits, - _ . and at most 128)");
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }

    /// What the registry is asked for: the digest if there is one, the tag otherwise.
    pub fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Host and port, and whether the registry is asked with TLS: on this machine itself it may be without.
    pub fn address(&self) -> (String, u16, bool) {
        let (host, port) = match self.registry.rsplit_once(':') {
            Some((host, port)) if !host.ends_with(':') => (host, port.parse().ok()),
            _ => (self.registry.as_str(), None),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let is_here =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        (host, port.unwrap_or(if is_here { 80 } else { 443 }), !is_here)
    }

    /// The same module, pinned to this digest.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self.clone() }
    }
}

/// Whether a text is `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    let lower = |c: char| c.is_ascii_digit() || matches!(c, 'a'..='f');
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.chars().all(lower))
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_and_written_the_same() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for text in [
            "ghcr.io/owner/module".to_owned(),
            "127.0.0.1:5000/hello:1.0-rc.1".to_owned(),
            format!("localhost:5000/a/b_c@{digest}"),
            format!("registry.example/a:1@{digest}"),
        ] {
            assert_eq!(Reference::parse(&text).unwrap().to_string(), text);
        }
        let here = Reference::parse("127.0.0.1:5000/hello").unwrap();
        assert_eq!((here.wanted(), here.address()), ("latest", ("127.0.0.1".to_owned(), 5000, false)));
        let there = Reference::parse("ghcr.io/owner/module:2").unwrap();
        assert_eq!((there.wanted(), there.address()), ("2", ("ghcr.io".to_owned(), 443, true)));
        assert_eq!(there.pinned(&digest).wanted(), digest);
    }

    #[test]
    fn what_is_none_is_told_what_it_lacks() {
        for (text, fault) in [
            ("module", "names no registry"),
            ("owner/module", "names no registry"),
            ("ghcr.io/", "names no repository"),
            ("ghcr.io/Owner/m", "names no repository"),
            ("ghcr.io/a/m:", "a tag that is none"),
            ("ghcr.io/a/m@sha256:12", "64 hexadecimal digits"),
        ] {
            let told = Reference::parse(text).unwrap_err();
            assert!(told.contains(fault), "{text}: {told}");
        }
    }
}
