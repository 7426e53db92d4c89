//! What goes wrong is told, the rest goes on, and the exit code says so.

mod common;

use common::{assert_same, exit_code, fifo, layshaft, read_line, read_to_end, run, shell, start, text, within, write};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::tempdir;

fn map(folder: &Path, args: &[&str]) -> Output {
    let mut command = layshaft(folder, ["map", "--quiet"]);
    command.args(args);
    run(command)
}

#[test]
fn inputs_that_cannot_be_read_are_told_and_the_rest_goes_on() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "a");
    write(folder.path(), "dir/b", "b");
    symlink("nowhere", folder.path().join("dangling")).expect("a link");
    let long = "n".repeat(300);
    let output = map(folder.path(), &["sha256", "missing", "a", "dangling", "a/below", &long, "dir", "lin\ne\u{1b}"]);
    assert_same(&output.stdout, &shell(folder.path(), "sha256sum a dir/b"));
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let errors: Vec<&str> = errors.lines().collect();
    let want = [
        "'missing': No such file or directory".to_owned(),
        "'dangling': No such file or directory".to_owned(),
        "'a/below': Not a directory".to_owned(),
        format!("'{long}': File name too long"),
        r"'lin\ne\u{1b}': No such file or directory".to_owned(),
    ];
    assert_eq!(errors.len(), want.len(), "{errors:?}");
    for (error, want) in errors.iter().zip(want) {
        assert!(error.starts_with(&format!("layshaft: cannot read {want}")), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_read_that_fails_half_way_prints_no_result() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "a");
    // It can be opened; its first page is not mapped, so reading it fails.
    let output = map(folder.path(), &["sha256", "/proc/self/mem", "a"]);
    assert_same(&output.stdout, &shell(folder.path(), "sha256sum a"));
    assert_eq!(text(&output.stderr), "layshaft: cannot read '/proc/self/mem': Input/output error (os error 5)\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn usage_errors_name_the_choices_and_exit_with_2() {
    let folder = tempdir().expect("a folder");
    let cases: [(&[&str], &[&str]); 6] = [
        (
            &["sha265", "x"],
            &["'sha265'", "[possible values: sha256, crc32, wc, gzip-size]", "similar value exists: 'sha256'"],
        ),
        (&["md5", "x"], &["'md5'", "[possible values: sha256, crc32, wc, gzip-size]"]),
        (&["sha256"], &["<INPUT>...", "--help"]),
        (&[], &["<FUNCTION>", "<INPUT>..."]),
        (&["--jobs", "0", "sha256", "x"], &["'0'", "--jobs", "1..=1024"]),
        (&["--jobs", "many", "sha256", "x"], &["'many'", "--jobs"]),
    ];
    for (args, words) in cases {
        let output = map(folder.path(), args);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {errors}");
        assert_eq!(text(&output.stdout), "");
        for word in words {
            assert!(errors.contains(word), "{args:?}: {word:?} is missing in {errors}");
        }
    }
}

#[test]
fn a_folder_without_files_is_told() {
    let folder = tempdir().expect("a folder");
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    let output = map(folder.path(), &["sha256", "empty"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(0)));
    assert!(text(&output.stderr).starts_with("layshaft: no regular file"), "{}", text(&output.stderr));
}

#[test]
fn a_reader_that_leaves_stops_the_run_quietly() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", "content");
    // Several times what a pipe holds.
    let mut command = layshaft(folder.path(), ["map", "sha256"]);
    command.args(vec!["file"; 20_000]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command starts");
    let mut line = String::new();
    let mut reader = BufReader::new(child.stdout.take().expect("piped"));
    reader.read_line(&mut line).expect("a line");
    drop(reader);
    assert_eq!(line.as_bytes(), shell(folder.path(), "sha256sum file"));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn an_empty_name_is_told_and_the_rest_goes_on() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "a");
    let output = map(folder.path(), &["sha256", "", "a"]);
    assert_same(&output.stdout, &shell(folder.path(), "sha256sum a"));
    assert_eq!(text(&output.stderr), "layshaft: cannot read '': No such file or directory (os error 2)\n");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn standard_input_is_taken_once() {
    let folder = tempdir().expect("a folder");
    let output = map(folder.path(), &["sha256", "-", "x", "-"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(2)));
    assert!(text(&output.stderr).contains("'-' stands twice"), "{}", text(&output.stderr));
}

/// The shell closes it; what runs afterwards has no descriptor 1 until somebody opens a file.
#[test]
fn a_closed_output_is_told() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", "content");
    for args in ["map sha256 file", "completions bash", "man", "bench core --quick"] {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec \"$0\" {args} >&-"), env!("CARGO_BIN_EXE_layshaft")]);
        let output = run({
            command.current_dir(folder.path());
            command
        });
        let want = "layshaft: cannot write to standard output: it is closed\n";
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), (want, Some(1)), "{args}");
    }
}

/// Opened for both ways, as Python does it, it is what Rust puts in the place of a closed one.
#[test]
fn an_output_that_is_thrown_away_is_no_error() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", "content");
    let mut command = layshaft(folder.path(), ["map", "-q", "sha256", "file"]);
    command.stdout(File::options().read(true).write(true).open("/dev/null").expect("a null device"));
    let output = run(command);
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)));
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_takes_nothing_is_told() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", "content");
    let mut command = layshaft(folder.path(), ["map", "sha256", "file"]);
    command.stdout(File::options().write(true).open("/dev/full").expect("a full device"));
    let output = run(command);
    let want = "layshaft: cannot write to standard output: No space left on device (os error 28)\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (want, Some(1)));
}

#[test]
fn results_are_printed_while_later_inputs_are_read() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", "content");
    let fifo = fifo(folder.path(), "fifo");
    let mut child = start(layshaft(folder.path(), ["map", "--quiet", "wc", "file", "fifo"]));
    let (line, rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
    assert_eq!(line, "0 1 7 file\n");
    let mut writer = within("a body", || File::options().write(true).open(fifo).expect("the body reads it"));
    writer.write_all(b"two words\n").expect("the body reads it");
    drop(writer);
    assert_eq!(read_to_end(rest), " 1  2 10 fifo\n");
    assert_eq!(exit_code(&mut child), Some(0));
}
