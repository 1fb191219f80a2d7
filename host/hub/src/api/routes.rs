//! From the path of a request to what answers it.

use super::{
    Context,
    body::{Body, REGISTRY_BYTES_MAX, done, json, read, read_up_to, respond},
    events::{Wanted, events},
    registry,
};
use crate::{
    deployments::StoredDeployment,
    error::HubError,
    follow::{Changes, PATIENCE_S},
    hub::EdgeItem,
    recipient::PublicKey,
    transfer::ExportTo,
    twins::{HubTwin, TwinPatch},
};
use holdfast_broker::{DEVICEBOUND_LIFE_MAX, MethodTimes};
use holdfast_link::{WireMessage, escape::decoded};
use holdfast_types::{Identity, Message, Name, UnixMillis};
use hyper::{Method, Request, Response, body::Incoming};
use serde::Deserialize;
use serde_json::{Value, json as value};
use std::time::Duration;

/// Name and value of the parameters of a request.
fn query(request: &Request<Incoming>) -> Vec<(String, String)> {
    let pairs = request.uri().query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let decoded = |text: &str| decoded(text).into_owned();
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "true")))
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

fn segments(request: &Request<Incoming>) -> Vec<String> {
    let parts = request.uri().path().split('/').filter(|part| !part.is_empty());
    parts.map(|part| decoded(part).into_owned()).collect()
}

fn name(text: &str) -> Result<Name, HubError> {
    Name::new(text).map_err(|why| HubError::Bad(format!("{text:?}: {why}")))
}

pub(super) async fn answer(
    context: &Context,
    request: Request<Incoming>,
) -> Result<Response<Body>, HubError> {
    let (segments, query) = (segments(&request), query(&request));
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let secrets = query.iter().any(|(name, value)| name == "secrets" && value == "true");
    let hub = &context.hub;
    match (request.method().as_str(), parts.as_slice()) {
        ("GET", ["status"]) => status(context).await,
        ("GET", ["edges"]) => {
            let parent = |edge: &Name| hub.directory().get(&Identity::device(edge.clone()))?.parent.clone();
            let all = hub.edges().await?;
            let edges: Vec<Value> = all.iter().map(|item| edge(item, parent(&item.edge))).collect();
            Ok(json(200, &edges))
        }
        ("GET", ["events"]) => events(context, Wanted::of(&query)?).await,
        ("GET", ["devices"]) => Ok(registry::list(context, secrets, None)),
        ("GET" | "PUT" | "PATCH" | "DELETE", ["devices", device]) => {
            registry::one(context, Identity::device(name(device)?), secrets, request).await
        }
        ("GET", ["devices", device, "modules"]) => Ok(registry::list(context, secrets, Some(&name(device)?))),
        ("GET" | "PUT" | "PATCH" | "DELETE", ["devices", device, "modules", module]) => {
            let who = Identity::module(name(device)?, name(module)?);
            registry::one(context, who, secrets, request).await
        }
        ("POST", ["devices", device, "messages", "devicebound"]) => {
            send(context, &name(device)?, request).await
        }
        ("GET", ["devices", device, "messages", "devicebound"]) => {
            Ok(json(200, &value!({ "waiting": hub.pending(&name(device)?).await? })))
        }
        (_, ["twins", device]) => twin(context, Identity::device(name(device)?), request).await,
        (_, ["twins", device, "modules", module]) => {
            twin(context, Identity::module(name(device)?, name(module)?), request).await
        }
        ("POST", ["twins", device, "methods"]) => {
            method(context, Identity::device(name(device)?), request).await
        }
        ("POST", ["twins", device, "modules", module, "methods"]) => {
            method(context, Identity::module(name(device)?, name(module)?), request).await
        }
        ("GET", ["deployments"]) => {
            let all = hub.deployments().all();
            Ok(json(200, &all.iter().map(|one| &**one).collect::<Vec<_>>()))
        }
        ("GET", ["deployments", id]) => match hub.deployments().get(id) {
            Some(deployment) => Ok(json(200, &*deployment)),
            None => Err(HubError::NotFound(format!("there is no deployment {id:?}"))),
        },
        ("PUT", ["deployments", id]) => {
            let mut given: Value = read(request.into_body()).await?;
            if let Some(given) = given.as_object_mut() {
                given.insert("id".to_owned(), (*id).into());
            }
            let given: StoredDeployment = serde_json::from_value(given)
                .map_err(|why| HubError::Bad(format!("the deployment: {why}")))?;
            given.check_base()?;
            let stored = hub.put_deployment(StoredDeployment { created_ms: 0, revision: 0, ..given }).await?;
            tracing::info!(deployment = %stored.id, "a deployment was given");
            let left_out = hub.left_out(Some(&stored.id));
            let first =
                left_out.first_key_value().map(|(edge, why)| value!({ "edge": edge.as_str(), "why": why }));
            let mut answer = value!(*stored);
            if let Some(answer) = answer.as_object_mut() {
                let left_out = value!({ "edges": left_out.len(), "first": first });
                answer.insert("layersLeftOut".to_owned(), left_out);
                answer.insert("forEdges".to_owned(), hub.edges_of(&stored.id).into());
            }
            Ok(json(200, &answer))
        }
        ("DELETE", ["deployments", id]) => {
            hub.remove_deployment(id).await?;
            tracing::info!(deployment = %id, "a deployment was removed");
            Ok(done())
        }
        ("POST", ["registry", "export"]) => {
            let text = hub.export(export_to(read(request.into_body()).await?)?).await?;
            Ok(respond(200, "application/x-ndjson", Body::Whole(text.into())))
        }
        ("POST", ["registry", "import"]) => {
            let given: ImportGiven = read_up_to(REGISTRY_BYTES_MAX, request.into_body()).await?;
            Ok(json(200, &hub.import(&given.text, given.password.as_deref()).await?))
        }
        ("GET", ["registry", "recipient"]) => {
            Ok(json(200, &value!({ "recipient": hub.recipient().await?.to_string() })))
        }
        ("GET", ["registry", "changes"]) => changes(context, &query).await,
        (method, _) => Err(HubError::NotFound(format!(
            "{method} {} is nothing that this hub answers; /openapi.json says what is",
            request.uri().path()
        ))),
    }
}

