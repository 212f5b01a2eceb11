//! Names that break tools which trust them: newlines, terminal escapes, invalid UTF-8, the longest path there is,
//! asked for relative to anything, in and out of a chroot. The event carries each exactly.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use libtest_mimic::Trial;

use crate::needs::{Need, trial};
use crate::opener;
use crate::sensor::{Line, SOON, Watcher};

const NEEDS: [Need; 2] = [Need::Root, Need::Sensor];

/// The longest name that an open takes: PATH_MAX counts the final zero.
const LONGEST: usize = 4095;

pub fn trials() -> Vec<Trial> {
    let names: [(&str, Vec<u8>); 6] = [
        ("plain", b"missing.php".to_vec()),
        ("newline", b"one\ntwo\r\n.php".to_vec()),
        ("escape_sequence", b"\x1b]0;title\x07\x1b[31mred\x1b[0m.php".to_vec()),
        ("invalid_utf8", b"caf\xe9-\xff\xfe.php".to_vec()),
        ("quotes", br#"a"b\c'd$e`f.php"#.to_vec()),
        ("bidi", "x\u{202e}php.exe".as_bytes().to_vec()),
    ];
    let mut trials = Vec::new();
    for (label, name) in names {
        trials.push(trial(format!("paths::{label}"), &NEEDS, move || every_form(&name)));
    }
    trials.push(trial("paths::longest", &NEEDS, longest));
    trials.push(trial("paths::empty", &NEEDS, empty));
    trials
}

/// One name through every way of resolving it.
fn every_form(name: &[u8]) -> Result<()> {
    let stage = Stage::start()?;
    let dir = stage.dir();
    let under = |base: &Path| [base.as_os_str().as_bytes(), b"/", name].concat();
    let absolute = under(dir);
    stage.check("absolute", dir, &absolute, &absolute, "absolute")?;
    // A directory for each: the same missing file is one cause and its repeats are folded, however it is asked for.
    let (cwd, dirfd) = (dir.join("cwd"), dir.join("dirfd"));
    stage.check("cwd", &cwd, name, &under(&cwd), "cwd")?;
    stage.check("dirfd", &dirfd, name, &under(&dirfd), "dirfd")?;
    // Inside a chroot the process sees another tree, and the event says what it saw.
    stage.check("chroot", dir, &[b"/", name].concat(), &[b"/", name].concat(), "absolute")?;
    stage.check("chroot-cwd", dir, name, &[b"/sub/", name].concat(), "cwd")?;
    let ended = stage.watcher.terminate()?;
    ensure!(ended.status.code() == Some(0), "the sensor ended with {}: {}", ended.status, ended.stderr);
    Ok(())
}

/// The longest names, whose absolute form is longer than any name may be.
fn longest() -> Result<()> {
    let stage = Stage::start()?;
    let (cwd, dirfd) = (stage.dir().join("cwd"), stage.dir().join("dirfd"));
    let component = [b"/".as_slice(), &[b'x'; 250]].concat();
    let mut absolute = component.repeat(LONGEST / component.len());
    absolute.push(b'/');
    absolute.resize(LONGEST, b'y');
    stage.check("absolute", stage.dir(), &absolute, &absolute, "absolute")?;
    let relative = &absolute[1..];
    let under = |base: &Path| [base.as_os_str().as_bytes(), b"/", relative].concat();
    stage.check("cwd", &cwd, relative, &under(&cwd), "cwd")?;
    stage.check("dirfd", &dirfd, relative, &under(&dirfd), "dirfd")?;
    Ok(())
}

/// An open of the empty name fails with ENOENT like any other.
fn empty() -> Result<()> {
    let stage = Stage::start()?;
    stage.open("cwd", stage.dir(), b"")?;
    let line = stage.watcher.wait_for("the open of the empty name", SOON, |line| {
        line.is_event() && line.text("process.comm") == stage.comm
    })?;
    ensure!(line.text("error.type") == "ENOENT", "it is {}", line.json);
    Ok(())
}

struct Stage {
    watcher: Watcher,
    scratch: tempfile::TempDir,
    comm: String,
}

impl Stage {
    fn start() -> Result<Self> {
        let scratch = crate::servers::scratch("watcher-it-paths-")?;
        for name in ["sub", "cwd", "dirfd"] {
            fs::create_dir(scratch.path().join(name))?;
        }
        // The scratch directory's random part makes the name this trial's own; comm holds 15 bytes.
        let unique = scratch.path().to_string_lossy().rsplit('-').next().unwrap_or_default().to_owned();
        let comm = format!("kopen-{unique}");
        std::os::unix::fs::symlink(std::env::current_exe()?, scratch.path().join(&comm))?;
        let watcher = Watcher::start(&["--comm", &comm])?;
        Ok(Self { watcher, scratch, comm })
    }

    fn dir(&self) -> &Path {
        self.scratch.path()
    }

    fn open(&self, mode: &str, directory: &Path, name: &[u8]) -> Result<()> {
        let mut child = Command::new(self.dir().join(&self.comm))
            .args([OsStr::new(opener::MARKER), OsStr::new(mode), directory.as_os_str()])
            .arg(OsString::from_vec(name.to_vec()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not start the opener")?;
        child.stdin.take().context("no stdin")?.flush()?;
        let output = child.wait_with_output()?;
        ensure!(output.status.success() && output.stdout == b"2\n", "the opener did not meet ENOENT: {output:?}");
        Ok(())
    }

    /// Opens and expects exactly one event that says so.
    fn check(&self, mode: &str, directory: &Path, name: &[u8], full: &[u8], resolution: &str) -> Result<()> {
        let seen = self.watcher.lines().len();
        self.open(mode, directory, name)?;
        let mut index = 0;
        let line = self.watcher.wait_for(&format!("the {mode} open"), SOON, |line| {
            index += 1;
            index > seen
                && line.is_event()
                && line.text("file.path_resolution") == resolution
                && says(line, "file.requested_path", name)
        })?;
        ensure!(
            says(&line, "file.path", full),
            "{mode}: file.path is {} instead of {}",
            line.json["file.path"],
            full.escape_ascii()
        );
        ensure!(line.text("process.comm") == self.comm, "{mode}: comm is {}", line.json["process.comm"]);
        ensure!(line.number("count") == Some(1), "{mode}: count is {}", line.json["count"]);
        ensure!(line.json["syscall.flags"].is_array(), "{mode}: no list of flags in {}", line.json);
        Ok(())
    }
}

/// Whether a path key carries exactly these bytes: as text where they are UTF-8, else escaped and in base64.
fn says(line: &Line, key: &str, bytes: &[u8]) -> bool {
    let exact = format!("{key}.base64");
    match std::str::from_utf8(bytes) {
        Ok(text) => line.text(key) == text && line.json[&exact].is_null(),
        Err(_) => {
            let escaped: String = bytes
                .utf8_chunks()
                .map(|chunk| {
                    let bad: String = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")).collect();
                    format!("{}{bad}", chunk.valid())
                })
                .collect();
            line.text(key).eq_ignore_ascii_case(&escaped) && line.text(&exact) == base64(bytes)
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().enumerate().fold(0u32, |word, (index, byte)| word | u32::from(*byte) << (16 - 8 * index));
        for index in 0..4 {
            let digit = ALPHABET[(word >> (18 - 6 * index) & 63) as usize];
            text.push(if index <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}
