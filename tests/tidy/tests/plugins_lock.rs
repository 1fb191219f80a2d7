//! The components in `plugins/` are what their sources in `examples/` give, and ask for nothing beyond the contract.
//!
//! Checked on any machine by digests, without a tool chain for WebAssembly:
//!
//! ```sh
//! cargo test -p holdfast-test-tidy --test plugins_lock
//! ```
//!
//! Rebuilt, where sources have changed, together with the lock file (`all` instead of `1` rebuilds every one):
//!
//! ```sh
//! REBUILD_PLUGINS=1 cargo test -p holdfast-test-tidy --test plugins_lock -- the_lock
//! ```
#![cfg(test)]

// The same code that `holdfast module build` runs.
#[expect(dead_code, reason = "the part of the command line that makes projects is not needed here")]
#[path = "../../../host/holdfast/src/module/mod.rs"]
mod module;

use holdfast_test_tidy::root;
use module::{build, inspect};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

/// A component must be small enough to lie in the repository: 300 KB each.
const COMPONENT_BYTES_MAX: u64 = 300_000;
const LOCK: &str = "plugins/plugins.lock";
const HOW: &str = "REBUILD_PLUGINS=1 cargo test -p holdfast-test-tidy --test plugins_lock -- the_lock";

/// One entry of the lock file.
#[derive(Debug, PartialEq)]
struct Entry {
    source: String,
    component: String,
    toolchain: String,
}

/// The modules that have their sources in `examples/`.
fn modules() -> Vec<String> {
    let manifest: toml::Table =
        fs::read_to_string(root().join("examples/Cargo.toml")).unwrap().parse().unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// Every file below a folder, in order.
fn below(folder: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { all.push(path) }
        }
    }
    all.sort();
    all
}

/// Text as it is in the repository, whatever the line ends of this checkout.
fn text(path: &Path) -> String {
    fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .replace("\r\n", "\n")
}

fn hex(digest: impl AsRef<[u8]>) -> String {
    digest.as_ref().iter().fold("sha256:".to_owned(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    })
}

/// The digest of everything that a component is made of: its crate, the shared manifest and lock file, the SDK.
fn source_digest(name: &str) -> String {
    let root = root();
    let examples = root.join("examples");
    let mut files = below(&examples.join(name).join("src"));
    files.extend([
        examples.join(name).join("Cargo.toml"),
        examples.join("Cargo.toml"),
        examples.join("Cargo.lock"),
    ]);
    let sdk = root.join("sdk/rust");
    files.push(sdk.join("Cargo.toml"));
    files.extend(below(&sdk.join("src")));
    files.extend(below(&sdk.join("wit")));
    let mut digest = Sha256::new();
    for file in files {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let text = text(&file);
        digest.update(format!("{path}\0{}\0{text}", text.len()));
    }
    hex(digest.finalize())
}

fn component_path(name: &str) -> PathBuf {
    root().join(format!("plugins/{name}.wasm"))
}

fn component(name: &str) -> Vec<u8> {
    let path = component_path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; rebuild it with: {HOW}", path.display()))
}

fn lock() -> BTreeMap<String, Entry> {
    let table: toml::Table = fs::read_to_string(root().join(LOCK)).unwrap_or_default().parse().unwrap();
    let entry = |value: &toml::Value| {
        let field = |key: &str| value[key].as_str().unwrap().to_owned();
        Entry { source: field("source"), component: field("component"), toolchain: field("toolchain") }
    };
    table.iter().map(|(name, value)| (name.clone(), entry(value))).collect()
}

fn rebuild(what: &str) {
    let mut entries = lock();
    entries.retain(|name, _| modules().contains(name));
    for name in modules() {
        let source = source_digest(&name);
        let is_same = |entry: &Entry| {
            let there = fs::read(component_path(&name))
                .is_ok_and(|bytes| hex(Sha256::digest(bytes)) == entry.component);
            entry.source == source && there
        };
        if what != "all" && entries.get(&name).is_some_and(is_same) {
            continue;
        }
        let directory = root().join("examples").join(&name);
        let options = build::BuildOptions { directory, into: Some(root().join("plugins")), asks: None };
        let built =
            build::build(&options, &mut |line| println!("{name}: {line}")).unwrap_or_else(|e| panic!("{e}"));
        println!("{name}: {} bytes in {:?}", built.bytes, built.elapsed);
        // The settings of a ready-made module are those of its source.
        fs::copy(settings("examples", &name), settings("plugins", &name)).unwrap();
        let component = hex(Sha256::digest(component(&name)));
        entries.insert(name, Entry { source, component, toolchain: built.toolchain });
    }
    let mut text = format!(
        "# What the components in this folder were made of, and their digests.\n# Written by: {HOW}\n"
    );
    for (name, entry) in entries {
        let Entry { source, component, toolchain } = entry;
        write!(
            text,
            "\n[{name}]\nsource = \"{source}\"\ncomponent = \"{component}\"\ntoolchain = \"{toolchain}\"\n"
        )
        .unwrap();
    }
    fs::write(root().join(LOCK), text).unwrap();
}

