//! `[grants]`: what the module may touch on this machine, whom it may reach, and whose methods it may call.

use super::Directory;
use super::reading::Section;
use crate::ports::covers;
use holdfast_types::Name;
use std::fmt;
use std::path::PathBuf;

/// A host, or all hosts below a domain, with one port or any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostGrant {
    /// In lower case; a name, or an address without brackets.
    pub(crate) host: String,
    /// The hosts below it are meant, not itself.
    pub(crate) below: bool,
    pub(crate) port: Option<u16>,
}

impl HostGrant {
    /// `name:port`, `address:port`, `[IPv6]:port`, `*.domain:port`, each with `*` for any port.
    fn parse(text: &str) -> Result<Self, String> {
        let how = "write it as \"api.example:443\"";
        let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("{text:?} names no port; {how}"))?;
        let host = match host.strip_prefix('[') {
            Some(address) => address.strip_suffix(']').unwrap_or(host),
            None if host.contains(':') => {
                return Err(format!("{text:?}: an address of IPv6 is put in brackets, and a port behind it"));
            }
            None => host,
        };
        let (below, host) = match host.strip_prefix("*.") {
            Some(domain) => (true, domain),
            None => (false, host),
        };
        let port = match port {
            "*" => None,
            number => match number.parse() {
                Ok(0) | Err(_) => return Err(format!("{text:?}: {number:?} is no port; {how}")),
                Ok(port) => Some(port),
            },
        };
        let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | ':');
        if host.is_empty() || !host.chars().all(is_host) {
            return Err(format!("{text:?} names no host; {how}"));
        }
        Ok(Self { host: host.to_ascii_lowercase(), below, port })
    }

    /// Whether it is for this host, whatever the port.
    pub(crate) fn names(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if !self.below {
            return host == self.host;
        }
        host.strip_suffix(&self.host).is_some_and(|before| before.len() > 1 && before.ends_with('.'))
    }

    /// Whether everything that another grant is for is in this one.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let port = self.port.is_none() || self.port == other.port;
        port && match other.below {
            // What is below a domain below another's is below that.
            true => self.below && (self.host == other.host || self.names(&other.host)),
            false => self.names(&other.host),
        }
    }

    /// Whether it is for this host and port.
    pub(crate) fn allows(&self, host: &str, port: u16) -> bool {
        self.port.is_none_or(|granted| granted == port) && self.names(host)
    }
}

impl fmt::Display for HostGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.below { "*." } else { "" })?;
        let is_v6 = self.host.contains(':');
        let (open, close) = if is_v6 { ("[", "]") } else { ("", "") };
        write!(f, "{open}{}{close}:", self.host)?;
        match self.port {
            Some(port) => write!(f, "{port}"),
            None => f.write_str("*"),
        }
    }
}

/// Whose methods it may call: a module of this edge (`/module`), a child, a module of a child, or with `*` at its end all
/// whose names begin so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MethodGrant(String);

