//! What a component asks for, before it runs: its custom sections `holdfast-grants`, in the form of `name.toml`.
//!
//! `holdfast module build` writes one at the end of the component, of the author's own settings; development kits put one into
//! the module inside of it, for its inputs and outputs. It is a wish: nothing is granted by it. The operator copies what he
//! grants into `name.toml`.

use crate::config::{Limits, Profile};
use crate::ports::Ports;
use crate::settings::Settings;

/// The name of the custom sections.
pub const GRANTS_SECTION: &str = "holdfast-grants";

/// How deep components that lie in one another are looked into.
const DEPTH_MAX: usize = 8;

/// What a component and the settings beside it say of what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wants {
    /// The inputs that either declares.
    pub inputs: Ports,
    /// The outputs that either declares.
    pub outputs: Ports,
    /// What the component asks for, a line each, in words; or what is wrong with how it asks.
    pub asks: Result<Vec<String>, String>,
    /// What the settings grant, a line each, in words; or every fault of theirs.
    pub granted: Result<Vec<String>, String>,
    /// What it asks for and is not granted, a line each, with the line that would grant it.
    pub unmet: Vec<String>,
}

impl Wants {
    /// Looks into a component, and into its settings; those of a module without a file are empty.
    pub fn of(component: &[u8], settings: &str) -> Self {
        let limits = Limits::of(Profile::Standard);
        let granted = Settings::parse(settings, limits).map_err(|faults| faults.to_string());
        let wished = wished(component, granted.as_ref().map_or(limits, |granted| granted.limits));
        let (mut inputs, mut outputs) = (Ports::default(), Ports::default());
        for told in [&wished, &granted].into_iter().flatten() {
            inputs.add(told.inputs.clone());
            outputs.add(told.outputs.clone());
        }
        let unmet = match (&wished, &granted) {
            (Ok(wished), Ok(granted)) => unmet(wished, granted),
            _ => Vec::new(),
        };
        // What the component has no word about is not asked for, whatever the settings say.
        let usual = Settings::defaults(granted.as_ref().map_or(limits, |granted| granted.limits));
        let asks = wished.map(|wished| in_words(&wished, &usual));
        let granted = granted.map(|granted| in_words(&granted, &Settings::defaults(limits)));
        Self { inputs, outputs, asks, granted, unmet }
    }
}

/// Everything that a component asks for, where what it has no word about is as `limits` say.
///
/// # Errors
/// Every fault of its section.
pub(crate) fn wished(component: &[u8], limits: Limits) -> Result<Settings, String> {
    let mut all = Settings::defaults(limits);
    for text in sections_of_wishes(component) {
        let one = Settings::parse(text, limits)
            .map_err(|faults| format!("what its section {GRANTS_SECTION} asks for is not clear: {faults}"))?;
        all.inputs.add(one.inputs);
        all.outputs.add(one.outputs);
        all.directories.extend(one.directories);
        all.hosts.extend(one.hosts);
        all.methods.extend(one.methods);
        all.environment.extend(one.environment);
        all.http_path = one.http_path.or(all.http_path);
        all.limits.state_bytes = all.limits.state_bytes.max(one.limits.state_bytes);
    }
    Ok(all)
}

/// What a component asks for and `granted` does not give it, each with the line that would.
pub(crate) fn unmet(wished: &Settings, granted: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    let has = |guest: &str| granted.directories.iter().any(|directory| directory.guest == guest);
    for wish in wished.directories.iter().filter(|wish| !has(&wish.guest)) {
        lines.push(format!(
            "a directory as {0}, which is not granted; to grant it, add to its .toml: [grants] directories = [{{ host = \
             \"{1}\", guest = \"{0}\" }}]",
            wish.guest,
            wish.host.display()
        ));
    }
    for wish in wished.hosts.iter().filter(|wish| !granted.hosts.iter().any(|grant| grant.covers(wish))) {
        lines.push(format!(
            "connections to {wish}, which are not granted; to grant them, add to its .toml: [grants] hosts = [\"{wish}\"]"
        ));
    }
    for wish in wished.methods.iter().map(ToString::to_string) {
        if !granted.methods.iter().any(|grant| grant.allows(&wish)) {
            lines.push(format!(
                "methods of {wish}, which are not granted; to grant them, add to its .toml: [grants] methods = [\"{wish}\"]"
            ));
        }
    }
    for name in wished.environment.keys().filter(|name| !granted.environment.contains_key(*name)) {
        lines.push(format!(
            "the environment variable {name}, which is not set; to set it, add to its .toml: [environment] {name} = \"…\""
        ));
    }
    let (wish, limit) = (wished.limits.state_bytes, granted.limits.state_bytes);
    if wish > limit {
        lines.push(format!(
            "a key-value state of {wish} bytes, and may keep {limit}; to let it, add to its .toml: [limits] state_bytes = \
             {wish}"
        ));
    }
    lines
}

