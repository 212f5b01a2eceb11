//! What the daemon tells the programs: [`Config`], a read-only global fixed at load (the verifier sees constants and
//! removes what is switched off), and [`Watched`], the entry of a watched process.

use bytemuck::{Pod, Zeroable};

/// Most name patterns of the scope.
pub const NAMES_MAX: usize = 16;
/// Most cgroups of the scope.
pub const CGROUPS_MAX: usize = 8;

/// Kinds of watched program, as PHP names its server interfaces where it has a name.
pub mod sapi {
    /// Watched by pid or by a name that says nothing about PHP.
    pub const OTHER: u8 = 0;
    /// Apache; with mod_php the `apache2handler`.
    pub const APACHE: u8 = 1;
    /// php-fpm.
    pub const FPM: u8 = 2;
    /// php-cgi.
    pub const CGI: u8 = 3;
    /// php on the command line.
    pub const CLI: u8 = 4;
    /// Number of kinds.
    pub const COUNT: usize = 5;
}

/// Bits of [`Config::scope`].
pub mod scope {
    /// Every process is in scope (`--comm '*'`): the watched set only adds kinds.
    pub const ALL: u32 = 1;
    /// Only processes under one of [`super::Config::cgroups`].
    pub const CGROUPS: u32 = 1 << 1;
}

/// A process name to watch: equal under the mask. The kernel cuts names to 15 bytes and a NUL.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct NamePattern {
    pub name: [u64; 2],
    pub mask: [u64; 2],
    /// One of [`sapi`].
    pub sapi: u64,
}

/// A cgroup v2 subtree.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupScope {
    pub id: u64,
    /// Depth in the hierarchy; the root is 0.
    pub level: u64,
}

/// Offsets within kernel structs in bytes, from the running kernel's BTF.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct KernelOffsets {
    pub task_fs: u32,
    pub task_files: u32,
    pub task_tgid: u32,
    pub task_real_parent: u32,
    pub task_group_leader: u32,
    pub task_start_boottime: u32,
    pub task_cred: u32,
    pub task_signal: u32,
    pub task_exit_code: u32,
    pub task_stack: u32,
    pub cred_uid: u32,
    pub cred_fsuid: u32,
    pub cred_fsgid: u32,
    pub signal_live: u32,
    pub fs_root: u32,
    pub fs_pwd: u32,
    pub files_fdt: u32,
    pub fdt_max_fds: u32,
    pub fdt_fd: u32,
    pub file_path: u32,
    pub path_mnt: u32,
    pub path_dentry: u32,
    pub dentry_parent: u32,
    pub dentry_name: u32,
    pub dentry_hash_pprev: u32,
    pub vfsmount_root: u32,
    /// From a `vfsmount` back to the `mount` that holds it.
    pub mount_mnt: u32,
    pub mount_parent: u32,
    pub mount_mountpoint: u32,
    /// Size of `pt_regs`.
    pub pt_regs_size: u32,
}

/// The read-only global.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Config {
    pub offsets: KernelOffsets,
    /// One bit per [`scope`].
    pub scope: u32,
    /// 1 where the kernel has `bpf_task_pt_regs` (5.15): else the registers are found from the stack's top.
    pub has_task_pt_regs: u32,
    /// Size of a kernel stack in bytes, for kernels without `bpf_task_pt_regs`.
    pub thread_size_bytes: u32,
    pub names_len: u32,
    pub cgroups_len: u32,
    /// Thread-group id of the sensor: never watched but for its own self-check.
    pub own_pid: u32,
    /// Keys of the fold hash, random at each start.
    pub seed: [u64; 2],
    /// Root directory of the sensor: others are marked [`crate::event::flag::OTHER_ROOT`]. 0 where unknown.
    pub own_root_dentry: u64,
    pub names: [NamePattern; NAMES_MAX],
    pub cgroups: [CgroupScope; CGROUPS_MAX],
}

/// Bits of [`Watched::flags`].
pub mod watched {
    /// This process executed the watched program itself; its forks do not carry the bit.
    pub const MAIN: u32 = 1;
    /// Named by `--pid`: stays watched whatever it executes.
    pub const BY_PID: u32 = 1 << 1;
}

/// Entry of a watched process; forks inherit a copy.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Watched {
    /// One bit per [`watched`].
    pub flags: u32,
    /// One of [`sapi`].
    pub sapi: u32,
}

const _: () = assert!(size_of::<KernelOffsets>() == 30 * 4);
const _: () = assert!(size_of::<NamePattern>() == 40);
const _: () = assert!(size_of::<Watched>() == 8);

#[cfg(feature = "user")]
mod user {
    // SAFETY: aya::Pod asks for types that may be copied as bytes: repr(C), no padding (bytemuck::Pod proves it).
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Watched {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::event::Fold {}
    // SAFETY: as above.
    unsafe impl aya::Pod for crate::event::FoldKey {}
}
