//! Modules in other languages than Rust: what a project of each looks like, and what builds it.

use super::{clang::Clang, sdk_source};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The language of a module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// Rust, with its SDK.
    #[default]
    Rust,
    /// Python, through componentize-py.
    Python,
    /// JavaScript, on the engine QuickJS.
    JavaScript,
    /// C, with its SDK.
    C,
}

const PYTHON: [(&str, &str); 5] = [
    ("app.py", include_str!("templates/python/app.py.in")),
    ("pyproject.toml", include_str!("templates/python/pyproject.toml.in")),
    ("README.md", include_str!("templates/python/README.md.in")),
    ("NAME.toml", include_str!("templates/language.toml.in")),
    (".gitignore", "/.venv\n/target\n"),
];

const C: [(&str, &str); 4] = [
    ("module.c", include_str!("templates/c/module.c.in")),
    ("README.md", include_str!("templates/c/README.md.in")),
    ("NAME.toml", include_str!("templates/c/name.toml.in")),
    (".gitignore", "/target\n"),
];

const JAVASCRIPT: [(&str, &str); 6] = [
    ("app.js", include_str!("templates/javascript/app.js.in")),
    ("build.js", include_str!("templates/javascript/build.js.in")),
    ("package.json", include_str!("templates/javascript/package.json.in")),
    ("README.md", include_str!("templates/javascript/README.md.in")),
    ("NAME.toml", include_str!("templates/language.toml.in")),
    (".gitignore", "/node_modules\n/target\n"),
];

/// Why no component came about.
#[derive(Debug)]
pub enum LanguageError {
    /// What builds it is not there; what to do.
    NoTool(String),
    /// The project does not say its name; where it should.
    NoName(PathBuf, &'static str),
    /// The tool has failed, and has said why.
    Failed(String),
}

impl Language {
    /// The files of a project beside the contract.
    pub fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Rust => &[],
            Self::Python => &PYTHON,
            Self::JavaScript => &JAVASCRIPT,
            Self::C => &C,
        }
    }

    /// The contract with the host, as files of the project: its text, or what was made of it.
    pub fn contract(self) -> impl Iterator<Item = (PathBuf, String)> {
        // For C it is what was made of the text, and lies among the sources of the SDK.
        let (files, part, folder) = match self {
            Self::C => (sdk_source::C_FILES, "src/", "holdfast"),
            Self::Rust | Self::Python | Self::JavaScript => (sdk_source::FILES, "wit/", "wit"),
        };
        files.iter().filter_map(move |(path, text)| {
            Some((Path::new(folder).join(path.strip_prefix(part)?), (*text).to_owned()))
        })
    }

    /// Where a project has its contract, for people.
    pub const fn contract_folder(self) -> &'static str {
        if matches!(self, Self::C) { "its folder holdfast" } else { "its folder wit" }
    }

    /// The language of the project in a folder, if it is one.
    pub fn of(folder: &Path) -> Option<Self> {
        let has = |file: &str| folder.join(file).is_file();
        match () {
            () if has("Cargo.toml") => Some(Self::Rust),
            () if has("app.py") && has("wit/world.wit") => Some(Self::Python),
            () if has("app.js") && has("build.js") => Some(Self::JavaScript),
            () if has("module.c") => Some(Self::C),
            () => None,
        }
    }

    /// The module's name, as the project says it.
    pub fn name(self, folder: &Path) -> Result<String, LanguageError> {
        if self == Self::C {
            return settings_name(folder);
        }
        let file = folder.join(if self == Self::Python { "pyproject.toml" } else { "package.json" });
        let wanted = if self == Self::Python { "name = \"…\" in [project]" } else { "\"name\": \"…\"" };
        let no_name = || LanguageError::NoName(file.clone(), wanted);
        let text = fs::read_to_string(&file).map_err(|_| no_name())?;
        // Both forms write it as the first such line: a key, and a text in quotation marks.
        let line = text.lines().map(str::trim).find(|line| line.trim_start_matches('"').starts_with("name"));
        let value = line.and_then(|line| line.split_once(['=', ':'])).map(|(_, value)| value);
        let name = value.and_then(|value| value.split('"').nth(1)).filter(|name| !name.is_empty());
        name.map(str::to_owned).ok_or_else(no_name)
    }

    /// Builds the component of a project. Gives the file, and what it was built with.
    pub fn build(
        self,
        folder: &Path,
        name: &str,
        progress: &mut dyn FnMut(&str),
    ) -> Result<(PathBuf, String), LanguageError> {
        let target = folder.join("target");
        fs::create_dir_all(&target).map_err(|error| LanguageError::Failed(error.to_string()))?;
        let component = target.join(format!("{name}.wasm"));
        let file = component.to_string_lossy().into_owned();
        let tool = match self {
            Self::Rust => return Err(LanguageError::NoTool("Rust is built by cargo".to_owned())),
            Self::Python => {
                let own = folder.join(".venv/bin/componentize-py");
                let tool = if own.is_file() { own } else { PathBuf::from("componentize-py") };
                let tool_name = version(Command::new(&tool).arg("--version")).ok_or_else(|| {
                    let fix = "python3 -m venv .venv && .venv/bin/pip install componentize-py";
                    LanguageError::NoTool(format!(
                        "componentize-py is not there; in the project's folder: {fix}"
                    ))
                })?;
                progress(&format!("building with {tool_name}; this takes some seconds"));
                let arguments = ["-d", "wit", "-w", "full-module", "componentize", "app", "-o", &file];
                run(Command::new(&tool).args(arguments).current_dir(folder))?;
                tool_name
            }
            Self::C => {
                let clang = Clang::find(Path::new("/"))?;
                progress(&format!("building with {}", clang.version()));
                clang.build(folder, &component)?;
                clang.version().to_owned()
            }
            Self::JavaScript => {
                let node = version(Command::new("node").arg("--version")).ok_or_else(|| {
                    LanguageError::NoTool(
                        "node is not there; install Node.js 20 or newer, with npm".to_owned(),
                    )
                })?;
                if !folder.join("node_modules").is_dir() {
                    progress("fetching the tools with npm, once");
                    run(Command::new("npm")
                        .args(["install", "--no-audit", "--no-fund", "--silent"])
                        .current_dir(folder))?;
                }
                let tool_name = format!("build.js on Node.js {node}");
                progress(&format!("building with {tool_name}; this takes some seconds"));
                run(Command::new("node").args(["build.js", &file]).current_dir(folder))?;
                tool_name
            }
        };
        Ok((component, tool))
    }
}

