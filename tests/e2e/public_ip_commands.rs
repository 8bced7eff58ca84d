//! Commands that change public IPs change the file, and nothing else in it.

use std::os::unix::fs::PermissionsExt;

use forebay_tests::netlab::{Arms, Forebay};
use serde_json::Value;

use crate::scene::Scene;

fn file(forebay: &Forebay) -> String {
    std::fs::read_to_string(forebay.config_path()).unwrap()
}

fn public_ips(forebay: &Forebay) -> Vec<Value> {
    let shown = forebay.list(&["public-ip", "show"]).unwrap();
    assert_eq!(shown, forebay.list(&["show", "public-ips"]).unwrap());
    shown
}

/// The method and the addresses of web-1.
fn outward(forebay: &Forebay) -> (Value, String) {
    let instances = forebay.list(&["show", "instances"]).unwrap();
    let web_1 = instances.iter().find(|one| one["name"] == "web-1").unwrap();
    let ips = forebay.text(&["outbound-ips", "web-1"]).unwrap();
    let lines: Vec<&str> = ips.lines().collect();
    (web_1["ip_configs"][0]["outbound"].clone(), lines.join(" "))
}

const ADD: [&str; 7] = [
    "public-ip",
    "add",
    "alice",
    "--instance",
    "web-1",
    "--ipv4",
    "203.0.113.50",
];

#[test]
fn a_public_ip_comes_and_goes_and_the_file_stays_as_it_was() {
    let Some(scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let forebay = &scene.forebay;
    let path = forebay.config_path();
    let before = format!("# Kept by hand.\n{}\n# The end.\n", scene.config);
    forebay.write_config(&before).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).unwrap();
    forebay.text(&["reload"]).unwrap();
    let (method, addresses) = outward(forebay);
    assert_ne!(method, "public-ip");

    forebay.text(&ADD).unwrap();
    let with = file(forebay);
    assert!(
        with.contains("# Kept by hand.\n") && with.ends_with("# The end.\n"),
        "{with}"
    );
    assert!(with.contains("public_ip = \"alice\""), "{with}");
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    let shown = public_ips(forebay);
    assert_eq!(shown[0]["name"], "alice");
    assert_eq!(shown[0]["addresses"], serde_json::json!(["203.0.113.50"]));
    assert_eq!(
        (&shown[0]["instance"], &shown[0]["ip_config"]),
        (&"web-1".into(), &"primary".into())
    );
    let (method, now) = outward(forebay);
    assert_eq!(method, "public-ip");
    assert!(now.starts_with("203.0.113.50"), "{now}");
    let status = forebay.json(&["status"]).unwrap();
    assert_eq!(status["config"]["path"], path.display().to_string());

    forebay.text(&["public-ip", "remove", "alice"]).unwrap();
    assert_eq!(file(forebay), before);
    assert!(public_ips(forebay).is_empty());
    assert_eq!(outward(forebay).1, addresses);
}

#[test]
fn what_would_be_invalid_changes_nothing_and_names_the_cause() {
    let Some(scene) = Scene::run(Arms::One, |_| {}) else {
        return;
    };
    let forebay = &scene.forebay;
    let before = file(forebay);
    let taken = scene.config.frontends[0].ipv4.to_string();
    for (words, cause) in [
        (
            vec![
                "public-ip",
                "add",
                "a",
                "--instance",
                "nobody",
                "--ipv4",
                "203.0.113.50",
            ],
            "nobody",
        ),
        (
            vec![
                "public-ip",
                "add",
                "a",
                "--instance",
                "web-1",
                "--ipv4",
                &taken,
            ],
            "has",
        ),
        (vec!["public-ip", "remove", "a"], "no public IP is called a"),
        (vec!["public-ip", "show", "nobody"], "nobody"),
    ] {
        let output = forebay.cli(&words).unwrap();
        assert_eq!(output.code, 1, "{words:?}: {}", output.stdout);
        assert!(
            output.stderr.contains(cause),
            "{words:?}: {}",
            output.stderr
        );
        assert_eq!(file(forebay), before, "{words:?}");
    }
    let no_address = ["public-ip", "add", "a", "--instance", "web-1"];
    assert_eq!(forebay.cli(&no_address).unwrap().code, 2);
}
