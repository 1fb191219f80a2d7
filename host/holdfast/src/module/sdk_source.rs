//! The sources of the SDKs for Rust and C, so that an installed binary can write a project that needs nothing else.

macro_rules! files {
    ($name:ident, $folder:literal, $($path:literal)*) => {
        /// Each file with its path inside the SDK's folder.
        pub const $name: &[(&str, &str)] =
            &[$(($path, include_str!(concat!("../../../../sdk/", $folder, "/", $path)))),*];
    };
}

files! {
    C_FILES, "c",
    "src/contract.c"
    "src/contract.h"
    "src/contract_type.c"
    "src/holdfast.c"
    "src/holdfast.h"
}

files! {
    FILES, "rust",
    "Cargo.toml"
    "README.md"
    "src/batches.rs"
    "src/clock.rs"
    "src/config.rs"
    "src/config/read.rs"
    "src/handler.rs"
    "src/http.rs"
    "src/http/error.rs"
    "src/http/headers.rs"
    "src/http/incoming.rs"
    "src/http/target.rs"
    "src/imports.rs"
    "src/imports/component.rs"
    "src/imports/component/http.rs"
    "src/imports/double.rs"
    "src/json.rs"
    "src/lib.rs"
    "src/log.rs"
    "src/methods.rs"
    "src/metrics.rs"
    "src/outbox.rs"
    "src/ports.rs"
    "src/state.rs"
    "src/testing.rs"
    "src/testing/twin.rs"
    "src/testing/web.rs"
    "src/testing/world.rs"
    "src/timers.rs"
    "src/twins.rs"
    "src/types.rs"
    "wit/deps/wasi-config/store.wit"
    "wit/deps/wasi-keyvalue/store.wit"
    "wit/deps/wasi-logging/logging.wit"
    "wit/batches.wit"
    "wit/handler.wit"
    "wit/methods.wit"
    "wit/metrics.wit"
    "wit/outbox.wit"
    "wit/timers.wit"
    "wit/twins.wit"
    "wit/types.wit"
    "wit/world.wit"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::BTreeSet, fs, path::Path};

    #[test]
    fn every_source_file_of_the_sdk_is_here() {
        for (sdk, folders, files) in [("rust", &["src", "wit"][..], FILES), ("c", &["src"], C_FILES)] {
            let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk").join(sdk);
            every_file_is_here(&sdk, folders, files);
        }
    }

    fn every_file_is_here(sdk: &Path, folders: &[&str], files: &[(&str, &str)]) {
        let mut found = BTreeSet::new();
        let mut folders: Vec<_> = folders.iter().map(|folder| sdk.join(folder)).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => drop(
                        found.insert(path.strip_prefix(sdk).unwrap().to_str().unwrap().replace('\\', "/")),
                    ),
                }
            }
        }
        let here =
            files.iter().map(|(path, _)| (*path).to_owned()).filter(|path| path.contains('/')).collect();
        assert_eq!(found, here);
    }
}
