//! The registry from hub to hub.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail loudly"
)]

mod support;

use holdfast_hub::{
    ExportTo, StoredDeployment, Target as DeployedTo, TwinPatch,
    api::{ApiServer, Token},
    client::Client,
    follow,
};
use holdfast_link::Access;
use holdfast_net::{Door, HostName, ListenConfig, PlainTcp, Settings, Target, Way};
use serde_json::json;
use std::{fs, path::Path, time::Duration};
use support::{TestHub, device, record};
use tokio_util::sync::CancellationToken;

const PASSWORD: &str = "correct horse battery";

async fn filled(hub: &TestHub) {
    // A child stands before its parent in the order of names.
    hub.put("zone-edge", true, None).await;
    hub.put("line-edge", true, Some("zone-edge")).await;
    hub.put("press", false, Some("line-edge")).await;
    hub.put("press/probe", false, None).await;
    let disabled = holdfast_link::IdentityRecord { status: Access::Disabled, ..record("drill", false, None) };
    hub.hub.put_device(disabled).await.unwrap();
    let patch = TwinPatch { desired: Some(json!({ "speed": 3 })), tags: Some(json!({ "hall": "b" })) };
    hub.hub.patch_twin(&device("press"), patch).await.unwrap();
    let deployment = StoredDeployment {
        id: "base".to_owned(),
        target: DeployedTo::Condition("tags.hall = 'b'".to_owned()),
        priority: 3,
        manifest: json!({ "modulesContent": { "$edgeAgent": {} } }),
        created_ms: 0,
        revision: 0,
    };
    hub.hub.put_deployment(deployment).await.unwrap();
}

