//! Records that travel through the ring. All are `repr(C)`, little endian on every supported machine, without
//! padding, and sized by asserts: a layout changes together with [`crate::ABI_VERSION`] or not at all.
//!
//! A record starts with a [`RecordHeader`]. An open's strings stand behind the fixed part at the offsets that the
//! fixed part names; bytes between them are undefined and are never looked at.

use bytemuck::{Pod, Zeroable};

/// Longest name that the kernel accepts for an open, the closing NUL included (`PATH_MAX`, linux/limits.h).
pub const PATH_MAX: usize = 4096;
/// Longest component, the closing NUL included (`NAME_MAX` + 1).
pub const COMPONENT_MAX: usize = 256;
/// Names below this take the short record.
pub const NAME_SHORT: usize = 256;
/// Most directories that the walk from a base directory to the root follows; deeper bases are truncated and counted.
pub const DEPTH_MAX: usize = 64;

/// Values of [`RecordHeader::kind`].
pub mod kind {
    /// [`super::OpenRecord`].
    pub const OPEN: u16 = 1;
    /// [`super::CountRecord`].
    pub const COUNT: u16 = 2;
    /// [`super::ProcessRecord`].
    pub const PROCESS: u16 = 3;
}

/// First bytes of every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct RecordHeader {
    /// One of [`kind`].
    pub kind: u16,
    /// [`crate::ABI_VERSION`].
    pub abi: u16,
    /// Size of the whole record in bytes, this header included.
    pub len_bytes: u32,
}

/// Identity of one cause: the same file, error, flags, user, container and, with PHP, script and line. A keyed
/// 128-bit hash: a hostile process cannot aim for another's key.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
pub struct FoldKey {
    pub lo: u64,
    pub hi: u64,
}

/// Values of [`OpenRecord::syscall`].
pub mod syscall {
    pub const OPENAT: u32 = 1;
    pub const OPEN: u32 = 2;
    pub const OPENAT2: u32 = 3;
    pub const CREAT: u32 = 4;
}

/// Values of [`OpenRecord::resolution`].
pub mod resolution {
    /// The base could not be read; only the requested name is known.
    pub const UNRESOLVED: u8 = 0;
    /// The name is absolute.
    pub const ABSOLUTE: u8 = 1;
    /// Relative to the working directory.
    pub const CWD: u8 = 2;
    /// Relative to a directory descriptor.
    pub const DIRFD: u8 = 3;
}

/// Bits of [`OpenRecord::flags`]: what is missing from the record or remarkable about it.
pub mod flag {
    /// The requested name was longer than `PATH_MAX`.
    pub const NAME_TRUNCATED: u32 = 1;
    /// The requested name could not be read (EFAULT opens among them).
    pub const NAME_UNREADABLE: u32 = 1 << 1;
    /// The base directory is deeper or longer than the walk follows; its topmost part is missing.
    pub const BASE_TRUNCATED: u32 = 1 << 2;
    /// A pointer of the base walk could not be read.
    pub const BASE_UNREADABLE: u32 = 1 << 3;
    /// The base directory was deleted.
    pub const BASE_DELETED: u32 = 1 << 4;
    /// The walk ended at a root that is not the process's (outside its chroot, or a detached mount).
    pub const BASE_UNREACHABLE: u32 = 1 << 5;
    /// No place in the fold table: this record stands for one open and its repeats come one by one.
    pub const UNFOLDED: u32 = 1 << 6;
    /// The process runs under another root than the sensor's (chroot, container).
    pub const OTHER_ROOT: u32 = 1 << 7;
}

/// One failing open: the first sighting of its [`FoldKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct OpenRecord {
    pub header: RecordHeader,
    /// `CLOCK_BOOTTIME` at the return of the system call, nanoseconds.
    pub time_ns: u64,
    pub key: FoldKey,
    /// Opens of this key so far, this one included. Above 1 where earlier records found the ring full.
    pub count: u64,
    /// Cgroup v2 id of the process.
    pub cgroup_id: u64,
    /// Start of the process, `CLOCK_BOOTTIME` nanoseconds: with the pid, its identity.
    pub start_time_ns: u64,
    /// Flags as passed to the system call (`O_*`), for creat those that it implies.
    pub open_flags: u64,
    /// Positive errno.
    pub errno: u32,
    /// Process (thread-group id), in the initial pid namespace.
    pub pid: u32,
    /// Thread, in the initial pid namespace.
    pub tid: u32,
    /// Parent process.
    pub ppid: u32,
    /// Real user id, in the initial user namespace.
    pub uid: u32,
    /// File-system user id, the one that permission checks use.
    pub fsuid: u32,
    /// File-system group id.
    pub fsgid: u32,
    /// Directory descriptor as passed; `AT_FDCWD` (-100) for open and creat.
    pub dirfd: i32,
    /// One bit per [`flag`].
    pub flags: u32,
    /// Bytes of the requested name at `name_offset_bytes`, NUL excluded.
    pub name_len_bytes: u32,
    /// Bytes of the base directory's components at `base_offset_bytes`: leaf first, each closed by NUL.
    pub base_len_bytes: u32,
    /// Offset of the name from the start of the record.
    pub name_offset_bytes: u32,
    /// Offset of the base from the start of the record.
    pub base_offset_bytes: u32,
    /// One of [`syscall`].
    pub syscall: u32,
    /// Name of the thread, NUL-padded.
    pub comm: [u8; 16],
    /// One of [`resolution`].
    pub resolution: u8,
    /// One of [`crate::config::sapi`].
    pub sapi: u8,
    pub reserved: u16,
    pub reserved_too: u32,
}

/// Growth of a known key: emitted at most once a second for each, with the cumulative count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct CountRecord {
    pub header: RecordHeader,
    /// `CLOCK_BOOTTIME` of the latest open, nanoseconds.
    pub time_ns: u64,
    pub key: FoldKey,
    /// Opens of this key so far.
    pub count: u64,
}

/// Values of [`ProcessRecord::change`].
pub mod change {
    /// A watched program was executed.
    pub const EXEC: u32 = 1;
    /// A process that had executed a watched program ended. Forked workers come and go without a record.
    pub const EXIT: u32 = 2;
}

/// A main process (one that executed a watched program) started or ended.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ProcessRecord {
    pub header: RecordHeader,
    /// `CLOCK_BOOTTIME`, nanoseconds.
    pub time_ns: u64,
    /// One of [`change`].
    pub change: u32,
    pub pid: u32,
    pub ppid: u32,
    /// Wait status as `wait(2)` returns it; 0 for an exec.
    pub exit_status: u32,
    pub comm: [u8; 16],
    /// One of [`crate::config::sapi`].
    pub sapi: u32,
    pub reserved: u32,
}

/// Value of the fold table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Fold {
    /// Opens of this key, exact.
    pub count: u64,
    /// `CLOCK_BOOTTIME` of the latest record sent for this key, nanoseconds.
    pub reported_ns: u64,
    /// 0 until the [`OpenRecord`] got a place in the ring: with the ring full the next repeat tries again.
    pub reported: u64,
}

const _: () = assert!(size_of::<RecordHeader>() == 8);
const _: () = assert!(size_of::<FoldKey>() == 16);
const _: () = assert!(size_of::<OpenRecord>() == 144);
const _: () = assert!(core::mem::offset_of!(OpenRecord, errno) == 64);
const _: () = assert!(core::mem::offset_of!(OpenRecord, comm) == 120);
const _: () = assert!(size_of::<CountRecord>() == 40);
const _: () = assert!(size_of::<ProcessRecord>() == 56);
const _: () = assert!(size_of::<Fold>() == 24);
