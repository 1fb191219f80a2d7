//! What the API is, as OpenAPI 3.1 says it.

use serde_json::{Map, Value, json};

/// Path, method, what it does, what it takes.
const OPERATIONS: &[(&str, &str, &str, &str)] = &[
    ("/status", "get", "The hub in numbers", ""),
    ("/edges", "get", "Every edge: link, stored telemetry with gaps, deployment", ""),
    ("/events", "get", "The stream of telemetry as lines of JSON", "?from ?follow ?count ?device"),
    ("/devices", "get", "Every device", "?secrets"),
    ("/devices/{device}", "get", "A device", "?secrets"),
    ("/devices/{device}", "put", "Add a device, or change what is given of it", "Device"),
    ("/devices/{device}", "delete", "Remove a device, its modules and its twin", ""),
    ("/devices/{device}/modules", "get", "The modules of a device", "?secrets"),
    ("/devices/{device}/modules/{module}", "get", "A module", "?secrets"),
    ("/devices/{device}/modules/{module}", "put", "Add or change a module", "Device"),
    ("/devices/{device}/modules/{module}", "delete", "Remove a module", ""),
    ("/devices/{device}/messages/devicebound", "post", "Leave a message for a device", "Message"),
    ("/devices/{device}/messages/devicebound", "get", "How many messages wait for a device", ""),
    ("/twins/{device}", "get", "The twin of a device, with its tags", ""),
    ("/twins/{device}", "patch", "Merge into desired properties and tags; null deletes", "Twin"),
    ("/twins/{device}/modules/{module}", "get", "The twin of a module", ""),
    ("/twins/{device}/modules/{module}", "patch", "Merge into desired properties", "Twin"),
    ("/twins/{device}/methods", "post", "Call a method of a device", "Method"),
    ("/twins/{device}/modules/{module}/methods", "post", "Call a method of a module", "Method"),
    (
        "/registry/export",
        "post",
        "The registry as lines of JSON, credentials sealed for a hub or under a password",
        "Export",
    ),
    ("/registry/import", "post", "Merge an export into the registry", "Import"),
    ("/registry/recipient", "get", "The key that other hubs export to, so that this one can import it", ""),
    ("/openapi.json", "get", "This document; needs no token", ""),
    ("/concierge", "get", "Which hub is the active one, signed; needs no token", ""),
    ("/registry/changes", "get", "What has changed after a revision, for a secondary hub", "?after ?wait"),
    ("/deployments", "get", "Every deployment", ""),
    ("/deployments/{id}", "get", "A deployment", ""),
    (
        "/deployments/{id}",
        "put",
        "Give a deployment to one edge, or to those for which a condition holds",
        "Deployment",
    ),
    ("/deployments/{id}", "delete", "Take a deployment back", ""),
];

/// What is answered without a token.
const OPEN: &[&str] = &["/concierge", "/openapi.json"];

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for (path, method, summary, takes) in OPERATIONS {
        let places = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
        let mut parameters: Vec<Value> = places
            .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
            .collect();
        for name in takes.split(' ').filter_map(|word| word.strip_prefix('?')) {
            parameters.push(json!({ "name": name, "in": "query", "schema": { "type": "string" } }));
        }
        let id = path.split(['/', '{', '}']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-");
        let mut operation = json!({
            "operationId": format!("{method}-{id}"), "summary": summary, "parameters": parameters,
            "responses": {
                "2XX": { "description": "done" },
                "default": { "description": "what went wrong, and the fix", "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Error" } } } },
            },
        });
        if !takes.is_empty() && !takes.starts_with('?') {
            let schema = json!({ "$ref": format!("#/components/schemas/{takes}") });
            let body = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
            operation.as_object_mut().map(|operation| operation.insert("requestBody".to_owned(), body));
        }
        let methods = paths.entry((*path).to_owned()).or_insert_with(|| json!({}));
        if OPEN.contains(path)
            && let Some(operation) = operation.as_object_mut()
        {
            operation.insert("security".to_owned(), json!([]));
        }
        if let Some(methods) = methods.as_object_mut() {
            methods.insert((*method).to_owned(), operation);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "Holdfast hub", "version": env!("CARGO_PKG_VERSION") },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    let text = json!({ "type": "string" });
    let may_be_text = json!({ "type": ["string", "null"] });
    let object = json!({ "type": "object" });
    json!({
        "Error": { "type": "object", "properties": { "error": text } },
        "Device": { "type": "object", "additionalProperties": false, "properties": {
            "status": { "enum": ["enabled", "disabled"] },
            "edge": { "type": "boolean" },
            "parent": may_be_text,
            "credential": { "oneOf": [
                { "const": "generate" },
                { "type": "object", "required": ["type", "primary"], "properties": {
                    "type": { "enum": ["sas", "selfSigned"] }, "primary": text, "secondary": may_be_text } },
                { "type": "object", "required": ["type"], "properties": { "type": { "const": "certificateAuthority" } } },
            ] },
        } },
        "Twin": { "type": "object", "additionalProperties": false, "properties": { "desired": object, "tags": object } },
        "Method": { "type": "object", "required": ["methodName"], "additionalProperties": false, "properties": {
            "methodName": text, "payload": {},
            "responseTimeoutInSeconds": { "type": "integer", "minimum": 5, "maximum": 300 },
            "connectTimeoutInSeconds": { "type": "integer", "minimum": 0, "maximum": 300 },
        } },
        "Message": { "type": "object", "required": ["message"], "additionalProperties": false, "properties": {
            "message": { "type": "object", "required": ["body"], "properties": {
                "body": { "type": "string", "contentEncoding": "base64" },
                "properties": { "type": "array" }, "system": { "type": "array" } } },
            "life_s": { "type": ["integer", "null"], "minimum": 1 },
        } },
        "Export": { "type": "object", "additionalProperties": false, "minProperties": 1, "maxProperties": 1,
            "properties": { "password": { "type": "string", "minLength": 12 }, "recipient": text } },
        "Import": { "type": "object", "required": ["text"], "additionalProperties": false, "properties": {
            "password": text, "text": text } },
        "Deployment": { "type": "object", "required": ["target", "manifest"], "properties": {
            "target": { "oneOf": [
                { "type": "object", "required": ["device"], "properties": { "device": text } },
                { "type": "object", "required": ["condition"], "properties": { "condition": text } },
            ] },
            "priority": { "type": "integer", "minimum": 0 },
            "manifest": object,
        } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// What `$ref` names, wherever it stands.
    fn names(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(name)) = fields.get("$ref") {
                    found.insert(name.clone());
                }
                fields.values().for_each(|inner| names(inner, found));
            }
            Value::Array(items) => items.iter().for_each(|inner| names(inner, found)),
            _ => {}
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_and_what_it_refers_to_is_there() {
        let document = document();
        let mut ids = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for operation in methods.as_object().unwrap().values() {
                assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
                assert_eq!(operation["security"].is_array(), OPEN.contains(&path.as_str()), "{path}");
            }
        }
        assert_eq!(ids.len(), OPERATIONS.len());
        let mut found = BTreeSet::new();
        names(&document, &mut found);
        assert!(found.len() >= 7, "{found:?}");
        for name in found {
            let at = name.strip_prefix('#').unwrap_or_default();
            assert!(document.pointer(at).is_some_and(Value::is_object), "{name}");
        }
    }
}
