//! `holdfast hub …`: clients of the hub's API.

#![expect(
    clippy::indexing_slicing,
    reason = "to read a JSON value by a name never panics: what is absent is null"
)]

mod concierge;
mod init;
mod registry;

pub use concierge::statement_file;
pub use init::{init, make_token, token_file};

use super::{logs, message};
use crate::{
    certificates,
    cli::{
        CloudToDeviceArgs, DeviceName, HubArgs, HubCommand, HubDeployCommand, HubDeviceArgs,
        HubDeviceCommand, HubMonitorArgs, HubTwinCommand, MethodCallArgs,
    },
    output::{self, Table},
    run::{devices::hub_host, hub::jetstream},
};
use anyhow::{Context, bail};
use holdfast_config::{Config, ConfigError, Transport};
use holdfast_hub::client::{Client, Lines, Method, segment};
use holdfast_jetstream::JetStream;
use holdfast_link::WireMessage;
use holdfast_net::{ClientTls, ClientTlsConfig, HostName, Roots, Settings, Target, Way};
use serde_json::{Map, Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// The configuration file of a hub that is taken when none is named.
const DEFAULT_FILE: &str = "hub.toml";

/// Characters of a body that a row of the monitor has room for.
const BODY_CHARACTERS: usize = 80;

/// Reads the configuration of the hub.
pub fn config(named: Option<&Path>) -> anyhow::Result<Config> {
    let file = named.map_or_else(|| PathBuf::from(DEFAULT_FILE), Path::to_owned);
    match Config::load(&file, &super::host_name()) {
        Err(ConfigError::Missing { path }) => bail!(
            "there is no {}; `holdfast hub init` writes one, --config names another, or give --hub and --token-file",
            path.display()
        ),
        result => Ok(result?),
    }
}

/// Carries out a command that asks a hub.
pub async fn run(named: Option<&Path>, args: &HubArgs, json: bool) -> anyhow::Result<bool> {
    match &args.command {
        HubCommand::Concierge(command) => {
            concierge::run(named, command, json)?;
            return Ok(true);
        }
        HubCommand::Check => return check(named, json).await,
        _ => {}
    }
    let client = client(named, args)?;
    match &args.command {
        HubCommand::Init(_) | HubCommand::Run | HubCommand::Check | HubCommand::Concierge(_) => {}
        HubCommand::Status => print(&client.ask(Method::GET, "/status", None).await?, json)?,
        HubCommand::Edges => edges(&client, json).await?,
        HubCommand::Device(command) => device(&client, named, command, json).await?,
        HubCommand::Twin(command) => twin(&client, command, json).await?,
        HubCommand::Method(args) => return method(&client, args, json).await,
        HubCommand::Send(args) => send(&client, args, json).await?,
        HubCommand::Deploy(command) => deploy(&client, command, json).await?,
        HubCommand::Export(args) => registry::export(&client, args, json).await?,
        HubCommand::Import(args) => return registry::import(&client, args, json).await,
        HubCommand::Recipient => {
            let answer = client.ask(Method::GET, "/registry/recipient", None).await?;
            if json { output::json(&answer)? } else { output::line(text(&answer["recipient"])) }
        }
        HubCommand::Monitor(args) => monitor(&client, args, json).await?,
    }
    Ok(true)
}

/// Says whether the storage of the hub can be used.
async fn check(named: Option<&Path>, json: bool) -> anyhow::Result<bool> {
    let config = config(named)?;
    let (is_well, text) = match &config.hub.storage {
        None => (true, format!("the store in {}", config.paths.data.display())),
        Some(storage) => match JetStream::check(&jetstream(&config, storage)?).await {
            Ok(text) => (true, text),
            Err(error) => (false, error.to_string()),
        },
    };
    if json {
        output::json(
            &json!({ "id": "storage", "result": if is_well { "ok" } else { "error" }, "text": text }),
        )?;
    } else {
        output::line(format!("{}  storage  {text}", if is_well { "ok     " } else { "error  " }));
    }
    Ok(is_well)
}

/// Whom to ask: what the arguments say, else the hub of the configuration.
fn client(named: Option<&Path>, args: &HubArgs) -> anyhow::Result<Client> {
    let local = || config(named);
    let url = match &args.hub {
        Some(url) => url.clone(),
        None => {
            let listen = local()?.hub.listen;
            let scheme = if listen.transport == Transport::Tls { "https" } else { "http" };
            let mut address = listen.address;
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            format!("{scheme}://{address}")
        }
    };
    let token_file = match &args.token_file {
        Some(file) => file.clone(),
        None => token_file(&local()?),
    };
    let token = fs::read_to_string(&token_file).with_context(|| {
        format!("the token in {} cannot be read; --token-file names another file", token_file.display())
    })?;
    let roots = match (&args.ca_file, &args.hub) {
        (Some(file), _) => Roots::File(file.clone()),
        (None, None) => Roots::File(certificates::folder(&local()?).authority()),
        (None, Some(_)) => Roots::Native,
    };
    let setting = if args.hub.is_some() { "--hub" } else { "hub.listen" };
    Ok(Client::new(target(&url, roots, setting)?, &token))
}

/// The host and port of an URL of the API, which stands in `setting`.
pub fn target(url: &str, roots: Roots, setting: &str) -> anyhow::Result<Target> {
    let bad = || format!("{url:?} is no address of a hub; write for example https://hub.example:8480");
    let (scheme, rest) = url.split_once("://").with_context(bad)?;
    let (host, port) = rest.trim_end_matches('/').rsplit_once(':').with_context(bad)?;
    let way = match scheme {
        "http" => Way::Tcp,
        "https" => Way::Tls(ClientTls::build(&ClientTlsConfig { roots, ..ClientTlsConfig::default() })?),
        _ => bail!(bad()),
    };
    let host = HostName::new(host.trim_start_matches('[').trim_end_matches(']')).with_context(bad)?;
    let tls = format!("https:// in {setting}");
    let settings = Settings::new(setting, &tls, &format!("{tls}, nothing else"));
    Ok(Target::new(host, port.parse().with_context(bad)?, way, settings))
}

fn print(value: &Value, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(value);
    }
    let text = serde_json::to_string_pretty(value)?;
    text.lines().for_each(|line| output::line(output::foreign(line)));
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => output::foreign(text),
        other => other.to_string(),
    }
}

