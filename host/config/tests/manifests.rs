//! Manifests of the kinds that IoT Edge's portal, tools and layered deployments make: what becomes of them, and what is
//! said of faults. Requirements N10 and O11.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use holdfast_config::manifest::*;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const QUICKSTART: &str = include_str!("manifests/quickstart.json");
const WRAPPED: &str = include_str!("manifests/wrapped.json");
const LAYER: &str = include_str!("manifests/layer.json");
const FAULTY: &str = include_str!("manifests/faulty.json");

fn module<'d>(deployment: &'d Deployment, name: &str) -> &'d Module {
    deployment.modules.iter().find(|(module, _)| module.as_str() == name).unwrap().1
}

/// What is said of a place, by the end of its pointer.
fn not_carried<'d>(deployment: &'d Deployment, pointer: &str) -> &'d NotCarried {
    let found = deployment.not_carried.iter().find(|one| one.pointer.ends_with(pointer));
    found.unwrap_or_else(|| panic!("{pointer} is not among {:#?}", deployment.not_carried))
}

fn with_agent(agent: &Value) -> Vec<u8> {
    json!({"modulesContent": {"$edgeAgent": {"properties.desired": agent}}}).to_string().into_bytes()
}

#[test]
fn the_manifest_of_a_quickstart_becomes_modules_routes_a_time_to_live_and_a_twin() {
    let deployment = import(QUICKSTART.as_bytes()).unwrap();
    let sensor = module(&deployment, "SimulatedTemperatureSensor");
    assert_eq!(
        sensor.image,
        Image::Registry("mcr.example/azureiotedge-simulated-temperature-sensor:1.5".into())
    );
    assert_eq!((sensor.running, sensor.restart, sensor.start_order), (true, RestartPolicy::Always, 2));
    assert_eq!(sensor.version.as_deref(), Some("1.0"));
    assert_eq!((&*sensor.environment["MessageCount"], &*sensor.environment["Verbose"]), ("-1", "true"));
    let filter = module(&deployment, "Filter");
    assert_eq!(filter.image, Image::File("threshold.wasm".into()));
    assert_eq!((filter.running, filter.start_order), (false, u32::MAX));
    assert_eq!((filter.restart, filter.pull), (RestartPolicy::OnFailure, PullPolicy::Never));

    let routes = deployment.routes.as_ref().unwrap();
    let names: Vec<_> =
        routes.iter().map(|route| (&*route.name, route.priority.level(), route.time_to_live_secs)).collect();
    assert_eq!(names, [("filterToUpstream", 10, None), ("old", 10, None), ("sensorToFilter", 2, Some(1800))]);
    assert_eq!(deployment.time_to_live, Some(Some(Duration::from_secs(86_400))));
    let desired: Vec<_> = deployment.desired.iter().map(|(name, d)| (name.as_str(), json!(d))).collect();
    assert_eq!(desired, [("SimulatedTemperatureSensor", json!({"SendData": true, "SendInterval": 5}))]);

    let runtime = not_carried(&deployment, "/properties.desired/runtime");
    let shown = runtime.to_string();
    assert!(shown.contains("puller") && !shown.contains("do-not-show-this"), "{shown}");
    let agent = "/modulesContent/$edgeAgent/properties.desired";
    let small = not_carried(&deployment, "/OptimizeForPerformance");
    assert_eq!(small.pointer, format!("{agent}/systemModules/edgeHub/env/OptimizeForPerformance"));
    assert!(small.reason.contains("store.profile = \"small\""), "{small}");
    assert!(not_carried(&deployment, "/env/UpstreamProtocol").reason.contains("[upstream]"));
    assert_eq!(
        not_carried(&deployment, "/edgeHub/settings").value["image"],
        "mcr.example/azureiotedge-hub:1.5"
    );
}

#[test]
fn the_options_of_a_container_are_joined_from_their_pieces_and_each_is_named() {
    let deployment = import(WRAPPED.as_bytes()).unwrap();
    let vision = module(&deployment, "vision");
    assert!(
        matches!(&vision.image, Image::Registry(reference) if reference.starts_with("registry.plant.example:5000/"))
    );
    assert_eq!(vision.image.files("vision"), ["vision.wasm", "detect.wasm"]);
    // A variable of env has the last word.
    assert_eq!((&*vision.environment["MODE"], &*vision.environment["LEVEL"]), ("fast", "3"));
    let options =
        "/content/modulesContent/$edgeAgent/properties.desired/modules/vision/settings/createOptions";
    let binds = not_carried(&deployment, "/HostConfig/Binds/0");
    assert_eq!(
        (&*binds.pointer, &binds.value),
        (&*format!("{options}/HostConfig/Binds/0"), &json!("/var/cam:/cam:ro"))
    );
    let grant = r#"[grants] directories = [{ host = "/var/cam", guest = "/cam", write = false }]"#;
    assert!(binds.reason.contains(grant), "{binds}");
    for (place, word) in [
        ("/HostConfig/Binds/1", "granted"),
        ("/HostConfig/PortBindings", "gateway"),
        ("/HostConfig/Memory", "memory_bytes"),
        ("/HostConfig/Devices", "NAME.toml"),
        ("/HostConfig/LogConfig", "holdfast logs"),
        ("/HostConfig/Privileged", "container"),
        ("/createOptions/ExposedPorts", "gateway"),
        ("/storeAndForwardConfiguration/storeLimits", "store.quota"),
        ("/properties.desired/mqttBroker", "holdfast.toml"),
        ("/properties.desired/integrity", "not checked"),
        ("/content/deviceContent", "modulesContent"),
    ] {
        let one = not_carried(&deployment, place);
        assert!(one.reason.contains(word), "{one}");
    }
    assert_eq!(deployment.time_to_live, Some(None));
}

