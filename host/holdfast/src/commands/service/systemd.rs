//! A unit of systemd.

use crate::{
    cli::{ServiceInstallArgs, ServiceRemoveArgs},
    output,
};
use anyhow::{Context, bail};
use std::{fs, path::Path};

/// The unit as it lies in examples, with the paths of a usual installation.
const UNIT: &str = include_str!("../../../../../examples/systemd/holdfast.service");
const START: &str = "ExecStart=/usr/local/bin/holdfast --config /etc/holdfast/holdfast.toml run";
const USER: &str = "User=holdfast";
const FILE: &str = "holdfast.service";

/// Writes the unit.
pub fn install(config: Option<&Path>, args: &ServiceInstallArgs, json: bool) -> anyhow::Result<()> {
    let unit = text(config, args)?;
    let file = args.dir.join(FILE);
    fs::write(&file, unit).with_context(|| {
        format!("cannot write {}; run this as root, or give another folder with --dir", file.display())
    })?;
    if json {
        return output::json(&serde_json::json!({ "unit": file }));
    }
    output::line(format!("wrote {}", file.display()));
    output::line("start it:   systemctl daemon-reload && systemctl enable --now holdfast");
    output::line("its log:    journalctl -u holdfast -f");
    Ok(())
}

/// Removes the unit.
pub fn remove(args: &ServiceRemoveArgs, json: bool) -> anyhow::Result<()> {
    let file = args.dir.join(FILE);
    fs::remove_file(&file).with_context(|| {
        format!("cannot remove {}; run this as root, or say with --dir where it is", file.display())
    })?;
    if json {
        return output::json(&serde_json::json!({ "removed": file }));
    }
    output::line(format!("removed {}", file.display()));
    output::line("if it still runs:   systemctl stop holdfast; systemctl daemon-reload");
    Ok(())
}

/// The unit for this program and this configuration.
pub fn text(config: Option<&Path>, args: &ServiceInstallArgs) -> anyhow::Result<String> {
    let program = std::env::current_exe().context("this program has no path of its own")?;
    let config = match config {
        Some(config) => config.canonicalize().with_context(|| format!("cannot read {}", config.display()))?,
        None => "/etc/holdfast/holdfast.toml".into(),
    };
    let start = format!("ExecStart={} --config {} run", quoted(&program)?, quoted(&config)?);
    Ok(UNIT.replace(START, &start).replace(USER, &format!("User={}", args.user)))
}

/// A path as systemd reads it: in quotes, with `%`, `$`, `"` and `\` made harmless.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
    if text.contains(['\n', '\r']) {
        bail!("{text:?} has a line end, which no unit can hold");
    }
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c));
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(if plain { text.to_owned() } else { format!("\"{escaped}\"") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_names_this_program_its_configuration_and_the_user() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("edge 100%.toml");
        fs::write(&config, "").unwrap();
        let args = ServiceInstallArgs { dir: dir.path().to_owned(), user: "edge".to_owned() };
        let text = text(Some(&config), &args).unwrap();
        let start = text.lines().find(|line| line.starts_with("ExecStart=")).unwrap();
        assert!(start.contains(std::env::current_exe().unwrap().to_str().unwrap()), "{start}");
        assert!(start.contains("edge 100%%.toml\" run") && !text.contains("/usr/local/bin"), "{start}");
        assert!(text.contains("\nUser=edge\n") && text.contains("\nType=notify\n"));
        assert!(
            UNIT.contains(START) && UNIT.contains(&format!("{USER}\n")),
            "the example has what is replaced"
        );
    }
}
