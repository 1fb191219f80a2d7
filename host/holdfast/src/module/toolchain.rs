//! Finds a Rust tool chain that can build components.
//!
//! Two ways are known. The usual one: a `cargo` whose `rustc` has the standard library of the target, as rustup or a
//! distribution installs it. The other one, for machines that cannot reach rustup's server: Debian's packages, which
//! have the compiler and the sources of the standard library, so that the library is built along with the module.

use super::TARGET;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Into how many units the standard library and other packages are cut, to be compiled side by side. They are put together again when
/// the component is linked; one unit, as projects have it for the module itself, has most processors wait for that of `core`.
const STD_UNITS: u32 = 16;

/// What the standard library is built with: all that it usually has but traces of the stack, which are of no use to a component
/// without symbols and take a tenth of the time.
const STD_FEATURES: &str = "panic-unwind";

/// A tool chain that can build components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// The `cargo` on the path, with the standard library of the target beside it.
    Ready {
        /// What `rustc --version` says.
        version: String,
    },
    /// A compiler without that library, and what is needed to build it.
    BuildStd {
        /// What `rustc --version` says.
        version: String,
        /// The compiler.
        rustc: PathBuf,
        /// Its `cargo`.
        cargo: PathBuf,
        /// Where `libc.a` of wasi-libc lies.
        libc: PathBuf,
    },
}

/// Folders of this machine, and what is written into components instead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remaps {
    /// The folders of the project's own packages, with the names of these.
    pub own: BTreeMap<String, String>,
    /// Folders of packages that were fetched.
    pub foreign: BTreeMap<String, String>,
}

/// No tool chain was found. Says what to install, for each way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoToolchain {
    /// What the `rustc` on the path lacks.
    usual: Usual,
    /// The packages of Debian that are missing, with the file that each was looked for by.
    packages: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Usual {
    /// There is no `rustc` on the path.
    NoRust,
    /// There is one, which says that it is this version, without the target.
    NoTarget(String),
}

impl Toolchain {
    /// Looks for the usual way, then for Debian's. `project` matters because rustup may choose a tool chain by folder.
    pub fn find(project: &Path) -> Result<Self, NoToolchain> {
        let usual = match usual(project) {
            Ok(found) => return Ok(found),
            Err(usual) => usual,
        };
        Self::debian(Path::new("/")).map_err(|packages| NoToolchain { usual, packages })
    }

    /// Debian's way, with the packages under `root`.
    pub fn debian(root: &Path) -> Result<Self, Vec<(&'static str, &'static str)>> {
        let linker = || {
            let hosts = root.join("usr/lib/rustlib").read_dir().ok()?;
            hosts.flatten().map(|host| host.path().join("bin/wasm-component-ld")).find(|path| path.exists())
        };
        let file = |path: &str| root.join(path).exists();
        let pieces = [
            ("rustc-web", "/usr/bin/rustc", file("usr/bin/rustc")),
            // Only recommended by the compiler's package.
            ("rust-web-llvm", "/usr/lib/rustlib/*/bin/wasm-component-ld", linker().is_some()),
            ("cargo-web", "/usr/bin/cargo", file("usr/bin/cargo")),
            (
                "rust-web-src",
                "/usr/lib/rustlib/src/rust/library/std",
                file("usr/lib/rustlib/src/rust/library/std"),
            ),
            ("lld", "/usr/bin/wasm-ld", file("usr/bin/wasm-ld")),
            ("wasi-libc", "/usr/lib/wasm32-wasi/libc.a", file("usr/lib/wasm32-wasi/libc.a")),
        ];
        let missing: Vec<_> = pieces
            .iter()
            .filter(|(_, _, there)| !there)
            .map(|(package, path, _)| (*package, *path))
            .collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let rustc = root.join("usr/bin/rustc");
        Ok(Self::BuildStd {
            version: version(&mut Command::new(&rustc))
                .unwrap_or_else(|| "rustc of unknown version".to_owned()),
            rustc,
            cargo: root.join("usr/bin/cargo"),
            libc: root.join("usr/lib/wasm32-wasi"),
        })
    }

    /// `cargo`, with the environment that this tool chain needs.
    pub fn cargo(&self) -> Command {
        match self {
            Self::Ready { .. } => Command::new("cargo"),
            Self::BuildStd { rustc, cargo, .. } => {
                let mut command = Command::new(cargo);
                // The sources of the standard library use what stable compilers refuse others.
                command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTUP_TOOLCHAIN");
                command
            }
        }
    }

