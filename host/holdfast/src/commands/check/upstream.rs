//! Whether the way upstream is open: name, port, certificate, and the broker's own answer.

use super::Finding;
use crate::{run::parts, wire::Wire};
use anyhow::bail;
use holdfast_config::{Config, MqttVersion, Upstream};
use holdfast_mqtt::{Connect, Packet, ReasonCode, Version};
use holdfast_net::{Stream, Timeouts, dial};
use std::time::Duration;
use tokio::time::timeout;

/// How long the broker may take to answer CONNECT.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub async fn check(config: &Config) -> Finding {
    let Some(upstream) = &config.upstream else {
        return Finding::Warning(
            "no upstream is configured: what is bound upstream waits in the log until it expires; write [upstream] with \
             url = \"mqtts://your-broker:8883\""
                .to_owned(),
        );
    };
    let target = match parts::target(upstream) {
        Ok(target) => target,
        Err(error) => return Finding::Error(format!("{error:#}")),
    };
    let stream = match dial(&target, Timeouts::default()).await {
        Ok(stream) => stream,
        Err(error) => return Finding::Error(error.to_string()),
    };
    let how = stream.describe_encryption().unwrap_or_else(|| "plain TCP".to_owned());
    match timeout(ANSWER_WITHIN, welcomed(stream, upstream)).await {
        Ok(Ok(())) => Finding::Ok(format!("{} welcomes us ({how})", upstream.address)),
        Ok(Err(error)) => Finding::Error(format!("{}: {error:#}", upstream.address)),
        Err(_) => Finding::Error(format!(
            "{} takes connections and does not answer CONNECT within {} s; is it an MQTT broker?",
            upstream.address,
            ANSWER_WITHIN.as_secs()
        )),
    }
}

/// Connects as the edge does, but under another client id, so that a running edge is not thrown out.
async fn welcomed(stream: Stream, upstream: &Upstream) -> anyhow::Result<()> {
    let version = match upstream.version {
        MqttVersion::V311 => Version::V311,
        MqttVersion::V5 => Version::V5,
    };
    let mut wire = Wire::client(stream, version);
    let mut connect = Connect::new(version, format!("{}-check", upstream.client_id));
    connect.user_name = upstream.user.as_deref().map(Into::into);
    connect.password = parts::password(upstream.password.as_ref())?.map(|secret| secret.0);
    wire.push(&Packet::Connect(Box::new(connect)))?;
    wire.flush().await?;
    match wire.receive().await? {
        Packet::ConnAck(answer) if answer.reason == ReasonCode::Success => Ok(()),
        Packet::ConnAck(answer) => bail!(
            "the broker refuses us: {}; look at upstream.user, upstream.password and upstream.client_id",
            answer.reason.text()
        ),
        other => bail!("the broker answers CONNECT with {}", other.name()),
    }
}