/// An export with so many edges, a child of each, and a module of each child, without credentials.
async fn export_of(hub: &TestHub, many: usize) -> String {
    hub.put("zone", true, None).await;
    hub.put("press", false, Some("zone")).await;
    hub.put("press/probe", false, None).await;
    let text = hub.hub.export(ExportTo::Password(PASSWORD.to_owned())).await.unwrap();
    let (head, items) = text.split_once('\n').unwrap();
    let open = |line: &str| {
        let mut item: serde_json::Value = serde_json::from_str(line).unwrap();
        item["identity"].as_object_mut().unwrap().remove("sealed").unwrap();
        item.to_string()
    };
    let items: Vec<String> = items.lines().map(open).collect();
    assert_eq!(items.len(), 3);
    let mut all = vec![head.to_owned()];
    for n in 0..many {
        let renamed = |item: &String| {
            item.replace("\"zone", &format!("\"zone-{n}")).replace("\"press", &format!("\"press-{n}"))
        };
        all.extend(items.iter().map(renamed));
    }
    all.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_registry_is_taken_with_few_writes_and_one_that_is_refused_refuses_no_other() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = TestHub::open(one.path()).await;
    let text = export_of(&first, 300).await;
    // Its parent is nowhere.
    let orphan = text.lines().find(|line| line.contains("press-7\"") && line.contains("zone-7\"")).unwrap();
    let orphan = orphan.replace("press-7", "stray").replace("zone-7", "zone-x");
    let second = TestHub::open(two.path()).await;
    let before = second.hub.revision();
    let imported = second.hub.import(&format!("{text}\n{orphan}"), Some(PASSWORD)).await.unwrap();
    assert_eq!((&imported["changed"], &imported["same"]), (&json!(900), &json!(0)));
    assert!(imported["refused"].to_string().contains("zone-x"), "{imported}");
    assert_eq!(second.hub.directory().registry().devices_len(), 900);
    // Edges, children and modules, each in batches of 200.
    let writes = second.hub.revision() - before;
    assert!(writes <= 6, "{writes} changes");
    let again = second.hub.import(&text, Some(PASSWORD)).await.unwrap();
    assert_eq!(again, json!({ "changed": 0, "same": 900, "refused": [] }));
    second.close();

    let reopened = TestHub::open(two.path()).await;
    assert_eq!(reopened.hub.directory().registry().devices_len(), 900);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_an_exported_registry_is_whole_at_another_hub_and_a_second_import_changes_nothing() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = TestHub::open(one.path()).await;
    filled(&first).await;
    let text = first.hub.export(ExportTo::Password(PASSWORD.to_owned())).await.unwrap();
    for secret in ["a2V5IG9mIDMyIGJ5dGVzIGZvciB0aGVzZSB0ZXN0cyE=", PASSWORD] {
        assert!(!text.contains(secret), "no secret is readable");
    }
    let second = TestHub::open(two.path()).await;
    let wrong = second.hub.import(&text, Some("another password")).await.unwrap_err();
    assert!(wrong.to_string().contains("the password is another one"), "{wrong}");
    assert_eq!(second.hub.directory().registry().devices_len(), 0, "nothing was taken");
    let imported = second.hub.import(&text, Some(PASSWORD)).await.unwrap();
    assert_eq!(imported, json!({ "changed": 7, "same": 0, "refused": [] }));
    let shown = |hub: &TestHub| {
        let devices = hub.hub.directory().registry().devices();
        devices.iter().map(|one| holdfast_hub::record_of(one)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&first), shown(&second));
    assert_eq!(
        first.hub.get_twin(&device("press")).await.unwrap(),
        second.hub.get_twin(&device("press")).await.unwrap()
    );
    let again = second.hub.import(&text, Some(PASSWORD)).await.unwrap();
    assert_eq!(again, json!({ "changed": 0, "same": 7, "refused": [] }));
    // D4: a twin that has gone on here is not overwritten by an older one.
    let patch = TwinPatch { desired: Some(json!({ "speed": 4 })), tags: None };
    second.hub.patch_twin(&device("press"), patch).await.unwrap();
    second.hub.import(&text, Some(PASSWORD)).await.unwrap();
    assert_eq!(second.hub.get_twin(&device("press")).await.unwrap().desired["speed"], 4);
    assert!(
        first
            .hub
            .export(ExportTo::Password("short".to_owned()))
            .await
            .unwrap_err()
            .to_string()
            .contains("too short")
    );
    for no in ["", "nonsense", "{\"holdfast\":\"registry\",\"v\":9,\"salt\":\"\",\"iterations\":1}\n"] {
        assert_eq!(second.hub.import(no, Some(PASSWORD)).await.unwrap_err().status(), 400, "{no:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn d3_what_is_exported_to_a_hub_is_opened_by_that_hub_alone_also_after_its_restart() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let (first, third) = (TestHub::open(dirs[0].path()).await, TestHub::open(dirs[2].path()).await);
    filled(&first).await;
    let second = TestHub::open(dirs[1].path()).await;
    let recipient = second.hub.recipient().await.unwrap();
    second.close();
    let text = first.hub.export(ExportTo::Recipient(recipient)).await.unwrap();
    assert!(!text.contains("a2V5IG9mIDMyIGJ5dGVzIGZvciB0aGVzZSB0ZXN0cyE="), "no secret is readable");
    for other in [&first, &third] {
        let refused = other.hub.import(&text, None).await.unwrap_err().to_string();
        assert!(refused.contains(&recipient.to_string()) && refused.contains("--recipient"), "{refused}");
    }
    let second = TestHub::open(dirs[1].path()).await;
    let imported = second.hub.import(&text, None).await.unwrap();
    assert_eq!(imported, json!({ "changed": 7, "same": 0, "refused": [] }));
    let key =
        |hub: &TestHub| holdfast_hub::record_of(&hub.hub.directory().get(&device("press")).unwrap()).proof;
    assert_eq!(key(&first), key(&second));
    let changed = text.replacen("sealed\":\"", "sealed\":\"AAAA", 1);
    assert!(second.hub.import(&changed, None).await.unwrap_err().to_string().contains("cannot be opened"));
}

#[tokio::test]
async fn what_was_changed_outlives_the_hub_and_stays_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = TestHub::open(dir.path()).await;
    filled(&hub).await;
    let (id, before) = (hub.hub.id().to_owned(), hub.hub.directory().registry().devices());
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    assert_eq!((hub.hub.id(), hub.hub.directory().registry().devices()), (id.as_str(), before));
    hub.hub.remove_device(&device("press")).await.unwrap();
    assert!(hub.hub.get_twin(&device("press")).await.is_err());
    hub.close();
    let hub = TestHub::open(dir.path()).await;
    assert_eq!(hub.hub.directory().registry().devices_len(), 3);
}

#[tokio::test]
async fn a_hub_that_is_to_follow_lets_no_edge_in_before_it_has_a_registry() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (TestHub::open(one.path()).await, TestHub::open(two.path()).await);
    filled(&first).await;
    second.hub.awaits_registry().await.unwrap();
    second.put("zone-edge", true, None).await;
    let edge = holdfast_types::Name::new("zone-edge").unwrap();
    let refused = holdfast_gateway::Links::link(&*second.hub, &edge).err().unwrap();
    assert!(refused.contains("whole registry"), "{refused}");
    let text = first.hub.export(ExportTo::Recipient(second.hub.recipient().await.unwrap())).await.unwrap();
    second.hub.import(&text, None).await.unwrap();
    assert!(holdfast_gateway::Links::link(&*second.hub, &edge).is_ok());
    // Also after a restart.
    second.close();
    let second = TestHub::open(two.path()).await;
    second.hub.awaits_registry().await.unwrap();
    assert!(holdfast_gateway::Links::link(&*second.hub, &edge).is_ok());
}

