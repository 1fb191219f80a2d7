//! A message as the command line writes it.

use crate::cli::{ContentArgs, MessageArgs};
use anyhow::{Context, bail};
use holdfast_types::{Message, Name, Source, SystemKey, Topic};
use std::io::Read;

/// The message that the arguments describe, and who sends it.
pub fn parse(args: &MessageArgs) -> anyhow::Result<(Source, Message)> {
    let message = built(&args.content)?;
    Ok((source(&args.from)?, message))
}

/// A message with this content.
pub fn built(args: &ContentArgs) -> anyhow::Result<Message> {
    let mut message = Message::new(body(&args.body)?);
    for property in &args.properties {
        let (key, value) = pair(property, "--property")?;
        message.properties.set(key, value);
    }
    if args.json_body {
        message.system.set(SystemKey::ContentType, "application/json");
        message.system.set(SystemKey::ContentEncoding, "utf-8");
    }
    for property in &args.system {
        let (key, value) = pair(property, "--system")?;
        message.system.set(system_key(key)?, value);
    }
    Ok(message)
}

fn body(text: &str) -> anyhow::Result<Vec<u8>> {
    if text != "-" {
        return Ok(text.as_bytes().to_vec());
    }
    let mut bytes = Vec::new();
    std::io::stdin()
        .lock()
        .read_to_end(&mut bytes)
        .context("standard input could not be read as the body")?;
    Ok(bytes)
}

fn pair<'a>(text: &'a str, option: &str) -> anyhow::Result<(&'a str, &'a str)> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => bail!("{option} {text:?} is not NAME=VALUE; write for example {option} level=high"),
    }
}

fn system_key(name: &str) -> anyhow::Result<SystemKey> {
    let may_be_set = || SystemKey::ALL.iter().filter(|key| !key.is_stamped());
    let found =
        may_be_set().find(|key| key.route_name().eq_ignore_ascii_case(name) || key.wire_name() == name);
    match found {
        Some(key) => Ok(*key),
        None => {
            let known: Vec<&str> = may_be_set().map(|key| key.route_name()).collect();
            bail!("{name:?} is not a system property that a sender may set; those are {}", known.join(", "))
        }
    }
}

/// `module/output`, `module`, or `child:topic`.
pub fn source(text: &str) -> anyhow::Result<Source> {
    let name = |part: &str| Name::new(part).with_context(|| format!("in the source {text:?}"));
    if let Some((child, topic)) = text.split_once(':') {
        let topic = Topic::new(topic).with_context(|| format!("in the source {text:?}"))?;
        return Ok(Source::Child { child: name(child)?, topic: Some(topic) });
    }
    match text.split_once('/') {
        Some((module, output)) => Ok(Source::Module { module: name(module)?, output: Some(name(output)?) }),
        None => Ok(Source::Module { module: name(text)?, output: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(from: &str) -> MessageArgs {
        let content = ContentArgs { body: "21".into(), properties: vec![], system: vec![], json_body: false };
        MessageArgs { from: from.into(), content }
    }

    #[test]
    fn a_source_is_a_module_with_or_without_output_or_a_child_with_a_topic() {
        assert_eq!(source("window/mean").unwrap().route_path(), "/messages/modules/window/outputs/mean");
        assert_eq!(source("window").unwrap().route_path(), "/messages/modules/window");
        assert_eq!(source("sensor-1:plant/t").unwrap().to_string(), "sensor-1:plant/t");
        assert!(format!("{:#}", source("a b").unwrap_err()).contains("not allowed in a name"));
        assert!(format!("{:#}", source("s:a/#").unwrap_err()).contains("wildcards"));
    }

    #[test]
    fn properties_are_taken_by_name_and_bad_ones_say_how_to_write_them() {
        let mut good = args("m/o");
        good.content.properties = vec!["level=high=very".into()];
        good.content.system = vec!["correlationid=7".into()];
        good.content.json_body = true;
        let (_, message) = parse(&good).unwrap();
        assert_eq!(message.properties.value("level"), Some("high=very"));
        assert_eq!(message.system.value(SystemKey::CorrelationId), Some("7"));
        assert_eq!(message.system.value(SystemKey::ContentType), Some("application/json"));
        let mut bad = args("m/o");
        bad.content.properties = vec!["level".into()];
        assert!(parse(&bad).unwrap_err().to_string().contains("NAME=VALUE"));
        bad = args("m/o");
        bad.content.system = vec!["colour=red".into()];
        assert!(parse(&bad).unwrap_err().to_string().contains("contentType"));
        // Who sent a message is what its sender has proved, and not what it says.
        bad.content.system = vec!["connectionAuthMethod=mine".into()];
        assert!(!parse(&bad).unwrap_err().to_string().contains("those are connectionAuthMethod"));
    }
}
