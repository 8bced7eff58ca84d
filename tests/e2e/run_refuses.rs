//! When `forebay run` cannot do its work it says why and what to do, and ends.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use forebay_tests::netlab::client::curl;
use forebay_tests::netlab::{Arms, CliOutput, Process};

use crate::scene::{Scene, frontend, has_programs};

/// Runs a command that should end by itself, quickly.
fn ended(command: Command, scene: &Scene) -> CliOutput {
    let log = scene.lab.path().join("refused.log");
    let _ = std::fs::remove_file(&log);
    let mut process = Process::spawn(command, &log).unwrap();
    let code = process
        .wait(Duration::from_secs(10))
        .unwrap()
        .code()
        .unwrap_or(-1);
    let stderr = process.output();
    CliOutput {
        code,
        stdout: String::new(),
        stderr,
    }
}

fn assert_refused(output: &CliOutput, code: i32, words: &[&str]) {
    assert_eq!(output.code, code, "{output:?}");
    for word in words {
        let text = output.stderr.to_lowercase();
        assert!(
            text.contains(&word.to_lowercase()),
            "{word:?} is not in: {}",
            output.stderr
        );
    }
    assert!(!output.stderr.contains("panicked"), "{}", output.stderr);
}

#[test]
fn what_is_missing_is_named() {
    let Some(mut scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    let valid = scene.config.clone();

    scene.config.interfaces = vec!["client0".to_owned(), "nope0".to_owned()];
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    assert_refused(
        &ended(scene.forebay.command(&["run"]), &scene),
        1,
        &["nope0"],
    );

    scene.config = valid.clone();
    scene.config.bpf_fs = scene.lab.path().join("no-bpffs/forebay");
    scene
        .forebay
        .write_config(&scene.config.to_string())
        .unwrap();
    assert_refused(
        &ended(scene.forebay.command(&["run"]), &scene),
        1,
        &["bpffs", "mount"],
    );

    let broken = valid
        .to_string()
        .replace("protocol = \"tcp\"", "protocol = \"tpc\"");
    scene.forebay.write_config(&broken).unwrap();
    let words = ["forebay.toml", "protocol", "tpc"];
    assert_refused(&ended(scene.forebay.command(&["run"]), &scene), 2, &words);

    std::fs::remove_file(scene.forebay.config_path()).unwrap();
    assert_refused(
        &ended(scene.forebay.command(&["run"]), &scene),
        2,
        &["forebay.toml"],
    );

    for interface in ["client0", "inst0"] {
        let link = scene.lab.node.link(interface).unwrap();
        assert!(
            link.get("xdp").is_none(),
            "a failed start leaves a program: {link}"
        );
    }
    scene.forebay.write_config(&valid.to_string()).unwrap();
    scene.forebay.start().unwrap();
}

#[test]
fn a_second_daemon_on_the_same_pins_is_refused() {
    let Some(scene) = Scene::run(Arms::Two, |_| {}) else {
        return;
    };
    let mut second = scene.config.clone();
    second.socket = scene.lab.path().join("second.sock");
    let second_file = scene.lab.path().join("second.toml");
    std::fs::write(&second_file, second.to_string()).unwrap();
    let mut command = scene.lab.node.command(scene.forebay.binary());
    command.args(["run", "--config"]).arg(&second_file);
    assert_refused(&ended(command, &scene), 1, &["bpf/forebay"]);
    assert_eq!(scene.forebay.json(&["status"]).unwrap()["ready"], true);
    for to in frontend(80) {
        curl(&scene.lab.client, to, 10).unwrap();
    }
}

#[test]
fn without_privileges_it_says_which_are_needed() {
    if !has_programs(&["setpriv"]) {
        return;
    }
    let Some(scene) = Scene::install(Arms::Two, |_| {}) else {
        return;
    };
    // The build may lie where only root may read.
    let program = scene.lab.path().join("forebay-for-all");
    std::fs::copy(scene.forebay.binary(), &program).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = scene.lab.node.command("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]);
    command
        .arg(&program)
        .args(["run", "--config"])
        .arg(scene.forebay.config_path());
    assert_refused(&ended(command, &scene), 1, &["root", "CAP_"]);
}
