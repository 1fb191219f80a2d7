//! What clients sent, in log lines.

use std::fmt::{self, Display, Write};

/// Shows a text with its control characters escaped, so that no client writes to the terminal of who reads the log.
pub(crate) struct Plain<T>(pub(crate) T);

impl<T: Display> Display for Plain<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|one| match one.is_control() {
            true => write!(self.0, "{}", one.escape_default()),
            false => self.0.write_char(one),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_all_else_stays() {
        let text = Plain("plänt/\u{1b}[2J\n\u{9b}\u{7f}").to_string();
        assert_eq!(text, r"plänt/\u{1b}[2J\n\u{9b}\u{7f}");
    }
}