async fn status(context: &Context) -> Result<Response<Body>, HubError> {
    let hub = &context.hub;
    // While the storage is away its state is what one asks for.
    let (span, fault) = match hub.span().await {
        Ok(span) => (Some(span), hub.fault()),
        Err(error) => (None, Some(hub.fault().unwrap_or_else(|| error.to_string()))),
    };
    let counts = hub.counts();
    Ok(json(
        200,
        &value!({
            "hub": hub.name().as_str(), "id": hub.id(), "revision": hub.revision(),
            "devices": hub.directory().registry().devices_len(),
            "storage": fault.map_or_else(|| value!("ok"), |fault| value!(fault)),
            "events": span.map(|span| value!({ "first": span.first, "next": span.next })),
            "edges": { "linked": counts.linked },
            "follows": hub.following.shown(),
            "stored": counts.stored, "duplicates": counts.duplicates, "missing": counts.missing,
            "refused": counts.refused,
        }),
    ))
}

fn edge(item: &EdgeItem, parent: Option<Name>) -> Value {
    let progress = item.progress.iter().map(|one| {
        let gap = one.last_gap.map(|gap| value!({ "from": gap.from, "to": gap.to, "at": gap.at.0 }));
        value!({
            "epoch": format!("{:016x}", one.mark.epoch), "priority": one.mark.priority.level(),
            "sequence": one.mark.sequence.0, "gaps": one.gaps, "missing": one.missing, "lastGap": gap,
        })
    });
    value!({
        "edge": item.edge.as_str(), "parent": parent.as_deref(), "linked": item.linked, "revision": item.revision,
        "deployment": item.deployment, "layersLeftOut": item.layers_left_out, "telemetry": progress.collect::<Vec<_>>(),
    })
}

fn twin_json(who: &Identity, twin: &HubTwin) -> Value {
    value!({
        "identity": who.to_string(), "tags": twin.tags,
        "desired": twin.desired, "desiredVersion": twin.desired_version,
        "reported": twin.reported, "reportedVersion": twin.reported_version,
    })
}

/// What is to be changed of a twin.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TwinGiven {
    #[serde(default)]
    desired: Option<Value>,
    #[serde(default)]
    tags: Option<Value>,
}

