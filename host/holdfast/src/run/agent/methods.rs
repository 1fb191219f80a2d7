//! The methods of `$edgeAgent`: `ping`, `RestartModule`, `GetModuleLogs`.

use super::report::time;
use crate::commands::logs::age_ms;
use holdfast_broker::{Broker, METHOD_BYTES_MAX, MethodReply};
use holdfast_engine::{CommandError, EngineHandle, LogLevel, LogLine, LogQuery};
use holdfast_types::UnixMillis;
use serde::Deserialize;
use serde_json::{Value, json};

/// Most bytes of log lines in a reply; names and quotes have room beside them.
const LOG_BYTES_MAX: usize = METHOD_BYTES_MAX * 3 / 4;

/// What a method answers: a status and JSON.
type Answer = (i32, Value);

#[derive(Deserialize)]
struct Restart {
    id: String,
}

#[derive(Deserialize)]
struct Logs {
    items: Vec<LogItem>,
    #[serde(default)]
    encoding: Option<String>,
    #[serde(default, rename = "contentType")]
    content_type: Option<String>,
}

#[derive(Deserialize)]
struct LogItem {
    id: String,
    #[serde(default)]
    filter: Filter,
}

#[derive(Default, Deserialize)]
struct Filter {
    tail: Option<usize>,
    /// Seconds since 1970, or an age: `10m`.
    since: Option<Value>,
    until: Option<Value>,
    /// As syslog counts: 0 is the gravest, 7 the finest.
    loglevel: Option<u8>,
    regex: Option<String>,
}

/// Answers one call.
pub async fn answer(broker: &Broker, engine: &EngineHandle, method: &str, payload: &[u8]) -> MethodReply {
    let (status, payload) = match method.to_ascii_lowercase().as_str() {
        "ping" => (200, Value::Null),
        "restartmodule" => restart(engine, payload).await,
        "getmodulelogs" => logs(broker, engine, payload),
        "uploadmodulelogs" | "uploadsupportbundle" | "gettaskstatus" => failed(
            501,
            "nothing is uploaded from here; ask for lines with GetModuleLogs, or run `holdfast logs`",
        ),
        _ => failed(404, "there is no such method; there are ping, RestartModule and GetModuleLogs"),
    };
    MethodReply { status, payload: payload.to_string().into() }
}

fn failed(status: i32, why: &str) -> Answer {
    (status, json!({ "message": why }))
}

async fn restart(engine: &EngineHandle, payload: &[u8]) -> Answer {
    let Restart { id } = match serde_json::from_slice(payload) {
        Ok(asked) => asked,
        Err(error) => {
            return failed(400, &format!("{error}; send {{\"schemaVersion\": \"1.0\", \"id\": \"MODULE\"}}"));
        }
    };
    if ["edgeagent", "edgehub"].contains(&id.trim_start_matches('$').to_ascii_lowercase().as_str()) {
        return failed(400, "that is the host itself; restart its process where it was started");
    }
    match engine.restart(&id).await {
        Ok(()) => (200, Value::Null),
        Err(error @ CommandError::NoSuchModule { .. }) => failed(404, &error.to_string()),
        Err(error @ CommandError::Busy { .. }) => failed(429, &error.to_string()),
        Err(error @ CommandError::Stopping) => failed(503, &error.to_string()),
        Err(
            error @ (CommandError::NotLoaded { .. }
            | CommandError::IsNext { .. }
            | CommandError::NoNext { .. }
            | CommandError::NextFetched { .. }
            | CommandError::Hidden { .. }
            | CommandError::File { .. }),
        ) => failed(409, &error.to_string()),
    }
}

fn logs(broker: &Broker, engine: &EngineHandle, payload: &[u8]) -> Answer {
    let asked: Logs = match serde_json::from_slice(payload) {
        Ok(asked) => asked,
        Err(error) => {
            let example =
                "{\"schemaVersion\": \"1.0\", \"items\": [{\"id\": \"MODULE\", \"filter\": {\"tail\": 10}}]}";
            return failed(400, &format!("{error}; send {example}"));
        }
    };
    if asked.encoding.as_deref().is_some_and(|encoding| encoding != "none") {
        return failed(400, "lines are sent as they are; leave encoding out, or write \"none\"");
    }
    let as_json = match asked.content_type.as_deref() {
        None | Some("text") => false,
        Some("json") => true,
        Some(other) => {
            return failed(400, &format!("contentType {other:?} is not known; write \"text\" or \"json\""));
        }
    };
    let mut left = LOG_BYTES_MAX;
    let mut replies = Vec::new();
    for item in &asked.items {
        let names: Vec<String> = match item.id.as_str() {
            ".*" | "*" => engine.list().into_iter().map(|module| module.name).collect(),
            name => vec![name.to_owned()],
        };
        for name in names {
            match module(engine, &name, &item.filter, broker.now(), &mut left) {
                Ok(lines) => replies.push(json!({ "id": name, "payload": shown(&name, &lines, as_json) })),
                Err(answer) => return answer,
            }
        }
    }
    (200, Value::Array(replies))
}

/// The lines of a module that the filter lets through; the newest that have room.
fn module(
    engine: &EngineHandle,
    name: &str,
    filter: &Filter,
    now: UnixMillis,
    left: &mut usize,
) -> Result<Vec<LogLine>, Answer> {
    if filter.regex.is_some() {
        return Err(failed(400, "lines are not searched here; leave regex out"));
    }
    let moment = |given: &Option<Value>| match given {
        None => Ok(None),
        Some(Value::Number(seconds)) => Ok(seconds.as_u64().map(|seconds| seconds.saturating_mul(1000))),
        Some(Value::String(text)) => age_ms(text)
            .map(|age| Some(now.0.saturating_sub(age)))
            .map_err(|error| failed(400, &format!("{error:#}"))),
        Some(other) => {
            Err(failed(400, &format!("{other} is no time; write seconds since 1970, or an age as \"10m\"")))
        }
    };
    let (since, until) = (moment(&filter.since)?, moment(&filter.until)?);
    let query = LogQuery { tail: None, since: since.map(UnixMillis), follow: false };
    let mut reader = engine.logs(name, query).map_err(|error| failed(404, &error.to_string()))?;
    let mut lines = reader.ready();
    lines.retain(|line| {
        until.is_none_or(|until| line.at.0 < until)
            && filter.loglevel.is_none_or(|most| severity(line.level) <= most)
    });
    let from = filter.tail.map_or(0, |tail| lines.len().saturating_sub(tail));
    let mut newest: Vec<LogLine> = Vec::new();
    for line in lines.drain(from..).rev() {
        // Time, level and quotes take their room too.
        let bytes = line.text.len() * 2 + 64;
        if bytes > *left {
            break;
        }
        *left -= bytes;
        newest.push(line);
    }
    newest.reverse();
    Ok(newest)
}

/// As syslog counts.
const fn severity(level: LogLevel) -> u8 {
    match level {
        LogLevel::Critical => 2,
        LogLevel::Error => 3,
        LogLevel::Warn => 4,
        LogLevel::Info => 6,
        LogLevel::Debug | LogLevel::Trace => 7,
    }
}

fn shown(name: &str, lines: &[LogLine], as_json: bool) -> Value {
    if as_json {
        let one = |line: &LogLine| json!({ "id": name, "loglevel": severity(line.level), "timestamp": time(line.at), "text": &*line.text });
        return Value::Array(lines.iter().map(one).collect());
    }
    let one = |line: &LogLine| format!("<{}> {} {}\n", severity(line.level), time(line.at), line.text);
    Value::String(lines.iter().map(one).collect())
}