/// Lets one hub follow another, until both are ended.
struct Followed {
    stop: CancellationToken,
    tasks: [tokio::task::JoinHandle<()>; 2],
}

impl Followed {
    async fn begin(first: &TestHub, second: &TestHub) -> Self {
        let listen = ListenConfig {
            address: "127.0.0.1:0".parse().unwrap(),
            door: Door::Tcp,
            plain: PlainTcp::LoopbackOnly,
            settings: Settings::of_section("hub"),
        };
        let api = ApiServer::bind(listen, Token::new("token"), Path::new("none")).await.unwrap();
        let host = HostName::new("127.0.0.1").unwrap();
        let target = Target::new(host, api.address().port(), Way::Tcp, Settings::of_section("hub"));
        let stop = CancellationToken::new();
        let served = tokio::spawn(api.serve(first.hub.clone(), stop.clone()));
        let follows = follow(second.hub.clone(), Client::new(target, "token"), stop.clone());
        Self { stop, tasks: [served, tokio::spawn(follows)] }
    }

    async fn end(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn has(hub: &TestHub, devices: usize) {
    let registry = hub.hub.directory().registry();
    tokio::time::timeout(Duration::from_secs(60), async {
        while registry.devices_len() < devices {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{} of {devices} devices came", registry.devices_len()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_misses_nothing_that_changes_while_it_asks() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (first, second) = (TestHub::open(one.path()).await, TestHub::open(two.path()).await);
    let followed = Followed::begin(&first, &second).await;
    for n in 0..200 {
        first.put(&format!("edge-{n}"), true, None).await;
        first.put(&format!("press-{n}"), false, Some(&format!("edge-{n}"))).await;
    }
    has(&second, 400).await;
    followed.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_follower_goes_on_with_a_primary_that_was_set_back_to_a_backup() {
    let [one, backup, two] = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let first = TestHub::open(one.path()).await;
    first.put("before", false, None).await;
    first.close();
    for entry in fs::read_dir(one.path()).unwrap() {
        copy(&entry.unwrap().path(), backup.path());
    }
    let (first, second) = (TestHub::open(one.path()).await, TestHub::open(two.path()).await);
    let followed = Followed::begin(&first, &second).await;
    for n in 0..5 {
        first.put(&format!("lost-{n}"), false, None).await;
    }
    has(&second, 6).await;
    followed.end().await;
    first.close();

    let first = TestHub::open(backup.path()).await;
    first.put("after", false, None).await;
    let followed = Followed::begin(&first, &second).await;
    has(&second, 7).await;
    assert!(second.hub.directory().get(&device("after")).is_some());
    followed.end().await;
}

fn copy(from: &Path, into: &Path) {
    let to = into.join(from.file_name().unwrap());
    if from.is_dir() {
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            copy(&entry.unwrap().path(), &to);
        }
    } else {
        fs::copy(from, to).unwrap();
    }
}