async fn twin(
    context: &Context,
    who: Identity,
    request: Request<Incoming>,
) -> Result<Response<Body>, HubError> {
    let twin = match *request.method() {
        Method::GET => context.hub.get_twin(&who).await?,
        Method::PATCH => {
            let TwinGiven { desired, tags } = read(request.into_body()).await?;
            context.hub.patch_twin(&who, TwinPatch { desired, tags }).await?
        }
        _ => return Err(HubError::Bad("a twin is read with GET and changed with PATCH".to_owned())),
    };
    Ok(json(200, &twin_json(&who, &twin)))
}

/// A call of a method, in the words of IoT Hub.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MethodGiven {
    method_name: String,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    response_timeout_in_seconds: Option<u64>,
    #[serde(default)]
    connect_timeout_in_seconds: Option<u64>,
}

async fn method(
    context: &Context,
    who: Identity,
    request: Request<Incoming>,
) -> Result<Response<Body>, HubError> {
    let given: MethodGiven = read(request.into_body()).await?;
    let usual = MethodTimes::default();
    let times = MethodTimes {
        response: given.response_timeout_in_seconds.map_or(usual.response, Duration::from_secs),
        connect: given.connect_timeout_in_seconds.map_or(usual.connect, Duration::from_secs),
    };
    let (status, payload) = context.hub.method(&who, &given.method_name, given.payload, times).await?;
    Ok(json(200, &value!({ "status": status, "payload": payload })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExportGiven {
    password: Option<String>,
    recipient: Option<String>,
}

fn export_to(given: ExportGiven) -> Result<ExportTo, HubError> {
    match (given.password, given.recipient) {
        (Some(password), None) => Ok(ExportTo::Password(password)),
        (None, Some(recipient)) => PublicKey::parse(&recipient).map(ExportTo::Recipient),
        _ => Err(HubError::Bad(
            "an export is sealed under either a password or the key of a recipient".to_owned(),
        )),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImportGiven {
    password: Option<String>,
    text: String,
}

/// What has changed after a revision; waits for news if there is none and the request says how long.
async fn changes(context: &Context, query: &[(String, String)]) -> Result<Response<Body>, HubError> {
    let number = |wanted: &str| {
        let found = query.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
        let read = found.map(|value| value.parse::<u64>()).transpose();
        read.map_err(|_| HubError::Bad(format!("{wanted} is no number")))
    };
    let after = number("after")?.unwrap_or_default();
    let wait = Duration::from_secs(number("wait")?.unwrap_or_default().min(PATIENCE_S));
    let hub = &context.hub;
    let mut news = hub.backend.revision();
    // One that is behind was set back, which is news too.
    let is_there = tokio::time::timeout(wait, news.wait_for(|revision| *revision != after));
    tokio::select! {
        () = context.stop.cancelled() => {}
        _ = is_there => {}
    }
    // An asker that is ahead of all, as one that asks whose registry this is, hears how far this one is.
    let now = hub.revision();
    let (changes, revision, is_all) =
        if after > now { (Vec::new(), now, true) } else { hub.changes(after).await? };
    Ok(json(200, &Changes { hub: hub.id().to_owned(), revision, changes, is_all }))
}

/// A message to a device.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessageGiven {
    message: WireMessage,
    /// How long it is of use, in seconds.
    #[serde(default)]
    life_s: Option<u64>,
}

async fn send(
    context: &Context,
    device: &Name,
    request: Request<Incoming>,
) -> Result<Response<Body>, HubError> {
    let given: MessageGiven = read(request.into_body()).await?;
    let most = DEVICEBOUND_LIFE_MAX.as_secs();
    if let Some(asked) = given.life_s.filter(|asked| *asked > most) {
        return Err(HubError::Bad(format!(
            "a message for a device is kept for 2 days ({most} s) at most, and {asked} s are asked for; give a shorter time"
        )));
    }
    let life_ms = |seconds: u64| seconds.saturating_mul(1000);
    let expires = given.life_s.map(|life| UnixMillis(context.hub.now().0.saturating_add(life_ms(life))));
    let id = context.hub.send(device, &Message::from(given.message), expires).await?;
    Ok(json(202, &value!({ "id": id })))
}
