//! The wire as it is written: a change of these lines is a change of its version.

use holdfast_api::{
    Body, DeploymentAction, DeploymentRequest, LogsRequest, MessageText, ModuleAction, ModuleRequest,
    PeekRequest, PurgeRequest, Request, RequeueRequest, SendRequest, Sender, TailRequest,
};
use std::collections::BTreeMap;

fn message() -> MessageText {
    MessageText {
        body: Body::Text("{}".to_owned()),
        body_bytes: None,
        properties: BTreeMap::from([("level".to_owned(), "alarm".to_owned())]),
        system: BTreeMap::from([("contentType".to_owned(), "application/json".to_owned())]),
        creation_time_ms: None,
    }
}

#[test]
fn every_request_is_written_as_it_was_and_read_as_it_is_written() {
    let name = |text: &str| Some(text.to_owned());
    let sender = Sender::Module { module: "sim".to_owned(), output: name("out") };
    let log = || "upstream".to_owned();
    let cases = [
        (Request::Status, r#""status""#),
        (Request::Modules, r#""modules""#),
        (
            Request::Module(ModuleRequest { action: ModuleAction::Restart, module: None }),
            r#"{"module":{"action":"restart"}}"#,
        ),
        (
            Request::Logs(LogsRequest {
                module: name("sim"),
                tail: Some(5),
                follow: true,
                ..LogsRequest::default()
            }),
            r#"{"logs":{"module":"sim","tail":5,"follow":true}}"#,
        ),
        (
            Request::Tail(TailRequest {
                route: name("alarms"),
                body_bytes_max: 80,
                ..TailRequest::default()
            }),
            r#"{"tail":{"route":"alarms","body_bytes_max":80}}"#,
        ),
        (Request::Queues, r#""queues""#),
        (
            Request::Peek(PeekRequest {
                log: log(),
                priority: Some(0),
                from: None,
                count: 3,
                body_bytes_max: 80,
                dead: true,
            }),
            r#"{"peek":{"log":"upstream","priority":0,"count":3,"body_bytes_max":80,"dead":true}}"#,
        ),
        (
            Request::Purge(PurgeRequest { log: log(), priority: None, dead: false }),
            r#"{"purge":{"log":"upstream","dead":false}}"#,
        ),
        (
            Request::Requeue(RequeueRequest { log: log(), offsets: Some(vec![1, 2]) }),
            r#"{"requeue":{"log":"upstream","offsets":[1,2]}}"#,
        ),
        (
            Request::Send(SendRequest { from: sender, message: message() }),
            concat!(
                r#"{"send":{"from":{"module":{"module":"sim","output":"out"}},"message":{"body":{"text":"{}"},"#,
                r#""properties":{"level":"alarm"},"system":{"contentType":"application/json"}}}}"#
            ),
        ),
        (
            Request::Deployment(DeploymentRequest {
                action: DeploymentAction::Apply { id: "line-7".to_owned(), manifest: "{}".to_owned() },
                wait: false,
            }),
            r#"{"deployment":{"action":{"apply":{"id":"line-7","manifest":"{}"}},"wait":false}}"#,
        ),
        (
            Request::Deployment(DeploymentRequest { action: DeploymentAction::Clear, wait: true }),
            r#"{"deployment":{"action":"clear","wait":true}}"#,
        ),
        (Request::Routes, r#""routes""#),
        (Request::Check, r#""check""#),
        (Request::LogLevel(holdfast_api::Level::Debug), r#"{"log-level":"debug"}"#),
        (Request::Stop, r#""stop""#),
    ];
    for (request, json) in cases {
        assert_eq!(serde_json::to_string(&request).unwrap(), json);
        assert_eq!(serde_json::from_str::<Request>(json).unwrap(), request, "{json}");
    }
}
