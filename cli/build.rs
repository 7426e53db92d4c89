//! Hands the compiler's version to `layshaft bench`, which prints it with every figure.

use std::process::Command;

fn main() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    println!("cargo::rustc-env=LAYSHAFT_RUSTC={}", version.as_deref().unwrap_or("rustc, version unknown").trim());
    println!("cargo::rerun-if-changed=build.rs");
}
