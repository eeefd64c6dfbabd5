//! Commands with `--fleet` ask every node through its listener for nodes.

use std::fs;

use serde_json::Value;

use crate::{
    fleet_kills::Site,
    fleets::NodeAuthority,
    plain_client,
    process::{Ended, Launch, blob},
    zips::{ZIP, eventually, sha256},
};

/// Runs a command as on the machine of the first node.
async fn run(site: &Site, arguments: &[&str]) -> Ended {
    site.configure(Launch::bare(arguments), 0).run().await
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.out.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

fn nodes(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["node"].as_str().expect("a node")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn status_asks_every_node_and_names_one_that_cannot_be_reached() {
    let site = Site::new().await;
    let mut running = Vec::new();
    for node in 0..3 {
        running.push(site.start(node).await);
    }
    let all = run(&site, &["status", "--fleet", "--json"]).await;
    assert_eq!((all.code, nodes(&lines(&all))), (Some(0), vec!["node0", "node1", "node2"]), "{all:?}");
    assert!(lines(&all).iter().zip(&running).all(|(line, process)| line["pid"] == process.pid()));
    let text = run(&site, &["status", "--fleet"]).await;
    assert_eq!((text.code, text.out.matches("\nready: srm-mirror ").count()), (Some(0), 3), "{text:?}");
    assert!(text.out.starts_with("node node0, https://127.0.0.1:"), "{text:?}");

    running.remove(1).kill().await;
    let rest = run(&site, &["status", "--fleet", "--json"]).await;
    let answers = lines(&rest);
    assert_eq!((rest.code, nodes(&answers)), (Some(69), vec!["node0", "node1", "node2"]), "{rest:?}");
    let failed: Vec<_> = answers.iter().map(|line| line["error"].as_str().unwrap_or_default()).collect();
    assert!(failed[0].is_empty() && failed[1].contains("cannot be reached") && failed[2].is_empty(), "{failed:?}");
    let text = run(&site, &["status", "--fleet"]).await;
    assert!(text.out.contains("\nno answer: the mirror cannot be reached"), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_is_listed_counted_and_verified_on_every_node() {
    let site = Site::new().await;
    let mut running = Vec::new();
    for node in 0..3 {
        running.push(site.start(node).await);
    }
    assert_eq!(running[2].get(ZIP).await.status, 200);
    let digest = sha256(&site.forge);
    eventually("stored", || blob(&site.dir(2), &digest).exists()).await;
    let listed = run(&site, &["cache", "ls", "--fleet", "--json"]).await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let listed = lines(&listed);
    assert!(listed.iter().any(|line| line["node"] == "node2" && line["sha256"] == digest.as_str()), "{listed:?}");
    let text = run(&site, &["cache", "ls", "--fleet", "devsapp/*"]).await;
    assert!(text.out.contains("node node1, ") && text.out.contains("devsapp/fc3"), "{text:?}");
    let stats = run(&site, &["cache", "stats", "--fleet", "--json"]).await;
    assert_eq!((stats.code, nodes(&lines(&stats))), (Some(0), vec!["node0", "node1", "node2"]), "{stats:?}");

    let path = blob(&site.dir(2), &digest);
    let mut bytes = fs::read(&path).expect("read");
    bytes[1000] ^= 1;
    fs::write(path, bytes).expect("written");
    let verified = run(&site, &["cache", "verify", "--fleet", "--no-fetch", "--json"]).await;
    assert_eq!(verified.code, Some(1), "{verified:?}");
    let damaged: Vec<_> = lines(&verified).into_iter().filter(|line| line["state"] == "damaged").collect();
    assert_eq!((damaged.len(), &damaged[0]["node"]), (1, &Value::from("node2")), "{damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_take_no_change_from_each_other_and_nothing_from_others() {
    let site = Site::new().await;
    let process = site.start(0).await;
    let client = |authority: &NodeAuthority, name: &str| {
        let [cert, key, ca] = authority.files(site.files.path(), name);
        let read = |path| fs::read(path).expect("a file");
        let identity = reqwest::Identity::from_pem(&[read(cert), read(key)].concat()).expect("a pair");
        let trusted = reqwest::Certificate::from_pem(&read(ca)).expect("a certificate");
        let builder = plain_client::builder().identity(identity).tls_certs_only([trusted]);
        builder.tls_danger_accept_invalid_certs(true).build().expect("a client")
    };
    let ask = async |client: &reqwest::Client, route: &str| {
        let address = format!("https://{}/-/{route}", process.node_address());
        client.post(address).body("{}").send().await.map(|answer| answer.status().as_u16())
    };
    let of_node = client(&site.authority, "node1");
    assert_eq!(ask(&of_node, "status").await.expect("an answer"), 200);
    let allowed = ["status", "stats", "stock", "hosted/failed", "verify"];
    let document = process.get("/-/openapi.json").await.json();
    let paths = document["paths"].as_object().expect("paths").iter();
    let routes = paths.filter(|(_, path)| path["post"]["tags"][0] == "administration");
    let routes: Vec<_> = routes.filter_map(|(path, _)| path.strip_prefix("/-/")).collect();
    assert!(routes.len() > 30 && allowed.iter().all(|route| routes.contains(route)), "{routes:?}");
    for route in routes.into_iter().filter(|route| !allowed.contains(route)) {
        assert_eq!(ask(&of_node, route).await.expect("an answer"), 404, "{route}");
    }
    let other = client(&NodeAuthority::default(), "stranger");
    assert!(ask(&other, "status").await.is_err(), "another authority");

    let without = Launch::bare(&["status", "--fleet"]).run().await;
    assert_eq!((without.code, without.err.contains("no section [fleet]")), (Some(64), true), "{without:?}");
    let missing = site.configure(Launch::bare(&["cache", "stats", "--fleet"]), 0).set("fleet.key_file", "/nowhere");
    let missing = missing.run().await;
    assert_eq!((missing.code, missing.err.contains("/nowhere cannot be read")), (Some(64), true), "{missing:?}");
}