fn items(answer: Value) -> anyhow::Result<Vec<Value>> {
    match answer {
        Value::Array(items) => Ok(items),
        other => bail!("the hub gave an unexpected answer: {other}"),
    }
}

async fn edges(client: &Client, json: bool) -> anyhow::Result<()> {
    let mut reasons = Vec::new();
    let mut table = Table::new(["EDGE", "LINK", ">REVISION", ">STORED TO", ">MISSING", "DEPLOYMENT"]);
    for edge in items(client.ask(Method::GET, "/edges", None).await?)? {
        if json {
            output::json(&edge)?;
            continue;
        }
        let telemetry = edge["telemetry"].as_array().map(Vec::as_slice).unwrap_or_default();
        let sum = |name: &str| telemetry.iter().filter_map(|one| one[name].as_u64()).sum::<u64>();
        let link = match (&edge["linked"], &edge["parent"]) {
            (Value::Bool(true), _) => "up".to_owned(),
            (_, Value::String(parent)) => format!("by {}", output::foreign(parent)),
            _ => "down".to_owned(),
        };
        let layers =
            if edge["layersLeftOut"].is_null() { "" } else { "without its layers (--json says why)" };
        let (running, state) = (&edge["deployment"]["deployment"], &edge["deployment"]["state"]);
        let deployment = format!("{} {} {layers}", text(running), text(state));
        table.row([
            text(&edge["edge"]),
            link,
            text(&edge["revision"]),
            sum("sequence").to_string(),
            sum("missing").to_string(),
            deployment.trim().to_owned(),
        ]);
        if let Value::String(reason) = &edge["deployment"]["reason"] {
            reasons.push(format!("{}: {} {}: {}", text(&edge["edge"]), text(running), text(state), reason));
        }
    }
    if !json {
        table.print();
        let lines = reasons.iter().flat_map(|reason| reason.lines());
        lines.for_each(|line| output::line(output::foreign(line)));
    }
    Ok(())
}

