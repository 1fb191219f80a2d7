//! The inputs and outputs that a module declares, in its component or in its settings.
//!
//! Nothing is granted by it: routes decide what flows where. It is held against slips of the finger: a send by an output
//! that is not declared is refused, and `holdfast check` names the routes that lead from or to what nobody declares.

use holdfast_types::Name;
use std::fmt;

/// Most names in one list. A module has a handful; who has thousands means all that begin alike, and says so.
const NAMES_MAX: usize = 256;

/// The names of inputs, or of outputs, that a module declares. One that ends with `*` stands for all that begin so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Option<Vec<String>>);

impl Ports {
    /// Checks a list of names. With `*` alone in it everything goes, as if nothing were declared.
    pub(crate) fn parse(names: Vec<String>) -> Result<Self, String> {
        if names.len() > NAMES_MAX {
            let count = names.len();
            return Err(format!(
                "{count} names are too many; {NAMES_MAX} are allowed, and \"x*\" is all that begin with x"
            ));
        }
        for name in &names {
            Name::new(name).map_err(|invalid| format!("{name:?} is no name: {invalid}"))?;
        }
        Ok(Self(Some(names).filter(|names| !names.iter().any(|name| name == "*"))))
    }

    /// The names, if some are declared; an empty list is the word that there are none.
    pub fn names(&self) -> Option<&[String]> {
        self.0.as_deref()
    }

    /// Whether this one is declared, or nothing is.
    pub fn have(&self, name: &str) -> bool {
        self.0.as_ref().is_none_or(|names| names.iter().any(|declared| covers(declared, name)))
    }

    /// The same, whatever the case: so routes compare outputs.
    pub fn have_in_any_case(&self, name: &str) -> bool {
        let lower = |names: &Vec<String>| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self(self.0.as_ref().map(lower)).have(&name.to_ascii_lowercase())
    }

    /// What either declares is declared.
    pub(crate) fn add(&mut self, others: Self) {
        let Some(others) = others.0 else { return };
        let names = self.0.get_or_insert_default();
        for name in others {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
}

/// Whether a name is meant: by itself, or as one of all that begin so, where `*` is at the end.
pub(crate) fn covers(meant: &str, name: &str) -> bool {
    match meant.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == meant,
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.names() {
            None => f.write_str("any"),
            Some([]) => f.write_str("none"),
            Some(names) => f.write_str(&names.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(names: &[&str]) -> Ports {
        Ports::parse(names.iter().map(|name| (*name).to_owned()).collect()).unwrap()
    }

    #[test]
    fn what_is_declared_is_there_and_without_a_declaration_everything_is() {
        for (names, asked, there) in [
            (&["hot", "cold"][..], "hot", true),
            (&["hot"], "Hot", false),
            (&["hot"], "hotter", false),
            (&["line-*"], "line-7", true),
            (&["line-*"], "lin", false),
            (&[], "hot", false),
            (&["hot", "*"], "cold", true),
        ] {
            assert_eq!(ports(names).have(asked), there, "{names:?} {asked}");
        }
        assert!(Ports::default().have("hot"));
        assert!(ports(&["Hot", "Line-*"]).have_in_any_case("hOT"));
        assert!(ports(&["Hot", "Line-*"]).have_in_any_case("lINE-7"));
        assert_eq!(
            [Ports::default(), ports(&[]), ports(&["a", "b"])].map(|p| p.to_string()),
            ["any", "none", "a, b"]
        );
    }

    #[test]
    fn what_component_and_settings_declare_counts_together() {
        let mut both = ports(&["a"]);
        both.add(ports(&["b", "a"]));
        both.add(Ports::default());
        assert_eq!(both, ports(&["a", "b"]));
        let mut one = Ports::default();
        one.add(ports(&[]));
        assert_eq!(one, ports(&[]));
    }

    #[test]
    fn what_is_no_name_is_told_and_so_is_a_list_without_end() {
        let parse = |names: Vec<String>| Ports::parse(names).unwrap_err();
        assert!(parse(vec!["a/b".to_owned()]).starts_with("\"a/b\" is no name: "));
        assert!(parse(vec![String::new()]).starts_with("\"\" is no name: "));
        assert!(parse(vec!["a".to_owned(); 257]).starts_with("257 names are too many; 256 are allowed"));
    }
}
