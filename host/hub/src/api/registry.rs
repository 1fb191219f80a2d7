//! Devices as services give and see them.

use super::{
    Context,
    body::{Body, done, json, read},
};
use crate::{error::HubError, record_of};
use base64::{Engine, prelude::BASE64_STANDARD};
use holdfast_auth::Device;
use holdfast_link::{Access, IdentityRecord, Proof, Secret};
use holdfast_types::{Identity, Name};
use hyper::{Method, Request, Response, body::Incoming};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};
use std::sync::Arc;

/// Bytes of a key that the hub makes.
const KEY_BYTES: usize = 32;

/// A device or module as a service gives it. What is left out stays as it is; of a new one it is the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGiven {
    /// Whether it may connect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Access>,
    /// Whether it is an edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edge: Option<bool>,
    /// The edge that it reaches the hub through; null for none.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub parent: Option<Option<String>>,
    /// What it proves itself with; two new keys unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<Credential>,
}

/// Tells null from what is not there.
fn given<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(from).map(Some)
}

/// What a device is to prove itself with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Credential {
    /// Given.
    Proof(Proof),
    /// `"generate"`: two new keys.
    Word(String),
}

fn new_key() -> Result<Secret, HubError> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key)
        .map_err(|why| HubError::Busy(format!("the system gives no random numbers: {why}")))?;
    Ok(Secret(BASE64_STANDARD.encode(key)))
}

fn proof(credential: Option<Credential>) -> Result<Proof, HubError> {
    match credential {
        Some(Credential::Proof(proof)) => Ok(proof),
        Some(Credential::Word(word)) if word != "generate" => Err(HubError::Bad(format!(
            "credential {word:?} is not understood; give \"generate\" or an object with type"
        ))),
        Some(Credential::Word(_)) | None => {
            Ok(Proof::Sas { primary: new_key()?, secondary: Some(new_key()?) })
        }
    }
}

/// The record after a service's change.
fn merged(who: &Identity, before: Option<&Device>, given: DeviceGiven) -> Result<IdentityRecord, HubError> {
    let name =
        |text: String| Name::new(&text).map_err(|why| HubError::Bad(format!("parent {text:?}: {why}")));
    let mut record = match before {
        Some(before) => record_of(before),
        None => {
            let mut generation = [0; 8];
            getrandom::fill(&mut generation).map_err(|why| HubError::Busy(why.to_string()))?;
            IdentityRecord {
                identity: who.clone(),
                proof: proof(given.credential.clone())?,
                status: Access::Enabled,
                parent: None,
                generation: format!("{:016x}", u64::from_be_bytes(generation)),
                edge: false,
            }
        }
    };
    if let (Some(credential), Some(_)) = (given.credential, before) {
        record.proof = proof(Some(credential))?;
    }
    record.status = given.status.unwrap_or(record.status);
    record.edge = given.edge.unwrap_or(record.edge);
    if let Some(parent) = given.parent {
        record.parent = parent.map(name).transpose()?;
    }
    if who.module.is_some() && (record.edge || record.parent.is_some()) {
        return Err(HubError::Bad(format!("{who} is a module; only devices are edges or have a parent")));
    }
    Ok(record)
}

/// A device as services see it; its keys only if they ask.
pub(super) fn shown(context: &Context, device: &Device, secrets: bool) -> Value {
    let mut record = value!(record_of(device));
    if let Some(record) = record.as_object_mut() {
        if !secrets
            && let Some(proof) = record.get_mut("proof").and_then(Value::as_object_mut)
            && proof.get("type").and_then(Value::as_str) == Some("sas")
        {
            proof.retain(|name, _| name == "type");
        }
        record.insert("connected".to_owned(), context.hub.is_connected(&device.identity).into());
        record.insert("added".to_owned(), device.added.0.into());
    }
    record
}

/// `/devices`.
pub(super) fn list(context: &Context, secrets: bool, modules_of: Option<&Name>) -> Response<Body> {
    let devices = context.hub.directory().registry().devices();
    let wanted = |one: &&Arc<Device>| match modules_of {
        Some(device) => one.identity.device == *device && one.identity.module.is_some(),
        None => one.identity.module.is_none(),
    };
    let all: Vec<Value> = devices.iter().filter(wanted).map(|one| shown(context, one, secrets)).collect();
    json(200, &all)
}

/// `/devices/{id}` and `/devices/{id}/modules/{module}`.
pub(super) async fn one(
    context: &Context,
    who: Identity,
    secrets: bool,
    request: Request<Incoming>,
) -> Result<Response<Body>, HubError> {
    let hub = &context.hub;
    let found = |who: &Identity| hub.directory().get(who).ok_or_else(|| HubError::NoSuchDevice(who.clone()));
    match *request.method() {
        Method::GET => Ok(json(200, &shown(context, &*found(&who)?, secrets))),
        Method::DELETE => {
            hub.remove_device(&who).await?;
            tracing::info!(device = %who, "a device was removed");
            Ok(done())
        }
        _ => {
            let given: DeviceGiven = read(request.into_body()).await?;
            let before = hub.directory().get(&who);
            let status = if before.is_some() { 200 } else { 201 };
            // Keys that were just made are shown once.
            let secrets = secrets || before.is_none() || given.credential.is_some();
            hub.put_device(merged(&who, before.as_deref(), given)?).await?;
            tracing::info!(device = %who, new = before.is_none(), "a device was added or changed");
            Ok(json(status, &shown(context, &*found(&who)?, secrets)))
        }
    }
}
