//! The absolute path as the process saw it: from its working directory or directory descriptor, across mounts,
//! under chroot, with every byte that a name may hold.

use std::{
    fs::{self, File},
    os::fd::AsRawFd as _,
    path::Path,
};

use anyhow::ensure;
use libc::O_RDONLY;

use crate::{
    child::{AT_FDCWD, Call, Child, how},
    suite::Test,
    sys,
};

pub const TESTS: &[Test] = &[
    Test::opens("paths::absolute", absolute),
    Test::opens("paths::cwd", cwd),
    Test::opens("paths::cwd_root", cwd_root),
    Test::opens("paths::cwd_deep", cwd_deep),
    Test::opens("paths::dirfd", dirfd),
    Test::opens("paths::dirfd_ignored_when_absolute", dirfd_ignored),
    Test::opens("paths::cwd_moved", cwd_moved),
    Test::opens("paths::cwd_deleted", cwd_deleted),
    Test::opens("paths::chroot", chroot),
    Test::opens("paths::cwd_outside_chroot", cwd_outside_chroot),
    Test::opens("paths::bind_mount", bind_mount),
    Test::opens("paths::nested_mounts", nested_mounts),
    Test::opens("paths::longest_name", longest_name),
    Test::opens("paths::longest_relative_name", longest_relative_name),
    Test::opens("paths::odd_bytes", odd_bytes),
    Test::opens("paths::odd_directory", odd_directory),
    Test::opens("paths::empty_name", empty_name),
];

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
}

/// A miss relative to the working directory through each call that takes one.
fn relative(child: &Child, name: &str, directory: &[u8]) -> anyhow::Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        let name = format!("{name}-open");
        child.fails(Call::Open(name.as_bytes(), O_RDONLY), Some(&join(directory, name.as_bytes())))?;
    }
    let openat = format!("{name}-openat");
    child.fails(Call::Openat(AT_FDCWD, openat.as_bytes(), O_RDONLY), Some(&join(directory, openat.as_bytes())))?;
    let openat2 = format!("{name}-openat2");
    let expected = join(directory, openat2.as_bytes());
    child.fails(Call::Openat2(AT_FDCWD, openat2.as_bytes(), how(O_RDONLY)), Some(&expected)).map(drop)
}

fn absolute(child: &Child) -> anyhow::Result<()> {
    child.each_call(|call| Ok((child.path(call), O_RDONLY)))?;
    // The working directory has no say.
    std::env::set_current_dir("/")?;
    child.each_call(|call| Ok((child.path(&format!("{call}-from-root")), O_RDONLY)))
}

fn cwd(child: &Child) -> anyhow::Result<()> {
    std::env::set_current_dir(&child.dir)?;
    relative(child, "plain", &child.path("")[..child.path("").len() - 1])
}

fn cwd_root(child: &Child) -> anyhow::Result<()> {
    std::env::set_current_dir("/")?;
    let name = format!("absent-{}", std::process::id());
    relative(child, &name, b"")
}

fn cwd_deep(child: &Child) -> anyhow::Result<()> {
    // As deep as an unrolled walk of the directory tree may have to go.
    let mut directory = child.dir.clone();
    for level in 0..40 {
        directory.push(format!("level{level}"));
    }
    fs::create_dir_all(&directory)?;
    std::env::set_current_dir(&directory)?;
    relative(child, "deep", directory.as_os_str().as_encoded_bytes())
}

fn dirfd(child: &Child) -> anyhow::Result<()> {
    let directory = child.dir.join("opened/below");
    fs::create_dir_all(&directory)?;
    let open = File::open(&directory)?;
    let fd = open.as_raw_fd();
    let bytes = directory.as_os_str().as_encoded_bytes();
    child.fails(Call::Openat(fd, b"by-openat", O_RDONLY), Some(&join(bytes, b"by-openat")))?;
    child.fails(Call::Openat2(fd, b"by-openat2", how(O_RDONLY)), Some(&join(bytes, b"by-openat2")))?;
    // A high descriptor lies elsewhere in the table.
    // SAFETY: duplicates a descriptor that is open; the copy is closed when the process ends.
    let high = unsafe { libc::fcntl(fd, libc::F_DUPFD, 700) };
    ensure!(high >= 700, "cannot get a high descriptor");
    child.fails(Call::Openat(high, b"by-high", O_RDONLY), Some(&join(bytes, b"by-high"))).map(drop)
}

fn dirfd_ignored(child: &Child) -> anyhow::Result<()> {
    let root = File::open("/")?;
    child.fails_at(Call::Openat(root.as_raw_fd(), &child.path("openat"), O_RDONLY))?;
    child.fails_at(Call::Openat2(root.as_raw_fd(), &child.path("openat2"), how(O_RDONLY))).map(drop)
}

/// The path is that of the moment, not that of when the process went there.
fn cwd_moved(child: &Child) -> anyhow::Result<()> {
    let (before, after) = (child.dir.join("before"), child.dir.join("after"));
    fs::create_dir_all(&before)?;
    std::env::set_current_dir(&before)?;
    fs::rename(&before, &after)?;
    relative(child, "moved", after.as_os_str().as_encoded_bytes())
}