/// A component that asks for what its author grants it in `settings`, in place of what it asked for at its end before:
/// inputs, outputs, grants, its path over HTTP, the size of its state, and the names of its environment variables, whose
/// values are the author's own affair.
///
/// # Errors
/// Every fault of the settings.
pub fn with_wishes(mut component: Vec<u8>, settings: &str) -> Result<Vec<u8>, String> {
    Settings::parse(settings, Limits::of(Profile::Standard)).map_err(|faults| faults.to_string())?;
    let all: toml::Table = settings.parse().map_err(|error: toml::de::Error| error.message().to_owned())?;
    let mut asks = toml::Table::new();
    for (key, value) in all {
        let kept = match (key.as_str(), value) {
            ("inputs" | "outputs" | "grants" | "http", value) => value,
            ("limits", toml::Value::Table(limits)) => {
                limits.into_iter().filter(|(limit, _)| limit == "state_bytes").collect::<toml::Table>().into()
            }
            ("environment", toml::Value::Table(variables)) => variables
                .into_iter()
                .map(|(name, _)| (name, String::new().into()))
                .collect::<toml::Table>()
                .into(),
            _ => continue,
        };
        if kept.as_table().is_none_or(|table| !table.is_empty()) {
            asks.insert(key, kept);
        }
    }
    let last = Sections::of(&component).last().filter(|last| wish(last).is_some());
    if let Some(before) = last.map(|last| last.start) {
        component.truncate(before);
    }
    if !asks.is_empty() {
        component.extend(section(&asks.to_string()));
    }
    Ok(component)
}

/// The texts of all sections of that name, those inside first.
fn sections_of_wishes(component: &[u8]) -> Vec<&str> {
    let mut texts = Vec::new();
    gather(component, 0, &mut texts);
    texts
}

fn gather<'c>(bytes: &'c [u8], depth: usize, texts: &mut Vec<&'c str>) {
    // In a component the ids 1 and 4 are a module and a component inside of it; in a module they are something else.
    let is_component = bytes.get(4..8) == Some(&[0x0d, 0, 1, 0]);
    for section in Sections::of(bytes) {
        match section.id {
            0 => texts.extend(wish(&section)),
            1 | 4 if is_component && depth < DEPTH_MAX => gather(section.content, depth + 1, texts),
            _ => {}
        }
    }
}

/// The text of a section, if it is one of that name.
fn wish<'c>(section: &Section<'c>) -> Option<&'c str> {
    let (length, rest) = number(section.content).filter(|_| section.id == 0)?;
    let (name, text) = rest.split_at_checked(length)?;
    std::str::from_utf8(text).ok().filter(|_| name == GRANTS_SECTION.as_bytes())
}

/// A section of that name.
fn section(text: &str) -> Vec<u8> {
    let mut content = leb(GRANTS_SECTION.len());
    content.extend(GRANTS_SECTION.as_bytes());
    content.extend(text.as_bytes());
    let mut section = vec![0];
    section.extend(leb(content.len()));
    section.extend(content);
    section
}

/// What a settings file grants or asks for, a line each, in words, but for inputs and outputs.
fn in_words(settings: &Settings, usual: &Settings) -> Vec<String> {
    let mut lines = Vec::new();
    for directory in &settings.directories {
        let may = if directory.write { "read and write" } else { "read" };
        let files =
            directory.files.as_ref().map_or_else(String::new, |files| format!(": {}", files.join(", ")));
        lines.push(format!("directory {} as {}, to {may}{files}", directory.host.display(), directory.guest));
    }
    for host in &settings.hosts {
        let below = if host.below { "*." } else { "" };
        let port = host.port.map_or_else(|| "any port".to_owned(), |port| format!("port {port}"));
        lines.push(format!("connections to {below}{}, {port}", host.host));
    }
    lines.extend(settings.methods.iter().map(|grant| format!("methods of {grant}")));
    lines.extend(settings.http_path.iter().map(|path| format!("requests for {path} and below")));
    if settings.limits.state_bytes != usual.limits.state_bytes {
        lines.push(format!("key-value state of {} bytes", settings.limits.state_bytes));
    }
    lines.extend(settings.environment.keys().map(|key| format!("environment variable {key}")));
    lines.extend(settings.config.keys().map(|key| format!("configuration {key}")));
    lines
}

/// A section of a component or module.
struct Section<'c> {
    id: u8,
    /// Where it begins.
    start: usize,
    content: &'c [u8],
}

/// Its sections, in order, up to the end or to where it is damaged.
struct Sections<'c> {
    bytes: &'c [u8],
    rest: &'c [u8],
}

impl<'c> Sections<'c> {
    /// After the eight bytes of the head come sections: an id, a length, the content. Id 0 is a custom section, whose content
    /// begins with its name.
    fn of(bytes: &'c [u8]) -> Self {
        Self { bytes, rest: bytes.get(8..).unwrap_or_default() }
    }
}

impl<'c> Iterator for Sections<'c> {
    type Item = Section<'c>;

