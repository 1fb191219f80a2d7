//! Whether each way upstream is open: name, port, proxy, certificate, and the broker's own answer. One that works is enough
//! to run; the others are told, since they would be missed on the day when it does not.

use super::Finding;
use crate::{
    run::{parts, shown::now, ways},
    wire::Wire,
};
use anyhow::bail;
use holdfast_auth::sas;
use holdfast_config::{Config, HubKind, MqttVersion, Upstream};
use holdfast_mqtt::{Connect, Packet, ProtocolError, ReasonCode, Version};
use holdfast_net::{Stream, Target, Timeouts, dial};
use holdfast_types::{Identity, Name};
use holdfast_upstream::Place;
use std::time::Duration;
use tokio::time::timeout;

/// How long the broker may take to answer CONNECT.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the token of this look is good for.
const TOKEN_LIFE_S: u64 = 60;

pub async fn check(config: &Config) -> Finding {
    let Some(upstream) = &config.upstream else {
        return Finding::Warning(
            "no upstream is configured: what is bound upstream waits in the log until it expires; write [upstream] with \
             url = \"mqtts://your-broker:8883\""
                .to_owned(),
        );
    };
    let places = match ways::places(upstream, &config.net) {
        Ok(places) => places,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for Place { name, hub, targets } in &places {
        for target in targets {
            let way = format!("{name} by {}", target.way.transport());
            match try_way(target, upstream, hub.as_deref(), &config.edge).await {
                Ok(how) => good.push(format!("{way}: welcomes us ({how})")),
                Err(why) => bad.push(format!("{way}: {why}")),
            }
        }
    }
    match concierge(upstream, config, &places).await {
        Ok(said) => good.extend(said),
        Err(why) => bad.push(format!("the concierge: {why}")),
    }
    let all =
        |first: Vec<String>, then: Vec<String>| first.into_iter().chain(then).collect::<Vec<_>>().join("\n");
    match (good.is_empty(), bad.is_empty()) {
        (_, true) => Finding::Ok(good.join("\n")),
        (false, false) => Finding::Warning(all(bad, good)),
        (true, false) => Finding::Error(bad.join("\n")),
    }
}

/// Asks the concierge, if there is one; tells what it says.
async fn concierge(upstream: &Upstream, config: &Config, places: &[Place]) -> Result<Option<String>, String> {
    let concierge = ways::concierge(upstream, &config.net).map_err(|error| format!("{error:#}"))?;
    let Some(concierge) = concierge else { return Ok(None) };
    let names: Vec<_> = places.iter().map(|place| place.name.clone()).collect();
    let said = concierge.ask(&names, Timeouts::default()).await.map_err(|fault| fault.to_string())?;
    Ok(Some(format!("the concierge names {said}")))
}

/// Tries one way; tells how it is encrypted, or what to do.
async fn try_way(
    target: &Target,
    upstream: &Upstream,
    hub: Option<&str>,
    edge: &Name,
) -> Result<String, String> {
    let stream = dial(target, Timeouts::default()).await.map_err(|error| error.to_string())?;
    let how = stream.describe_encryption().unwrap_or_else(|| "not encrypted".to_owned());
    match timeout(ANSWER_WITHIN, welcomed(stream, upstream, hub, edge)).await {
        Ok(Ok(())) => Ok(how),
        Ok(Err(error)) if error.is::<ProtocolError>() => Err(format!(
            "what answers there does not speak MQTT ({error:#}); if the port speaks TLS, write mqtts:// or wss://"
        )),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err(format!(
            "it takes connections and does not answer CONNECT within {} s; is it an MQTT broker?",
            ANSWER_WITHIN.as_secs()
        )),
    }
}

/// Connects as the edge does, but under another client id, so that a running edge is not thrown out. A hub knows an edge by
/// its client id: it is asked as the device, not as the edge's own part that is linked.
async fn welcomed(
    stream: Stream,
    upstream: &Upstream,
    name: Option<&str>,
    edge: &Name,
) -> anyhow::Result<()> {
    let version = match upstream.version {
        MqttVersion::V311 => Version::V311,
        MqttVersion::V5 => Version::V5,
    };
    let mut wire = Wire::client(stream, version);
    let mut connect = Connect::new(version, format!("{}-check", upstream.client_id));
    connect.user_name = upstream.user.as_deref().map(Into::into);
    connect.password = parts::password(upstream.password.as_ref())?.map(|secret| secret.0);
    if let Some(hub) = &upstream.hub {
        let name = name.unwrap_or(&hub.name);
        connect.client_id = edge.as_str().into();
        connect.user_name = Some(format!("{name}/{edge}/?api-version=2021-04-12").into());
        let expiry_s = now().0 / 1000 + TOKEN_LIFE_S;
        let token = |key| sas::token(name, &Identity::device(edge.clone()), &key, expiry_s);
        connect.password = parts::hub_key(hub)?.map(token).map(|token| token.into_bytes().into());
    }
    wire.push(&Packet::Connect(Box::new(connect)))?;
    wire.flush().await?;
    match wire.receive().await? {
        Packet::ConnAck(answer) if answer.reason == ReasonCode::Success => Ok(()),
        Packet::ConnAck(answer) if upstream.hub.is_some() => {
            let is_iot_hub = upstream.hub.as_ref().is_some_and(|hub| hub.kind == HubKind::IotHub);
            let there = match is_iot_hub {
                true => format!("at the device {edge} of the IoT Hub"),
                false => format!("at `holdfast hub device show {edge}` there"),
            };
            bail!(
                "the hub refuses us: {}; look at upstream.hub (or upstream.hubs.name) and upstream.key_file, and {there}",
                answer.reason.text()
            )
        }
        Packet::ConnAck(answer) => bail!(
            "the broker refuses us: {}; look at upstream.user, upstream.password and upstream.client_id",
            answer.reason.text()
        ),
        other => bail!("the broker answers CONNECT with {}", other.name()),
    }
}
