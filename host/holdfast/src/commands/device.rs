//! `holdfast device`: who may connect.

use super::{certificate, client};
use crate::{
    cli::{DeviceAddArgs, DeviceCommand, DeviceName},
    output::{self, Table},
};
use anyhow::bail;
use holdfast_api::{DeviceAction, DeviceCredential, DeviceItem, DeviceRequest, Item, Request, SecretText};
use holdfast_config::Config;
use std::path::Path;

/// Carries out a `device` command.
pub async fn run(config: &Config, command: &DeviceCommand, json: bool) -> anyhow::Result<()> {
    let control = config.paths.control.as_path();
    match command {
        DeviceCommand::Add(args) => {
            let action = DeviceAction::Add { credential: credential(args), edge: args.edge };
            show(&ask(control, &args.name, action).await?, json)
        }
        DeviceCommand::List => list(control, json).await,
        DeviceCommand::Show(args) => {
            show(&ask(control, &args.name, DeviceAction::Show { secrets: args.secrets }).await?, json)
        }
        DeviceCommand::Disable(name) => tell(control, name, DeviceAction::Disable, "disabled", json).await,
        DeviceCommand::Enable(name) => tell(control, name, DeviceAction::Enable, "enabled", json).await,
        DeviceCommand::Remove(name) => tell(control, name, DeviceAction::Remove, "removed", json).await,
        DeviceCommand::Token(args) => {
            let Item::Token(token, expires_ms) =
                ask(control, &args.name, DeviceAction::Token { ttl_s: args.ttl }).await?
            else {
                bail!("the edge gave an unexpected answer");
            };
            if json {
                return output::json(&serde_json::json!({ "token": token, "expires_ms": expires_ms }));
            }
            output::line(&token.0);
            Ok(())
        }
        DeviceCommand::Cert(args) => certificate::issue(config, args, json),
    }
}

fn credential(args: &DeviceAddArgs) -> DeviceCredential {
    match (&args.key, args.thumbprint.as_slice()) {
        (Some(key), _) => {
            let secondary = args.secondary_key.clone().map(SecretText);
            DeviceCredential::Keys(SecretText(key.clone()), secondary)
        }
        (None, [primary, rest @ ..]) => DeviceCredential::Thumbprints(primary.clone(), rest.first().cloned()),
        (None, []) if args.ca => DeviceCredential::CertificateAuthority,
        (None, []) => DeviceCredential::Generate,
    }
}

async fn ask(control: &Path, name: &DeviceName, action: DeviceAction) -> anyhow::Result<Item> {
    let device = match &name.module {
        Some(module) => format!("{}/{module}", name.device),
        None => name.device.clone(),
    };
    let items = client::ask(control, &Request::Device(DeviceRequest { device, action })).await?;
    match <[Item; 1]>::try_from(items) {
        Ok([item]) => Ok(item),
        Err(items) => bail!("the edge gave {} answers instead of one", items.len()),
    }
}

async fn tell(
    control: &Path,
    name: &DeviceName,
    action: DeviceAction,
    what: &str,
    json: bool,
) -> anyhow::Result<()> {
    let Item::Device(device) = ask(control, name, action).await? else {
        bail!("the edge gave an unexpected answer");
    };
    if json {
        return output::json(&device);
    }
    output::line(format!("{what}: {}", device.device));
    Ok(())
}

async fn list(control: &Path, json: bool) -> anyhow::Result<()> {
    let mut table = Table::new(["DEVICE", "STATUS", "CREDENTIAL", "EDGE", "FROM"]);
    for item in client::ask(control, &Request::Devices).await? {
        let Item::Device(device) = item else { continue };
        if json {
            output::json(&device)?;
            continue;
        }
        let edge = if device.edge { "yes" } else { "" };
        let from = if device.parent.is_some() { "hub" } else { "local" };
        table.row([device.device, device.status, device.credential, edge.to_owned(), from.to_owned()]);
    }
    if !json {
        table.print();
    }
    Ok(())
}

fn show(item: &Item, json: bool) -> anyhow::Result<()> {
    let Item::Device(device) = item else { bail!("the edge gave an unexpected answer") };
    if json {
        return output::json(device);
    }
    for (name, value) in lines(device) {
        output::line(format!("{name:<18} {value}"));
    }
    Ok(())
}

fn lines(device: &DeviceItem) -> Vec<(&'static str, String)> {
    let mut lines = vec![
        ("device", device.device.clone()),
        ("status", device.status.clone()),
        ("credential", device.credential.clone()),
        ("generation", device.generation.clone()),
    ];
    let from = device.parent.as_ref().map(|parent| format!("the hub, as a child of {parent}"));
    lines.push(("from", from.unwrap_or_else(|| "this edge".to_owned())));
    lines.extend(device.thumbprints.iter().map(|one| ("thumbprint", one.clone())));
    lines.extend(device.keys.iter().map(|one| ("key", one.0.clone())));
    lines.extend(device.connection_string.iter().map(|one| ("connection string", one.0.clone())));
    lines
}
