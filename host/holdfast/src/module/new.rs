//! Writes the project of a new module: it builds and passes its test as it stands.

use super::{languages::Language, sdk_source};
use std::{
    fmt, fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

/// What to make.
#[derive(Clone, Debug)]
pub struct NewOptions {
    /// The name of the module and of its package.
    pub name: String,
    /// The folder to make; by default one with the module's name in the working folder.
    pub directory: Option<PathBuf>,
    /// Where the project finds the SDK.
    pub sdk: SdkSource,
    /// Its language.
    pub language: Language,
}

/// Where a project finds the SDK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SdkSource {
    /// The checkout that the new folder, or the working folder, lies in; otherwise a copy inside the project.
    #[default]
    Auto,
    /// The folder of `holdfast-sdk`.
    Path(PathBuf),
    /// A git repository that holds it.
    Git(String),
    /// A copy inside the project.
    Embedded,
}

/// What has been made.
#[derive(Clone, Debug)]
pub struct Created {
    /// The name of the module.
    pub name: String,
    /// The folder of the project.
    pub directory: PathBuf,
    /// Its files, relative to the folder.
    pub files: Vec<PathBuf>,
    /// Where it finds the SDK, for people.
    pub sdk: String,
}

/// Why nothing was made.
#[derive(Debug)]
pub enum NewError {
    /// The name is no name of a package; why, and a name that would do if one is near.
    Name(String, &'static str, Option<String>),
    /// The folder has something in it. Nothing is ever overwritten.
    NotEmpty(PathBuf),
    /// The folder named as the SDK's holds no `holdfast-sdk`.
    NoSdk(PathBuf),
    /// A file could not be written.
    File(PathBuf, io::Error),
}

impl SdkSource {
    /// Reads the argument of `--sdk`: `embedded`, the address of a git repository, or a folder.
    pub fn parse(text: &str) -> Self {
        match text {
            "auto" => Self::Auto,
            "embedded" => Self::Embedded,
            url if url.contains("://") || url.starts_with("git@") => Self::Git(url.to_owned()),
            path => Self::Path(path.into()),
        }
    }
}

const FILES: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("templates/Cargo.toml.in")),
    ("src/lib.rs", include_str!("templates/lib.rs.in")),
    ("README.md", include_str!("templates/README.md.in")),
    ("NAME.toml", include_str!("templates/name.toml.in")),
    (".gitignore", "/target\n"),
];

/// Where a copy of the SDK lies inside a project.
const COPY: &str = "vendor/holdfast-sdk";

/// Makes the project.
pub fn create(options: &NewOptions) -> Result<Created, NewError> {
    check_name(&options.name)?;
    let directory = options.directory.clone().unwrap_or_else(|| PathBuf::from(&options.name));
    let directory = std::path::absolute(&directory).map_err(|error| NewError::File(directory, error))?;
    let sdk = Sdk::find(&options.sdk, &directory)?;
    let is_free = match directory.read_dir() {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => true,
        Err(error) => return Err(NewError::File(directory, error)),
    };
    if !is_free {
        return Err(NewError::NotEmpty(directory));
    }

    let is_rust = options.language == Language::Rust;
    let mut files = Vec::new();
    for (path, template) in if is_rust { &FILES[..] } else { options.language.files() } {
        let text = template.replace("{name}", &options.name).replace("{sdk}", &sdk.dependency());
        files.push((PathBuf::from(path.replace("NAME", &options.name)), text));
    }
    if !is_rust {
        files.extend(options.language.contract());
    } else if sdk == Sdk::Copy {
        files.extend(
            sdk_source::FILES.iter().map(|(path, text)| (Path::new(COPY).join(path), (*text).to_owned())),
        );
    }
    for (path, text) in &files {
        write_new(&directory.join(path), text)?;
    }
    Ok(Created {
        name: options.name.clone(),
        directory,
        files: files.into_iter().map(|(path, _)| path).collect(),
        sdk: if is_rust { sdk.to_string() } else { options.language.contract_folder().to_owned() },
    })
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Sdk {
    Path(PathBuf),
    Git(String),
    Copy,
}

impl Sdk {
    fn find(source: &SdkSource, directory: &Path) -> Result<Self, NewError> {
        let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        match source {
            SdkSource::Embedded => Ok(Self::Copy),
            SdkSource::Git(url) => Ok(Self::Git(url.clone())),
            SdkSource::Path(path) => {
                let path = absolute(path);
                if is_sdk(&path) { Ok(Self::Path(path)) } else { Err(NewError::NoSdk(path)) }
            }
            SdkSource::Auto => {
                let working = std::env::current_dir().unwrap_or_default();
                let above = directory.ancestors().chain(working.ancestors());
                let found = above.map(|folder| folder.join("sdk/rust")).find(|path| is_sdk(path));
                Ok(found.map_or(Self::Copy, Self::Path))
            }
        }
    }

    /// What stands behind `holdfast-sdk = ` in the project's `Cargo.toml`.
    fn dependency(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        match self {
            Self::Path(path) => format!("{{ path = {} }}", text(&path.to_string_lossy())),
            Self::Git(url) => format!("{{ git = {} }}", text(url)),
            Self::Copy => format!("{{ path = {} }}", text(COPY)),
        }
    }
}

impl fmt::Display for Sdk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Git(url) => f.write_str(url),
            Self::Copy => write!(f, "a copy in {COPY}"),
        }
    }
}