/// The path of a device or module below `/devices`.
fn device_path(name: &DeviceName) -> String {
    match &name.module {
        Some(module) => format!("/devices/{}/modules/{}", segment(&name.device), segment(module)),
        None => format!("/devices/{}", segment(&name.device)),
    }
}

/// The path of a twin.
fn twin_path(who: &str) -> String {
    match who.split_once('/') {
        Some((device, module)) => format!("/twins/{}/modules/{}", segment(device), segment(module)),
        None => format!("/twins/{}", segment(who)),
    }
}

fn given(args: &HubDeviceArgs) -> Value {
    let mut given = Map::new();
    let mut put = |name: &str, value: Value| drop(given.insert(name.to_owned(), value));
    if args.edge || args.no_edge {
        put("edge", args.edge.into());
    }
    match &args.parent {
        Some(parent) => put("parent", parent.as_str().into()),
        None if args.no_parent => put("parent", Value::Null),
        None => {}
    }
    match (&args.key, args.thumbprint.as_slice()) {
        (Some(primary), _) => {
            put("credential", json!({ "type": "sas", "primary": primary, "secondary": args.secondary_key }));
        }
        (None, [primary, rest @ ..]) => {
            put("credential", json!({ "type": "selfSigned", "primary": primary, "secondary": rest.first() }));
        }
        (None, []) if args.ca => put("credential", json!({ "type": "certificateAuthority" })),
        (None, []) if args.generate => put("credential", "generate".into()),
        (None, []) => {}
    }
    given.into()
}

async fn device(
    client: &Client,
    named: Option<&Path>,
    command: &HubDeviceCommand,
    json: bool,
) -> anyhow::Result<()> {
    match command {
        HubDeviceCommand::Add(args) => {
            let path = device_path(&args.name);
            if client.ask(Method::GET, &path, None).await.is_ok() {
                bail!("{} exists already; `holdfast hub device set` changes it", args.name.device);
            }
            show_device(named, client.ask(Method::PUT, &path, Some(given(args))).await?, json)
        }
        HubDeviceCommand::Set(args) => {
            let path = device_path(&args.name);
            client.ask(Method::GET, &path, None).await?;
            show_device(named, client.ask(Method::PUT, &path, Some(given(args))).await?, json)
        }
        HubDeviceCommand::Show(args) => {
            let path = format!("{}?secrets={}", device_path(&args.name), args.secrets);
            show_device(named, client.ask(Method::GET, &path, None).await?, json)
        }
        HubDeviceCommand::Disable(name) => set_status(client, name, "disabled", json).await,
        HubDeviceCommand::Enable(name) => set_status(client, name, "enabled", json).await,
        HubDeviceCommand::Remove(name) => {
            client.ask(Method::DELETE, &device_path(name), None).await?;
            if json { output::json(&json!({ "removed": name.device })) } else { said("removed", name) }
        }
        HubDeviceCommand::List => {
            let mut table = Table::new(["DEVICE", "STATUS", "CONNECTED", "CREDENTIAL", "EDGE", "PARENT"]);
            for device in items(client.ask(Method::GET, "/devices", None).await?)? {
                if json {
                    output::json(&device)?;
                    continue;
                }
                let yes = |name: &str| if device[name] == true { "yes".to_owned() } else { String::new() };
                table.row([
                    text(&device["identity"]),
                    text(&device["status"]),
                    yes("connected"),
                    text(&device["proof"]["type"]),
                    yes("edge"),
                    text(&device["parent"]),
                ]);
            }
            if !json {
                table.print();
            }
            Ok(())
        }
    }
}

fn said(what: &str, name: &DeviceName) -> anyhow::Result<()> {
    let module = name.module.as_ref().map(|module| format!("/{module}")).unwrap_or_default();
    output::line(format!("{what}: {}{module}", name.device));
    Ok(())
}