    /// `cargo` that builds the library of `package` for the target, optimised. Folders of this machine that the compiler would
    /// write into the component are written as `remaps` says; the flags for that stand behind those that the user has set. What
    /// need not lie in the project may be built in `shared`.
    pub fn cargo_build(&self, package: &str, remaps: &Remaps, shared: Option<&Path>) -> Command {
        let mut command = self.cargo();
        command.args(["rustc", "--lib", "--package", package, "--release", "--target", TARGET]);
        let mut flags: Vec<String> = remaps.foreign.iter().map(flag).collect();
        let mut own: Vec<String> = Vec::new();
        match self {
            Self::Ready { .. } => flags.extend(remaps.own.iter().map(flag)),
            Self::BuildStd { libc, .. } => {
                command.args(["-Zbuild-std=std,panic_abort", "-Zprofile-rustflags"]);
                command.arg(format!("-Zbuild-std-features={STD_FEATURES}"));
                command
                    .arg("--config")
                    .arg(format!("profile.release.package.\"*\".codegen-units={STD_UNITS}"));
                flags.push(format!("-Lnative={}", libc.display()));
                // The library is built anew under other flags, so those that name this project are for its packages alone. The
                // module itself gets them at the end: a profile of its own would lose the `strip` of the project's.
                own.extend(remaps.own.iter().map(flag));
                for remap in remaps.own.iter().filter(|(_, name)| *name != package) {
                    let flags = toml_list(&[flag(remap)]);
                    command
                        .arg("--config")
                        .arg(format!("profile.release.package.{}.rustflags={flags}", remap.1));
                }
                if let Some(shared) = shared {
                    command.env("CARGO_BUILD_BUILD_DIR", shared);
                }
            }
        }
        // Flags of the environment put those of the command line out of force, so ours go where the user's are.
        let users = std::env::var_os("CARGO_ENCODED_RUSTFLAGS")
            .or_else(|| std::env::var_os("RUSTFLAGS").map(|flags| joined(&flags.to_string_lossy())));
        match users {
            Some(users) => {
                let mut all = users;
                for flag in flags {
                    if !all.is_empty() {
                        all.push("\x1f");
                    }
                    all.push(flag);
                }
                command.env("CARGO_ENCODED_RUSTFLAGS", all);
            }
            None => {
                command.arg("--config").arg(format!("target.{TARGET}.rustflags={}", toml_list(&flags)));
            }
        }
        if !own.is_empty() {
            command.arg("--").args(own);
        }
        command
    }

    /// What `rustc --version` says.
    pub fn version(&self) -> &str {
        match self {
            Self::Ready { version } | Self::BuildStd { version, .. } => version,
        }
    }
}

/// For people: which compiler, and which way.
impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready { version } => write!(f, "{version}, target {TARGET}"),
            Self::BuildStd { version, .. } => {
                write!(
                    f,
                    "{version} of the distribution, target {TARGET}, building the standard library along"
                )
            }
        }
    }
}

fn flag((from, to): (&String, &String)) -> String {
    format!("--remap-path-prefix={from}={to}")
}

/// Flags of `RUSTFLAGS`, which are separated by spaces, in the encoded form.
fn joined(flags: &str) -> OsString {
    flags.split_whitespace().collect::<Vec<_>>().join("\x1f").into()
}

/// A list of literal strings of TOML. JSON's escapes are among those of TOML's basic strings.
fn toml_list(items: &[String]) -> String {
    serde_json::Value::from(items.to_vec()).to_string()
}

fn usual(project: &Path) -> Result<Toolchain, Usual> {
    let mut rustc = Command::new("rustc");
    let version = version(rustc.current_dir(project)).ok_or(Usual::NoRust)?;
    let library = output(Command::new("rustc").current_dir(project).args([
        "--print",
        "target-libdir",
        "--target",
        TARGET,
    ]));
    let has_std = library.and_then(|path| Path::new(&path).read_dir().ok()).is_some_and(|files| {
        files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
    });
    match has_std {
        true => Ok(Toolchain::Ready { version }),
        false => Err(Usual::NoTarget(version)),
    }
}

fn version(rustc: &mut Command) -> Option<String> {
    output(rustc.arg("--version"))
}

/// What a command prints, if it succeeds.
fn output(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

impl fmt::Display for NoToolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "no Rust tool chain here can build WebAssembly components; install one of these:")?;
        match &self.usual {
            Usual::NoRust => writeln!(
                f,
                "  with rustup:   install it from https://rustup.rs, then: rustup target add {TARGET}\n                 \
                 (there is no rustc on the path)"
            )?,
            Usual::NoTarget(version) => writeln!(
                f,
                "  with rustup:   rustup target add {TARGET}\n                 ({version} is on the path, without \
                 that target)"
            )?,
        }
        // Elsewhere these packages cannot be had.
        if !cfg!(target_os = "linux") {
            return Ok(());
        }
        let names: Vec<&str> = self.packages.iter().map(|(package, _)| *package).collect();
        write!(f, "  with Debian's: apt-get install {}", names.join(" "))?;
        for (package, path) in &self.packages {
            write!(f, "\n                 ({package} is not there: no {path})")?;
        }
        Ok(())
    }
}