    fn next(&mut self) -> Option<Section<'c>> {
        let start = self.bytes.len() - self.rest.len();
        let (&id, after) = self.rest.split_first()?;
        let (length, after) = number(after)?;
        let (content, rest) = after.split_at_checked(length)?;
        self.rest = rest;
        Some(Section { id, start, content })
    }
}

/// An unsigned number in LEB128, and what follows it.
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0_usize;
    for (at, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f).checked_shl(7 * u32::try_from(at).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(at + 1..)?));
        }
    }
    None
}

fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = (n & 0x7f) as u8;
        n >>= 7;
        if n == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"\0asm\x0d\0\x01\0";

    /// A component with a section that is none of ours.
    fn component() -> Vec<u8> {
        [HEAD, &[0, 3, 1, b'x', 7]].concat()
    }

    #[test]
    fn what_an_author_grants_to_his_module_is_what_it_asks_others_for() {
        let settings = "outputs = [\"hot\"]\nstart_order = 3\n[grants]\nhosts = [\"api.example:443\"]\nmethods = [\"/horn\"]\n\
                        [http]\npath = \"/x\"\n[limits]\nstate_bytes = 4_194_304\ncall_ms = 100\n[environment]\n\
                        TOKEN = \"the author's own\"\n[config]\nband = 1\n";
        let asks = with_wishes(component(), settings).unwrap();
        let wants = Wants::of(&asks, "[grants]\nhosts = [\"*.example:*\"]\n");
        assert_eq!(
            (wants.inputs.to_string(), wants.outputs.to_string()),
            ("any".to_owned(), "hot".to_owned())
        );
        assert_eq!(
            wants.asks.unwrap(),
            [
                "connections to api.example, port 443",
                "methods of /horn",
                "requests for /x and below",
                "key-value state of 4194304 bytes",
                "environment variable TOKEN",
            ]
        );
        assert_eq!(wants.granted.unwrap(), ["connections to *.example, any port"]);
        let lines =
            ["[grants] methods = [\"/horn\"]", "[environment] TOKEN", "[limits] state_bytes = 4194304"];
        assert_eq!(wants.unmet.len(), lines.len(), "{:?}", wants.unmet);
        for (unmet, line) in wants.unmet.iter().zip(lines) {
            assert!(unmet.contains(line), "{line} is not in {unmet}");
        }
        let told = String::from_utf8_lossy(&asks).into_owned();
        assert!(
            !told.contains("the author's own") && !told.contains("band") && !told.contains("call_ms"),
            "{told}"
        );
    }

    #[test]
    fn the_newest_wish_takes_the_place_of_the_one_before_and_one_for_nothing_leaves_none() {
        let first = with_wishes(component(), "[grants]\nhosts = [\"a.example:1\"]\n").unwrap();
        let second = with_wishes(first.clone(), "[grants]\nhosts = [\"b.example:2\"]\n").unwrap();
        assert_eq!(Wants::of(&second, "").asks.unwrap(), ["connections to b.example, port 2"]);
        assert_eq!(with_wishes(second, "[config]\na = 1\n[grants]\n[environment]\n").unwrap(), component());
        let fault = with_wishes(first, "[grants]\nhsots = []\n").unwrap_err();
        assert!(fault.contains("line 2: grants.hsots is not known here"), "{fault}");
    }

    #[test]
    fn what_a_kit_has_put_into_the_module_inside_counts_with_the_rest() {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([1, 1, 0]);
        module.extend(section("inputs = [\"readings\",]\noutputs = [\"hot\",]\n"));
        let mut inside = HEAD.to_vec();
        inside.push(1);
        inside.extend(leb(module.len()));
        inside.extend(&module);
        let mut whole = component();
        whole.push(4);
        whole.extend(leb(inside.len()));
        whole.extend(inside);
        let whole = with_wishes(whole, "outputs = [\"cold\"]\n[grants]\nmethods = [\"/horn\"]\n").unwrap();
        let wants = Wants::of(&whole, "outputs = [\"warm\"]\n[grants]\nmethods = [\"/*\"]\n");
        assert_eq!(wants.inputs.to_string(), "readings");
        assert_eq!(wants.outputs.to_string(), "hot, cold, warm");
        assert_eq!((wants.asks.unwrap(), wants.unmet), (vec!["methods of /horn".to_owned()], Vec::new()));
        for cut in 0..whole.len() {
            // What is cut off is no wish, and nothing panics.
            let _ = Wants::of(&whole[..cut], "");
        }
    }

    #[test]
    fn a_wish_that_cannot_be_read_says_so_and_the_settings_are_read_all_the_same() {
        let mut odd = component();
        odd.extend(section("outputs = 7\n"));
        let wants = Wants::of(&odd, "outputs = [\"hot\"]\n");
        assert!(wants.asks.unwrap_err().contains("outputs is an integer; a list of texts is needed"));
        assert_eq!(wants.outputs.to_string(), "hot");
        assert!(
            Wants::of(&component(), "outputs = [\"a b\"]\n")
                .granted
                .unwrap_err()
                .contains("\"a b\" is no name")
        );
    }
}
