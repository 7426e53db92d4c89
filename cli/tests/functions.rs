//! The built-in functions print what the system's own tools print.

mod common;

use common::{assert_same, layshaft, map, noise, run, shell, text, write};
use std::fs;
use tempfile::tempdir;

/// Around the size of a read, and empty.
const SIZES: [usize; 9] = [0, 1, 55, 64, 4096, 128 * 1024 - 1, 128 * 1024, 128 * 1024 + 1, 3_000_017];

#[test]
fn sha256_is_that_of_sha256sum() {
    let folder = tempdir().expect("a folder");
    for size in SIZES {
        write(folder.path(), format!("in/{size:07}"), noise(size));
    }
    let want = shell(folder.path(), "sha256sum in/*");
    for jobs in ["1", "2", "4"] {
        assert_same(&map(folder.path(), ["--jobs", jobs, "sha256", "in"]), &want);
    }
}

#[test]
fn many_small_files_keep_their_order_with_any_number_of_workers() {
    let folder = tempdir().expect("a folder");
    for i in 0..3000 {
        write(folder.path(), format!("in/{}/{}/f{i}", i % 7, i % 5), format!("content {i}"));
    }
    let want = shell(folder.path(), "find in -type f -print0 | sort -z | xargs -0 sha256sum");
    for jobs in ["1", "4", "16"] {
        assert_same(&map(folder.path(), ["-j", jobs, "sha256", "in"]), &want);
    }
}

#[test]
fn crc32_is_that_of_gzip() {
    let folder = tempdir().expect("a folder");
    for size in SIZES {
        write(folder.path(), format!("{size:07}"), noise(size));
        // The last eight bytes of a gzip file are the checksum and the length, least significant byte first.
        let trailer = shell(folder.path(), &format!("gzip -c {size:07} | tail -c 8"));
        let crc = u32::from_le_bytes(trailer[..4].try_into().expect("four bytes"));
        let got = map(folder.path(), ["crc32".into(), format!("{size:07}")]);
        assert_eq!(text(&got), format!("{crc:08x}  {size:07}\n"));
    }
}

#[test]
fn wc_is_that_of_wc_for_each_file() {
    let folder = tempdir().expect("a folder");
    let texts: [&[u8]; 6] = [
        b"",
        b"\n",
        b"no newline at the end",
        b"  two words \n",
        b"tabs\tand\x0bvertical\x0ctabs\rand\r\nreturns\n\n\n",
        b"one\ntwo three\n",
    ];
    for (i, content) in texts.iter().enumerate() {
        write(folder.path(), format!("in/{i}"), content);
    }
    write(folder.path(), "in/long", "some words and lines\n".repeat(40_000));
    let want = shell(folder.path(), "for file in in/*; do wc $file; done");
    for jobs in ["1", "4"] {
        assert_same(&map(folder.path(), ["--jobs", jobs, "wc", "in"]), &want);
    }
}

#[test]
fn gzip_size_is_near_that_of_gzip() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "empty", "");
    write(folder.path(), "noise", noise(300_001));
    write(folder.path(), "text", "some words and lines\n".repeat(40_000));
    for name in ["empty", "noise", "text"] {
        let want = text(&shell(folder.path(), &format!("gzip -6nc {name} | wc -c")));
        let want: f64 = want.trim().parse().expect("a number");
        let got = text(&map(folder.path(), ["gzip-size", name]));
        let (size, printed) = got.split_once("  ").expect("two spaces");
        assert_eq!(printed, format!("{name}\n"));
        let size: f64 = size.parse().expect("a number");
        assert!((size - want).abs() <= 20.0 + want * 0.1, "{name}: {size}, gzip has {want}");
    }
}

#[test]
fn standard_input_is_an_input() {
    let folder = tempdir().expect("a folder");
    write(folder.path(), "file", noise(300_000));
    let mut command = layshaft(folder.path(), ["map", "--quiet", "sha256", "file", "-"]);
    command.stdin(fs::File::open(folder.path().join("file")).expect("written above"));
    let output = run(command);
    assert_same(&output.stdout, &shell(folder.path(), "sha256sum file - <file"));
    assert_eq!(output.status.code(), Some(0));
}