impl std::error::Error for NoToolchain {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const FILES: [&str; 6] = [
        "usr/bin/rustc",
        "usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/wasm-component-ld",
        "usr/bin/cargo",
        "usr/lib/rustlib/src/rust/library/std",
        "usr/bin/wasm-ld",
        "usr/lib/wasm32-wasi/libc.a",
    ];

    fn system(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    #[test]
    fn with_every_package_there_the_compiler_is_used_by_its_full_path() {
        let root = system(&FILES);
        let found = Toolchain::debian(root.path()).unwrap();
        let command = found.cargo_build("module", &Remaps::default(), None);
        assert_eq!(Path::new(command.get_program()), root.path().join("usr/bin/cargo"));
        let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
        assert!(arguments.contains(&"-Zbuild-std=std,panic_abort".to_owned()), "{arguments:?}");
    }

    #[test]
    fn two_projects_have_the_library_built_under_the_same_flags_in_the_same_folder() {
        let found = Toolchain::debian(system(&FILES).path()).unwrap();
        let [one, other] = ["one", "other"].map(|project| {
            let own =
                [(format!("/home/me/{project}"), project), (format!("/home/me/sdk-of-{project}"), "sdk")];
            let own = own.map(|(folder, name)| (folder, name.to_owned())).into();
            let foreign = BTreeMap::from([("/registry".to_owned(), "registry".to_owned())]);
            let command = found.cargo_build(project, &Remaps { own, foreign }, Some(Path::new("/cache")));
            let shared = command
                .get_envs()
                .any(|set| set == ("CARGO_BUILD_BUILD_DIR".as_ref(), Some("/cache".as_ref())));
            assert!(shared);
            let mut all: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
            let of_module = all.split_off(all.iter().position(|argument| argument == "--").unwrap());
            let [module, sdk] =
                ["", "sdk-of-"].map(|folder| format!("--remap-path-prefix=/home/me/{folder}{project}="));
            assert_eq!(of_module, ["--".to_owned(), format!("{module}{project}"), format!("{sdk}sdk")]);
            let (of_project, of_all): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|argument| argument.contains("/home/me/"));
            // None for the module: a profile of its own would lose what the project's says of `strip`.
            assert_eq!(of_project, [format!("profile.release.package.sdk.rustflags=[\"{sdk}sdk\"]")]);
            of_all.into_iter().filter(|argument| argument != project).collect::<Vec<_>>()
        });
        assert_eq!(one, other);
    }

    #[test]
    fn each_missing_package_is_named_with_the_file_it_was_looked_for_by() {
        for (file, package) in [
            ("usr/bin/rustc", "rustc-web"),
            ("usr/lib/rustlib/x86_64-unknown-linux-gnu/bin/wasm-component-ld", "rust-web-llvm"),
            ("usr/bin/cargo", "cargo-web"),
            ("usr/lib/rustlib/src/rust/library/std", "rust-web-src"),
            ("usr/bin/wasm-ld", "lld"),
            ("usr/lib/wasm32-wasi/libc.a", "wasi-libc"),
        ] {
            let rest: Vec<&str> = FILES.iter().copied().filter(|f| *f != file).collect();
            let packages = Toolchain::debian(system(&rest).path()).unwrap_err();
            assert_eq!(packages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [package]);
            let text = NoToolchain { usual: Usual::NoRust, packages }.to_string();
            assert!(text.contains(&format!("apt-get install {package}\n")), "{text}");
        }
    }

    #[test]
    fn the_error_says_what_to_do_for_each_way() {
        let packages = Toolchain::debian(system(&[]).path()).unwrap_err();
        let text = NoToolchain { usual: Usual::NoTarget("rustc 1.95.0".to_owned()), packages }.to_string();
        assert!(text.contains("rustup target add wasm32-wasip2"), "{text}");
        assert!(text.contains("(rustc 1.95.0 is on the path, without that target)"), "{text}");
        assert!(
            text.contains("apt-get install rustc-web rust-web-llvm cargo-web rust-web-src lld wasi-libc"),
            "{text}"
        );
    }

    #[test]
    fn flags_survive_the_way_into_a_configuration_argument() {
        assert_eq!(
            toml_list(&["-Lnative=/a b".to_owned(), "c\\d".to_owned()]),
            r#"["-Lnative=/a b","c\\d"]"#
        );
        assert_eq!(joined(" -C  x "), OsString::from("-C\x1fx"));
    }
}