#[test]
fn layers_go_on_top_of_their_base_whatever_the_order_and_lower_ones_are_named() {
    let document = |name, json: &'static str| Document { name, priority: None, json: json.as_bytes() };
    let (base, layer) = (document("base.json", WRAPPED), document("layer.json", LAYER));
    let merged = import_layered(&[base, layer]).unwrap();
    assert_eq!(merged, import_layered(&[layer, base]).unwrap());
    assert_eq!(module(&merged, "vision").environment["LEVEL"], "9");
    assert_eq!(module(&merged, "recorder").image, Image::File("window.wasm".into()));
    let routes: Vec<_> = merged.routes.iter().flatten().map(|route| &*route.name).collect();
    assert_eq!(routes, ["all", "recorded"]);
    let desired: Vec<_> = merged.desired.iter().map(|(name, d)| (name.as_str(), json!(d))).collect();
    let north = json!({"zones": {"north": true}});
    assert_eq!(desired, [("recorder", json!({"length": {"seconds": 30}})), ("vision", north)]);

    // Flattened to one manifest, they say the same.
    let flat = import(&flatten(&[base, layer]).unwrap()).unwrap();
    assert_eq!(
        (&flat.modules, &flat.routes, &flat.desired),
        (&merged.modules, &merged.routes, &merged.desired)
    );

    // A layer below the base says nothing, and that is said.
    let below = import_layered(&[base, Document { priority: Some(5), ..layer }]).unwrap();
    assert_eq!(below.modules.len(), 1);
    assert!(
        below
            .not_carried
            .iter()
            .any(|one| one.document == "layer.json" && one.reason.contains("lower priority"))
    );

    // Two layers want the same: the higher priority holds, and a fault is told at the place it came from.
    let other = br#"{"content": {"modulesContent": {"$edgeAgent": {"properties.desired.modules.recorder.status": "gone"}}}}"#;
    let other = Document { name: "other.json", priority: Some(30), json: other };
    let faults = import_layered(&[other, base, layer]).unwrap_err();
    let fault = faults.iter().next().unwrap();
    let pointer = "/content/modulesContent/$edgeAgent/properties.desired.modules.recorder.status";
    assert_eq!((&*fault.document, &*fault.pointer), ("other.json", pointer));

    let alone = import(LAYER.as_bytes()).unwrap_err();
    assert_eq!(alone.code(), FaultCode::Empty);
    assert!(alone.to_string().contains("give the base deployment too"), "{alone}");
}

#[test]
fn every_fault_is_told_at_once_with_its_place_and_what_to_do() {
    let faults = import(FAULTY.as_bytes()).unwrap_err();
    assert_eq!(faults.code(), FaultCode::Schema);
    let agent = "/modulesContent/$edgeAgent/properties.desired";
    let hub = "/modulesContent/$edgeHub/properties.desired";
    let expected = [
        (format!("{agent}/schemaVersion"), "\"2.0\" is not known"),
        (format!("{agent}/modules/$edgeHub"), "name of the host itself"),
        (format!("{agent}/modules/no image"), "' '"),
        (format!("{agent}/modules/no image/settings"), "no image"),
        (format!("{agent}/modules/pump/status"), "\"runing\""),
        (format!("{agent}/modules/pump/restartPolicy"), "\"sometimes\""),
        (format!("{agent}/modules/pump/startupOrder"), "out of bounds"),
        (format!("{agent}/modules/pump/settings/image"), "https://"),
        (format!("{agent}/modules/pump/settings/createOptions"), "no JSON"),
        (format!("{agent}/modules/pump/env/A"), "an object with a value"),
        (format!("{agent}/modules/pump/env/B=C"), "name of a variable"),
        (format!("{agent}/modules/pieces/settings/createOptions02"), "createOptions01 is missing"),
        (format!("{agent}/modules/template/settings/image"), "template"),
        (format!("{agent}/modules/bare"), "no settings"),
        (format!("{hub}/routes/a"), "nowhere"),
        (format!("{hub}/routes/b/route"), "'x'"),
        (format!("{hub}/routes/b/priority"), "10"),
        (format!("{hub}/routes/b/timeToLiveSecs"), "-5"),
        (format!("{hub}/routes/c"), "no text"),
        (format!("{hub}/routes/d.e"), "'.'"),
        (format!("{hub}/routes/f"), "a number"),
        (format!("{hub}/routes/g"), "twice"),
        (format!("{hub}/storeAndForwardConfiguration/timeToLiveSecs"), "0 is no time to live"),
        ("/modulesContent/pump/properties.desired".to_owned(), "a list"),
        ("/modulesContent/pump/properties.reported".to_owned(), "desired properties"),
    ];
    for (pointer, word) in &expected {
        let there = |fault: &&Fault| fault.pointer == *pointer && fault.reason.contains(word);
        assert!(faults.iter().any(|fault| there(&fault)), "{pointer}: {word:?} is not in {faults}");
    }
    assert_eq!(faults.iter().len(), expected.len(), "{faults}");
    assert!(faults.iter().all(|fault| !fault.fix.is_empty()));
    assert!(faults.to_string().contains("write \"running\", if that was meant"), "{faults}");
}

