//! Every errno that an open can be made to fail with, through every system call that can fail so, with exact flags.
//!
//! Each test is named after its errno and provokes it itself, so the kernel is asked what it does first; the sensor
//! then has to tell the same.

use std::{
    fs::{self, Permissions},
    os::{fd::AsRawFd as _, unix::fs::PermissionsExt as _},
    path::PathBuf,
};

use anyhow::ensure;
use libc::{
    O_APPEND, O_CLOEXEC, O_CREAT, O_DIRECTORY, O_EXCL, O_NOATIME, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR, O_TRUNC,
    O_WRONLY,
};

use crate::{
    child::{AT_FDCWD, Call, Child, c_string, how, openat2_sized},
    suite::{Context, Test},
    sys::{self, OpenHow},
};

pub const TESTS: &[Test] = &[
    Test::opens("errnos::enoent", enoent),
    Test::opens("errnos::enoent_flags", enoent_flags),
    Test::opens("errnos::eacces", eacces),
    Test::opens("errnos::enotdir", enotdir),
    Test::opens("errnos::enotdir_flag", enotdir_flag),
    Test::opens("errnos::eloop", eloop),
    Test::opens("errnos::eloop_nofollow", eloop_nofollow),
    Test::opens("errnos::emfile", emfile),
    Test::opens("errnos::enametoolong_component", enametoolong_component),
    Test::new("errnos::enametoolong_path", unreadable_names, enametoolong_path),
    Test::opens("errnos::eisdir", eisdir),
    Test::new("errnos::efault", unreadable_names, efault),
    Test::opens("errnos::einval", einval),
    Test::new("errnos::einval_size", unreadable_names, einval_size),
    Test::opens("errnos::enxio", enxio),
    Test::opens("errnos::eexist", eexist),
    Test::opens("errnos::erofs", erofs),
    Test::opens("errnos::etxtbsy", etxtbsy),
    Test::opens("errnos::eperm", eperm),
    Test::opens("errnos::ebadf", ebadf),
    Test::opens("errnos::exdev", exdev),
    Test::opens("errnos::eagain", eagain),
    Test::new("errnos::restart_is_no_errno", restart, interrupted),
];

/// Nobody on every system; it owns nothing.
const NOBODY: u32 = 65534;

fn enoent(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| Ok((child.path(call), O_RDONLY)))?;
    child.each_call(|call| Ok((child.path(&format!("no-directory/{call}")), O_WRONLY | O_CREAT | O_TRUNC)))
}

fn enoent_flags(child: &Child) -> anyhow::Result<()> {
    let combinations = [
        O_RDONLY | O_CLOEXEC,
        O_RDWR,
        O_RDWR | O_CLOEXEC,
        O_NONBLOCK | O_CLOEXEC | O_DIRECTORY,
        O_RDONLY | O_NOFOLLOW,
        O_WRONLY | O_APPEND,
        O_RDONLY | O_NOATIME,
        libc::O_PATH | O_CLOEXEC,
        O_RDWR | libc::O_DIRECT | libc::O_NOCTTY,
    ];
    for flags in combinations {
        child.each_call(|call| Ok((child.path(&format!("{call}-{flags:o}")), flags)))?;
    }
    Ok(())
}

fn eacces(child: &Child) -> anyhow::Result<()> {
    let closed = child.dir.join("closed");
    fs::create_dir_all(&closed)?;
    fs::set_permissions(&closed, Permissions::from_mode(0o700))?;
    for call in ["open", "openat", "openat2"] {
        let file = child.dir.join(format!("secret-{call}"));
        fs::write(&file, "")?;
        fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    }
    sys::become_user(NOBODY)?;
    child.each_call(|call| Ok((child.path(&format!("secret-{call}")), O_RDONLY)))?;
    child.each_call(|call| Ok((child.path(&format!("closed/{call}")), O_RDONLY | O_CLOEXEC)))
}

fn enotdir(child: &Child) -> anyhow::Result<()> {
    fs::write(child.dir.join("file"), "")?;
    child.each_call(|call| Ok((child.path(&format!("file/{call}")), O_RDONLY)))
}

fn enotdir_flag(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        let path = child.path(call);
        fs::write(child.dir.join(call), "")?;
        Ok((path, O_RDONLY | O_DIRECTORY))
    })
}

fn eloop(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        let link = child.dir.join(call);
        std::os::unix::fs::symlink(&link, &link)?;
        Ok((child.path(call), O_RDONLY))
    })
}

fn eloop_nofollow(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        std::os::unix::fs::symlink("/", child.dir.join(call))?;
        Ok((child.path(call), O_RDONLY | O_NOFOLLOW))
    })
}

/// Fails before the kernel looks any path up: what hooks the look-up does not see it.
fn emfile(child: &Child) -> anyhow::Result<()> {
    sys::limit_descriptors(3)?;
    child.each_call(|call| Ok((child.path(call), O_RDONLY)))
}

fn enametoolong_component(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| Ok((child.path(&format!("{call}-{}", "n".repeat(256))), O_RDONLY)))
}

fn eisdir(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        fs::create_dir_all(child.dir.join(call))?;
        Ok((child.path(call), O_WRONLY))
    })
}

/// openat2 refuses flags that it does not know and modes without O_CREAT; the others ignore both.
fn einval(child: &Child) -> anyhow::Result<()> {
    let mode_without_creat = OpenHow { flags: O_RDONLY as u64, mode: 0o600, resolve: 0 };
    child.fails_at(Call::Openat2(AT_FDCWD, &child.path("mode"), mode_without_creat))?;
    let resolve = OpenHow { resolve: 1 << 40, ..OpenHow::default() };
    child.fails_at(Call::Openat2(AT_FDCWD, &child.path("resolve"), resolve)).map(drop)
}

