//! Components of others: examples of published crates, built as they are.

use super::guests::{TARGET, root, tool_chain};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The crates, each with the features that its examples need, and these. Their sources come from the registry and lie in no repository of ours.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("wasi", "std", &["hello-world", "cli-command", "http-proxy"]),
    ("wstd", "default", &["http_server", "http_client"]),
];

/// The component of an example.
pub fn published(example: &str) -> PathBuf {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(folder) => folder.join(format!("{example}.wasm")),
        Err(reason) => panic!("{reason}"),
    }
}

fn build() -> Result<PathBuf, String> {
    let target = root().join("target/published");
    let built = target.join(TARGET).join("release/examples");
    let list = root().join("tests/guests/published");
    let lock = fs::read_to_string(list.join("Cargo.lock")).map_err(|error| error.to_string())?;
    // Each test is a process of its own; one of them builds.
    fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
    let turn = fs::File::create(target.join("turn")).map_err(|error| error.to_string())?;
    turn.lock().map_err(|error| error.to_string())?;
    // Built once for each set of versions.
    let stamp = target.join("complete");
    if fs::read_to_string(&stamp).is_ok_and(|built| built == lock) {
        return Ok(built);
    }
    for (name, features, examples) in CRATES {
        let source = source_of(&list, name)?;
        let copy = target.join("source").join(name);
        let _ = fs::remove_dir_all(&copy);
        copy_folder(&source, &copy).map_err(|error| format!("{}: {error}", copy.display()))?;
        // Which tool chain the authors like is their business; here it is the one that the guests are built with.
        let _ = fs::remove_file(copy.join("rust-toolchain.toml"));
        let mut cargo = tool_chain()?;
        cargo.current_dir(&copy).args(["build", "--release", "--target", TARGET, "--features", features]);
        cargo.env("CARGO_TARGET_DIR", &target);
        for example in *examples {
            cargo.args(["--example", example]);
        }
        let output =
            cargo.output().map_err(|error| format!("the build of {name} does not start: {error}"))?;
        if !output.status.success() {
            return Err(format!("{name} does not build:\n{}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    fs::write(&stamp, lock).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(built)
}

/// Where cargo has put the sources of a crate.
fn source_of(list: &Path, name: &str) -> Result<PathBuf, String> {
    let output = Command::new("cargo")
        .current_dir(list)
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .map_err(|error| format!("cargo does not start: {error}"))?;
    if !output.status.success() {
        return Err(format!("{name} cannot be fetched:\n{}", String::from_utf8_lossy(&output.stderr)));
    }
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let package = packages.iter().find(|package| package["name"] == name && !package["source"].is_null());
    let manifest = package.and_then(|package| package["manifest_path"].as_str());
    let manifest = manifest.ok_or_else(|| format!("{name} is not in tests/guests/published"))?;
    Ok(Path::new(manifest).parent().unwrap().to_owned())
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.metadata()?.is_dir() {
            copy_folder(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
