//! `name.toml` beside `name.wasm`: what the module is granted, and how it is bounded and kept running.
//!
//! Text goes in; checked settings or every fault at once comes out. Nothing is read from disk here.

mod grants;
mod reading;

pub(crate) use grants::{HostGrant, MethodGrant};

use crate::config::Limits;
use crate::ports::Ports;
use reading::{Section, line_of};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// Most bytes of a settings file.
pub(crate) const BYTES_MAX: u64 = 256 * 1024;

/// What happens when an instance is lost or cannot be started (IoT Edge: restart policy).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RestartPolicy {
    /// It is not started again by itself.
    Never,
    /// It is started again after a failure.
    OnFailure,
    /// It is started again after a failure or when it did not answer in time.
    #[default]
    OnUnhealthy,
    /// It is started again whatever happened.
    Always,
}

impl RestartPolicy {
    const NAMES: &[(&str, Self)] = &[
        ("never", Self::Never),
        ("on-failure", Self::OnFailure),
        ("on-unhealthy", Self::OnUnhealthy),
        ("always", Self::Always),
    ];
}

/// A directory of the host that the module may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) host: PathBuf,
    pub(crate) guest: String,
    pub(crate) write: bool,
    /// The only files in it that the module may read, by their paths within it; all of it if none are named.
    pub(crate) files: Option<Vec<String>>,
    /// Whether the module may start without it.
    pub(crate) optional: bool,
}

/// Checked settings of one module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) running: bool,
    pub(crate) restart: RestartPolicy,
    /// Lower ones start first; those that name none start last.
    pub(crate) start_order: u32,
    /// What a program is given behind its name.
    pub(crate) arguments: Vec<String>,
    /// What it declares, here and in its component.
    pub(crate) inputs: Ports,
    pub(crate) outputs: Ports,
    pub(crate) directories: Vec<Directory>,
    pub(crate) hosts: Vec<HostGrant>,
    /// Whose methods it may call.
    pub(crate) methods: Vec<MethodGrant>,
    /// The path that it answers over HTTP; `/NAME` if none is named.
    pub(crate) http_path: Option<String>,
    /// Its name in a registry.
    pub(crate) oci: Option<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) limits: Limits,
    pub(crate) probation: ProbationTime,
    /// Fields of JSON bodies that may differ between a next version and the one that works.
    pub(crate) shadow_ignore: Vec<String>,
    /// The name of a next version in a registry.
    pub(crate) shadow_oci: Option<String>,
}

/// How long a new version is on probation: until both are over. Both 0: not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProbationTime {
    pub(crate) seconds: u32,
    /// Calls without a failure.
    pub(crate) calls: u32,
}

impl Default for ProbationTime {
    /// A minute shows what happens at once, twenty calls what happens with the first messages.
    fn default() -> Self {
        Self { seconds: 60, calls: 20 }
    }
}

impl Settings {
    /// The settings of a module without a file of its own.
    pub(crate) fn defaults(limits: Limits) -> Self {
        Self {
            running: true,
            restart: RestartPolicy::default(),
            start_order: u32::MAX,
            arguments: Vec::new(),
            inputs: Ports::default(),
            outputs: Ports::default(),
            directories: Vec::new(),
            hosts: Vec::new(),
            methods: Vec::new(),
            http_path: None,
            oci: None,
            environment: BTreeMap::new(),
            config: BTreeMap::new(),
            limits,
            probation: ProbationTime::default(),
            shadow_ignore: Vec::new(),
            shadow_oci: None,
        }
    }

