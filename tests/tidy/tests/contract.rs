//! What is promised to modules that exist: the contract in `wit/` says at least what the released one has said.
//!
//! The rules: within 0.1 a version of the package adds interfaces, functions to interfaces that modules call, and imports to
//! worlds. It changes no type and no function that is there, adds nothing to what modules must export, and any change
//! raises the last number. `tests/guests/older` holds the text of each released version, and a component built with it, which
//! the tests of host/engine run.
#![cfg(test)]

use holdfast_test_tidy::root;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The newest released version.
const RELEASED: &str = "0.1.0";

/// What a package says: each item of each interface and world, without comments, by "interface x" or "world x".
#[derive(Debug, Default, PartialEq)]
struct Package {
    versions: BTreeSet<String>,
    items: BTreeMap<String, BTreeSet<String>>,
}

impl Package {
    fn read(folder: &Path) -> Self {
        let mut package = Self::default();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "wit") {
                package.add(&fs::read_to_string(&path).unwrap());
            }
        }
        package
    }

    fn add(&mut self, text: &str) {
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap().trim()).collect();
        let code = code.join(" ");
        let (head, rest) = code.split_once(';').unwrap();
        self.versions.insert(head.split_once('@').unwrap().1.trim().to_owned());
        let (mut depth, mut item, mut of) = (0, String::new(), String::new());
        for c in rest.chars() {
            match c {
                '{' if depth == 0 => {
                    of = std::mem::take(&mut item).trim().to_owned();
                    self.items.entry(of.clone()).or_default();
                }
                '}' if depth == 1 => assert_eq!(item.trim(), "", "{of}"),
                c => item.push(c),
            }
            depth += i32::from(c == '{') - i32::from(c == '}');
            // An item of an interface ends with a semicolon, or with the brace of its fields.
            if depth == 1 && matches!(c, ';' | '}') {
                let words: Vec<&str> = item.split_whitespace().collect();
                self.items.get_mut(&of).unwrap().insert(words.join(" "));
                item.clear();
            }
        }
    }

    fn version(&self) -> &str {
        assert_eq!(self.versions.len(), 1, "one version for the whole package: {:?}", self.versions);
        self.versions.first().unwrap()
    }
}

/// Why one package breaks what another has promised.
fn breaks(now: &Package, then: &Package) -> Vec<String> {
    let mut faults = Vec::new();
    let exported: BTreeSet<&str> = then
        .items
        .values()
        .flatten()
        .filter_map(|item| item.strip_prefix("export ")?.strip_suffix(';'))
        .collect();
    for (of, items) in &then.items {
        let Some(here) = now.items.get(of) else {
            faults.push(format!("{of} is gone"));
            continue;
        };
        faults.extend(items.difference(here).map(|item| format!("{of} has lost or changed: {item}")));
        let must_stay = |item: &&String| {
            let is_exported = of.strip_prefix("interface ").is_some_and(|name| exported.contains(name));
            is_exported || item.starts_with("export ") || item.starts_with("include ")
        };
        let more = here.difference(items).filter(must_stay);
        faults.extend(more.map(|item| format!("{of} asks more of modules: {item}")));
    }
    let last = |version: &str| version.rsplit('.').next().unwrap().parse::<u32>().unwrap();
    let (old, new) = (then.version(), now.version());
    let series = |version: &str| version.rsplit_once('.').unwrap().0.to_owned();
    if series(old) != series(new) {
        faults.push(format!("{new} is another series than {old}: older modules do not run"));
    } else if now.items != then.items && last(new) <= last(old) {
        faults.push(format!("it says more than {old}, and its version is {new}"));
    }
    faults
}

#[test]
fn the_contract_keeps_what_released_versions_have_promised() {
    let now = Package::read(&root().join("wit"));
    let then = Package::read(&root().join(format!("tests/guests/older/holdfast-module-{RELEASED}")));
    assert_eq!(then.version(), RELEASED);
    assert!(then.items["interface handler"].iter().any(|item| item.starts_with("handle: func(")), "{then:?}");
    assert_eq!(breaks(&now, &then), Vec::<String>::new());
}

#[test]
fn each_way_to_break_it_is_seen() {
    let text = |version: &str, add: &str, calls: &str, world: &str| {
        let mut package = Package::default();
        package.add(&format!(
            "package a:b@{version}; interface calls {{ {calls} }} interface handler {{ {add} }} world m {{ {world} }}"
        ));
        package
    };
    let (handle, call, world) =
        ("handle: func();", "record r { a: u8, } f: func(x: r);", "import calls; export handler;");
    let then = text("0.1.0", handle, call, world);
    for (now, told) in [
        (text("0.1.0", handle, call, world), ""),
        (
            text(
                "0.1.1",
                handle,
                &format!("{call} g: func();"),
                "import calls; import more; export handler;",
            ),
            "",
        ),
        (text("0.1.0", handle, &format!("{call} g: func();"), world), "its version is 0.1.0"),
        (text("0.2.0", handle, call, world), "another series"),
        (text("0.1.1", handle, "f: func(x: r);", world), "lost or changed: record r"),
        (text("0.1.1", handle, "record r { a: u16, } f: func(x: r);", world), "lost or changed"),
        (text("0.1.1", "handle: func(); more: func();", call, world), "asks more of modules: more"),
        (
            text("0.1.1", handle, call, "import calls; export handler; export other;"),
            "asks more of modules: export",
        ),
    ] {
        let faults = breaks(&now, &then);
        match told {
            "" => assert!(faults.is_empty(), "{faults:?}"),
            told => assert!(faults.iter().any(|fault| fault.contains(told)), "{told}: {faults:?}"),
        }
    }
}