async fn set_status(client: &Client, name: &DeviceName, status: &str, json: bool) -> anyhow::Result<()> {
    let path = device_path(name);
    client.ask(Method::GET, &path, None).await?;
    let device = client.ask(Method::PUT, &path, Some(json!({ "status": status }))).await?;
    if json { output::json(&device) } else { said(status, name) }
}

/// Shows a device, and its connection string where its keys are known and the configuration says what the hub is called.
fn show_device(named: Option<&Path>, mut device: Value, json: bool) -> anyhow::Result<()> {
    let proof = match (&device["proof"]["type"], &device["proof"]["primary"]) {
        (Value::String(kind), Value::String(key)) if kind == "sas" => Some(format!("SharedAccessKey={key}")),
        (Value::String(kind), _) if kind == "sas" || kind == "none" => None,
        _ => Some("x509=true".to_owned()),
    };
    let identity = text(&device["identity"]);
    if let (Some(proof), Ok(config)) = (proof, config(named)) {
        let (name, module) = identity.split_once('/').unwrap_or((&identity, ""));
        let module = if module.is_empty() { String::new() } else { format!(";ModuleId={module}") };
        device["connection_string"] =
            format!("HostName={};DeviceId={name}{module};{proof}", hub_host(&config)).into();
    }
    print(&device, json)
}

async fn twin(client: &Client, command: &HubTwinCommand, json: bool) -> anyhow::Result<()> {
    let object = |patch: &str| -> anyhow::Result<Value> {
        serde_json::from_str(patch)
            .with_context(|| format!("{patch:?} is no JSON; write for example '{{\"interval\": 5}}'"))
    };
    let answer = match command {
        HubTwinCommand::Show(args) => client.ask(Method::GET, &twin_path(&args.who), None).await?,
        HubTwinCommand::Set(args) => {
            let body = json!({ "desired": object(&args.patch)? });
            client.ask(Method::PATCH, &twin_path(&args.who), Some(body)).await?
        }
        HubTwinCommand::Tag(args) => {
            let body = json!({ "tags": object(&args.patch)? });
            client.ask(Method::PATCH, &twin_path(&args.who), Some(body)).await?
        }
    };
    print(&answer, json)
}

async fn method(client: &Client, args: &MethodCallArgs, json: bool) -> anyhow::Result<bool> {
    let payload = match args.payload.as_str() {
        "" => Value::Null,
        text => serde_json::from_str(text).with_context(|| format!("{text:?} is no JSON"))?,
    };
    let body = json!({
        "methodName": args.name, "payload": payload,
        "responseTimeoutInSeconds": args.timeout, "connectTimeoutInSeconds": args.connect,
    });
    let answer = client.ask(Method::POST, &format!("{}/methods", twin_path(&args.who)), Some(body)).await?;
    if json {
        output::json(&answer)?;
    } else {
        output::line(format!("status {}", text(&answer["status"])));
        if !answer["payload"].is_null() {
            print(&answer["payload"], false)?;
        }
    }
    Ok(answer["status"].as_i64().is_some_and(|status| (200..400).contains(&status)))
}

async fn send(client: &Client, args: &CloudToDeviceArgs, json: bool) -> anyhow::Result<()> {
    let built = message::built(&args.content)?;
    let life_s = args.expires_in.as_deref().map(logs::age_ms).transpose()?.map(|ms| ms.div_ceil(1000));
    let body = json!({ "message": WireMessage::from(&built), "life_s": life_s });
    let path = format!("/devices/{}/messages/devicebound", segment(&args.device));
    let answer = client.ask(Method::POST, &path, Some(body)).await?;
    if json {
        return output::json(&answer);
    }
    output::line(format!("waits for {} as {}", args.device, text(&answer["id"])));
    Ok(())
}