    /// Checks the text of a settings file.
    pub(crate) fn parse(text: &str, limits: Limits) -> Result<Self, Faults> {
        let (document, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut faults = Faults::default();
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            faults
                .add(line_of(text, at), format!("this is not TOML: {}", error.message().replace('\n', " ")));
        }
        if !faults.0.is_empty() {
            return Err(faults);
        }
        let mut settings = Self::defaults(limits);
        let mut top = Section::new(text, "", document.get_ref(), &mut faults);
        top.word("status", &[("running", true), ("stopped", false)], &mut settings.running);
        top.word("restart", RestartPolicy::NAMES, &mut settings.restart);
        top.number("start_order", 0, u32::MAX, &mut settings.start_order);
        let mut arguments = None;
        top.list("arguments", &mut arguments);
        settings.arguments = arguments.unwrap_or_default();
        top.ports("inputs", &mut settings.inputs);
        top.ports("outputs", &mut settings.outputs);
        top.section("grants", |section| {
            grants::directories(section, &mut settings.directories);
            grants::hosts(section, &mut settings.hosts);
            grants::methods(section, &mut settings.methods);
        });
        top.section("http", |section| http(section, &mut settings.http_path));
        top.section("source", |section| source(section, &mut settings.oci));
        top.section("limits", |section| bounds(section, &mut settings.limits));
        top.section("probation", |section| {
            section.number("seconds", 0, 86_400, &mut settings.probation.seconds);
            section.number("calls", 0, 1_000_000, &mut settings.probation.calls);
        });
        let mut ignore = None;
        top.section("shadow", |section| {
            section.list("ignore", &mut ignore);
            source(section, &mut settings.shadow_oci);
        });
        settings.shadow_ignore = ignore.unwrap_or_default();
        top.section("environment", |section| section.texts(&mut settings.environment, no_variable));
        top.section("config", |section| section.texts(&mut settings.config, |_| None));
        top.finish();
        if faults.0.is_empty() { Ok(settings) } else { Err(faults.sorted()) }
    }
}

fn no_variable(key: &str) -> Option<String> {
    key.contains(['=', '\0']).then(|| "no environment variable can have '=' or U+0000 in its name".to_owned())
}

/// The path that an HTTP handler answers.
fn http(section: &mut Section<'_, '_>, path: &mut Option<String>) {
    let mut text = String::new();
    if !section.text("path", &mut text) {
        return;
    }
    let whole = text.len() > 1 && text.ends_with('/');
    if !text.starts_with('/') || whole || text.contains(['?', '#', ' ']) || text.contains("//") {
        section.fault(&format!("path = {text:?} is no path; write it as \"/hello\", without an end slash"));
    }
    *path = Some(text);
}

/// Where the component is fetched from if it does not lie beside the settings.
fn source(section: &mut Section<'_, '_>, oci: &mut Option<String>) {
    let mut text = String::new();
    if section.text("oci", &mut text) {
        *oci = Some(text);
    }
}

fn bounds(section: &mut Section<'_, '_>, limits: &mut Limits) {
    let l = limits;
    section.number("memory_bytes", 64 * 1024, 4 << 30, &mut l.memory_bytes);
    section.number("call_ms", 10, 3_600_000, &mut l.call_ms);
    section.number("start_ms", 10, 3_600_000, &mut l.start_ms);
    section.number("inbox_messages", 1, 10_000, &mut l.inbox_messages);
    section.number("turns_in_flight", 1, 64, &mut l.turns_in_flight);
    section.number("sends", 0, 100_000, &mut l.sends);
    section.number("send_bytes", 0, 1 << 30, &mut l.send_bytes);
    section.number("state_bytes", 0, 1 << 30, &mut l.state_bytes);
    section.number("timers", 0, 10_000, &mut l.timers);
    section.number("metrics", 0, 1_000, &mut l.metrics);
    section.number("log_lines_per_s", 0, 100_000, &mut l.log_lines_per_s);
    section.number("log_bytes_per_s", 0, 1 << 30, &mut l.log_bytes_per_s);
    section.number("connections", 0, 10_000, &mut l.connections);
    section.number("http_requests", 1, 10_000, &mut l.http_requests);
    section.number("http_body_bytes", 0, 1 << 30, &mut l.http_body_bytes);
    section.number("http_ms", 10, 3_600_000, &mut l.http_ms);
    section.number("cpu_percent", 1, 100, &mut l.cpu_percent);
    section.number("messages_in_per_s", 1, 10_000_000, &mut l.messages_in_per_s);
    section.number("bytes_in_per_s", 1, 1 << 40, &mut l.bytes_in_per_s);
    section.number("messages_out_per_s", 1, 10_000_000, &mut l.messages_out_per_s);
    section.number("bytes_out_per_s", 1, 1 << 40, &mut l.bytes_out_per_s);
    section.number("attempts", 1, 1_000, &mut l.attempts);
    section.number("retry_ms", 0, 3_600_000, &mut l.retry_ms);
    section.number("instances", 1, 10_000, &mut l.instances);
    section.number("tables", 0, 10_000, &mut l.tables);
    section.number("table_elements", 0, 10_000_000, &mut l.table_elements);
    section.number("memories", 0, 1_000, &mut l.memories);
}

/// Everything that is wrong with a settings file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults(Vec<(usize, String)>);

