//! Do the examples run?

use std::path::Path;
use std::process::Command;

fn run(example: &[&str], shows: &str) {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example"])
        .args(example)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .output()
        .expect("cargo can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains(shows), "{output:?}");
}

#[test]
fn example_embed() {
    run(&["embed"], "words");
}

#[test]
fn example_gearman() {
    run(&["gearman", "--features", "gearman"], "the worker shouts: OVER THE WIRE");
}
