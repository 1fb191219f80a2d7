//! Builds modules in C: clang and wasi-libc as distributions have them, and the linker for components that comes with
//! each Rust tool chain. Nothing is downloaded.

use super::languages::{LanguageError, run, version};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the object files. The linker makes a component of WASI 0.2 of them.
const TARGET: &str = "--target=wasm32-wasi";

/// The packages of Debian that have everything.
const PACKAGES: &str = "clang lld wasi-libc libclang-rt-dev-wasm32 rust-web-llvm";

/// What builds a module in C.
pub struct Clang {
    version: String,
    linker: PathBuf,
    libc: PathBuf,
    /// Helpers that the compiler calls, for arithmetic that the machine does not have.
    builtins: PathBuf,
}

impl Clang {
    /// Looks for the tools; the system's folders are under `root`.
    pub fn find(root: &Path) -> Result<Self, LanguageError> {
        let mut missing = Vec::new();
        let clang = version(Command::new("clang").arg("--version"));
        if clang.is_none() {
            missing.push("clang is not on the path".to_owned());
        }
        if version(Command::new("wasm-ld").arg("--version")).is_none() {
            missing.push("wasm-ld (lld) is not on the path".to_owned());
        }
        let libc = root.join("usr/lib/wasm32-wasi");
        if !libc.join("libc.a").is_file() {
            missing.push(format!("wasi-libc: there is no {}", libc.join("libc.a").display()));
        }
        let builtins =
            version(Command::new("clang").args([TARGET, "-print-libgcc-file-name"])).map(PathBuf::from);
        let builtins = builtins.filter(|file| file.is_file());
        if builtins.is_none() {
            missing
                .push("clang's own library for WebAssembly is not there (libclang-rt-dev-wasm32)".to_owned());
        }
        let linker = linker(root);
        if linker.is_none() {
            missing.push("wasm-component-ld is not there; every Rust tool chain brings it".to_owned());
        }
        match (clang, builtins, linker) {
            (Some(clang), Some(builtins), Some(linker)) if missing.is_empty() => Ok(Self {
                version: clang.lines().next().unwrap_or_default().to_owned(),
                linker,
                libc,
                builtins,
            }),
            _ => Err(LanguageError::NoTool(format!(
                "a module in C cannot be built here: {}; on Debian: apt-get install {PACKAGES}",
                missing.join("; ")
            ))),
        }
    }

    /// What `clang --version` says first.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Compiles every `.c` file of the project and the SDK, and links them to `component`.
    pub fn build(&self, project: &Path, component: &Path) -> Result<(), LanguageError> {
        let sdk = sdk(project)?;
        let target = project.join("target");
        let mut objects = Vec::new();
        for (from, part, warnings) in [(project, "module", true), (&sdk, "sdk", false)] {
            let into = target.join(part);
            let failed =
                |error: std::io::Error| LanguageError::Failed(format!("{}: {error}", into.display()));
            // What is left of a file that is gone would be linked along.
            let _ = fs::remove_dir_all(&into);
            fs::create_dir_all(&into).map_err(failed)?;
            let sources = sources(from)?;
            let mut clang = Command::new("clang");
            clang.current_dir(&into).args([TARGET, "-Os", "-ffunction-sections", "-fdata-sections", "-c"]);
            if warnings {
                clang.args(["-Wall", "-Wextra"]);
            }
            let mut remap = OsString::from("-ffile-prefix-map=");
            remap.push(from);
            remap.push("=.");
            clang.arg(remap).arg("-I").arg(&sdk).args(&sources);
            run(&mut clang)?;
            for source in sources {
                objects.push(into.join(source.with_extension("o").file_name().unwrap_or_default()));
            }
        }
        let mut link = Command::new(&self.linker);
        link.args(["--wasi-adapter", "reactor"]).arg(self.libc.join("crt1-reactor.o")).args(objects);
        link.arg("-L").arg(&self.libc).arg("-lc").arg(&self.builtins);
        // A module of which only functions are called: what must be set up before is in `_initialize`.
        link.args(["--entry=_initialize", "--gc-sections", "--strip-all", "-o"]).arg(component);
        run(&mut link)
    }
}

/// Where the sources of the SDK are: in the project, or in the checkout that it lies in.
fn sdk(project: &Path) -> Result<PathBuf, LanguageError> {
    let own = project.join("holdfast");
    let above = project.ancestors().map(|folder| folder.join("sdk/c/src"));
    let found = std::iter::once(own).chain(above).find(|folder| folder.join("holdfast.h").is_file());
    found.ok_or_else(|| {
        LanguageError::Failed(format!(
            "{} has no folder holdfast with holdfast.h; copy it from a project of `holdfast module new --lang c`",
            project.display()
        ))
    })
}

/// The `.c` files of a folder, in order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, LanguageError> {
    let entries = fs::read_dir(folder)
        .map_err(|error| LanguageError::Failed(format!("{}: {error}", folder.display())))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut sources: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "c")).collect();
    sources.sort();
    Ok(sources)
}

/// The linker for components: on the path, in the Rust tool chain of the path, or in that of the distribution.
fn linker(root: &Path) -> Option<PathBuf> {
    let name = "wasm-component-ld";
    if version(Command::new(name).arg("--version")).is_some() {
        return Some(PathBuf::from(name));
    }
    let sysroot = version(Command::new("rustc").args(["--print", "sysroot"])).map(PathBuf::from);
    let sysroots = sysroot.into_iter().chain([root.join("usr")]);
    let hosts =
        sysroots.filter_map(|sysroot| sysroot.join("lib/rustlib").read_dir().ok()).flatten().flatten();
    hosts.map(|host| host.path().join("bin").join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_packages_that_have_it() {
        let empty = tempfile::tempdir().unwrap();
        let told = Clang::find(empty.path()).err().map(|error| error.to_string()).unwrap();
        assert!(told.contains("wasi-libc: there is no "), "{told}");
        assert!(
            told.ends_with("apt-get install clang lld wasi-libc libclang-rt-dev-wasm32 rust-web-llvm"),
            "{told}"
        );
    }

    #[test]
    fn the_sdk_of_the_project_comes_before_that_of_the_checkout() {
        let checkout = tempfile::tempdir().unwrap();
        let project = checkout.path().join("examples/pump");
        fs::create_dir_all(&project).unwrap();
        assert!(sdk(&project).unwrap_err().to_string().contains("module new --lang c"));
        for folder in ["sdk/c/src", "examples/pump/holdfast"] {
            let folder = checkout.path().join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("holdfast.h"), "").unwrap();
            assert_eq!(sdk(&project).unwrap(), folder);
        }
    }
}
