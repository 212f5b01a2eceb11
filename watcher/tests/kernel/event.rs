//! What a test expects of the sensor's lines, and the comparison.

use std::fmt::Write as _;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::child::unhex;

/// A failing open as its opener saw it.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub errno: i32,
    pub flags: u64,
    pub requested: Option<Vec<u8>>,
    pub absolute: Option<Vec<u8>>,
    pub resolution: String,
    pub pid: i64,
    pub tid: i64,
    pub ppid: i64,
}

impl Attempt {
    pub fn parse(line: &Value) -> anyhow::Result<Self> {
        let number = |key: &str| line[key].as_i64().with_context(|| format!("the opener reported no {key}"));
        let bytes = |key: &str| line[key].as_str().map(unhex).transpose();
        Ok(Self {
            errno: number("errno")? as i32,
            flags: line["flags"].as_u64().context("the opener reported no flags")?,
            // The contract has no empty strings.
            requested: bytes("requested")?.filter(|name| !name.is_empty()),
            absolute: bytes("absolute")?,
            resolution: line["resolution"].as_str().unwrap_or_default().to_owned(),
            pid: number("pid")?,
            tid: number("tid")?,
            ppid: number("ppid")?,
        })
    }

    /// Whether the event is about this attempt; whether it tells it right is `differences`.
    pub fn is_meant_by(&self, event: &Value) -> bool {
        event["process.pid"].as_i64() == Some(self.pid)
            && event["process.thread.id"].as_i64().is_none_or(|tid| tid == self.tid)
            && path(event, "file.requested_path") == self.requested
            && event["error.type"].as_str() == Some(&errno_name(self.errno))
    }

    /// What the event says otherwise, one line each.
    pub fn differences(&self, event: &Value) -> String {
        let mut text = String::new();
        let mut compare = |key: &str, found: String, expected: String| {
            if found != expected {
                let _ = writeln!(text, "{key} is {found}, expected {expected}");
            }
        };
        let show = |path: Option<Vec<u8>>| path.map_or("absent".to_owned(), |path| path.escape_ascii().to_string());
        let number = |key: &str| event[key].as_i64().map_or("absent".to_owned(), |number| number.to_string());
        compare("file.path", show(path(event, "file.path")), show(self.absolute.clone()));
        let resolution = event["file.path_resolution"].as_str().unwrap_or("absent");
        compare("file.path_resolution", resolution.to_owned(), self.resolution.clone());
        compare("process.thread.id", number("process.thread.id"), self.tid.to_string());
        compare("process.parent.pid", number("process.parent.pid"), self.ppid.to_string());
        compare("count", number("count"), "1".to_owned());
        let mut found: Vec<&str> =
            event["syscall.flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut expected = flag_names(self.flags);
        found.sort_unstable();
        expected.sort_unstable();
        compare("syscall.flags", found.join("|"), expected.join("|"));
        text
    }
}

/// A path of an event as bytes: the exact ones where it is not UTF-8.
pub fn path(event: &Value, key: &str) -> Option<Vec<u8>> {
    match event[format!("{key}.base64")].as_str() {
        Some(encoded) => Some(base64(encoded).unwrap_or_else(|error| format!("{error:#}").into_bytes())),
        None => event[key].as_str().map(|text| text.as_bytes().to_vec()),
    }
}

fn base64(text: &str) -> anyhow::Result<Vec<u8>> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut value, mut bits) = (0u32, 0);
    for digit in text.trim_end_matches('=').bytes() {
        let Some(at) = ALPHABET.iter().position(|&letter| letter == digit) else {
            bail!("not base64: {text}");
        };
        value = value << 6 | at as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((value >> bits) as u8);
        }
    }
    Ok(bytes)
}

/// Flags as open(2) names them; the access mode comes first and is always one of three.
pub fn flag_names(flags: u64) -> Vec<&'static str> {
    let flags = flags as i32;
    let access = match flags & libc::O_ACCMODE {
        libc::O_WRONLY => "O_WRONLY",
        libc::O_RDWR => "O_RDWR",
        _ => "O_RDONLY",
    };
    let names = [
        (libc::O_CREAT, "O_CREAT"),
        (libc::O_EXCL, "O_EXCL"),
        (libc::O_NOCTTY, "O_NOCTTY"),
        (libc::O_TRUNC, "O_TRUNC"),
        (libc::O_APPEND, "O_APPEND"),
        (libc::O_NONBLOCK, "O_NONBLOCK"),
        (libc::O_DIRECT, "O_DIRECT"),
        (libc::O_DIRECTORY, "O_DIRECTORY"),
        (libc::O_NOFOLLOW, "O_NOFOLLOW"),
        (libc::O_NOATIME, "O_NOATIME"),
        (libc::O_CLOEXEC, "O_CLOEXEC"),
        (libc::O_PATH, "O_PATH"),
    ];
    let set = names.iter().filter(|(bit, _)| flags & bit == *bit).map(|(_, name)| *name);
    std::iter::once(access).chain(set).collect()
}

/// The name of each errno that a test provokes.
pub fn errno_name(errno: i32) -> String {
    let name = match errno {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::EINTR => "EINTR",
        libc::ENXIO => "ENXIO",
        libc::E2BIG => "E2BIG",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EEXIST => "EEXIST",
        libc::EXDEV => "EXDEV",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EISDIR => "EISDIR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::ETXTBSY => "ETXTBSY",
        libc::EROFS => "EROFS",
        libc::ENAMETOOLONG => "ENAMETOOLONG",
        libc::ELOOP => "ELOOP",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        other => return format!("errno {other}"),
    };
    name.to_owned()
}
