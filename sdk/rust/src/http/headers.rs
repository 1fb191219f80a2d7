//! The headers of a request or an answer.

/// Headers in their order. Names are compared without regard to case; values are bytes, text for the most part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, Vec<u8>)>);

impl Headers {
    /// None.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The first value of a name, if it is text.
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// Every value of a name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_slice())
    }

    /// Sets a value, in place of those of that name.
    pub fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.add(name, value);
    }

    /// Adds a value behind those of that name.
    pub fn add(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        self.0.push((name.to_owned(), value.into()));
    }

    /// Name and value of each, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }
}

impl From<Vec<(String, Vec<u8>)>> for Headers {
    fn from(entries: Vec<(String, Vec<u8>)>) -> Self {
        Self(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_any_case_is_the_same_header() {
        let mut headers =
            Headers::from(vec![("Accept".to_owned(), b"a".to_vec()), ("X".to_owned(), vec![0xff])]);
        headers.add("accept", "b");
        assert_eq!(headers.all("ACCEPT").collect::<Vec<_>>(), [b"a", b"b"]);
        assert_eq!(
            (headers.get("x"), headers.get("none")),
            (None, None),
            "what is no text, and what is not there"
        );
        headers.set("aCCept", "c");
        let all: Vec<_> = headers.iter().collect();
        assert_eq!(all, [("X", &[0xff][..]), ("aCCept", &b"c"[..])]);
    }
}