fn is_sdk(path: &Path) -> bool {
    fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"holdfast-sdk\""))
}

/// Most characters of a name: the longest that the registry of Rust takes.
const NAME_BYTES_MAX: usize = 64;

/// Words that cargo or Rust refuses as the name of a package.
const TAKEN: [&str; 51] = [
    "abstract",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "unsafe",
    "use",
    "where",
    "while",
];

fn check_name(name: &str) -> Result<(), NewError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let why = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "it has more than 64 characters"
    } else if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        "it does not begin with a lower-case letter"
    } else if !name.chars().all(allowed) {
        "only lower-case letters, digits, - and _ are allowed"
    } else if TAKEN.contains(&name) || matches!(name, "con" | "nul" | "aux" | "prn" | "holdfast-sdk") {
        "it means something else to Rust, cargo or Windows"
    } else {
        return Ok(());
    };
    let near: String = name.to_lowercase().chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    let near = near
        .trim_matches(|c: char| !c.is_ascii_alphanumeric())
        .trim_start_matches(|c: char| c.is_ascii_digit());
    let near = near.trim_start_matches(['-', '_']).to_owned();
    let near = Some(near).filter(|near| near != name && !near.is_empty() && check_name(near).is_ok());
    Err(NewError::Name(name.to_owned(), why, near))
}

fn write_new(path: &Path, text: &str) -> Result<(), NewError> {
    let written = || {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::OpenOptions::new().write(true).create_new(true).open(path)?.write_all(text.as_bytes())
    };
    written().map_err(|error| NewError::File(path.to_owned(), error))
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, why, near) => {
                write!(f, "{name:?} cannot be the name of a module: {why}")?;
                near.as_ref().map_or(Ok(()), |near| write!(f, "; {near} would do"))
            }
            Self::NotEmpty(directory) => write!(
                f,
                "{} is not empty, and nothing is overwritten; choose another name, or another folder with --dir",
                directory.display()
            ),
            Self::NoSdk(path) => write!(
                f,
                "{} does not hold the Cargo.toml of holdfast-sdk; name its folder (sdk/rust of a checkout), a git \
                 address, or: --sdk embedded",
                path.display()
            ),
            Self::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for NewError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(name: &str, directory: &Path, sdk: SdkSource) -> NewOptions {
        NewOptions {
            name: name.to_owned(),
            directory: Some(directory.join("project")),
            sdk,
            language: Language::Rust,
        }
    }

    #[test]
    fn a_project_with_a_copy_of_the_sdk_needs_nothing_outside() {
        let folder = tempfile::tempdir().unwrap();
        let created = create(&options("dead-band", folder.path(), SdkSource::Embedded)).unwrap();
        let read = |path: &str| fs::read_to_string(created.directory.join(path)).unwrap();
        assert!(read("Cargo.toml").contains("holdfast-sdk = { path = \"vendor/holdfast-sdk\" }"));
        assert!(read("Cargo.toml").contains("name = \"dead-band\""));
        assert!(read("vendor/holdfast-sdk/wit/world.wit").contains("world timed-module"));
        for path in &created.files {
            assert!(
                !read(path.to_str().unwrap()).contains("{name}"),
                "{path:?} has a place that was not filled"
            );
        }
        assert!(read("dead-band.toml").contains("[config]"));
    }

    #[test]
    fn inside_a_checkout_the_sdk_of_the_checkout_is_used() {
        let checkout = tempfile::tempdir().unwrap();
        fs::create_dir_all(checkout.path().join("sdk/rust")).unwrap();
        fs::write(checkout.path().join("sdk/rust/Cargo.toml"), "name = \"holdfast-sdk\"").unwrap();
        let created = create(&options("m", checkout.path(), SdkSource::Auto)).unwrap();
        assert_eq!(created.sdk, checkout.path().join("sdk/rust").display().to_string());
        assert!(!created.directory.join("vendor").exists());
        let git = SdkSource::parse("https://example.org/x.git");
        let elsewhere = tempfile::tempdir().unwrap();
        let created = create(&options("m", elsewhere.path(), git)).unwrap();
        let manifest = fs::read_to_string(created.directory.join("Cargo.toml")).unwrap();
        assert!(manifest.contains("holdfast-sdk = { git = \"https://example.org/x.git\" }"), "{manifest}");
    }

    #[test]
    fn nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let options = options("m", folder.path(), SdkSource::Embedded);
        create(&options).unwrap();
        let error = create(&options).unwrap_err();
        assert!(matches!(error, NewError::NotEmpty(_)), "{error}");
        let error = create(&NewOptions { sdk: SdkSource::parse("/nowhere"), ..options }).unwrap_err();
        assert!(error.to_string().contains("--sdk embedded"), "{error}");
    }

    #[test]
    fn a_name_that_will_not_do_is_told_why_and_what_would() {
        for (name, expected) in [
            ("", "\"\" cannot be the name of a module: it is empty"),
            ("My Module", "does not begin with a lower-case letter; my-module would do"),
            ("9lives", "does not begin with a lower-case letter; lives would do"),
            ("a/b", "only lower-case letters, digits, - and _ are allowed; a-b would do"),
            ("käse", "are allowed; k-se would do"),
            ("test", "it means something else to Rust, cargo or Windows"),
            (&"n".repeat(65), "it has more than 64 characters"),
        ] {
            let error = check_name(name).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
        check_name("boiler_2-heat").unwrap();
    }
}
