//! Snapshots and logs that announce what they do not hold: they are refused, and no memory is taken for what is only announced.

#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;
use std::process::Command;

/// Address space that the process may take, in KiB: less than what is announced, and more than what an allocator sets aside.
const SPACE_KIB: u32 = 1024 * 1024;

/// Looks through a file in little memory. Answers what is told of it; a process that ends otherwise than by its own judgement fails.
fn check(how: &str, folder: &Path, file: &[u8]) -> String {
    let binary = std::env::var_os("LARDER_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_larder").into());
    let path = folder.join("file");
    std::fs::write(&path, file).unwrap();
    let shell = format!("ulimit -v {SPACE_KIB} && exec \"$0\" {how} \"$1\"");
    // Where memory is short a backtrace would take for ever.
    let output = Command::new("sh")
        .env("RUST_BACKTRACE", "0")
        .arg("-c")
        .arg(shell)
        .arg(binary)
        .arg(&path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "{:?} {told} {errors} {}",
        output.status,
        file.escape_ascii()
    );
    told
}

/// A length as files have it, in nine bytes where it is large.
fn length(length: u64) -> Vec<u8> {
    [&[0x81][..], &length.to_be_bytes()].concat()
}

/// A string of so many bytes of which none are there.
fn announced(bytes: u64) -> Vec<u8> {
    length(bytes)
}

fn string(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()][..], text].concat()
}

/// Values that announce more than is there: what stands behind the key, with its type.
fn values(large: u64) -> Vec<(u8, Vec<u8>)> {
    let mut values = vec![(0, announced(large))];
    // A compressed string: it would become so long; and its compressed form is so long.
    values.push((0, [&[0xc3][..], &[3], &length(large), b"abc"].concat()));
    values.push((0, [&[0xc3][..], &length(large), &length(large), b"abc"].concat()));
    // So many elements, of which one is there: lists, sets, sorted sets (with scores as text and as numbers), hashes, quicklists.
    for kind in [1, 2, 3, 4, 5, 14, 18, 22, 23, 24, 25] {
        values.push((kind, length(large)));
        values.push((kind, [length(large), string(b"a"), string(b"b")].concat()));
        // With a moment in front, where such a type has one.
        values.push((kind, [&[0; 8][..], &length(large), &string(b"a")].concat()));
    }
    // One buffer whose head tells of more than it has: zipmap, ziplists, intset, listpacks.
    let mut heads: Vec<Vec<u8>> = vec![vec![0xfe, 0xff, 0xff, 0xff, 0xff, b'a'], vec![0xff; 11]];
    heads.push([&u32::MAX.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0xff, 0xff, 0xff]].concat());
    heads.push([&8u32.to_le_bytes()[..], &u32::MAX.to_le_bytes()].concat());
    heads.push([&u32::MAX.to_le_bytes()[..], &[0xff, 0xff, 0x81, b'a', 2, 0xff]].concat());
    // An element of so many bytes.
    heads.push([&13u32.to_le_bytes()[..], &[1, 0, 0xf0], &u32::MAX.to_le_bytes(), &[1, 0xff]].concat());
    for head in &heads {
        for kind in [9, 10, 11, 12, 13, 16, 17, 20] {
            values.push((kind, string(head)));
        }
        values.push((18, [&[1, 2][..], &string(head)].concat()));
        values.push((14, [&[1][..], &string(head)].concat()));
        values.push((15, [&[1][..], &string(&[0; 16]), &string(head)].concat()));
    }
    // A stream: nodes, groups, entries that wait, consumers, each with a count.
    for kind in [15, 19, 21] {
        values.push((kind, length(large)));
        let figures = if kind == 15 { 3 } else { 8 };
        let empty = [&[0][..], &vec![0; figures]].concat();
        values.push((kind, [&empty[..], &length(large)].concat()));
        let group = [&empty[..], &[1], &string(b"group"), &[0, 0]].concat();
        let group = if kind == 15 { group } else { [&group[..], &[0]].concat() };
        values.push((kind, [&group[..], &length(large)].concat()));
        values.push((kind, [&group[..], &[0], &length(large)].concat()));
        values.push((kind, [&group[..], &[0, 1], &string(b"consumer"), &[0; 16], &length(large)].concat()));
    }
    values
}

#[test]
fn no_memory_is_taken_for_what_a_snapshot_only_announces() {
    let folder = tempfile::tempdir().unwrap();
    for large in [1 << 60, u64::MAX, 1 << 40, u64::from(u32::MAX)] {
        let head = b"REDIS0012\xfe\0";
        let mut files = Vec::new();
        for (kind, value) in values(large) {
            files.push([&head[..], &[kind], b"\x01k", &value].concat());
        }
        // Before any key: aux fields, sizes, functions, what modules keep, slots.
        for about in [
            [&[0xfa][..], &announced(large)].concat(),
            [&[0xfa, 1, b'a'][..], &announced(large)].concat(),
            [&[0xfb][..], &length(large), &length(large)].concat(),
            [&[0xf5][..], &announced(large)].concat(),
            [&[0xf7][..], &length(large), &[2], &length(large), &[5], &announced(large)].concat(),
            [&[0xfe][..], &length(large)].concat(),
        ] {
            files.push([&head[..], &about].concat());
        }
        for file in &files {
            let told = check("check-rdb", folder.path(), file);
            assert!(told.contains("WRONG"), "{} {told}", file.escape_ascii());
        }
    }
}

#[test]
fn no_memory_is_taken_for_what_a_log_only_announces() {
    let folder = tempfile::tempdir().unwrap();
    for text in [
        "*1152921504606846976\r\n$3\r\nSET\r\n",
        "*18446744073709551615\r\n",
        "*99999999999999999999999999\r\n",
        "*1048576\r\n$3\r\nSET\r\n",
        "*1\r\n$1152921504606846976\r\nabc",
        "*1\r\n$2147483647\r\nabc",
        "*1\r\n$-1\r\n",
        "#TS:99999999999999999999999\r\n*1\r\n$9999999999\r\n",
    ] {
        let told = check("check-aof", folder.path(), text.as_bytes());
        assert!(told.contains("are before that"), "{text}: {told}");
    }
    // A line that has no end.
    let told = check("check-aof", folder.path(), &[&b"#"[..], &vec![b'x'; 4 << 20]].concat());
    assert!(told.contains("are before that"), "{told}");
}
