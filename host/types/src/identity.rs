//! Who somebody is, as the cloud counts: a device, or a module of a device.

use crate::Name;
use std::fmt;

/// A device, or one of its modules. Twins, methods and credentials belong to an identity. The modules that the host
/// runs are modules of the edge.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    /// The device: the edge itself, or a child.
    pub device: Name,
    /// The module, if it is one.
    pub module: Option<Name>,
}

impl Identity {
    /// A device.
    pub const fn device(device: Name) -> Self {
        Self { device, module: None }
    }

    /// A module of a device.
    pub const fn module(device: Name, module: Name) -> Self {
        Self { device, module: Some(module) }
    }

    /// Takes `device` or `device/module`; None if a part is not a [`Name`] or there are more than two.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => Name::new(text).ok().map(Self::device),
            Some((device, module)) => Some(Self::module(Name::new(device).ok()?, Name::new(module).ok()?)),
        }
    }

    /// The same as people and modules write it on an edge: `/module` is a module of the edge itself.
    pub fn parse_at(edge: &Name, text: &str) -> Option<Self> {
        match text.strip_prefix('/') {
            Some(module) => Some(Self::module(edge.clone(), Name::new(module).ok()?)),
            None => Self::parse(text),
        }
    }
}

/// `device` or `device/module`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            Some(module) => write!(f, "{}/{module}", self.device),
            None => write!(f, "{}", self.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_what_is_parsed() {
        for text in ["press-7", "edge-1/$edgeHub"] {
            assert_eq!(Identity::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "/", "a/", "/b", "a/b/c", "a b"] {
            assert_eq!(Identity::parse(text), None, "{text}");
        }
        let edge = Name::new("edge-1").unwrap();
        assert_eq!(Identity::parse_at(&edge, "/m"), Identity::parse("edge-1/m"));
        assert_eq!(Identity::parse_at(&edge, "press-7"), Identity::parse("press-7"));
        assert_eq!(Identity::parse_at(&edge, "/"), None);
    }
}
