//! The little process that the path trials watch: this test binary under another name, doing one failing open.
//!
//! It is started through a symbolic link, whose name becomes its comm, with the marker as its first argument; `main`
//! hands over to [`main`] before any test starts.

use std::ffi::{CString, OsString};
use std::io::Read as _;
use std::os::unix::ffi::OsStringExt as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{CWD, Mode, OFlags, open, openat};

/// The first argument that makes this binary the opener.
pub const MARKER: &str = "--watcher-it-opener";

/// Arguments: mode, directory, name. It reads standard input to its end before it opens and again afterwards is
/// gone, so that the sensor looks at a process that no longer is.
pub fn main(arguments: Vec<OsString>) -> ExitCode {
    match open_once(arguments) {
        Ok(errno) => {
            println!("{errno}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn open_once(arguments: Vec<OsString>) -> Result<i32> {
    let mut words = arguments.into_iter();
    let mut next = || words.next().context("the opener wants a mode, a directory and a name");
    let (mode, directory, name) = (next()?, next()?, next()?);
    let name = CString::new(name.into_vec())?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    let flags = OFlags::RDONLY;
    if mode == "burst" {
        return burst(&directory, name.to_str()?);
    }
    let result = match mode.to_str() {
        Some("absolute") => openat(CWD, name.as_c_str(), flags, Mode::empty()),
        Some("cwd") => {
            std::env::set_current_dir(&directory)?;
            openat(CWD, name.as_c_str(), flags, Mode::empty())
        }
        Some("dirfd") => {
            let base = open(&directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
            openat(&base, name.as_c_str(), flags, Mode::empty())
        }
        Some("chroot") => {
            std::os::unix::fs::chroot(&directory)?;
            std::env::set_current_dir("/")?;
            openat(CWD, name.as_c_str(), flags, Mode::empty())
        }
        Some("chroot-cwd") => {
            std::os::unix::fs::chroot(&directory)?;
            std::env::set_current_dir("/sub")?;
            openat(CWD, name.as_c_str(), flags, Mode::empty())
        }
        // The old root stays the working directory: the path leaves the process's own root.
        Some("chroot-outside") => {
            std::env::set_current_dir(&directory)?;
            std::os::unix::fs::chroot("sub")?;
            openat(CWD, name.as_c_str(), flags, Mode::empty())
        }
        _ => bail!("the opener does not know the mode {mode:?}"),
    };
    match result {
        Ok(_) => bail!("the open succeeds, which no trial wants"),
        Err(errno) => Ok(errno.raw_os_error()),
    }
}

/// Many failing opens: `words` are their number, the number of files, and milliseconds between two.
fn burst(directory: &OsString, words: &str) -> Result<i32> {
    let numbers = words.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>()?;
    let [opens, files, pause] = numbers[..] else { bail!("the burst wants three numbers, not {words:?}") };
    std::env::set_current_dir(directory)?;
    let names: Vec<CString> = (0..files).map(|n| CString::new(format!("{n}.php"))).collect::<Result<_, _>>()?;
    let mut last = 0;
    for name in names.iter().cycle().take(usize::try_from(opens)?) {
        match openat(CWD, name.as_c_str(), OFlags::RDONLY, Mode::empty()) {
            Ok(_) => bail!("{name:?} is there, which no trial wants"),
            Err(errno) => last = errno.raw_os_error(),
        }
        if pause > 0 {
            std::thread::sleep(std::time::Duration::from_millis(pause));
        }
    }
    Ok(last)
}
