//! Directories as the process sees them: the base of a relative name, and the walk from it up to the process's root.
//!
//! The walk reads the same fields as the kernel's `d_path` (fs/d_path.c `prepend_path`), without its locks: a rename
//! at the same instant can show the old or the new name, never more than the bounds allow.

use aya_ebpf::helpers::generated;
use watcher_ebpf::event::{COMPONENT_MAX, DEPTH_MAX, flag, resolution};

use crate::{
    settings::setting,
    task::{self, AT_FDCWD, kernel},
};

/// A `struct path`: where a directory entry stands in the tree of mounts.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Location {
    /// Address of the `vfsmount`.
    pub mount: u64,
    /// Address of the `dentry`.
    pub dentry: u64,
}

/// Reads a `struct path`. Its two fields can stand in either order (`__randomize_layout`).
#[inline(always)]
fn location(address: u64) -> Option<Location> {
    let fields: [u64; 2] = kernel(address)?;
    Some(if setting!(offsets.path_mnt) == 0 {
        Location { mount: fields[0], dentry: fields[1] }
    } else {
        Location { mount: fields[1], dentry: fields[0] }
    })
}

/// Root directory of the current process.
#[inline(always)]
pub fn root() -> Option<Location> {
    location(fs()? + u64::from(setting!(offsets.fs_root)))
}

#[inline(always)]
fn fs() -> Option<u64> {
    kernel(task::current() + u64::from(setting!(offsets.task_fs)))
}

/// Where a name starts from: how it is resolved, and the base directory of a relative one.
#[inline(always)]
pub fn base(dirfd: i32, first: u8) -> (u8, Option<Location>) {
    if first == b'/' {
        return (resolution::ABSOLUTE, None);
    }
    let (how, at) =
        if dirfd == AT_FDCWD { (resolution::CWD, working_directory()) } else { (resolution::DIRFD, opened(dirfd)) };
    match at {
        Some(at) => (how, Some(at)),
        None => (resolution::UNRESOLVED, None),
    }
}

#[inline(always)]
fn working_directory() -> Option<Location> {
    location(fs()? + u64::from(setting!(offsets.fs_pwd)))
}

/// Where descriptor `fd` of the current process is open.
#[inline(always)]
fn opened(fd: i32) -> Option<Location> {
    let files: u64 = kernel(task::current() + u64::from(setting!(offsets.task_files)))?;
    let table: u64 = kernel(files + u64::from(setting!(offsets.files_fdt)))?;
    let max: u32 = kernel(table + u64::from(setting!(offsets.fdt_max_fds)))?;
    if fd < 0 || fd as u32 >= max {
        return None;
    }
    let slots: u64 = kernel(table + u64::from(setting!(offsets.fdt_fd)))?;
    let file: u64 = kernel(slots + fd as u64 * 8)?;
    if file == 0 {
        return None;
    }
    location(file + u64::from(setting!(offsets.file_path)))
}

/// Room for the components of a base: `PATH_MAX`, and one component of slack so that every write is in bounds.
pub const BASE_BYTES: usize = watcher_ebpf::event::PATH_MAX + COMPONENT_MAX;

/// Writes the components from `from` up to `root`, leaf first, each closed by NUL. Returns the bytes written and the
/// [`flag`] bits.
///
/// # Safety
///
/// `to` is valid for writes of [`BASE_BYTES`].
#[inline(always)]
pub unsafe fn walk(to: *mut u8, from: Location, root: Location) -> (u32, u32) {
    let mut at = from;
    let mut len = 0usize;
    let mut flags = 0u32;
    if deleted(at.dentry) {
        flags |= flag::BASE_DELETED;
    }
    for _ in 0..DEPTH_MAX {
        if at == root {
            return (len as u32, flags);
        }
        match step(at) {
            Step::Name(name, parent) => {
                if len > BASE_BYTES - COMPONENT_MAX {
                    return (len as u32, flags | flag::BASE_TRUNCATED);
                }
                // SAFETY: len is at most BASE_BYTES - COMPONENT_MAX, so COMPONENT_MAX bytes from there are in bounds.
                let n = unsafe {
                    generated::bpf_probe_read_kernel_str(to.add(len).cast(), COMPONENT_MAX as u32, name as *const _)
                };
                if n <= 0 || n > COMPONENT_MAX as i64 {
                    return (len as u32, flags | flag::BASE_UNREADABLE);
                }
                len += n as usize;
                at.dentry = parent;
            }
            Step::Mount(parent) => at = parent,
            Step::Top => return (len as u32, flags | flag::BASE_UNREACHABLE),
            Step::Unreadable => return (len as u32, flags | flag::BASE_UNREADABLE),
        }
    }
    (len as u32, flags | flag::BASE_TRUNCATED)
}

enum Step {
    /// A component: address of its name, and its parent directory.
    Name(u64, u64),
    /// The top of a mounted tree: where it is mounted.
    Mount(Location),
    /// The top of everything.
    Top,
    Unreadable,
}

#[inline(always)]
fn step(at: Location) -> Step {
    try_step(at).unwrap_or(Step::Unreadable)
}

#[inline(always)]
fn try_step(at: Location) -> Option<Step> {
    let top: u64 = kernel(at.mount + u64::from(setting!(offsets.vfsmount_root)))?;
    if at.dentry == top {
        let mount = at.mount - u64::from(setting!(offsets.mount_mnt));
        let parent: u64 = kernel(mount + u64::from(setting!(offsets.mount_parent)))?;
        if parent == mount {
            return Some(Step::Top);
        }
        return Some(Step::Mount(Location {
            mount: parent + u64::from(setting!(offsets.mount_mnt)),
            dentry: kernel(mount + u64::from(setting!(offsets.mount_mountpoint)))?,
        }));
    }
    let parent: u64 = kernel(at.dentry + u64::from(setting!(offsets.dentry_parent)))?;
    if parent == at.dentry {
        return Some(Step::Top);
    }
    Some(Step::Name(kernel(at.dentry + u64::from(setting!(offsets.dentry_name)))?, parent))
}

/// `d_unhashed` of include/linux/dcache.h, which `d_path` shows as "(deleted)".
#[inline(always)]
fn deleted(dentry: u64) -> bool {
    let pprev = kernel::<u64>(dentry + u64::from(setting!(offsets.dentry_hash_pprev)));
    let parent = kernel::<u64>(dentry + u64::from(setting!(offsets.dentry_parent)));
    pprev == Some(0) && parent != Some(dentry)
}
