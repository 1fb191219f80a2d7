//! Builds a module: finds the tool chain, runs it, looks at the result, and puts it into a plugins folder if asked to.

use super::{
    TARGET,
    inspect::{self, Inspection},
    languages::{Language, LanguageError},
    settings_text,
    toolchain::{NoToolchain, Remaps, Toolchain},
};
use serde_json::Value;
use std::{
    ffi::OsStr,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// Gives the component back with what it asks for: what its author grants it in these settings. An error says what is wrong
/// with them.
pub type Asks = fn(Vec<u8>, &str) -> Result<Vec<u8>, String>;

/// What to build, and where to put it.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// The folder of the module's `Cargo.toml`.
    pub directory: PathBuf,
    /// A folder to put `name.wasm` into, and `name.toml` if there is none yet; typically `plugins`.
    pub into: Option<PathBuf>,
    /// Lets the component say what it asks for.
    pub asks: Option<Asks>,
}

/// What has been built.
#[derive(Clone, Debug)]
pub struct Built {
    /// The name of the module: that of its package.
    pub name: String,
    /// The component.
    pub component: PathBuf,
    /// Where it was put, if it was to be put somewhere.
    pub installed: Option<PathBuf>,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it needs and gives.
    pub inspection: Inspection,
    /// What it was built with.
    pub toolchain: String,
    /// How long it took.
    pub elapsed: Duration,
}

/// Why nothing was built.
#[derive(Debug)]
pub enum BuildError {
    /// The folder has no `Cargo.toml`.
    NoProject(PathBuf),
    /// No tool chain can build it.
    NoToolchain(NoToolchain),
    /// `cargo metadata` failed; what it printed.
    Metadata(String),
    /// The package is not one that a component can be made of.
    NotALibrary(String),
    /// `cargo build` failed, and has said why.
    Cargo(ExitStatus),
    /// The result is not a module: its faults.
    NotAModule(PathBuf, Vec<String>),
    /// The module's own settings have faults: all of them.
    Settings(PathBuf, String),
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A program could not be run.
    Run(String, io::Error),
    /// The tools of another language.
    Language(LanguageError),
}

/// Builds. `progress` is told what happens, a line at a time; what cargo says goes to the error stream as it comes.
pub fn build(options: &BuildOptions, progress: &mut dyn FnMut(&str)) -> Result<Built, BuildError> {
    let begin = Instant::now();
    let directory = absolute(&options.directory)?;
    match Language::of(&directory) {
        Some(Language::Rust) => {}
        Some(language) => return build_language(options, &directory, language, progress),
        None => return Err(BuildError::NoProject(directory)),
    }
    let toolchain = Toolchain::find(&directory).map_err(BuildError::NoToolchain)?;
    progress(&format!("building with {toolchain}"));
    let project = Project::read(&toolchain, &directory)?;
    let shared = cache().filter(|_| !project.is_built_elsewhere);
    let shared = shared.as_deref();
    let is_first = !shared.or(project.component.parent()).is_some_and(Path::exists);
    if is_first && matches!(toolchain, Toolchain::BuildStd { .. }) {
        progress("the first time this takes about a minute, since the standard library is built, too");
    }
    let mut cargo = toolchain.cargo_build(&project.name, &project.remaps, shared);
    let status = cargo
        .current_dir(&directory)
        .stdin(Stdio::null())
        .status()
        .map_err(|error| run_error(cargo.get_program(), error))?;
    if !status.success() {
        return Err(BuildError::Cargo(status));
    }
    finish(options, &directory, project.name, project.component, toolchain.version().to_owned(), begin)
}