impl MethodGrant {
    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |part: &str| part.is_empty() || part == "*" || Name::new(part).is_ok();
        match text.split('/').collect::<Vec<_>>().as_slice() {
            [child] if !child.is_empty() && is_name(child) => {}
            [child, module] if !module.is_empty() && is_name(child) && is_name(module) => {}
            _ => {
                return Err(format!(
                    "{text:?} is nobody; write \"/module\", \"child\" or \"child/module\", or \"*\" at the end for all of them"
                ));
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// Whether it is for this target, as modules of this edge write it.
    pub(crate) fn allows(&self, target: &str) -> bool {
        covers(&self.0, target)
    }
}

impl fmt::Display for MethodGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `methods = [...]`.
pub(super) fn methods(grants: &mut Section<'_, '_>, granted: &mut Vec<MethodGrant>) {
    let mut texts = None;
    grants.list("methods", &mut texts);
    for text in texts.iter().flatten() {
        match MethodGrant::parse(text) {
            Ok(grant) => granted.push(grant),
            Err(fault) => grants.fault(&format!("methods: {fault}")),
        }
    }
}

/// `hosts = [...]`.
pub(super) fn hosts(grants: &mut Section<'_, '_>, granted: &mut Vec<HostGrant>) {
    let mut texts = None;
    grants.list("hosts", &mut texts);
    for text in texts.iter().flatten() {
        match HostGrant::parse(text) {
            Ok(grant) => granted.push(grant),
            Err(fault) => grants.fault(&format!("hosts: {fault}")),
        }
    }
}

/// `directories = [...]`.
pub(super) fn directories(grants: &mut Section<'_, '_>, granted: &mut Vec<Directory>) {
    grants.tables("directories", |entry| {
        let (mut host, mut guest, mut write, mut optional) = (String::new(), String::new(), false, false);
        let mut files = None;
        let has_host = entry.text("host", &mut host);
        let has_guest = entry.text("guest", &mut guest);
        entry.flag("write", &mut write);
        entry.list("files", &mut files);
        entry.flag("optional", &mut optional);
        if !has_host {
            entry.fault("host is missing: the absolute path of the directory on this machine");
        } else if !PathBuf::from(&host).has_root() {
            entry.fault(&format!("host = {host:?} is not an absolute path"));
        }
        if !has_guest {
            // The same path inside as outside is what most mean.
            guest.clone_from(&host);
        }
        if write && files.is_some() {
            entry.fault(
                "files are read only: take out write = true, or grant a directory of its own to write to",
            );
        }
        let leaves = |file: &&String| {
            file.starts_with('/') || file.split('/').any(|part| matches!(part, "" | "." | ".."))
        };
        if let Some(file) = files.iter().flatten().find(leaves) {
            entry.fault(&format!(
                "files: {file:?} is not a path within the directory, such as \"a\" or \"a/b\""
            ));
        }
        granted.push(Directory { host: host.into(), guest, write, files, optional });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_of_methods_is_for_whom_it_names_and_no_other() {
        let grant = |text| MethodGrant::parse(text).unwrap();
        for (granted, called, allowed) in [
            ("/horn", "/horn", true),
            ("/horn", "/horn-2", false),
            ("/horn", "horn", false),
            ("/*", "/horn", true),
            ("/*", "press-7", false),
            ("press-*", "press-7", true),
            ("press-*", "press-7/plc", true),
            ("press-7", "press-7/plc", false),
            ("press-7/*", "press-70/plc", false),
            ("*", "/horn", true),
        ] {
            assert_eq!(grant(granted).allows(called), allowed, "{granted} {called}");
        }
        for text in ["", "/", "a/", "a/b/c", "a b"] {
            assert!(MethodGrant::parse(text).unwrap_err().contains("is nobody"), "{text}");
        }
    }

    #[test]
    fn a_grant_is_for_its_host_and_port_and_no_other() {
        let grant = |text| HostGrant::parse(text).unwrap();
        assert!(grant("api.example:443").allows("API.example", 443));
        for (host, port) in [("api.example", 80), ("x.api.example", 443), ("api.example.evil", 443)] {
            assert!(!grant("api.example:443").allows(host, port), "{host}:{port}");
        }
        assert!(grant("*.example:443").allows("a.b.example", 443));
        assert!(!grant("*.example:443").allows("example", 443));
        assert!(!grant("*.example:443").allows("badexample", 443));
        assert!(grant("10.0.0.1:*").allows("10.0.0.1", 7));
        for (granted, wished, covered) in [
            ("api.example:443", "API.example:443", true),
            ("api.example:443", "api.example:*", false),
            ("*.example:*", "a.b.example:1", true),
            ("*.example:*", "*.b.example:1", true),
            ("*.b.example:*", "*.example:1", false),
            ("b.example:*", "*.b.example:1", false),
        ] {
            assert_eq!(grant(granted).covers(&grant(wished)), covered, "{granted} {wished}");
        }
        for text in ["api.example:443", "*.example:*", "[::1]:80"] {
            assert_eq!(grant(text).to_string(), text);
        }
        assert!(grant("[::1]:80").allows("::1", 80) && grant("[::1]:80").allows("[::1]", 80));
        for (text, fault) in [
            ("api.example", "names no port"),
            ("api.example:0", "is no port"),
            ("https://api.example:443", "brackets"),
            (":443", "names no host"),
            ("::1:80", "brackets"),
        ] {
            let told = HostGrant::parse(text).unwrap_err();
            assert!(told.contains(fault), "{text}: {told}");
        }
    }
}