/// A deleted directory: the path that it had, which is what the program still means. A deployment that removes the
/// release under a running worker looks like this.
fn cwd_deleted(child: &Child) -> anyhow::Result<()> {
    let directory = child.dir.join("deleted");
    fs::create_dir_all(&directory)?;
    std::env::set_current_dir(&directory)?;
    fs::remove_dir(&directory)?;
    relative(child, "orphan", directory.as_os_str().as_encoded_bytes())
}

fn chroot(child: &Child) -> anyhow::Result<()> {
    let root = child.dir.join("jail");
    fs::create_dir_all(root.join("srv/www"))?;
    sys::chroot(&root)?;
    std::env::set_current_dir("/srv/www")?;
    relative(child, "jailed", b"/srv/www")?;
    let name = format!("/absent-{}", std::process::id());
    child.fails_at(Call::Openat(AT_FDCWD, name.as_bytes(), O_RDONLY)).map(drop)
}

/// After a chroot without chdir the working directory lies outside: it has no path from this root.
fn cwd_outside_chroot(child: &Child) -> anyhow::Result<()> {
    let root = child.dir.join("jail");
    fs::create_dir_all(&root)?;
    std::env::set_current_dir(&child.dir)?;
    sys::chroot(&root)?;
    child.fails(Call::Openat(AT_FDCWD, b"outside", O_RDONLY), None).map(drop)
}

fn bind_mount(child: &Child) -> anyhow::Result<()> {
    let (source, target) = (child.dir.join("source"), child.dir.join("target"));
    fs::create_dir_all(source.join("inner"))?;
    fs::create_dir_all(&target)?;
    sys::unshare_mounts()?;
    sys::mount(&source.to_string_lossy(), &target, "", libc::MS_BIND, "")?;
    let inner = target.join("inner");
    std::env::set_current_dir(&inner)?;
    // The dentries are those of source/inner; only the walk over the mount finds the name the process used.
    relative(child, "bound", inner.as_os_str().as_encoded_bytes())
}

fn nested_mounts(child: &Child) -> anyhow::Result<()> {
    sys::unshare_mounts()?;
    let mut directory = child.dir.clone();
    for level in 0..6 {
        directory.push(format!("mount{level}"));
        fs::create_dir_all(&directory)?;
        sys::mount("tmpfs", &directory, "tmpfs", 0, "")?;
    }
    directory.push("end");
    fs::create_dir_all(&directory)?;
    std::env::set_current_dir(&directory)?;
    relative(child, "nested", directory.as_os_str().as_encoded_bytes())
}

/// The longest name that an open takes: 4,096 bytes with its NUL.
fn longest_name(child: &Child) -> anyhow::Result<()> {
    child.fails_at(Call::Openat(AT_FDCWD, &long_name(&child.dir), O_RDONLY)).map(drop)
}

fn long_name(directory: &Path) -> Vec<u8> {
    let mut name = directory.as_os_str().as_encoded_bytes().to_vec();
    while name.len() + 200 < 4095 {
        name.extend_from_slice(b"/");
        name.extend(std::iter::repeat_n(b'n', 150));
    }
    name.push(b'/');
    name.resize(4095, b'e');
    name
}

fn longest_relative_name(child: &Child) -> anyhow::Result<()> {
    std::env::set_current_dir(&child.dir)?;
    let bytes = child.dir.as_os_str().as_encoded_bytes();
    // Directory and name together fill PATH_MAX.
    let mut name = long_name(Path::new("d"));
    name.truncate(4095 - bytes.len() - 1);
    child.fails(Call::Openat(AT_FDCWD, &name, O_RDONLY), Some(&join(bytes, &name))).map(drop)
}

const ODD: [&[u8]; 5] =
    [b"new\nline\tand \x1b[31mred\x07", b"\xff\xfe-no-utf8", b"cut-\xe2\x82", b" ", b"\xe2\x80\xae-turned"];

fn odd_bytes(child: &Child) -> anyhow::Result<()> {
    for name in ODD {
        let path = join(child.dir.as_os_str().as_encoded_bytes(), name);
        child.fails_at(Call::Openat(AT_FDCWD, &path, O_RDONLY))?;
    }
    Ok(())
}

fn odd_directory(child: &Child) -> anyhow::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    for (number, name) in ODD.into_iter().enumerate() {
        let directory = child.dir.join(std::ffi::OsStr::from_bytes(name));
        fs::create_dir_all(&directory)?;
        std::env::set_current_dir(&directory)?;
        relative(child, &format!("in-odd{number}"), directory.as_os_str().as_bytes())?;
    }
    Ok(())
}

/// open("") fails with ENOENT and means no file at all, so no path is made of the directory.
fn empty_name(child: &Child) -> anyhow::Result<()> {
    std::env::set_current_dir(&child.dir)?;
    child.fails(Call::Openat(AT_FDCWD, b"", O_RDONLY), None).map(drop)
}