/// The same for the other languages, whose tools do all of it.
fn build_language(
    options: &BuildOptions,
    directory: &Path,
    language: Language,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, BuildError> {
    let begin = Instant::now();
    let name = language.name(directory).map_err(BuildError::Language)?;
    let (component, toolchain) = language.build(directory, &name, progress).map_err(BuildError::Language)?;
    finish(options, directory, name, component, toolchain, begin)
}

/// Looks at what was built, writes into it what it asks for, and puts it where it was wanted.
fn finish(
    options: &BuildOptions,
    directory: &Path,
    name: String,
    component: PathBuf,
    toolchain: String,
    begin: Instant,
) -> Result<Built, BuildError> {
    let file = |error| BuildError::File(component.clone(), error);
    let mut bytes = fs::read(&component).map_err(file)?;
    let inspection = inspect::inspect(&bytes);
    let faults = inspection.faults();
    if !faults.is_empty() {
        return Err(BuildError::NotAModule(component, faults));
    }
    if let Some(asks) = options.asks {
        let settings = directory.join(format!("{name}.toml"));
        let text = settings_text(&settings).map_err(|error| BuildError::File(settings.clone(), error))?;
        let asking = asks(bytes.clone(), &text).map_err(|why| BuildError::Settings(settings, why))?;
        // It asks for the same already if nothing was built anew.
        if asking != bytes {
            place(&component, &asking)?;
            bytes = asking;
        }
    }
    let installed =
        options.into.as_deref().map(|into| install(&name, directory, &bytes, into)).transpose()?;
    let bytes = bytes.len() as u64;
    Ok(Built { name, component, installed, bytes, inspection, toolchain, elapsed: begin.elapsed() })
}

/// What `cargo metadata` tells about the module.
struct Project {
    name: String,
    component: PathBuf,
    remaps: Remaps,
    /// Whether the user has said where to build what is on the way to the component.
    is_built_elsewhere: bool,
}

impl Project {
    fn read(toolchain: &Toolchain, directory: &Path) -> Result<Self, BuildError> {
        let mut cargo = toolchain.cargo();
        // The error stream stays the user's: cargo shows there what it downloads.
        let output = cargo
            .args(["metadata", "--format-version", "1"])
            .current_dir(directory)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| run_error(cargo.get_program(), error))?;
        if !output.status.success() {
            return Err(BuildError::Metadata(format!("it ended with {}", output.status)));
        }
        let metadata: Value = serde_json::from_slice(&output.stdout)
            .map_err(|error| BuildError::Metadata(error.to_string()))?;
        Self::from_metadata(&metadata, directory)
    }

    fn from_metadata(metadata: &Value, directory: &Path) -> Result<Self, BuildError> {
        let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
        let list =
            |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
        let packages = list(metadata, "packages");
        let folder = |package: &Value| text(package, "manifest_path").map(|path| parent(Path::new(&path)));
        let package = packages
            .iter()
            .find(|package| folder(package).is_some_and(|folder| same(&folder, directory)))
            .ok_or_else(|| BuildError::Metadata("the folder's Cargo.toml has no [package]".to_owned()))?;
        let name = text(package, "name").unwrap_or_default();
        let library = list(package, "targets")
            .into_iter()
            .find(|target| list(target, "crate_types").iter().any(|kind| kind == "cdylib"))
            .and_then(|target| text(&target, "name"))
            .ok_or_else(|| BuildError::NotALibrary(name.clone()))?;
        let target =
            text(metadata, "target_directory").map(PathBuf::from).unwrap_or_else(|| directory.join("target"));
        let file = format!("{}.wasm", library.replace('-', "_"));
        let component = target.join(TARGET).join("release").join(file);

        // Names of folders on the machine of the builder have no place in a component: they tell about the builder, and the
        // same sources would give another component elsewhere. Packages that lie here are remapped to their names; for others
        // the folder that they all lie in is left out.
        let mut remaps = Remaps::default();
        for package in &packages {
            let is_local = package.get("source").is_none_or(Value::is_null);
            let (Some(folder), Some(name)) = (folder(package), text(package, "name")) else { continue };
            match is_local {
                true => remaps.own.insert(folder.display().to_string(), name),
                false => remaps.foreign.insert(parent(&folder).display().to_string(), "registry".to_owned()),
            };
        }
        let is_built_elsewhere =
            text(metadata, "build_directory").is_some_and(|folder| Path::new(&folder) != target);
        Ok(Self { name, component, remaps, is_built_elsewhere })
    }
}

/// Where the standard library is built once for all projects of this user, if there is such a place.
fn cache() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")))?;
    Some(cache.join("holdfast/modules"))
}

/// Puts the component where a running host sees it whole or not at all, and its settings before it.
fn install(name: &str, directory: &Path, bytes: &[u8], into: &Path) -> Result<PathBuf, BuildError> {
    fs::create_dir_all(into).map_err(|error| BuildError::File(into.to_owned(), error))?;
    let settings = directory.join(format!("{name}.toml"));
    let installed_settings = into.join(format!("{name}.toml"));
    if settings.is_file() && !installed_settings.exists() {
        let text = fs::read(&settings).map_err(|error| BuildError::File(settings, error))?;
        place(&installed_settings, &text)?;
    }
    let component = into.join(format!("{name}.wasm"));
    place(&component, bytes)?;
    Ok(component)
}

/// Writes a file beside its place and moves it there.
fn place(path: &Path, bytes: &[u8]) -> Result<(), BuildError> {
    let name = path.file_name().unwrap_or(OsStr::new("module")).to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let moved = fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, path));
    moved.map_err(|error| {
        // What is half written is of no use to anyone; that it may stay is no further error.
        let _ = fs::remove_file(&beside);
        BuildError::File(path.to_owned(), error)
    })
}