fn enxio(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        let pipe = child.dir.join(call);
        // creat would wait for a reader instead; it gets a device without a driver.
        if call == "creat" {
            sys::mknod_char(&pipe, 250, 77)?;
        } else {
            sys::mkfifo(&pipe)?;
        }
        Ok((child.path(call), O_WRONLY | O_NONBLOCK))
    })
}

fn eexist(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| {
        fs::write(child.dir.join(call), "")?;
        Ok((child.path(call), O_WRONLY | O_CREAT | O_EXCL))
    })
}

fn erofs(child: &Child) -> anyhow::Result<()> {
    let mounted = child.dir.join("read-only");
    fs::create_dir_all(&mounted)?;
    sys::unshare_mounts()?;
    sys::mount("tmpfs", &mounted, "tmpfs", libc::MS_RDONLY, "")?;
    child.each_call(|call| Ok((child.path(&format!("read-only/{call}")), O_WRONLY | O_CREAT)))
}

fn etxtbsy(child: &Child) -> anyhow::Result<()> {
    let own: PathBuf = std::env::current_exe()?;
    child.each_call(|call| {
        // One path a call, so that the sensor folds none of them: the running program under other names.
        let link = child.dir.join(call);
        fs::hard_link(&own, &link)?;
        Ok((child.path(call), O_WRONLY))
    })
}

fn eperm(child: &Child) -> anyhow::Result<()> {
    for call in ["open", "openat", "openat2"] {
        fs::write(child.dir.join(call), "")?;
        fs::set_permissions(child.dir.join(call), Permissions::from_mode(0o644))?;
    }
    sys::become_user(NOBODY)?;
    child.each_call(|call| Ok((child.path(call), O_RDONLY | O_NOATIME)))
}

/// Relative to a descriptor that is not open: there is no absolute path to be found.
fn ebadf(child: &Child) -> anyhow::Result<()> {
    child.fails(Call::Openat(999, b"relative-openat", O_RDONLY), None)?;
    child.fails(Call::Openat2(999, b"relative-openat2", how(O_RDONLY)), None).map(drop)
}

fn exdev(child: &Child) -> anyhow::Result<()> {
    const RESOLVE_BENEATH: u64 = 0x08;
    let directory = fs::File::open(&child.dir)?;
    let beneath = OpenHow { resolve: RESOLVE_BENEATH, ..OpenHow::default() };
    child.fails_at(Call::Openat2(directory.as_raw_fd(), &child.path("outside"), beneath)).map(drop)
}

fn eagain(child: &Child) -> anyhow::Result<()> {
    const RESOLVE_CACHED: u64 = 0x20;
    // /proc makes its entries when they are asked for: this one cannot be cached.
    let path = format!("/proc/{}/task/{}/limits", std::process::id(), std::process::id());
    let cached = OpenHow { resolve: RESOLVE_CACHED, ..OpenHow::default() };
    child.fails_at(Call::Openat2(AT_FDCWD, path.as_bytes(), cached)).map(drop)
}

/// Longer than any path may be: the kernel does not copy the name, so there is nothing to report but the failure.
fn enametoolong_path(child: &Child) -> anyhow::Result<()> {
    let path = c_string(&[&child.path("")[..], &[b'n'; 5000]].concat())?;
    let error = sys::openat(AT_FDCWD, &path, O_RDONLY).err().and_then(|error| error.raw_os_error());
    child.report(error.unwrap_or(0), O_RDONLY as u64, None, None, "unresolved")
}

fn efault(child: &Child) -> anyhow::Result<()> {
    let error = sys::openat_raw(AT_FDCWD, std::ptr::without_provenance(1), O_RDONLY | O_CLOEXEC).err();
    let errno = error.and_then(|error| error.raw_os_error()).unwrap_or(0);
    child.report(errno, (O_RDONLY | O_CLOEXEC) as u64, None, None, "unresolved")
}

fn einval_size(child: &Child) -> anyhow::Result<()> {
    let errno = openat2_sized(&c_string(&child.path("size"))?, &OpenHow::default(), 8);
    child.report(errno, 0, None, None, "unresolved")
}

/// Where the arguments cannot be read in full, the failure itself still has to arrive, by process and errno.
fn unreadable_names(context: &Context<'_>) -> anyhow::Result<()> {
    let attempts = context.opener(&[])?.finish()?;
    for attempt in &attempts {
        let errno = crate::event::errno_name(attempt.errno);
        let expected = context.test.rsplit("::").next().and_then(|name| name.split('_').next()).unwrap_or_default();
        ensure!(errno == expected.to_uppercase(), "provoked {errno} instead");
        context.rung.sensor.borrow_mut().wait_for(&format!("an event for {errno}"), |line| {
            line["process.pid"].as_i64() == Some(attempt.pid) && line["error.type"].as_str() == Some(&errno)
        })?;
    }
    Ok(())
}

/// A blocked open that a signal interrupts leaves the kernel function with ERESTARTSYS, which no program ever sees.
fn interrupted(child: &Child) -> anyhow::Result<()> {
    sys::mkfifo(&child.dir.join("pipe"))?;
    sys::interrupt_after(50_000)?;
    let path = c_string(&child.path("pipe"))?;
    let error = sys::openat(AT_FDCWD, &path, O_RDONLY).err().and_then(|error| error.raw_os_error());
    ensure!(error == Some(libc::EINTR), "the open was to be interrupted, got {error:?}");
    Ok(())
}

fn restart(context: &Context<'_>) -> anyhow::Result<()> {
    context.opener(&[])?.finish()?;
    context.nothing_else(|event| event["error.type"] == "EINTR")
}
