//! What a module declares: the inputs that it takes messages by, and the outputs that it sends by.
//!
//! Say it in the [`Module`](crate::Module): [`module!`](crate::module) writes it into the component. Then a send by another
//! output is refused, by the host and in tests; `holdfast module inspect` shows what there is, and `holdfast check` names
//! the routes that lead from or to what is not there.
//!
//! ```
//! use holdfast_sdk::{Error, Failure, Message, Module, Outgoing, ports::Ports, outbox, testing::Harness};
//!
//! struct Relay;
//! impl Module for Relay {
//!     const INPUTS: Ports = &["readings"];
//!     const OUTPUTS: Ports = &["hot", "cold"];
//!
//!     fn start() -> Result<Self, Error> {
//!         Ok(Self)
//!     }
//!     fn handle(&mut self, _: &str, message: Message) -> Result<(), Failure> {
//!         Ok(outbox::send("hto", Outgoing::from(message))?)
//!     }
//! }
//!
//! let mut module = Harness::new().start::<Relay>().unwrap();
//! let failure = module.handle("readings", Outgoing::text("21")).unwrap_err();
//! assert!(failure.to_string().contains("\"hto\" is not declared"), "{failure}");
//! ```

/// Names of inputs or of outputs. One that ends with `*` stands for all that begin so.
pub type Ports = &'static [&'static str];

/// Everything goes: nothing is declared.
pub const ANY: Ports = &["*"];

/// Whether a name is declared.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn have(ports: Ports, name: &str) -> bool {
    ports.iter().any(|declared| match declared.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *declared,
    })
}

/// How many bytes [`declaration`] has. What the macro [`module!`](crate::module) refers to; not for direct use.
#[doc(hidden)]
pub const fn declaration_bytes(inputs: Ports, outputs: Ports) -> usize {
    list_bytes("inputs", inputs) + list_bytes("outputs", outputs)
}

/// Both lists as the host reads them: TOML, in the form of the module's settings. The same.
#[doc(hidden)]
pub const fn declaration<const BYTES: usize>(inputs: Ports, outputs: Ports) -> [u8; BYTES] {
    let mut text = [0; BYTES];
    let end = put_list(&mut text, 0, "inputs", inputs);
    put_list(&mut text, end, "outputs", outputs);
    text
}

const fn list_bytes(key: &str, names: Ports) -> usize {
    let mut bytes = key.len() + " = [".len() + "]\n".len();
    let mut rest = names;
    while let [name, others @ ..] = rest {
        bytes += name.len() + "\"\",".len();
        rest = others;
    }
    bytes
}

const fn put_list(into: &mut [u8], at: usize, key: &str, names: Ports) -> usize {
    let mut at = put(into, at, key);
    at = put(into, at, " = [");
    let mut rest = names;
    while let [name, others @ ..] = rest {
        assert!(
            is_name(name.as_bytes()),
            "a name in INPUTS or OUTPUTS is empty, or has a character that no name may have"
        );
        at = put(into, at, "\"");
        at = put(into, at, name);
        at = put(into, at, "\",");
        rest = others;
    }
    put(into, at, "]\n")
}

const fn put(into: &mut [u8], at: usize, text: &str) -> usize {
    let (_, mut places) = into.split_at_mut(at);
    let mut rest = text.as_bytes();
    while let ([byte, bytes @ ..], [place, others @ ..]) = (rest, places) {
        *place = *byte;
        rest = bytes;
        places = others;
    }
    at + text.len()
}

/// What has to be escaped in TOML is in no name.
const fn is_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, others @ ..] = rest {
        if !byte.is_ascii_graphic() || matches!(byte, b'"' | b'\\' | b'/' | b'#' | b'+') {
            return false;
        }
        rest = others;
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declaration_is_text_that_the_host_can_read() {
        const INPUTS: Ports = &[];
        const OUTPUTS: Ports = &["hot", "line-*"];
        const BYTES: usize = declaration_bytes(INPUTS, OUTPUTS);
        const TEXT: [u8; BYTES] = declaration(INPUTS, OUTPUTS);
        assert_eq!(std::str::from_utf8(&TEXT).unwrap(), "inputs = []\noutputs = [\"hot\",\"line-*\",]\n");
        assert!(have(OUTPUTS, "line-7") && !have(OUTPUTS, "lin") && !have(INPUTS, "x") && have(ANY, "x"));
        assert!(
            is_name(b"a:b")
                && !is_name(b"")
                && !is_name(b"a b")
                && !is_name(b"\"")
                && !is_name("ä".as_bytes())
        );
    }
}
