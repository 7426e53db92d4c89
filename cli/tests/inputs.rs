//! Which files are taken, in which order, under which names.

mod common;

use common::{assert_same, map, shell, write};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;
use tempfile::tempdir;

const FIND: &str = "find in -type f -print0 | sort -z | xargs -0 sha256sum";

#[test]
fn folders_are_sorted_by_the_bytes_of_the_whole_path() {
    let folder = tempdir().expect("a folder");
    let names = [
        "a/x",
        "a-b/x",
        "a.b",
        "a0/x",
        "a/b/c",
        "a/b-c",
        "a/b0",
        "a/b.c/d",
        "A",
        "ab",
        "aa/z",
        "a/.hidden",
        ".h/.i/.j",
        "..x/y",
        "ä/x",
        "z/ä",
        "z/z",
        "z-",
        "z0",
        "a b/c d",
        "a!/c",
    ];
    for name in names {
        write(folder.path(), Path::new("in").join(name), name);
    }
    let want = shell(folder.path(), FIND);
    assert_eq!(want.iter().filter(|&&byte| byte == b'\n').count(), names.len());
    assert_same(&map(folder.path(), ["sha256", "in"]), &want);
}

#[test]
fn odd_names_are_printed_as_sha256sum_prints_them() {
    let folder = tempdir().expect("a folder");
    let names: [&[u8]; 10] = [
        b"new\nline",
        b"back\\slash",
        b"\\",
        b"carriage\rreturn",
        b"tab\tand  spaces ",
        b"not utf-8 \xff\xfe\x80",
        b"both \xff\n\\",
        b"--jobs",
        b"-",
        b"'quotes\" $(x) *",
    ];
    for name in names {
        write(folder.path(), Path::new("in").join(OsStr::from_bytes(name)), name);
    }
    assert_same(&map(folder.path(), ["sha256", "in"]), &shell(folder.path(), FIND));
    // The same names as inputs of their own.
    let mut args: Vec<&OsStr> = ["sha256", "--"].map(OsStr::new).to_vec();
    args.extend(names.iter().filter(|&name| name != b"-").map(|name| OsStr::from_bytes(name)));
    let want = shell(
        &folder.path().join("in"),
        r#"sha256sum -- "$(printf 'new\nline')" 'back\slash' '\' "$(printf 'carriage\rreturn')" "$(printf 'tab\tand  spaces ')" \
        "$(printf 'not utf-8 \377\376\200')" "$(printf 'both \377\n\\')" --jobs "'quotes\" \$(x) *""#,
    );
    assert_same(&map(&folder.path().join("in"), args), &want);
}

/// Without a locale, as everywhere in these tests. `wc` 9.1 misquotes names with an apostrophe that end in an escape; later
/// ones do not.
#[test]
fn odd_names_are_printed_as_wc_prints_them() {
    let folder = tempdir().expect("a folder");
    let names: [&[u8]; 12] = [
        b"new\nline",
        b"back\\slash",
        b"carriage\rreturn",
        b"it's",
        b"\n",
        b"it's\nnew: $x ~ \"{}\"",
        b"\n'",
        b"a\n\n1\r2\t3\x07\x08\x0b\x0c\x1b\x7f4",
        b"not utf-8 \xff\xfe\x80",
        b"not utf-8 \xff\xfe\x80\n",
        b"\xc3\xa4",
        b"\xc3\xa4\n\\",
    ];
    for name in names {
        write(folder.path(), Path::new("in").join(OsStr::from_bytes(name)), "x\n");
    }
    let want = shell(folder.path(), "find in -type f -print0 | sort -z | xargs -0 -n 1 wc");
    assert_same(&map(folder.path(), ["wc", "in"]), &want);
}

#[test]
fn inputs_keep_the_order_given_and_may_repeat() {
    let folder = tempdir().expect("a folder");
    for name in ["b", "a", "dir/2", "dir/1", "dir/sub/0"] {
        write(folder.path(), name, name);
    }
    let got = map(folder.path(), ["sha256", "b", "dir", "a", "dir/sub", "b"]);
    assert_same(&got, &shell(folder.path(), "sha256sum b dir/1 dir/2 dir/sub/0 a dir/sub/0 b"));
}

#[test]
fn folders_are_spelled_as_they_were_given() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "dir/file", "content");
    let sums = shell(folder.path(), "sha256sum dir/file ./dir/file dir//file dir/../dir/file");
    assert_same(&map(folder.path(), ["sha256", "dir/", ".", "dir//", "dir/../dir"]), &sums);
}

#[test]
fn links_are_followed_only_where_they_are_named() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "in/file", "content");
    write(folder.path(), "elsewhere/other", "other content");
    symlink("file", folder.path().join("in/link")).expect("a link");
    symlink("../elsewhere", folder.path().join("in/folder-link")).expect("a link");
    symlink("nowhere", folder.path().join("in/dangling")).expect("a link");
    assert_same(&map(folder.path(), ["sha256", "in"]), &shell(folder.path(), "sha256sum in/file"));
    let got = map(folder.path(), ["sha256", "in/link", "in/folder-link"]);
    assert_same(&got, &shell(folder.path(), "sha256sum in/link in/folder-link/other"));
}

#[test]
fn only_regular_files_are_taken_from_folders() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "in/file", "content");
    let _socket = UnixListener::bind(folder.path().join("in/socket")).expect("a socket");
    fs::create_dir(folder.path().join("in/empty")).expect("a folder");
    // A body that opened the socket would fail.
    assert_same(&map(folder.path(), ["sha256", "in"]), &shell(folder.path(), "sha256sum in/file"));
}

#[test]
fn deep_folders_are_walked() {
    let folder = tempdir().expect("a folder");
    let deep = "d/".repeat(300);
    write(folder.path(), format!("in/{deep}file"), "deep");
    assert_same(&map(folder.path(), ["sha256", "in"]), &shell(folder.path(), FIND));
}
