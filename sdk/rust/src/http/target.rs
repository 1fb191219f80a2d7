//! Where a request goes: the parts of its URL (RFC 3986).

use super::{HttpError, Request};

/// The parts of a URL, and what the request is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) tls: bool,
    /// Host, and port if it is given.
    pub(crate) authority: String,
    /// Begins with `/`; with the query, without the fragment.
    pub(crate) path: String,
    /// Method and URL without the query, which may hold secrets.
    pub(crate) called: String,
}

impl Target {
    /// Takes the URL of a request apart.
    pub(crate) fn of(request: &Request) -> Result<Self, HttpError> {
        let url = request.url.as_str();
        let shown = url.split(['?', '#']).next().unwrap_or_default();
        let invalid = |why: &str| Err(HttpError::Invalid(format!("{shown:?} cannot be asked for: {why}")));
        let Some((scheme, rest)) = url.split_once("://") else {
            return invalid("it begins with neither http:// nor https://");
        };
        let tls = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return invalid("it begins with neither http:// nor https://"),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            // Not shown: it is a password, as like as not.
            return Err(HttpError::Invalid(
                "a URL with a name or password before the host cannot be asked for: put them into the header \
                 \"authorization\""
                    .to_owned(),
            ));
        }
        if let Some(c) = rest.chars().find(|c| !c.is_ascii_graphic()) {
            return invalid(&format!("{c:?} must be written as % and two digits for each of its bytes"));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        if host.is_empty() {
            return invalid("it names no host");
        }
        if port.is_some_and(|port| port.parse::<u16>().map_or(true, |port| port == 0)) {
            return invalid("its port is no number from 1 to 65535");
        }
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let called = format!("{} {shown}", request.method);
        Ok(Self { tls, authority: authority.to_owned(), path, called })
    }

    /// What is to be granted for it, as `[grants] hosts` takes it.
    pub(crate) fn grant(&self) -> String {
        let has_port = self.authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let port = if self.tls { 443 } else { 80 };
        if has_port { self.authority.clone() } else { format!("{}:{port}", self.authority) }
    }

    /// The error when an answer's body is larger than it may be.
    pub(crate) fn too_large(&self, bytes_max: usize) -> HttpError {
        HttpError::TooLarge(format!(
            "{}: the answer has more than {bytes_max} bytes; ask for less, or raise Request::body_bytes_max",
            self.called
        ))
    }

    /// The error when it is not granted.
    pub(crate) fn not_granted(&self) -> HttpError {
        let (called, grant) = (&self.called, self.grant());
        HttpError::NotGranted(format!(
            "{called}: {grant} is not granted; if the module may reach it, add to its .toml: [grants] hosts = [{grant:?}]"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, HttpError> {
        Target::of(&Request::get(url))
    }

    #[test]
    fn a_url_is_taken_apart_and_its_grant_is_named() {
        for (url, tls, authority, path, grant) in [
            ("http://a.example", false, "a.example", "/", "a.example:80"),
            ("HTTPS://a.example/x/y?z=1#w", true, "a.example", "/x/y?z=1", "a.example:443"),
            ("http://a.example:8080?q", false, "a.example:8080", "/?q", "a.example:8080"),
            ("https://[::1]/", true, "[::1]", "/", "[::1]:443"),
            ("http://[::1]:81/", false, "[::1]:81", "/", "[::1]:81"),
        ] {
            let found = target(url).unwrap();
            assert_eq!(
                (found.tls, found.authority.as_str(), found.path.as_str()),
                (tls, authority, path),
                "{url}"
            );
            assert_eq!(found.grant(), grant);
        }
        assert_eq!(target("http://a.example/x?token=1").unwrap().called, "GET http://a.example/x");
    }

    #[test]
    fn a_url_that_will_not_do_is_told_why_and_no_secret_is() {
        for (url, why) in [
            ("a.example/x", "neither http:// nor https://"),
            ("ftp://a.example", "neither http:// nor https://"),
            ("http:///x", "names no host"),
            ("http://:80/", "names no host"),
            ("http://a.example:0/", "its port is no number"),
            ("http://a.example:x/", "its port is no number"),
            ("http://a.example/a b?secret", "' ' must be written as %"),
            ("http://me:secret@a.example/", "into the header \"authorization\""),
        ] {
            let error = target(url).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
