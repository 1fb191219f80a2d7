//! From a file, from text, or from nothing to a checked [`Config`].

use crate::{
    Config, ConfigError, Faults,
    reader::{Report, Section},
    sections::{self, Context},
};
use holdfast_types::Name;
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};
use toml::de::DeTable;

/// Most bytes of a configuration file: 1 MiB, some thousand routes. Larger is another file by mistake.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Most characters in the name of an edge (IoT Edge: host names have at most 64).
pub(crate) const EDGE_CHARACTERS_MAX: usize = 64;

impl Config {
    /// Reads the file at `path`, and looks whether the files that it names can be read. `host_name` is the machine's
    /// own, for a file that gives the edge no name.
    ///
    /// # Errors
    /// [`ConfigError::Missing`] if there is no file; the caller may then take [`Config::default_for`]. Otherwise the
    /// file cannot be read, or has the faults that are listed.
    pub fn load(path: &Path, host_name: &str) -> Result<Self, ConfigError> {
        let unreadable = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing { path: path.to_owned() },
            _ => ConfigError::Unreadable { path: path.to_owned(), source },
        };
        let file = File::open(path).map_err(unreadable)?;
        let too_large = |bytes| ConfigError::TooLarge { path: path.to_owned(), bytes };
        let bytes = file.metadata().map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(too_large(bytes));
        }
        // What is not a plain file does not say its size beforehand.
        let mut text = Vec::new();
        let bytes = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(unreadable)? as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(too_large(bytes));
        }
        let text = String::from_utf8(text).map_err(|error| {
            let whole = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = whole.iter().filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::NotText { path: path.to_owned(), line }
        })?;
        Ok(read(&text, path, host_name, open)?)
    }

    /// Checks `text` as if it stood in the file `file`, which gives paths their folder. Touches no file.
    ///
    /// # Errors
    /// Every fault of the text.
    pub fn parse(text: &str, file: &Path, host_name: &str) -> Result<Self, Faults> {
        read(text, file, host_name, |_| Ok(()))
    }

    /// The configuration of an edge that has no file, with its folders in `folder`.
    pub fn default_for(folder: &Path, host_name: &str) -> Self {
        let table = DeTable::new();
        let report = Report::new("", "");
        assemble(&report, &table, &Context::new(folder, host_name, |_| Ok(())))
    }
}

fn open(path: &Path) -> io::Result<()> {
    match File::open(path)?.metadata()?.is_dir() {
        true => Err(io::ErrorKind::IsADirectory.into()),
        false => Ok(()),
    }
}

fn read(
    text: &str,
    file: &Path,
    host_name: &str,
    look: fn(&Path) -> io::Result<()>,
) -> Result<Config, Faults> {
    let mut report = Report::new(&file.to_string_lossy(), text);
    let (table, errors) = DeTable::parse_recoverable(text);
    report.take_syntax(&errors);
    let folder = file.parent().unwrap_or(Path::new(""));
    let config = assemble(&report, table.get_ref(), &Context::new(folder, host_name, look));
    report.finish(config)
}

/// Reads every section. What is faulty is reported and has its default, so that the walk goes on.
fn assemble(report: &Report<'_>, table: &DeTable<'_>, context: &Context<'_>) -> Config {
    let mut root = Section::new(report, table, String::new(), 0);
    let edge = root
        .take("edge", |value| sections::edge(value, context.host_name))
        .unwrap_or_else(|| edge_name(context.host_name));
    let paths = sections::paths(root.section("paths"), context);
    let store = sections::store(root.section("store"));
    let routes = sections::routes(root.section("routes"));
    let upstream = root.section("upstream").and_then(|section| sections::upstream(section, &edge, context));
    let gateway = root.section("gateway");
    let users_given = root.value("users");
    let devices_given = root.section("devices");
    let names = users_given.map(|value| sections::user_names(&value));
    let anyone = names.is_some() || devices_given.is_some();
    let gateway = sections::gateway(gateway, anyone, names.as_deref().unwrap_or_default(), context);
    let devices = sections::devices(devices_given);
    let (hub_host_name, mut hub) = sections::hub(root.section("hub"), context);
    hub.storage = sections::storage(root.section("storage"), context);
    let users = users_given.map(|value| sections::users(&root, value, &gateway)).unwrap_or_default();
    let modules = sections::modules(root.section("modules"), context);
    let net = sections::net(root.section("net"), context);
    let deployment = sections::deployment(root.section("deployment"));
    let metrics = sections::metrics(root.section("metrics"));
    let http = sections::http(root.section("http"));
    let log = sections::log(root.section("log"));
    root.finish();
    Config {
        edge,
        paths,
        store,
        routes,
        upstream,
        net,
        gateway,
        users,
        hub_host_name,
        hub,
        devices,
        modules,
        deployment,
        metrics,
        http,
        log,
    }
}

/// A name for an edge made of a machine's host name: what no host name may hold becomes a hyphen, and what is left of
/// nothing is `edge`.
pub fn edge_name(host_name: &str) -> Name {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
    let name: String = host_name.chars().map(plain).take(EDGE_CHARACTERS_MAX).collect();
    let name = name.trim_matches(['-', '.']);
    Name::new(if name.is_empty() { "edge" } else { name }).unwrap_or_else(|_| fallback())
}

#[expect(clippy::expect_used, reason = "a literal of letters is a name")]
fn fallback() -> Name {
    Name::new("edge").expect("a literal of letters is a name")
}
