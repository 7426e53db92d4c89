//! The command line describes itself: completions that a shell accepts, and manual pages that name every option.

mod common;

use common::{layshaft, run, shell, text};
use std::path::Path;

fn printed(args: &[&str]) -> Vec<u8> {
    let output = run(layshaft(Path::new("."), args));
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
    output.stdout
}

/// The shell itself runs the script and completes a subcommand with it.
#[test]
fn bash_completes_with_the_script() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    std::fs::write(folder.path().join("script"), printed(&["completions", "bash"])).expect("files can be written");
    let script = "bash -c '. ./script; COMP_WORDS=(layshaft m); COMP_CWORD=1; _layshaft layshaft m layshaft; echo ${COMPREPLY[@]}'";
    assert_eq!(text(&shell(folder.path(), script)).trim(), "map man");
}

#[test]
fn every_shell_has_a_script() {
    for name in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(text(&printed(&["completions", name])).contains("layshaft"), "{name}");
    }
}

#[test]
fn pages_name_every_option() {
    let page = text(&printed(&["man", "map"]));
    let options = ["jobs", "files\\-from", "null", "unordered", "json", "no\\-progress", "quiet", "stats"];
    let options = options.map(|option| format!("\\-\\-{option}"));
    let words = [".TH", "gzip\\-size", "INPUT", "CMD"];
    for word in words.into_iter().chain(options.iter().map(String::as_str)) {
        assert!(page.contains(word), "{word} is not in the page of map");
    }
    let page = text(&printed(&["man"]));
    for word in [".TH", "map", "bench", "completions", "Exit codes"] {
        assert!(page.contains(word), "{word} is not in the page of the command");
    }
}

#[test]
fn a_page_of_no_command_is_an_error() {
    let output = run(layshaft(Path::new("."), ["man", "mpa"]));
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).starts_with("layshaft: no command \"mpa\"; there are map, submit, admin, bench"),
        "{}",
        text(&output.stderr)
    );
}
