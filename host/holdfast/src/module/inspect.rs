//! What a component needs and gives, and whether that makes it a module.

use std::fmt;
use wasmparser::{ComponentExternName, Encoding, Parser, Payload};

/// What the file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A component.
    Component,
    /// A core module, from a target other than `wasm32-wasip2`.
    CoreModule,
    /// Not WebAssembly, or damaged.
    Unknown,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What it is.
    pub kind: Kind,
    /// Its size in bytes.
    pub bytes: u64,
    /// The interfaces that it needs, in order.
    pub imports: Vec<String>,
    /// The interfaces that it gives, in order.
    pub exports: Vec<String>,
    /// Why it could not be read to its end.
    pub damage: Option<String>,
}

/// What the world of the contract lets a module import, by the beginning of the name.
const IMPORTS: [&str; 9] = [
    "holdfast:module/types@0.1.",
    "holdfast:module/outbox@0.1.",
    "holdfast:module/timers@0.1.",
    "holdfast:module/twins@0.1.",
    "holdfast:module/methods@0.1.",
    "holdfast:module/metrics@0.1.",
    "wasi:config/store@0.2.0-rc.1",
    "wasi:keyvalue/store@0.2.0-draft",
    "wasi:logging/logging@0.1.0-draft",
];

/// Packages of WASI 0.2 that every module is given. Sockets and HTTP reach only what is granted.
const WASI: [&str; 8] = [
    "wasi:cli/",
    "wasi:clocks/",
    "wasi:filesystem/",
    "wasi:http/outgoing-handler@",
    "wasi:http/types@",
    "wasi:io/",
    "wasi:random/",
    "wasi:sockets/",
];

/// What a module exports, one at least: it handles messages, answers HTTP requests, or runs as a program.
const HANDLER: &str = "holdfast:module/handler@0.1.";
const SERVED: [&str; 3] = [HANDLER, "wasi:http/incoming-handler@0.2.", "wasi:cli/run@0.2."];

/// Looks into the bytes of a file.
pub fn inspect(bytes: &[u8]) -> Inspection {
    let mut inspection = Inspection {
        kind: Kind::Unknown,
        bytes: bytes.len() as u64,
        imports: Vec::new(),
        exports: Vec::new(),
        damage: None,
    };
    if let Err(error) = inspection.read(bytes) {
        inspection.damage = Some(error.message().to_owned());
    }
    inspection
}

impl Inspection {
    fn read(&mut self, bytes: &[u8]) -> Result<(), wasmparser::BinaryReaderError> {
        // Components hold modules and components; only what stands outermost is the file's own.
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    if depth == 0 {
                        self.kind = match encoding {
                            Encoding::Component => Kind::Component,
                            Encoding::Module => Kind::CoreModule,
                        };
                    }
                    depth += 1;
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        self.imports.push(name(import?.name));
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        self.exports.push(name(export?.name));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What it does, in words.
    pub fn purpose(&self) -> Vec<&'static str> {
        let words = ["handles messages", "answers HTTP requests", "runs as a program, its output is its log"];
        let exports = |start: &&str| self.exports.iter().any(|name| name.starts_with(start));
        SERVED.iter().zip(words).filter(|(start, _)| exports(start)).map(|(_, words)| words).collect()
    }

    /// What its imports can be used for only with a grant, in words.
    pub fn needs(&self) -> Vec<&'static str> {
        [
            ("wasi:filesystem/preopens@", "files: [grants] directories"),
            ("wasi:sockets/tcp-create-socket@", "TCP: [grants] hosts"),
            ("wasi:http/outgoing-handler@", "HTTP: [grants] hosts"),
            ("holdfast:module/methods@", "methods of others: [grants] methods"),
        ]
        .into_iter()
        .filter(|(start, _)| self.imports.iter().any(|name| name.starts_with(start)))
        .map(|(_, words)| words)
        .collect()
    }

    /// Why a host would not run this. Nothing if it would.
    pub fn faults(&self) -> Vec<String> {
        match (self.kind, &self.damage) {
            (Kind::Unknown, _) => return vec!["it is not WebAssembly".to_owned()],
            (_, Some(damage)) => return vec![format!("it is damaged: {damage}")],
            (Kind::CoreModule, None) => {
                return vec![
                    "it is a core module, not a component; build it for the target wasm32-wasip2".to_owned(),
                ];
            }
            (Kind::Component, None) => {}
        }
        let mut faults = Vec::new();
        if !self.exports.iter().any(|name| SERVED.iter().any(|served| name.starts_with(served))) {
            let found = if self.exports.is_empty() { "nothing".to_owned() } else { self.exports.join(", ") };
            faults.push(format!(
                "it does not export {HANDLER}x (nor wasi:http/incoming-handler or wasi:cli/run) but {found}; with the Rust SDK, call holdfast_sdk::module!(YourType) in \
                 the root of the crate"
            ));
        }
        for name in self.imports.iter().filter(|name| !is_given(name)) {
            faults.push(format!("it imports {name}, which no module is given"));
        }
        faults
    }
}

fn is_given(name: &str) -> bool {
    IMPORTS.iter().any(|beginning| name.starts_with(beginning))
        || (WASI.iter().any(|package| name.starts_with(package)) && name.contains("@0.2."))
}

fn name(name: ComponentExternName<'_>) -> String {
    name.name.to_owned()
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::CoreModule => "core module",
            Self::Unknown => "not WebAssembly",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLUGIN: &[u8] = include_bytes!("../../../../plugins/host-metrics.wasm");

    #[test]
    fn a_ready_made_module_has_no_faults_and_says_what_it_needs() {
        let inspection = inspect(PLUGIN);
        assert_eq!(inspection.faults(), Vec::<String>::new());
        assert!(inspection.exports.contains(&"holdfast:module/handler@0.1.1".to_owned()), "{inspection:?}");
        assert!(inspection.imports.contains(&"wasi:filesystem/preopens@0.2.6".to_owned()), "{inspection:?}");
    }

    #[test]
    fn what_is_no_module_says_what_it_is() {
        let core = b"\0asm\x01\0\0\0";
        let empty_component = b"\0asm\x0d\0\x01\0";
        for (bytes, expected) in [
            (&b"\x7fELF"[..], "it is not WebAssembly"),
            (&b""[..], "it is not WebAssembly"),
            (core, "it is a core module, not a component"),
            (
                empty_component,
                "it does not export holdfast:module/handler@0.1.x (nor wasi:http/incoming-handler or wasi:cli/run) but nothing",
            ),
            (PLUGIN.split_at(PLUGIN.len() / 2).0, "it is damaged"),
        ] {
            let faults = inspect(bytes).faults();
            assert!(
                faults.first().is_some_and(|fault| fault.starts_with(expected)),
                "{expected}: {faults:?}"
            );
        }
    }

    #[test]
    fn an_import_that_no_module_is_given_is_named() {
        let mut inspection = inspect(PLUGIN);
        for name in ["wasi:http/types@0.3.0", "wasi:clocks/wall-clock@0.3.0", "holdfast:module/outbox@0.2.0"]
        {
            inspection.imports = vec!["wasi:clocks/wall-clock@0.2.0".to_owned(), name.to_owned()];
            assert_eq!(inspection.faults(), [format!("it imports {name}, which no module is given")]);
        }
    }
}