/// The name of the one settings file: a project in C has no other file that says it.
fn settings_name(folder: &Path) -> Result<String, LanguageError> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut settings = files.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    match (settings.next(), settings.next()) {
        (Some(one), None) => Ok(one.file_stem().unwrap_or_default().to_string_lossy().into_owned()),
        _ => Err(LanguageError::NoName(folder.to_owned(), "by one file NAME.toml, which holds its settings")),
    }
}

/// What a command prints, if it succeeds.
pub(super) fn version(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Runs a tool whose output goes to the error stream: what `module build` prints is its own.
pub(super) fn run(command: &mut Command) -> Result<(), LanguageError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| LanguageError::Failed(format!("{program} could not be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told).trim().to_owned();
    Err(LanguageError::Failed(format!("{program} failed ({}):\n{told}", output.status)))
}

impl fmt::Display for LanguageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTool(what) | Self::Failed(what) => f.write_str(what),
            Self::NoName(file, wanted) => {
                write!(f, "{} does not say the module's name: {wanted}", file.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_of_each_language_is_known_again_with_its_name() {
        for (language, file) in [
            (Language::Python, "pyproject.toml"),
            (Language::JavaScript, "package.json"),
            (Language::C, "hello.toml"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            assert_eq!(Language::of(folder.path()), None);
            assert!(language.name(folder.path()).is_err());
            for (path, text) in language.files() {
                let path = path.replace("NAME", "hello");
                fs::write(folder.path().join(path), text.replace("{name}", "hello")).unwrap();
            }
            for (path, text) in language.contract() {
                let path = folder.path().join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            assert_eq!(Language::of(folder.path()), Some(language));
            assert_eq!(language.name(folder.path()).unwrap(), "hello", "{file}");
        }
    }
}
