//! `holdfast method`, and messages to children.

use super::{client, logs, message};
use crate::{
    cli::{CloudToDeviceArgs, MethodCallArgs},
    output,
};
use anyhow::bail;
use holdfast_api::{DeviceboundRequest, Item, MessageText, MethodRequest, Request};
use serde_json::Value;
use std::path::Path;

/// Calls a method and shows the reply. Gives whether it is one of success.
pub async fn call(control: &Path, args: &MethodCallArgs, json: bool) -> anyhow::Result<bool> {
    let request = Request::Method(MethodRequest {
        who: args.who.clone(),
        name: args.name.clone(),
        payload: args.payload.clone(),
        response_ms: args.timeout.saturating_mul(1000),
        connect_ms: args.connect.saturating_mul(1000),
    });
    let items = client::ask(control, &request).await?;
    let [Item::MethodReply(reply)] = items.as_slice() else {
        bail!("the edge gave an unexpected answer: {items:?}")
    };
    if json {
        output::json(reply)?;
    } else {
        output::line(format!("status {}", reply.status));
        if reply.payload != Value::Null {
            let text = serde_json::to_string_pretty(&reply.payload)?;
            text.lines().for_each(|line| output::line(output::foreign(line)));
        }
    }
    Ok((200..400).contains(&reply.status))
}

/// Leaves a message for a child.
pub async fn cloud_to_device(control: &Path, args: &CloudToDeviceArgs, json: bool) -> anyhow::Result<()> {
    let message = message::built(&args.content)?;
    let request = Request::CloudToDevice(DeviceboundRequest {
        child: args.device.clone(),
        message: MessageText::of(&message, usize::MAX),
        life_ms: args.expires_in.as_deref().map(logs::age_ms).transpose()?,
    });
    client::done(control, &request, json).await
}
