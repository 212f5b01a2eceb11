//! The opener: the suite's binary under a watched name, doing what a test tells and reporting what it did.
//!
//! The sensor watches by the name a process had at exec, so each opener is a copy of this binary under that name.
//! What the kernel answered is reported as an attempt; the parent compares the attempts with the sensor's events.

use std::{
    ffi::{CStr, CString},
    io::{self, BufRead as _, Write as _},
    os::fd::{OwnedFd, RawFd},
    path::PathBuf,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use crate::sys::{self, OpenHow};

pub const AT_FDCWD: RawFd = libc::AT_FDCWD;

pub struct Child {
    /// A directory of this test alone.
    pub dir: PathBuf,
    /// What the test passed on.
    pub arguments: Vec<String>,
}

/// One of the four system calls, with its arguments.
#[derive(Clone, Copy)]
pub enum Call<'a> {
    #[cfg(target_arch = "x86_64")]
    Open(&'a [u8], i32),
    #[cfg(target_arch = "x86_64")]
    Creat(&'a [u8]),
    Openat(RawFd, &'a [u8], i32),
    Openat2(RawFd, &'a [u8], OpenHow),
}

impl Call<'_> {
    fn path(&self) -> &[u8] {
        match self {
            #[cfg(target_arch = "x86_64")]
            Call::Open(path, _) | Call::Creat(path) => path,
            Call::Openat(_, path, _) | Call::Openat2(_, path, _) => path,
        }
    }

    fn flags(&self) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Call::Open(_, flags) => *flags as u64,
            #[cfg(target_arch = "x86_64")]
            Call::Creat(_) => (libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC) as u64,
            Call::Openat(_, _, flags) => *flags as u64,
            Call::Openat2(_, _, how) => how.flags,
        }
    }

    fn resolution(&self) -> &'static str {
        match self {
            _ if self.path().starts_with(b"/") => "absolute",
            Call::Openat(dirfd, ..) | Call::Openat2(dirfd, ..) if *dirfd != AT_FDCWD => "dirfd",
            _ => "cwd",
        }
    }

    pub fn run(&self) -> io::Result<OwnedFd> {
        let path = CString::new(self.path())?;
        match self {
            #[cfg(target_arch = "x86_64")]
            Call::Open(_, flags) => sys::open(&path, *flags),
            #[cfg(target_arch = "x86_64")]
            Call::Creat(_) => sys::creat(&path),
            Call::Openat(dirfd, _, flags) => sys::openat(*dirfd, &path, *flags),
            Call::Openat2(dirfd, _, how) => sys::openat2(*dirfd, &path, how, size_of::<OpenHow>()),
        }
    }
}

impl Child {
    /// Makes a call that has to fail, and reports it with the absolute path that the sensor ought to find; None
    /// where there is none to be found.
    pub fn fails(&self, call: Call<'_>, absolute: Option<&[u8]>) -> anyhow::Result<i32> {
        let error = match call.run() {
            Ok(_) => bail!("the open of {} did not fail", String::from_utf8_lossy(call.path())),
            Err(error) => error.raw_os_error().unwrap_or(0),
        };
        let resolution = if absolute.is_some() { call.resolution() } else { "unresolved" };
        self.report(error, call.flags(), Some(call.path()), absolute, resolution)?;
        Ok(error)
    }

    /// As `fails` for an absolute name, whose absolute path is itself.
    pub fn fails_at(&self, call: Call<'_>) -> anyhow::Result<i32> {
        ensure!(call.path().starts_with(b"/"), "not an absolute name");
        self.fails(call, Some(call.path()))
    }

    /// The same failure through each system call; `prepare` gets the call's name, makes what the failure needs and
    /// says which absolute path to open with which flags. Different paths, so that the sensor folds none of them.
    pub fn each_call(&self, mut prepare: impl FnMut(&str) -> anyhow::Result<(Vec<u8>, i32)>) -> anyhow::Result<()> {
        #[cfg(target_arch = "x86_64")]
        {
            let (path, flags) = prepare("open")?;
            self.fails_at(Call::Open(&path, flags))?;
            // creat has no flags of its own: only for failures of plain writing.
            if flags & !(libc::O_CREAT | libc::O_TRUNC | libc::O_NONBLOCK) == libc::O_WRONLY {
                let (path, _) = prepare("creat")?;
                self.fails_at(Call::Creat(&path))?;
            }
        }
        let (path, flags) = prepare("openat")?;
        self.fails_at(Call::Openat(AT_FDCWD, &path, flags))?;
        let (path, flags) = prepare("openat2")?;
        self.fails_at(Call::Openat2(AT_FDCWD, &path, how(flags)))?;
        Ok(())
    }

    pub fn report(
        &self,
        error: i32,
        flags: u64,
        requested: Option<&[u8]>,
        absolute: Option<&[u8]>,
        resolution: &str,
    ) -> anyhow::Result<()> {
        self.say(&json!({
            "errno": error,
            "flags": flags,
            "requested": requested.map(hex),
            "absolute": absolute.map(hex),
            "resolution": resolution,
            "pid": std::process::id(),
            "tid": sys::gettid(),
            "ppid": std::os::unix::process::parent_id(),
        }))
    }

    /// One line to the parent in one write, so that lines of forks do not mix.
    pub fn say(&self, value: &Value) -> anyhow::Result<()> {
        let mut out = io::stdout();
        out.write_all(format!("{value}\n").as_bytes())?;
        out.flush().context("cannot report to the test")
    }

    /// Waits until the parent says go on.
    pub fn wait_for_go(&self) -> anyhow::Result<()> {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line)?;
        ensure!(read > 0, "the test is gone");
        Ok(())
    }

    pub fn path(&self, name: &str) -> Vec<u8> {
        self.dir.join(name).into_os_string().into_encoded_bytes()
    }

    /// A path in this test's directory that does not exist, opened for reading: the plainest failure.
    pub fn miss(&self, name: &str) -> anyhow::Result<()> {
        self.fails_at(Call::Openat(AT_FDCWD, &self.path(name), libc::O_RDONLY)).map(drop)
    }
}

pub fn how(flags: i32) -> OpenHow {
    // openat2 refuses a mode where nothing can be created.
    let mode = if flags & libc::O_CREAT != 0 { sys::MODE as u64 } else { 0 };
    OpenHow { flags: flags as u64, mode, resolve: 0 }
}

pub fn c_string(bytes: &[u8]) -> anyhow::Result<CString> {
    CString::new(bytes).context("a path with a NUL byte")
}

/// openat2 with a size that the kernel refuses.
pub fn openat2_sized(path: &CStr, how: &OpenHow, size: usize) -> i32 {
    sys::openat2(AT_FDCWD, path, how, size).err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> anyhow::Result<Vec<u8>> {
    (0..text.len() / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).context("not hexadecimal")).collect()
}
