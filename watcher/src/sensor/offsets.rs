//! Where the kernel programs find what they read, from the running kernel's types.

use watcher_ebpf::config::KernelOffsets;

use super::btf::{Btf, BtfError};

/// Resolves every offset; the first one that is missing fails by name.
pub fn resolve(btf: &Btf) -> Result<KernelOffsets, BtfError> {
    let at = |name, path| btf.offset_of(name, path);
    Ok(KernelOffsets {
        task_fs: at("task_struct", "fs")?,
        task_files: at("task_struct", "files")?,
        task_tgid: at("task_struct", "tgid")?,
        task_real_parent: at("task_struct", "real_parent")?,
        task_group_leader: at("task_struct", "group_leader")?,
        // real_start_time before 5.5; kept for kernels with backports.
        task_start_boottime: at("task_struct", "start_boottime|real_start_time")?,
        task_cred: at("task_struct", "cred")?,
        task_signal: at("task_struct", "signal")?,
        task_exit_code: at("task_struct", "exit_code")?,
        task_stack: at("task_struct", "stack")?,
        cred_uid: at("cred", "uid")?,
        cred_fsuid: at("cred", "fsuid")?,
        cred_fsgid: at("cred", "fsgid")?,
        signal_live: at("signal_struct", "live")?,
        fs_root: at("fs_struct", "root")?,
        fs_pwd: at("fs_struct", "pwd")?,
        files_fdt: at("files_struct", "fdt")?,
        fdt_max_fds: at("fdtable", "max_fds")?,
        fdt_fd: at("fdtable", "fd")?,
        // 6.16 hides f_path behind a union with __f_path.
        file_path: at("file", "f_path|__f_path")?,
        path_mnt: at("path", "mnt")?,
        path_dentry: at("path", "dentry")?,
        dentry_parent: at("dentry", "d_parent")?,
        // 6.16 renames the writable view of d_name.
        dentry_name: at("dentry", "d_name.name|__d_name.name")?,
        dentry_hash_pprev: at("dentry", "d_hash.pprev")?,
        vfsmount_root: at("vfsmount", "mnt_root")?,
        mount_mnt: at("mount", "mnt")?,
        mount_parent: at("mount", "mnt_parent")?,
        mount_mountpoint: at("mount", "mnt_mountpoint")?,
        pt_regs_size: btf.size_of("pt_regs")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The self-check proves the values at every start; here only that this kernel has all of them.
    #[test]
    fn the_running_kernel_has_every_field() {
        match Btf::vmlinux() {
            Ok(btf) => assert!(resolve(&btf).unwrap().task_fs > 0),
            Err(error) => eprintln!("skipped: {error}"),
        }
    }
}