async fn deploy(client: &Client, command: &HubDeployCommand, json: bool) -> anyhow::Result<()> {
    match command {
        HubDeployCommand::Set(args) => {
            let file = args.file.display();
            let manifest =
                fs::read_to_string(&args.file).with_context(|| format!("{file} cannot be read"))?;
            let manifest: Value =
                serde_json::from_str(&manifest).with_context(|| format!("{file} is no JSON"))?;
            // As the portal exports it, the manifest stands below `content`.
            let manifest = match manifest.get("content") {
                Some(content) if manifest.get("modulesContent").is_none() => content.clone(),
                _ => manifest,
            };
            let target = match (&args.device, &args.condition) {
                (Some(device), _) => json!({ "device": device }),
                (None, condition) => json!({ "condition": condition }),
            };
            let body = json!({ "target": target, "priority": args.priority, "manifest": manifest });
            let path = format!("/deployments/{}", segment(&args.id));
            let answer = client.ask(Method::PUT, &path, Some(body)).await?;
            if json {
                return output::json(&answer);
            }
            output::line(format!("deployment {} is revision {}", args.id, text(&answer["revision"])));
            if answer["forEdges"] == 0 {
                output::note(
                    "it is for no edge now: none has that name or those tags, or a layer has no base there",
                );
            }
            let left_out = &answer["layersLeftOut"];
            if let Some(edges) = left_out["edges"].as_u64().filter(|edges| *edges > 0) {
                let (edge, why) = (text(&left_out["first"]["edge"]), text(&left_out["first"]["why"]));
                output::note(format!(
                    "layers do not fit on the base of {edges} edges, which run it without them; the first is {edge}: {why}"
                ));
            }
            Ok(())
        }
        HubDeployCommand::Remove(args) => {
            client.ask(Method::DELETE, &format!("/deployments/{}", segment(&args.id)), None).await?;
            if json {
                return output::json(&json!({ "removed": args.id }));
            }
            output::line(format!("removed: {}", args.id));
            Ok(())
        }
        HubDeployCommand::List => {
            let mut table = Table::new(["DEPLOYMENT", "KIND", "TARGET", ">PRIORITY", ">REVISION"]);
            for one in items(client.ask(Method::GET, "/deployments", None).await?)? {
                if json {
                    output::json(&one)?;
                    continue;
                }
                let target = match &one["target"]["condition"] {
                    Value::String(condition) => output::foreign(condition),
                    _ => text(&one["target"]["device"]),
                };
                let agent = &one["manifest"]["modulesContent"]["$edgeAgent"];
                let kind = if agent["properties.desired"].is_object() { "base" } else { "layer" };
                table.row([
                    text(&one["id"]),
                    kind.to_owned(),
                    target,
                    text(&one["priority"]),
                    text(&one["revision"]),
                ]);
            }
            if !json {
                table.print();
            }
            Ok(())
        }
    }
}

async fn monitor(client: &Client, args: &HubMonitorArgs, json: bool) -> anyhow::Result<()> {
    let mut path = format!("/events?from={}&follow={}", segment(&args.from), !args.no_follow);
    if let Some(count) = args.count {
        path.push_str(&format!("&count={count}"));
    }
    if let Some(device) = &args.device {
        path.push_str(&format!("&device={}", segment(device)));
    }
    let mut lines: Lines = client.lines(&path).await?;
    while let Some(line) = lines.next().await? {
        let event: Value = serde_json::from_str(&line).context("the hub sent a line that is no JSON")?;
        if let Value::String(error) = &event["error"] {
            bail!("{error}");
        }
        if json {
            output::line(&line);
            continue;
        }
        let from = match (&event["module"], &event["topic"]) {
            (Value::String(module), _) => format!("{}/{}", text(&event["device"]), output::foreign(module)),
            (_, Value::String(topic)) => format!("{} {}", text(&event["device"]), output::foreign(topic)),
            _ => text(&event["device"]),
        };
        let body = ["body", "text", "base64"].into_iter().find_map(|name| event.get(name)).map(text);
        let body = output::body(body.unwrap_or_default().as_bytes(), BODY_CHARACTERS);
        output::line(format!("{:>8}  {from}  {body}", text(&event["offset"])));
    }
    Ok(())
}