#[test]
fn what_is_no_manifest_says_what_it_is_in_iot_edges_codes() {
    let empty = with_agent(&json!({}));
    let no_version = with_agent(&json!({"modules": {}}));
    let long = vec![b' '; MANIFEST_BYTES_MAX + 1];
    let many: serde_json::Map<_, _> =
        (0..=MODULES_MAX).map(|n| (format!("m{n}"), json!({"settings": {"image": "a.wasm"}}))).collect();
    let many = with_agent(&json!({"schemaVersion": "1.1", "modules": many}));
    let cases: [(&[u8], u16, &str); 8] = [
        (b"", 400, "no JSON"),
        (b"[]", 400, "no modulesContent"),
        (br#"{"modulesContent": 1}"#, 400, "no object"),
        (br#"{"modulesContent": {}}"#, 417, "$edgeAgent"),
        (&empty, 417, "nothing to deploy"),
        (&no_version, 412, "no schemaVersion"),
        (&long, 400, "at most 262144"),
        (&many, 400, "at most 500"),
    ];
    for (json, status, word) in cases {
        let faults = import(json).unwrap_err();
        assert_eq!(faults.code().status(), status, "{faults}");
        assert!(faults.to_string().contains(word), "{faults}");
    }
    // No modules at all is a deployment too, and one without $edgeHub leaves the routes alone.
    let bare = import(&with_agent(&json!({"schemaVersion": "1.1.0"}))).unwrap();
    assert_eq!((bare.modules.len(), bare.routes, bare.time_to_live), (0, None, None));
}

fn is_sound(json: &[u8]) {
    if let Err(faults) = import(json) {
        assert!(faults.iter().len() > 0);
        assert!(faults.iter().all(|fault| !fault.reason.is_empty() && !fault.fix.is_empty()), "{faults}");
        assert!(
            faults.iter().all(|fault| fault.pointer.is_empty() || fault.pointer.starts_with('/')),
            "{faults}"
        );
    }
}

/// Any JSON of some depth, with the words that manifests are made of.
fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "modules",
        "settings",
        "image",
        "createOptions",
        "createOptions01",
        "env",
        "value",
        "status",
        "routes",
        "route",
        "priority",
        "timeToLiveSecs",
        "schemaVersion",
        "a.b",
        "properties.desired",
        "$edgeAgent",
        "{\"HostConfig\":7}",
    ]);
    let text = prop_oneof![words.clone().prop_map(str::to_owned), "\\PC{0,12}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(words.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_has_an_answer(text in "\\PC{0,200}") {
        is_sound(text.as_bytes());
    }

    #[test]
    fn any_json_in_any_place_has_an_answer(
        value in any_json(), at in prop::sample::select(vec!["/content", "/content/modulesContent",
        "/content/modulesContent/$edgeAgent", "/content/modulesContent/$edgeAgent/properties.desired",
        "/content/modulesContent/$edgeAgent/properties.desired/modules",
        "/content/modulesContent/$edgeAgent/properties.desired/modules/vision",
        "/content/modulesContent/$edgeAgent/properties.desired/modules/vision/settings",
        "/content/modulesContent/$edgeAgent/properties.desired/modules/vision/env",
        "/content/modulesContent/$edgeHub/properties.desired", "/content/modulesContent/$edgeHub/properties.desired/routes"]),
    ) {
        let mut whole: Value = serde_json::from_str(WRAPPED).unwrap();
        *whole.pointer_mut(at).unwrap() = value;
        is_sound(whole.to_string().as_bytes());
        let _ = import_layered(&[
            Document { name: "a", priority: None, json: LAYER.as_bytes() },
            Document { name: "b", priority: None, json: whole.to_string().as_bytes() },
        ]);
    }

    #[test]
    fn a_good_manifest_with_a_piece_exchanged_has_an_answer(
        start in 0..WRAPPED.len(), length in 0..40_usize, piece in "[\\[\\]{}:,\"0-9a\\\\ \n$.]{0,12}",
    ) {
        let end = (start + length).min(WRAPPED.len());
        is_sound(format!("{}{piece}{}", &WRAPPED[..start], &WRAPPED[end..]).as_bytes());
    }
}
