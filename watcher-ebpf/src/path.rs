//! Directories as the process sees them: the base of a relative name, and the walk from it up to the process's root.
//!
//! The walk reads the same fields as the kernel's `d_path` (fs/d_path.c `prepend_path`), without its locks: a rename
//! at the same instant can show the old or the new name, never more than the bounds allow.

use aya_ebpf::helpers::generated;
use watcher_ebpf::event::{COMPONENT_MAX, DEPTH_MAX, flag, resolution};

use crate::{
    fold::forget,
    settings::setting,
    task::{self, AT_FDCWD, field, kernel},
};

/// A `struct path`: where a directory entry stands in the tree of mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Address of the `vfsmount`.
    pub mount: u64,
    /// Address of the `dentry`.
    pub dentry: u64,
}

/// No location.
pub const NOWHERE: Location = Location { mount: 0, dentry: 0 };

impl Location {
    /// The same, of which the verifier knows nothing: else it follows "no location" and any other apart.
    #[inline(always)]
    pub fn forget(self, other: u64) -> Self {
        Self { mount: forget(self.mount, other), dentry: forget(self.dentry, other) }
    }
}

/// Reads a `struct path`. Its two fields can stand in either order (`__randomize_layout`).
#[inline(always)]
fn location(fields: [u64; 2]) -> Location {
    if setting!(offsets.path_mnt) == 0 {
        Location { mount: fields[0], dentry: fields[1] }
    } else {
        Location { mount: fields[1], dentry: fields[0] }
    }
}

/// Root directory of the current process; [`NOWHERE`] where it cannot be read.
#[inline(always)]
pub fn root() -> Location {
    let fs: u64 = field!(task::current(), task_fs);
    location(field!(fs, fs_root))
}

/// Where a name starts from: how it is resolved, and the base directory of a relative one. No base is [`NOWHERE`]
/// rather than `None`, whose undefined payload the compiler would read on the way to the hash.
#[inline(always)]
pub fn base(dirfd: i32, first: u8) -> (u8, Location) {
    if first == b'/' {
        return (resolution::ABSOLUTE, NOWHERE);
    }
    let (how, at) =
        if dirfd == AT_FDCWD { (resolution::CWD, working_directory()) } else { (resolution::DIRFD, opened(dirfd)) };
    if at.dentry == 0 { (resolution::UNRESOLVED, NOWHERE) } else { (how, at) }
}

#[inline(always)]
fn working_directory() -> Location {
    let fs: u64 = field!(task::current(), task_fs);
    location(field!(fs, fs_pwd))
}

/// Where descriptor `fd` of the current process is open.
#[inline(always)]
fn opened(fd: i32) -> Location {
    let files: u64 = field!(task::current(), task_files);
    let table: u64 = field!(files, files_fdt);
    let max: u32 = field!(table, fdt_max_fds);
    if fd < 0 || fd as u32 >= max {
        return NOWHERE;
    }
    let slots: u64 = field!(table, fdt_fd);
    let file: u64 = kernel(slots.wrapping_add(fd as u64 * 8));
    // A closed descriptor is a null pointer, at whose offset there is nothing to read.
    location(field!(file, file_path))
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
    let mut len = 0u64;
    let mut flags = 0u32;
    if deleted(at.dentry) {
        flags |= flag::BASE_DELETED;
    }
    let mut end = flag::BASE_TRUNCATED;
    for _ in 0..DEPTH_MAX {
        if at == root {
            end = 0;
            break;
        }
        let top: u64 = field!(at.mount, vfsmount_root);
        if at.dentry == top {
            // The top of a mounted tree: go on where it is mounted.
            let mount = at.mount.wrapping_sub(u64::from(setting!(offsets.mount_mnt)));
            let parent: u64 = field!(mount, mount_parent);
            if parent == mount {
                end = flag::BASE_UNREACHABLE;
                break;
            }
            let mount_point = field!(mount, mount_mountpoint);
            let mount = parent.wrapping_add(u64::from(setting!(offsets.mount_mnt)));
            at = Location { mount, dentry: mount_point }.forget(len);
            continue;
        }
        let parent: u64 = field!(at.dentry, dentry_parent);
        if parent == at.dentry {
            end = flag::BASE_UNREACHABLE;
            break;
        }
        let name: u64 = field!(at.dentry, dentry_name);
        // Compared after the last call before its use, in a register of its own: kernels up to 6.1 forget what a
        // comparison has shown about a value that is on the stack meanwhile.
        let offset = in_register(len);
        if offset > (BASE_BYTES - COMPONENT_MAX) as u64 {
            break;
        }
        // SAFETY: offset is at most BASE_BYTES - COMPONENT_MAX, so COMPONENT_MAX bytes from there are in bounds.
        let n = unsafe {
            generated::bpf_probe_read_kernel_str(to.add(offset as usize).cast(), COMPONENT_MAX as u32, name as *const _)
        };
        if n <= 0 || n > COMPONENT_MAX as i64 {
            end = flag::BASE_UNREADABLE;
            break;
        }
        len = forget(len + n as u64, parent);
        at = Location { dentry: parent, ..at }.forget(len);
    }
    (len as u32, forget((flags | end).into(), root.dentry) as u32)
}

/// The same value, which the compiler takes for another one from here on.
#[inline(always)]
fn in_register(value: u64) -> u64 {
    let mut out = value;
    // SAFETY: copies a register onto itself. Not `pure`, so it stays behind the calls that stand before it.
    unsafe { core::arch::asm!("{out} = {out}", out = inout(reg) out, options(nomem, nostack)) };
    out
}

/// `d_unhashed` of include/linux/dcache.h, which `d_path` shows as "(deleted)".
#[inline(always)]
fn deleted(dentry: u64) -> bool {
    let pprev: u64 = field!(dentry, dentry_hash_pprev);
    let parent: u64 = field!(dentry, dentry_parent);
    pprev == 0 && parent != dentry
}
