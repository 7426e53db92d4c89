//! Inputs from lists: a file's or standard input's.

mod common;

use common::{assert_same, exit_code, layshaft, map, read_line, read_to_end, run, shell, start, text, write};
use std::fs::{self, File};
use std::io::{BufReader, Write};
use std::process::Stdio;
use tempfile::tempdir;

#[test]
fn entries_are_inputs_after_those_named() {
    let folder = tempdir().expect("a folder");
    for name in ["a", "dir/1", "dir/2", "with  space", "c"] {
        write(folder.path(), name, name);
    }
    write(folder.path(), "list", "dir\nwith  space\na");
    let want = shell(folder.path(), "sha256sum c a dir/1 dir/2 'with  space' a");
    assert_same(&map(folder.path(), ["--files-from", "list", "sha256", "c", "a"]), &want);
    let want = shell(folder.path(), "sha256sum dir/1 dir/2 'with  space' a");
    assert_same(&map(folder.path(), ["sha256", "--files-from", "list"]), &want);
}

#[test]
fn entries_may_end_with_nul() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "new\nline", "1");
    write(folder.path(), "b", "2");
    write(folder.path(), "list", "new\nline\0b\0");
    let want = shell(folder.path(), "sha256sum new*line b");
    for option in ["-0", "--null"] {
        assert_same(&map(folder.path(), [option, "--files-from", "list", "sha256"]), &want);
    }
}

#[test]
fn results_come_while_the_list_is_open() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "b", "12345");
    let mut command = layshaft(folder.path(), ["map", "-q", "crc32", "--files-from", "-"]);
    command.stdin(Stdio::piped());
    let mut child = start(command);
    let mut list = child.0.stdin.take().expect("piped");
    list.write_all(b"a\nb").expect("it reads");
    let (line, rest) = read_line(BufReader::new(child.0.stdout.take().expect("piped")));
    assert_eq!(line, "cbf53a1c  a\n");
    drop(list);
    assert_eq!(read_to_end(rest), "cbf53a1c  b\n");
    assert_eq!(exit_code(&mut child), Some(0));
}

#[test]
fn entries_that_cannot_be_read_are_told() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "list", "missing\n\n-\na\n");
    let mut command = layshaft(folder.path(), ["map", "-q", "crc32", "--files-from", "-"]);
    command.stdin(File::open(folder.path().join("list")).expect("written above"));
    let output = run(command);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("cbf53a1c  a\n", Some(1)));
    let want = "layshaft: cannot read 'missing': No such file or directory (os error 2)\n\
        layshaft: cannot read '': No such file or directory (os error 2)\n\
        layshaft: cannot read '-': standard input is the list; write ./- for a file of that name\n";
    assert_eq!(text(&output.stderr), want);
}

#[test]
fn a_list_that_cannot_be_read_is_told() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "a", "12345");
    let output = run(layshaft(folder.path(), ["map", "crc32", "a", "--files-from", "missing"]));
    let want = "layshaft: cannot read the list 'missing': No such file or directory (os error 2)\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (want, Some(2)));
    assert_eq!(text(&output.stdout), "");
    // It can be opened, but not read.
    let output = run(layshaft(folder.path(), ["map", "-q", "crc32", "a", "--files-from", "."]));
    let want = "layshaft: cannot read '.': Is a directory (os error 21)\n";
    assert_eq!((text(&output.stderr).as_str(), output.status.code()), (want, Some(1)));
    assert_eq!(text(&output.stdout), "cbf53a1c  a\n");
}

#[test]
fn standard_input_is_either_data_or_a_list() {
    let folder = tempdir().expect("a folder");
    let twice: [&[&str]; 3] =
        [&["crc32", "-", "--files-from", "-"], &["-", "--files-from", "-", "--", "echo"], &["-", "-", "--", "echo"]];
    for args in twice {
        let mut command = layshaft(folder.path(), ["map"]);
        command.args(args);
        let output = run(command);
        assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(2)));
        assert!(text(&output.stderr).contains("'-' stands twice"), "{}", text(&output.stderr));
    }
}

#[test]
fn an_empty_list_is_told() {
    let folder = tempdir().expect("a folder");
    for args in [&["crc32", "--files-from", "/dev/null"][..], &["--files-from", "/dev/null", "--", "echo"]] {
        let mut command = layshaft(folder.path(), ["map", "-q"]);
        command.args(args);
        let output = run(command);
        let want = "layshaft: no input: the list is empty, or names folders without a regular file\n";
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), (want, Some(0)));
    }
}

/// However many entries come to nothing one after the other, and however long the list is.
#[test]
fn long_lists_need_no_deep_stack() {
    let folder = tempdir().expect("a folder");
    fs::create_dir(folder.path().join("empty")).expect("a folder");
    write(folder.path(), "a", "12345");
    write(folder.path(), "list", "empty\n".repeat(50_000) + "a\n");
    assert_eq!(text(&map(folder.path(), ["crc32", "--files-from", "list"])), "cbf53a1c  a\n");
    write(folder.path(), "list", "a\n".repeat(20_000));
    assert_eq!(text(&map(folder.path(), ["crc32", "--files-from", "list"])), "cbf53a1c  a\n".repeat(20_000));
}
