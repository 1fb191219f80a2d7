//! The ways back, as the control socket asks for them: twins, methods, messages to children.

use super::{
    host::RunningHost,
    shown::{failed, millis, now},
};
use holdfast_api::{
    Code, DesireRequest, DeviceboundRequest, MethodReplyItem, MethodRequest, OPERATOR_PROPERTY, Refusal,
    TwinItem,
};
use holdfast_broker::{DEVICEBOUND_LIFE_MAX, MethodTimes, TwinError};
use holdfast_config::HubKind;
use holdfast_types::{Identity, Name, UnixMillis};
use serde_json::Value;
use std::time::Duration;

impl RunningHost {
    /// Every twin there is.
    pub(super) fn twins(&self) -> Result<Vec<TwinItem>, Refusal> {
        let twins = self.broker.twins();
        let all = twins.identities().map_err(twin_refused)?;
        all.iter().map(|who| self.twin_of(who)).collect()
    }

    pub(super) fn twin(&self, who: &str) -> Result<TwinItem, Refusal> {
        self.twin_of(&self.identity(who)?)
    }

    fn twin_of(&self, who: &Identity) -> Result<TwinItem, Refusal> {
        let twin = self.broker.twins().read(who).map_err(twin_refused)?;
        Ok(TwinItem {
            who: who.to_string(),
            desired: twin.desired.into(),
            desired_version: twin.desired_version,
            reported: twin.reported.into(),
            reported_version: twin.reported_version,
        })
    }

    pub(super) async fn desire(&self, request: &DesireRequest) -> Result<TwinItem, Refusal> {
        let who = self.identity(&request.who)?;
        self.is_desired_here(&who)?;
        self.broker.twins().desire(&who, request.patch.clone()).await.map_err(twin_refused)?;
        self.twin_of(&who)
    }

    /// Below a hub desired properties are the hub's: a change made here would count up their version beside it.
    fn is_desired_here(&self, who: &Identity) -> Result<(), Refusal> {
        let above = self.config.upstream.as_ref().and_then(|upstream| upstream.hub.as_ref());
        let Some(hub) = above else { return Ok(()) };
        let (is_here, fix) = match hub.kind {
            HubKind::Holdfast => {
                let device = self.identities.registry.device(&Identity::device(who.device.clone()));
                let is_local =
                    who.device != *self.broker.edge() && device.is_none_or(|device| device.parent.is_none());
                (is_local, format!("change them there: holdfast hub twin set {who} …"))
            }
            HubKind::IotHub => {
                let fix = match &who.module {
                    None => format!("change them there, in the twin of the device {who}"),
                    Some(module) => format!(
                        "change them there, under modules.{module} of the twin of the device {}",
                        who.device
                    ),
                };
                (!self.is_desired_by_iot_hub(who)?, fix)
            }
        };
        if is_here {
            return Ok(());
        }
        let text = format!("the desired properties of {who} are those that the hub {} says", hub.name);
        Err(Refusal::new(Code::BadRequest, text).with_fix(fix))
    }

    /// Whether an IoT Hub says what is desired: of the edge itself always, of a module if the edge's twin names it, of a child if it
    /// goes up under its own identity.
    fn is_desired_by_iot_hub(&self, who: &Identity) -> Result<bool, Refusal> {
        let edge = self.broker.edge();
        if who.device != *edge {
            return Ok(who.module.is_none() && self.broker.goes_up_itself(&who.device));
        }
        let Some(module) = &who.module else { return Ok(true) };
        let own = self.broker.twins().read(&Identity::device(edge.clone())).map_err(twin_refused)?;
        Ok(own.desired.get("modules").and_then(|modules| modules.get(module.as_str())).is_some())
    }

    pub(super) async fn remove_twin(&self, who: &str) -> Result<String, Refusal> {
        let who = self.identity(who)?;
        self.broker.twins().remove(&who).await.map_err(twin_refused)?;
        Ok(format!("the twin of {who} is removed"))
    }

    pub(super) async fn call_method(&self, request: &MethodRequest) -> Result<MethodReplyItem, Refusal> {
        let who = self.identity(&request.who)?;
        let times = MethodTimes {
            response: Duration::from_millis(request.response_ms),
            connect: Duration::from_millis(request.connect_ms),
        };
        if !request.payload.is_empty()
            && let Err(error) = serde_json::from_str::<Value>(&request.payload)
        {
            return Err(Refusal::new(Code::BadRequest, format!("the payload is no JSON: {error}")));
        }
        let called =
            self.broker.methods().call(&who, &request.name, request.payload.clone().into(), times).await;
        let reply = called.map_err(|error| {
            let code = match error.status() {
                404 => Code::NotFound,
                400 | 413 => Code::BadRequest,
                429 => Code::Busy,
                _ => Code::Failed,
            };
            Refusal::new(code, error.to_string())
        })?;
        let text = || Value::from(String::from_utf8_lossy(&reply.payload).into_owned());
        let payload = match reply.payload.as_ref() {
            [] => Value::Null,
            bytes => serde_json::from_slice(bytes).unwrap_or_else(|_| text()),
        };
        Ok(MethodReplyItem { status: reply.status, payload })
    }

    pub(super) async fn cloud_to_device(&self, request: &DeviceboundRequest) -> Result<String, Refusal> {
        let bad = |why: String| Refusal::new(Code::BadRequest, why);
        let child = Name::new(&request.child).map_err(|error| bad(error.to_string()))?;
        let mut message = request.message.message().map_err(|error| bad(error.to_string()))?;
        let (key, value) = OPERATOR_PROPERTY;
        message.properties.set(key, value);
        let most = millis(DEVICEBOUND_LIFE_MAX);
        let life = request.life_ms.unwrap_or(most);
        if life > most {
            let text = format!(
                "a message for a device is kept for 2 days at most, and {} s are asked for",
                life / 1000
            );
            return Err(Refusal::new(Code::BadRequest, text).with_fix("give --expires-in 2d or less"));
        }
        let expires = UnixMillis(now().0.saturating_add(life));
        let sent = self.broker.cloud_to_device(&child, message, Some(expires)).await;
        sent.map_err(|refused| failed(refused.to_string()))?;
        // A device may be added afterwards, and one of a plain user's name takes nothing from here.
        let is_known = self.identities.registry.device(&Identity::device(child.clone())).is_some();
        Ok(match is_known {
            true => format!("recorded for {child}"),
            false => format!(
                "recorded for {child}, but there is no such device here yet; if the name is right, add it before the message expires: \
                 holdfast device add {child}"
            ),
        })
    }

    fn identity(&self, who: &str) -> Result<Identity, Refusal> {
        Identity::parse_at(self.broker.edge(), who).ok_or_else(|| {
            Refusal::new(Code::BadRequest, format!("{who:?} names nobody"))
                .with_fix("write /MODULE for a module of this edge, CHILD for a device, or CHILD/MODULE")
        })
    }
}

fn twin_refused(error: TwinError) -> Refusal {
    let code = match error.status() {
        400 | 413 => Code::BadRequest,
        503 => Code::Stopping,
        _ => Code::Failed,
    };
    Refusal::new(code, error.to_string())
}
