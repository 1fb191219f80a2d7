//! `$edgeAgent`: which modules there are; and the desired properties of modules.

use super::{
    Deployment, FaultCode, Image, MODULES_MAX, Module, PullPolicy, RestartPolicy, create_options,
    node::{Fields, Node},
};
use holdfast_types::Name;
use serde_json::Value;

const RUNNING: &[(&str, bool)] = &[("running", true), ("stopped", false)];
const RESTART: &[(&str, RestartPolicy)] = &[
    ("never", RestartPolicy::Never),
    ("on-failure", RestartPolicy::OnFailure),
    ("on-unhealthy", RestartPolicy::OnUnhealthy),
    ("always", RestartPolicy::Always),
];
const PULL: &[(&str, PullPolicy)] = &[("on-create", PullPolicy::OnCreate), ("never", PullPolicy::Never)];
/// What a module here is made of: a container's manifest says docker.
const KINDS: &[(&str, ())] = &[("docker", ()), ("wasm", ())];

/// What is said of keys that nobody knows, here and at IoT Edge.
const UNKNOWN: &str = "this key is not known";

/// Reads `$edgeAgent`.
pub(super) fn read(agent: &Node<'_>, into: &mut Deployment) {
    let Some(mut fields) = agent.fields("{\"schemaVersion\": \"1.1\", \"modules\": {…}}") else { return };
    if fields.all().next().is_none() {
        let fix = "write at least a schemaVersion and modules";
        return agent.fault_of(FaultCode::Empty, "there is nothing to deploy", fix);
    }
    schema(&mut fields);
    if let Some(runtime) = fields.take("runtime") {
        runtime.not_carried(
            "modules are run by this host itself; registries and their credentials are its own settings",
        );
    }
    if let Some(system) = fields.take("systemModules") {
        system_modules(&system);
    }
    if let Some(modules) = fields.take("modules").and_then(|node| node.fields("{\"NAME\": {…}}")) {
        let count = modules.all().count();
        if count > MODULES_MAX {
            let reason = format!("there are {count} modules; at most {MODULES_MAX} are run");
            modules.node.fault(reason, "leave out those that this edge does not need");
            return;
        }
        for (name, node) in modules.all() {
            if let (Some(name), Some(module)) = (module_name(name, &node), module(&node)) {
                into.modules.insert(name, module);
            }
        }
    }
    signature(&mut fields);
    fields.finish(UNKNOWN);
}

/// The version of the schema: 1.0 to 1.3 are known, and later ones of the same family are read as far as they are known.
pub(super) fn schema(fields: &mut Fields<'_>) {
    let fix = "write \"schemaVersion\": \"1.1\"";
    let Some(node) = fields.take("schemaVersion") else {
        return fields.node.fault_of(FaultCode::Schema, "there is no schemaVersion", fix);
    };
    let text = node.value.as_str().unwrap_or_default();
    let mut numbers = text.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(1)), None | Some(Ok(0..=3))) => {}
        (Some(Ok(1)), Some(Ok(_))) => node.not_carried("what this version has beyond 1.3 is not known here"),
        _ => node.fault_of(FaultCode::Schema, format!("schema version {} is not known", node.value), fix),
    }
}

/// Schema 1.3: a manifest may be signed.
pub(super) fn signature(fields: &mut Fields<'_>) {
    if let Some(integrity) = fields.take("integrity") {
        integrity.not_carried("the signature of the manifest is not checked");
    }
}

fn system_modules(node: &Node<'_>) {
    let Some(modules) = node.fields("{\"edgeAgent\": {…}, \"edgeHub\": {…}}") else { return };
    for (name, module) in modules.all() {
        let Some(mut fields) = module.fields("an object") else { continue };
        if let Some(env) = fields.take("env").and_then(|env| env.fields("{\"NAME\": {\"value\": \"…\"}}")) {
            for (variable, node) in env.all() {
                node.not_carried(instead_of(variable));
            }
        }
        if let Some(settings) = fields.take("settings") {
            settings.not_carried(format!(
                "the work of {name} is done by this host; there is no container to make"
            ));
        }
        for key in ["type", "status", "restartPolicy", "startupOrder", "imagePullPolicy", "version"] {
            // They are those of a container, and say nothing of what it does.
            fields.take(key);
        }
        fields.finish(UNKNOWN);
    }
}

