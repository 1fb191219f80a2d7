//! What is printed: tables for people, JSON for programs.

use serde::Serialize;
use std::io::{self, Write};

/// Prints a line. A reader that has gone away is no fault of ours: the program ends quietly then, as others do. Output
/// that is lost in another way is a fault, and the program ends with one.
pub fn line(text: impl AsRef<str>) {
    if let Err(error) = writeln!(io::stdout().lock(), "{}", text.as_ref()) {
        if error.kind() == io::ErrorKind::BrokenPipe {
            std::process::exit(0);
        }
        note(format!("error: the output cannot be written: {error}"));
        std::process::exit(1);
    }
}

/// Prints a note beside the result, for people, on standard error.
pub fn note(text: impl AsRef<str>) {
    // Nobody reads it: then nobody misses it.
    let _ = writeln!(io::stderr().lock(), "{}", text.as_ref());
}

/// Prints a value as one line of JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?);
    Ok(())
}

/// Rows under headings, each column as wide as its widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
    /// Columns that hold numbers stand to the right.
    right: Vec<bool>,
}

impl Table {
    /// A table with these headings; a heading that starts with `>` is of a column of numbers.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        let right = headings.iter().map(|h| h.starts_with('>')).collect();
        let first = headings.iter().map(|h| h.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![first], right }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// The table as text, without a line end at the end.
    pub fn render(&self) -> String {
        let columns = self.right.len();
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let lines = self.rows.iter().map(|row| {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, &width), &right)| {
                if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Prints the table.
    pub fn print(&self) {
        line(self.render());
    }
}

/// A count with its noun: `1 route`, `2 routes`.
pub fn count(n: usize, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Bytes for people: `512 B`, `1.5 KiB`, `20 MiB`.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("B");
    if unit == 0 || value >= 100.0 { format!("{value:.0} {name}") } else { format!("{value:.1} {name}") }
}

/// A length of time for people: `350 ms`, `12 s`, `3 min`, `5 h`, `2 d`.
pub fn span(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{} s", ms / 1_000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        7_200_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A body for people: text as it is, shortened, with control characters made visible; else its size.
pub fn body(bytes: &[u8], characters_max: usize) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => {
            let shown: String = text.chars().take(characters_max).flat_map(visible).collect();
            if text.chars().count() > characters_max { format!("{shown}…") } else { shown }
        }
        Err(_) => format!("<{} bytes>", bytes.len()),
    }
}

/// Text that somebody else chose, such as a topic: control characters are made visible.
pub fn foreign(text: &str) -> String {
    text.chars().flat_map(visible).collect()
}

fn visible(c: char) -> impl Iterator<Item = char> {
    // A message must not be able to steer the terminal of whoever looks at it.
    let escaped = if c.is_control() { Some(c.escape_default()) } else { None };
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_stand_to_the_right() {
        let mut table = Table::new(["NAME", ">COUNT"]);
        table.row(["a".into(), "7".into()]);
        table.row(["longer".into(), "12345".into()]);
        assert_eq!(table.render(), "NAME    COUNT\na           7\nlonger  12345");
    }

    #[test]
    fn sizes_and_spans_are_short() {
        assert_eq!(
            [bytes(0), bytes(1536), bytes(20 << 20), bytes(300 << 30)],
            ["0 B", "1.5 KiB", "20.0 MiB", "300 GiB"]
        );
        assert_eq!(
            [span(9), span(61_000), span(600_000), span(8_000_000)],
            ["9 ms", "61 s", "10 min", "2 h"]
        );
    }

    #[test]
    fn a_body_cannot_steer_the_terminal() {
        assert_eq!(body(b"a\x1b[2Jb", 80), "a\\u{1b}[2Jb");
        assert_eq!(foreign("a/\u{1b}]0;x\u{7}"), "a/\\u{1b}]0;x\\u{7}");
        assert_eq!(body(&[0xff, 0xfe], 80), "<2 bytes>");
        assert_eq!(body(b"abcdef", 3), "abc…");
    }
}