fn settings(folder: &str, name: &str) -> PathBuf {
    match folder {
        "examples" => root().join(format!("examples/{name}/{name}.toml")),
        _ => root().join(format!("{folder}/{name}.toml")),
    }
}

#[test]
fn the_lock_names_every_component_with_the_digests_of_its_source_and_its_bytes() {
    if let Some(what) = std::env::var_os("REBUILD_PLUGINS") {
        rebuild(&what.to_string_lossy());
    }
    let lock = lock();
    assert_eq!(
        lock.keys().cloned().collect::<Vec<_>>(),
        modules(),
        "{LOCK} names other modules than examples/Cargo.toml"
    );
    for (name, entry) in lock {
        assert_eq!(
            entry.source,
            source_digest(&name),
            "the source of {name} has changed since plugins/{name}.wasm was built; rebuild with: {HOW}"
        );
        let bytes = component(&name);
        assert_eq!(
            entry.component,
            hex(Sha256::digest(bytes)),
            "plugins/{name}.wasm is not the one in {LOCK}"
        );
        assert!(entry.toolchain.starts_with("rustc "), "{name}: {:?} names no compiler", entry.toolchain);
    }
}

#[test]
fn every_component_is_a_small_module_that_asks_for_nothing_beyond_the_contract() {
    for name in modules() {
        let inspection = inspect::inspect(&component(&name));
        assert_eq!(inspection.faults(), Vec::<String>::new(), "{name}");
        assert!(inspection.bytes <= COMPONENT_BYTES_MAX, "{name} has {} bytes", inspection.bytes);
        // A host bears these for the sake of other languages; our own modules have no use for them.
        let network = inspection.imports.iter().find(|import| import.starts_with("wasi:sockets/"));
        assert_eq!(network, None, "{name}");
    }
}

#[test]
fn no_component_tells_about_the_machine_that_built_it() {
    for name in modules() {
        let bytes = component(&name);
        let has = |part: &str| bytes.windows(part.len()).any(|window| window == part.as_bytes());
        for part in ["/root/", "/home/", "/Users/", ".cargo/registry"] {
            assert!(!has(part), "plugins/{name}.wasm holds {part:?}");
        }
    }
}

#[test]
fn no_component_carries_the_names_of_its_functions() {
    for name in modules() {
        let bytes = component(&name);
        // A crate as mangled symbols name it.
        let named = b"12holdfast_sdk";
        let has = bytes.windows(named.len()).any(|window| window == named);
        assert!(!has, "plugins/{name}.wasm has symbols, a sixth of its size; its profile says strip = true");
    }
}

#[test]
fn every_component_lies_beside_the_settings_of_its_source() {
    for name in modules() {
        let (source, plugin) = (text(&settings("examples", &name)), text(&settings("plugins", &name)));
        assert_eq!(source, plugin, "plugins/{name}.toml and examples/{name}/{name}.toml differ");
    }
}

#[test]
fn the_sdk_for_c_was_generated_from_the_contract_as_it_is() {
    let sums = text(&root().join("sdk/c/contract.sums"));
    let here: Vec<String> = below(&root().join("wit"))
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(root().join("wit")).unwrap().to_str().unwrap().replace('\\', "/");
            format!("{}  ./{path}", hex(Sha256::digest(text(&file))).trim_start_matches("sha256:"))
        })
        .collect();
    let generated: Vec<&str> = sums.lines().collect();
    let sorted = |mut lines: Vec<String>| {
        lines.sort();
        lines
    };
    assert_eq!(
        sorted(generated.into_iter().map(str::to_owned).collect()),
        sorted(here),
        "wit/ has changed: run sdk/c/generate"
    );
}

#[test]
fn the_sdk_holds_the_contract_as_it_is() {
    let files = |folder: &str| -> BTreeMap<PathBuf, String> {
        let folder = root().join(folder);
        below(&folder)
            .into_iter()
            .map(|file| (file.strip_prefix(&folder).unwrap().to_owned(), text(&file)))
            .collect()
    };
    assert_eq!(
        files("wit"),
        files("sdk/rust/wit"),
        "copy wit/ over sdk/rust/wit, which lets the SDK stand alone"
    );
}