impl Faults {
    /// Adds a fault at a line; 0 when no line is known.
    fn add(&mut self, line: usize, text: impl Into<String>) {
        self.0.push((line, text.into()));
    }

    fn sorted(mut self) -> Self {
        self.0.sort();
        self
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (line, text)) in self.0.iter().enumerate() {
            let between = if n == 0 { "" } else { "; " };
            match line {
                0 => write!(f, "{between}{text}")?,
                line => write!(f, "{between}line {line}: {text}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Profile;

    fn parse(text: &str) -> Result<Settings, String> {
        Settings::parse(text, Limits::of(Profile::Standard)).map_err(|faults| faults.to_string())
    }

    #[test]
    fn a_whole_file_is_taken() {
        let settings = parse(
            r#"
            status = "stopped"
            restart = "never"
            start_order = 3
            inputs = ["readings"]
            outputs = []
            [grants]
            directories = [{ host = "/proc", files = ["stat", "net/dev"], optional = true }, { host = "/var/lib/x", guest = "/data", write = true }]
            [limits]
            memory_bytes = 33_554_432
            call_ms = 250
            [probation]
            seconds = 5
            [shadow]
            ignore = ["at"]
            oci = "r.example/boiler:2@sha256:00"
            [environment]
            MODE = "fast"
            [config]
            threshold = 21.5
            enabled = true
            count = 3
            name = "boiler"
            "#,
        )
        .unwrap();
        assert!(!settings.running);
        assert_eq!(settings.restart, RestartPolicy::Never);
        assert_eq!(settings.start_order, 3);
        assert_eq!(
            (settings.inputs.to_string(), settings.outputs.to_string()),
            ("readings".into(), "none".into())
        );
        assert_eq!(
            settings.directories,
            [
                Directory {
                    host: "/proc".into(),
                    guest: "/proc".into(),
                    write: false,
                    files: Some(vec!["stat".to_owned(), "net/dev".to_owned()]),
                    optional: true,
                },
                Directory {
                    host: "/var/lib/x".into(),
                    guest: "/data".into(),
                    write: true,
                    files: None,
                    optional: false,
                },
            ]
        );
        assert_eq!(settings.limits.memory_bytes, 32 << 20);
        assert_eq!(settings.limits.call_ms, 250);
        assert_eq!(settings.limits.attempts, 5);
        assert_eq!(settings.probation, ProbationTime { seconds: 5, calls: 20 });
        assert_eq!(settings.shadow_ignore, ["at"]);
        assert_eq!(settings.shadow_oci.as_deref(), Some("r.example/boiler:2@sha256:00"));
        assert_eq!(settings.environment["MODE"], "fast");
        let config: Vec<_> = settings.config.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(config, ["count=3", "enabled=true", "name=boiler", "threshold=21.5"]);
        assert_eq!(parse("").unwrap(), Settings::defaults(Limits::of(Profile::Standard)));
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_line() {
        let faults = parse(
            "restart = \"sometimes\"\nstart_odrer = 1\noutputs = [\"a b\"]\n[limits]\ncall_ms = 0\nmemory = 5\n[grants]\n\
             directories = [{ guest = \"/x\" }, { host = \"relative\", write = 1 }, \
             { host = \"/p\", files = [\"../x\"], write = true }, { host = \"/p\", files = \"x\" }]\n[environment]\nA = [1]\n",
        )
        .unwrap_err();
        for part in [
            "line 1: restart = \"sometimes\" is not one of never, on-failure, on-unhealthy, always",
            "line 2: start_odrer is not known here; known are: status, restart, start_order, arguments, inputs, outputs, \
             grants, http, source, limits, probation, shadow, environment, config",
            "line 3: outputs: \"a b\" is no name",
            "line 5: limits.call_ms = 0 is out of bounds; 10 to 3600000 is allowed",
            "line 6: limits.memory is not known here",
            "line 8: grants.directories: host is missing",
            "host = \"relative\" is not an absolute path",
            "grants.directories.write is an integer; true or false is needed",
            "files: \"../x\" is not a path within the directory",
            "files are read only",
            "grants.directories.files is a string; a list of texts is needed",
            "line 10: environment.A is an array; a text, number or truth value is needed",
        ] {
            assert!(faults.contains(part), "{part:?} is not in {faults}");
        }
    }

    #[test]
    fn text_that_is_not_toml_names_the_line() {
        let faults = parse("status = \"running\"\n[limits\n").unwrap_err();
        assert!(faults.starts_with("line 2: this is not TOML"), "{faults}");
    }
}
