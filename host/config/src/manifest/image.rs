//! Where the component of a module comes from: `settings.image`.

use std::fmt;

/// Most bytes of a reference: IoT Hub allows 4096 for a text of a twin.
const BYTES_MAX: usize = 4096;

/// What `settings.image` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// A file of the plugins folder, `name.wasm`.
    File(String),
    /// An artifact in a registry: `host/repository:tag`, `host/repository@sha256:…`, without `oci://`.
    Registry(String),
}

impl Image {
    /// Checks the text. The error is a reason and a fix.
    pub(super) fn parse(text: &str) -> Result<Self, (String, String)> {
        let text = text.trim();
        let fix = "write name.wasm for a file of the plugins folder, or registry.example/path/name:1.0 for an artifact";
        let bad = |reason: String| Err((reason, fix.to_owned()));
        if text.is_empty() {
            return bad("the image is empty".to_owned());
        }
        if text.len() > BYTES_MAX {
            return bad(format!("the image has {} bytes; at most {BYTES_MAX} are allowed", text.len()));
        }
        if text.contains("${") || text.starts_with('$') {
            let fix = "give the manifest that the tool makes of the template, in which images have names";
            return Err((format!("{text:?} is a place in a template"), fix.to_owned()));
        }
        if let Some((scheme, _)) = text.split_once("://").filter(|(scheme, _)| *scheme != "oci") {
            return bad(format!("{scheme}:// is no way to fetch a component"));
        }
        let named = text.strip_prefix("file:");
        let plain = named.unwrap_or(text);
        if named.is_some() || (plain.ends_with(".wasm") && !plain.contains(['/', ':', '@'])) {
            return match plain.strip_suffix(".wasm") {
                Some(stem) if !stem.is_empty() && !stem.starts_with('.') && !plain.contains(['/', '\\']) => {
                    Ok(Self::File(plain.to_owned()))
                }
                _ => bad(format!("{plain:?} is no name of a file in the plugins folder")),
            };
        }
        let reference = text.strip_prefix("oci://").unwrap_or(text);
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-._/:@+".contains(c);
        if let Some(odd) = reference.chars().find(|c| !allowed(*c)) {
            return bad(format!("{odd:?} cannot stand in a reference into a registry"));
        }
        if repository(reference).split('/').any(str::is_empty) {
            return bad(format!("{reference:?} is no reference into a registry"));
        }
        Ok(Self::Registry(reference.to_owned()))
    }

    /// The reference into a registry, if it names a digest: what runs can then not change unseen.
    pub fn pinned(&self) -> Option<&str> {
        match self {
            Self::Registry(reference) if reference.contains("@sha256:") => Some(reference),
            Self::File(_) | Self::Registry(_) => None,
        }
    }

    /// The files of the plugins folder in which the component of `module` may lie, the likeliest first: the file that is
    /// named; or, for an artifact, one of the module's name, then one of the artifact's.
    pub fn files(&self, module: &str) -> Vec<String> {
        match self {
            Self::File(file) => vec![file.clone()],
            Self::Registry(reference) => {
                let artifact = repository(reference).rsplit('/').next().unwrap_or_default();
                let mut files = vec![format!("{module}.wasm"), format!("{artifact}.wasm")];
                files.dedup();
                files
            }
        }
    }
}

/// A reference without its tag and digest.
fn repository(reference: &str) -> &str {
    let name = reference.split('@').next().unwrap_or_default();
    // A colon before the last slash is that of a port.
    let last = name.rfind('/').map_or(0, |at| at + 1);
    match name.get(last..).and_then(|last| last.find(':')) {
        Some(colon) => name.get(..last + colon).unwrap_or(name),
        None => name,
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(text) | Self::Registry(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_a_reference_and_what_is_neither() {
        let file = |name: &str| Image::File(name.to_owned());
        let registry = |name: &str| Image::Registry(name.to_owned());
        assert_eq!(Image::parse("window.wasm"), Ok(file("window.wasm")));
        assert_eq!(Image::parse("file:window.wasm"), Ok(file("window.wasm")));
        for reference in ["nginx", "localhost:5000/a/b:1.0", "r.example/x@sha256:00ff", "r.example/x.wasm"] {
            assert_eq!(Image::parse(reference), Ok(registry(reference)));
            assert_eq!(Image::parse(&format!("oci://{reference}")), Ok(registry(reference)));
        }
        let refused = [
            ("", "is empty"),
            ("${MODULES.Filter}", "template"),
            ("https://r.example/x", "https://"),
            ("file:../x.wasm", "no name of a file"),
            ("file:.wasm", "no name of a file"),
            ("r.example/a b", "' '"),
            ("r.example//a", "no reference"),
            (":1.0", "no reference"),
        ];
        for (text, why) in refused {
            let (reason, fix) = Image::parse(text).unwrap_err();
            assert!(reason.contains(why) && !fix.is_empty(), "{text}: {reason}");
        }
    }

    #[test]
    fn an_artifact_may_lie_in_the_plugins_folder_under_the_modules_name_or_its_own() {
        let image = Image::parse("localhost:5000/samples/sensor:1.0@sha256:00").unwrap();
        assert_eq!(image.files("Thermo"), ["Thermo.wasm", "sensor.wasm"]);
        assert_eq!(image.pinned(), Some("localhost:5000/samples/sensor:1.0@sha256:00"));
        assert_eq!(Image::parse("localhost:5000/samples/sensor:1.0").unwrap().pinned(), None);
        assert_eq!(image.files("sensor"), ["sensor.wasm"]);
        assert_eq!(Image::File("a.wasm".to_owned()).files("b"), ["a.wasm"]);
    }
}