/// What does the work of a variable of `edgeHub` or `edgeAgent`.
fn instead_of(variable: &str) -> String {
    let setting = match variable.to_ascii_lowercase().as_str() {
        "upstreamprotocol" => "how the link goes upstream is in [upstream] of holdfast.toml",
        "optimizeforperformance" => "store.profile = \"small\" in holdfast.toml is for small devices",
        "storagefolder" | "backupconfigfilepath" => {
            "paths.data in holdfast.toml is where everything durable lies"
        }
        "runtimeloglevel" => "log.level in holdfast.toml, or `holdfast log`, sets what is logged",
        "https_proxy" | "http_proxy" | "no_proxy" => "a proxy is a setting of the link in holdfast.toml",
        "maxconnectedclients" => "gateway.connections_max in holdfast.toml bounds the connections",
        "mqttsettings__enabled" | "amqpsettings__enabled" | "httpsettings__enabled" | "sslprotocols" => {
            "gateway.listen in holdfast.toml says what devices may speak"
        }
        _ => "it is for the container of IoT Edge",
    };
    setting.to_owned()
}

fn module_name(name: &str, node: &Node<'_>) -> Option<Name> {
    let bad = |reason: String| {
        node.fault(reason, "give the module another name, of letters, digits and hyphens");
        None
    };
    if name.starts_with('$') {
        return bad(format!("{name:?} is a name of the host itself"));
    }
    Name::new(name).map_or_else(|why| bad(format!("{name:?} cannot be the name of a module: {why}")), Some)
}

fn module(node: &Node<'_>) -> Option<Module> {
    let mut fields = node.fields("{\"settings\": {\"image\": \"…\"}, \"status\": \"running\", …}")?;
    if let Some(kind) = fields.take("type") {
        kind.word(KINDS);
    }
    let running = fields.take("status").and_then(|node| node.word(RUNNING)).unwrap_or(true);
    let restart = fields.take("restartPolicy").and_then(|node| node.word(RESTART)).unwrap_or_default();
    let pull = fields.take("imagePullPolicy").and_then(|node| node.word(PULL)).unwrap_or_default();
    let start_order = fields.take("startupOrder").map_or(u32::MAX, |node| {
        let number = node.value.as_u64().and_then(|number| u32::try_from(number).ok());
        if number.is_none() {
            node.fault(
                format!("the start order {} is out of bounds", node.value),
                "write 0 (first) to 4294967295 (last, the default)",
            );
        }
        number.unwrap_or(u32::MAX)
    });
    let version = fields.take("version").and_then(|node| node.text("\"1.0\"")).map(str::to_owned);
    let mut module = Module {
        image: Image::File(String::new()),
        running,
        restart,
        start_order,
        pull,
        environment: std::collections::BTreeMap::new(),
        version,
    };
    if let Some(env) = fields.take("env") {
        environment(&env, &mut module);
    }
    let settings = fields.take("settings");
    let image = match &settings {
        Some(settings) => self::settings(settings, &mut module),
        None => {
            node.fault("the module has no settings", "add \"settings\": {\"image\": \"NAME.wasm\"}");
            None
        }
    };
    fields.finish(UNKNOWN);
    image.map(|image| Module { image, ..module })
}

fn settings(node: &Node<'_>, module: &mut Module) -> Option<Image> {
    let mut fields = node.fields("{\"image\": \"NAME.wasm\"}")?;
    create_options::read(&mut fields, module);
    let image = match fields.take("image") {
        Some(image) => {
            let parsed = image.text("\"NAME.wasm\"").map(Image::parse)?;
            parsed.map_err(|(reason, fix)| image.fault(reason, fix)).ok()
        }
        None => {
            node.fault(
                "the module has no image",
                "add \"image\": \"NAME.wasm\", a file of the plugins folder",
            );
            None
        }
    };
    fields.finish(UNKNOWN);
    image
}

/// `{"NAME": {"value": "text"}}`; numbers and truth values are written as JSON writes them.
fn environment(node: &Node<'_>, module: &mut Module) {
    let example = "{\"NAME\": {\"value\": \"…\"}}";
    let Some(variables) = node.fields(example) else { return };
    for (name, variable) in variables.all() {
        if name.is_empty() || name.contains(['=', '\0']) {
            variable.fault(format!("{name:?} cannot be the name of a variable"), "take out '=' and U+0000");
            continue;
        }
        let value = match variable.value.get("value") {
            Some(Value::String(text)) => text.clone(),
            Some(plain @ (Value::Number(_) | Value::Bool(_))) => plain.to_string(),
            _ => {
                variable.mismatch("an object with a value", "{\"value\": \"…\"}");
                continue;
            }
        };
        module.environment.insert(name.to_owned(), value);
    }
}

/// The desired properties of a module.
pub(super) fn twin(name: &str, node: &Node<'_>, into: &mut Deployment) {
    let Some(name) = module_name(name, node) else { return };
    match node.value {
        Value::Object(desired) => drop(into.desired.insert(name, desired.clone())),
        Value::Null => {}
        _ => node.mismatch("an object", "{\"properties.desired\": {…}}"),
    }
}