fn absolute(directory: &Path) -> Result<PathBuf, BuildError> {
    // Not canonical: on Windows that gives a form of paths that other programs do not take.
    std::path::absolute(directory).map_err(|error| BuildError::File(directory.to_owned(), error))
}

fn parent(path: &Path) -> PathBuf {
    path.parent().unwrap_or(path).to_owned()
}

fn same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn run_error(program: &OsStr, error: io::Error) -> BuildError {
    BuildError::Run(program.to_string_lossy().into_owned(), error)
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoProject(directory) => write!(
                f,
                "{} has no Cargo.toml, app.py, app.js or module.c; name the folder of a module, or make one with: holdfast module new NAME",
                directory.display()
            ),
            Self::NoToolchain(missing) => missing.fmt(f),
            Self::Metadata(why) => write!(f, "cargo could not read the project: {why}"),
            Self::NotALibrary(name) => write!(
                f,
                "package {name} is no module: its Cargo.toml needs [lib] with crate-type = [\"cdylib\"]"
            ),
            Self::Cargo(status) => write!(f, "cargo build failed ({status}); what is wrong stands above"),
            Self::NotAModule(path, faults) => {
                write!(f, "{} was built but is not a module: {}", path.display(), faults.join("; "))
            }
            Self::Settings(path, why) => write!(f, "{}: {why}", path.display()),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Language(error) => error.fmt(f),
            Self::Run(program, error) => write!(f, "{program} could not be run: {error}"),
        }
    }
}

impl std::error::Error for BuildError {}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn metadata(crate_type: &str) -> Value {
        json!({
            "target_directory": "/t",
            "packages": [
                { "name": "serde", "source": "registry", "manifest_path": "/r/serde/Cargo.toml", "targets": [] },
                { "name": "sdk", "source": null, "manifest_path": "/sdk/Cargo.toml", "targets": [] },
                {
                    "name": "my-module", "source": null, "manifest_path": "/m/Cargo.toml",
                    "targets": [{ "name": "my_module", "crate_types": [crate_type] }],
                },
            ],
        })
    }

    #[test]
    fn name_and_place_of_the_component_come_from_cargo() {
        let project = Project::from_metadata(&metadata("cdylib"), Path::new("/m")).unwrap();
        assert_eq!(project.name, "my-module");
        assert_eq!(project.component, Path::new("/t/wasm32-wasip2/release/my_module.wasm"));
        let folders = |named: &[(&str, &str)]| {
            named.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(project.remaps.own, folders(&[("/m", "my-module"), ("/sdk", "sdk")]));
        assert_eq!(project.remaps.foreign, folders(&[("/r", "registry")]));
        assert!(!project.is_built_elsewhere);
    }

    #[test]
    fn a_package_that_is_no_module_is_told_what_it_lacks() {
        let text = |metadata, folder: &str| {
            Project::from_metadata(&metadata, Path::new(folder)).err().map(|error| error.to_string())
        };
        assert!(text(metadata("rlib"), "/m").unwrap().contains("crate-type = [\"cdylib\"]"));
        assert!(text(metadata("cdylib"), "/elsewhere").unwrap().contains("has no [package]"));
    }

    #[test]
    fn a_folder_without_a_project_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let options = BuildOptions { directory: empty.path().to_owned(), into: None, asks: None };
        let error = build(&options, &mut |_| ()).unwrap_err().to_string();
        assert!(
            error.contains("has no Cargo.toml, app.py, app.js or module.c")
                && error.contains("holdfast module new"),
            "{error}"
        );
    }

    #[test]
    fn settings_that_a_user_has_changed_are_kept_and_the_component_is_replaced() {
        let (project_dir, plugins) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(project_dir.path().join("m.toml"), "fresh").unwrap();
        let read = |name: &str| fs::read_to_string(plugins.path().join(name)).unwrap();
        install("m", project_dir.path(), b"one", plugins.path()).unwrap();
        assert_eq!((read("m.toml").as_str(), read("m.wasm").as_str()), ("fresh", "one"));
        fs::write(plugins.path().join("m.toml"), "changed").unwrap();
        install("m", project_dir.path(), b"two", plugins.path()).unwrap();
        assert_eq!((read("m.toml").as_str(), read("m.wasm").as_str()), ("changed", "two"));
        assert_eq!(fs::read_dir(plugins.path()).unwrap().count(), 2);
    }
}
