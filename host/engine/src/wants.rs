//! What a component asks for, before it runs: the custom section `holdfast-grants`, in the form of `name.toml`.
//!
//! It is a wish: nothing of it is granted by itself. The operator copies what he grants into `name.toml`.

use crate::config::{Limits, Profile};
use crate::settings::Settings;

/// The name of the custom section.
pub const GRANTS_SECTION: &str = "holdfast-grants";

/// The content of a component's section of that name, if it has one.
pub fn embedded_grants(component: &[u8]) -> Option<&str> {
    // After the eight bytes of the head come sections: an id, a length, the content. Id 0 is a custom section, whose
    // content begins with its name.
    let mut rest = component.get(8..)?;
    while let Some((&id, after)) = rest.split_first() {
        let (length, after) = number(after)?;
        let (content, next) = after.split_at_checked(length)?;
        if id == 0 {
            let (length, after) = number(content)?;
            let (name, content) = after.split_at_checked(length)?;
            if name == GRANTS_SECTION.as_bytes() {
                return std::str::from_utf8(content).ok();
            }
        }
        rest = next;
    }
    None
}

/// The section of that name with this content, to be put behind a component.
pub fn grants_section(text: &str) -> Vec<u8> {
    let mut content = leb(GRANTS_SECTION.len());
    content.extend(GRANTS_SECTION.as_bytes());
    content.extend(text.as_bytes());
    let mut section = vec![0];
    section.extend(leb(content.len()));
    section.extend(content);
    section
}

/// What a settings file grants or asks for, a line each, in words. An error names every fault.
///
/// # Errors
/// Every fault of the text.
pub fn in_words(text: &str) -> Result<Vec<String>, String> {
    let settings =
        Settings::parse(text, Limits::of(Profile::Standard)).map_err(|faults| faults.to_string())?;
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
    lines.extend(settings.environment.keys().map(|key| format!("environment variable {key}")));
    lines.extend(settings.config.keys().map(|key| format!("configuration {key}")));
    Ok(lines)
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

    #[test]
    fn what_was_put_behind_a_component_is_found_in_it() {
        let granted = "hosts = [\"api.example:443\"]\nmethods = [\"/horn\"]";
        let text = format!("[grants]\n{granted}\n# {}\n", "x".repeat(300));
        let mut component = b"\0asm\x0d\0\x01\0".to_vec();
        component.extend([0, 3, 1, b'x', 7]);
        assert_eq!(embedded_grants(&component), None);
        component.extend(grants_section(&text));
        assert_eq!(embedded_grants(&component), Some(text.as_str()));
        for cut in 8..component.len() {
            // What is cut off is no wish, and nothing panics.
            let _ = embedded_grants(&component[..cut]);
        }
        assert_eq!(in_words(&text).unwrap(), ["connections to api.example, port 443", "methods of /horn"]);
    }
}
