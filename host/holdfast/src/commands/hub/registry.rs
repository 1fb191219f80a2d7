//! `holdfast hub export` and `import`.

#![expect(
    clippy::indexing_slicing,
    reason = "to read a JSON value by a name never panics: what is absent is null"
)]

use crate::{
    cli::{HubExportArgs, HubImportArgs},
    output,
    run::parts::password_file,
};
use anyhow::{Context, bail};
use bytes::Bytes;
use holdfast_hub::client::{Client, Method};
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
};

fn password(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else { return Ok(None) };
    let bytes = password_file(file)?;
    String::from_utf8(bytes).map(Some).with_context(|| format!("{} is no text", file.display()))
}

/// Writes the registry of the hub to a new file that only this user may read.
pub async fn export(client: &Client, args: &HubExportArgs, json: bool) -> anyhow::Result<()> {
    let password = password(args.password_file.as_deref())?;
    let to = match (&password, &args.recipient) {
        (Some(password), _) => json!({ "password": password }),
        (None, recipient) => json!({ "recipient": recipient }),
    };
    let body = Bytes::from(to.to_string());
    let text = client.text(Method::POST, "/registry/export", body).await?;
    let file = args.file.display();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out =
        options.open(&args.file).with_context(|| format!("cannot make {file}; it must not be there yet"))?;
    out.write_all(&text).and_then(|()| out.sync_all()).with_context(|| format!("cannot write {file}"))?;
    let lines = text.iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
    if json {
        return output::json(&json!({ "file": args.file, "entries": lines }));
    }
    output::line(format!("wrote {lines} entries to {file}"));
    Ok(())
}

/// Merges a file into the registry of the hub. Gives whether all of it was taken.
pub async fn import(client: &Client, args: &HubImportArgs, json: bool) -> anyhow::Result<bool> {
    let file = args.file.display();
    let text = fs::read_to_string(&args.file).with_context(|| format!("cannot read {file}"))?;
    let mut body = json!({ "text": text });
    if let Some(password) = password(args.password_file.as_deref())? {
        body["password"] = password.into();
    }
    let answer = client.ask(Method::POST, "/registry/import", Some(body)).await?;
    let Some(refused) = answer["refused"].as_array() else {
        bail!("the hub gave an unexpected answer: {answer}")
    };
    if json {
        output::json(&answer)?;
    } else {
        output::line(format!(
            "changed {}, the same {}, refused {}",
            answer["changed"],
            answer["same"],
            refused.len()
        ));
        refused.iter().filter_map(Value::as_str).for_each(|why| output::line(output::foreign(why)));
    }
    Ok(refused.is_empty())
}
