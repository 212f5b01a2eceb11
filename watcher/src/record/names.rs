//! Linux's numbers under the names that people know: errnos, flags of an open, kinds of program. A recording may come
//! from another architecture, so what differs between them is brought to one form here.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use watcher_ebpf::config::sapi;

pub const EPERM: u32 = 1;
pub const ENOENT: u32 = 2;
pub const EACCES: u32 = 13;

/// Name and text per errno (asm-generic/errno-base.h and errno.h: the same on x86-64 and arm64).
const ERRNOS: [(u32, &str, &str); 41] = [
    (1, "EPERM", "operation not permitted"),
    (2, "ENOENT", "no such file or directory"),
    (3, "ESRCH", "no such process"),
    (4, "EINTR", "interrupted"),
    (5, "EIO", "input/output error"),
    (6, "ENXIO", "no such device or address"),
    (7, "E2BIG", "argument list too long"),
    (9, "EBADF", "bad file descriptor"),
    (11, "EAGAIN", "resource temporarily unavailable"),
    (12, "ENOMEM", "out of memory"),
    (13, "EACCES", "permission denied"),
    (14, "EFAULT", "bad address"),
    (16, "EBUSY", "device or resource busy"),
    (17, "EEXIST", "file exists"),
    (18, "EXDEV", "cross-device link"),
    (19, "ENODEV", "no such device"),
    (20, "ENOTDIR", "not a directory"),
    (21, "EISDIR", "is a directory"),
    (22, "EINVAL", "invalid argument"),
    (23, "ENFILE", "too many open files in the system"),
    (24, "EMFILE", "too many open files in the process"),
    (25, "ENOTTY", "not a terminal"),
    (26, "ETXTBSY", "text file busy"),
    (27, "EFBIG", "file too large"),
    (28, "ENOSPC", "no space left on device"),
    (30, "EROFS", "read-only file system"),
    (31, "EMLINK", "too many links"),
    (35, "EDEADLK", "deadlock avoided"),
    (36, "ENAMETOOLONG", "file name too long"),
    (38, "ENOSYS", "not implemented by the kernel"),
    (40, "ELOOP", "too many levels of symbolic links"),
    (75, "EOVERFLOW", "value too large"),
    (95, "EOPNOTSUPP", "operation not supported"),
    (110, "ETIMEDOUT", "timed out"),
    (116, "ESTALE", "stale file handle"),
    (121, "EREMOTEIO", "remote input/output error"),
    (122, "EDQUOT", "disk quota exceeded"),
    (123, "ENOMEDIUM", "no medium found"),
    (125, "ECANCELED", "cancelled"),
    (126, "ENOKEY", "encryption key not available"),
    (512, "ERESTARTSYS", "interrupted, to be restarted"),
];

/// `ENOENT`; an errno without a name here is its number, as in `E513`.
pub fn errno_name(errno: u32) -> Cow<'static, str> {
    match ERRNOS.binary_search_by_key(&errno, |(number, ..)| *number) {
        Ok(at) => Cow::Borrowed(ERRNOS[at].1),
        Err(_) => Cow::Owned(format!("E{errno}")),
    }
}

/// `no such file or directory`.
pub fn errno_text(errno: u32) -> Cow<'static, str> {
    match ERRNOS.binary_search_by_key(&errno, |(number, ..)| *number) {
        Ok(at) => Cow::Borrowed(ERRNOS[at].2),
        Err(_) => Cow::Owned(format!("error {errno}")),
    }
}

/// Where the flags of an open differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Arch {
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Arch {
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };
}

/// Flags of an open in x86-64's numbering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags(u64);

impl OpenFlags {
    pub const WRONLY: u64 = 0o1;
    pub const RDWR: u64 = 0o2;
    pub const CREAT: u64 = 0o100;
    pub const DIRECT: u64 = 0o40_000;
    pub const LARGEFILE: u64 = 0o100_000;
    pub const DIRECTORY: u64 = 0o200_000;
    pub const NOFOLLOW: u64 = 0o400_000;
    pub const CLOEXEC: u64 = 0o2_000_000;
    const ACCESS: u64 = 0o3;

    /// Names by bit, in the order of asm-generic/fcntl.h. `O_SYNC` and `O_TMPFILE` hold another flag's bit, so the
    /// wider one comes first and takes both.
    const NAMES: [(u64, &'static str); 16] = [
        (Self::CREAT, "O_CREAT"),
        (0o200, "O_EXCL"),
        (0o400, "O_NOCTTY"),
        (0o1_000, "O_TRUNC"),
        (0o2_000, "O_APPEND"),
        (0o4_000, "O_NONBLOCK"),
        (0o4_010_000, "O_SYNC"),
        (0o10_000, "O_DSYNC"),
        (0o20_000, "FASYNC"),
        (Self::DIRECT, "O_DIRECT"),
        (Self::LARGEFILE, "O_LARGEFILE"),
        (0o20_000_000 | Self::DIRECTORY, "O_TMPFILE"),
        (Self::DIRECTORY, "O_DIRECTORY"),
        (Self::NOFOLLOW, "O_NOFOLLOW"),
        (0o1_000_000, "O_NOATIME"),
        (Self::CLOEXEC, "O_CLOEXEC"),
    ];
    const PATH: u64 = 0o10_000_000;

    /// From what the system call was given. arm64 numbers four flags its own way (arch/arm64 uapi/asm/fcntl.h).
    pub fn from_raw(raw: u64, arch: Arch) -> Self {
        match arch {
            Arch::X86_64 => Self(raw),
            Arch::Aarch64 => {
                const SWAPPED: [(u64, u64); 4] = [
                    (0o40_000, OpenFlags::DIRECTORY),
                    (0o100_000, OpenFlags::NOFOLLOW),
                    (0o200_000, OpenFlags::DIRECT),
                    (0o400_000, OpenFlags::LARGEFILE),
                ];
                let rest = raw & !0o740_000;
                Self(SWAPPED.iter().filter(|(from, _)| raw & from != 0).fold(rest, |bits, (_, to)| bits | to))
            }
        }
    }

    pub fn read_only(self) -> bool {
        self.0 & Self::ACCESS == 0
    }

    pub fn any(self, flags: u64) -> bool {
        self.0 & flags != 0
    }

    /// As a programmer writes them, the access mode first.
    pub fn names(self) -> Vec<Cow<'static, str>> {
        let mut names = vec![Cow::Borrowed(match self.0 & Self::ACCESS {
            0 => "O_RDONLY",
            1 => "O_WRONLY",
            2 => "O_RDWR",
            _ => "O_ACCMODE",
        })];
        let mut rest = self.0 & !Self::ACCESS;
        for (bits, name) in Self::NAMES.into_iter().chain([(Self::PATH, "O_PATH")]) {
            if rest & bits == bits {
                names.push(Cow::Borrowed(name));
                rest &= !bits;
            }
        }
        if rest != 0 {
            names.push(Cow::Owned(format!("{rest:#o}")));
        }
        names
    }
}

/// Kind of the program that failed to open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sapi {
    #[default]
    Other,
    Apache,
    Fpm,
    Cgi,
    Cli,
}

impl Sapi {
    pub const ALL: [Self; sapi::COUNT] = [Self::Other, Self::Apache, Self::Fpm, Self::Cgi, Self::Cli];

    /// A number that this version does not know is a program of which nothing is known.
    pub fn from_raw(raw: u32) -> Self {
        Self::ALL.get(raw as usize).copied().unwrap_or_default()
    }

    /// As in the metrics' `sapi` label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Apache => "apache",
            Self::Fpm => "fpm",
            Self::Cgi => "cgi",
            Self::Cli => "cli",
        }
    }

    /// Whether PHP may run in it.
    pub fn runs_php(self) -> bool {
        self != Self::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_for_its_search() {
        assert!(ERRNOS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn errnos_have_names() {
        assert_eq!(errno_name(ENOENT), "ENOENT");
        assert_eq!(errno_text(EACCES), "permission denied");
        assert_eq!(errno_name(513), "E513");
        assert_eq!(errno_text(513), "error 513");
    }

    #[test]
    fn flags_have_names() {
        let check = |raw, arch, expect: &[&str]| assert_eq!(OpenFlags::from_raw(raw, arch).names(), expect);
        check(0, Arch::X86_64, &["O_RDONLY"]);
        check(0o2_200_000, Arch::X86_64, &["O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"]);
        check(0o2_040_000, Arch::Aarch64, &["O_RDONLY", "O_DIRECTORY", "O_CLOEXEC"]);
        check(0o4_010_000 | 0o101, Arch::X86_64, &["O_WRONLY", "O_CREAT", "O_SYNC"]);
        check(0o20_200_002, Arch::X86_64, &["O_RDWR", "O_TMPFILE"]);
        check(1 << 40, Arch::X86_64, &["O_RDONLY", "0o20000000000000"]);
    }

    #[test]
    fn a_kind_that_is_not_known_is_other() {
        assert_eq!(Sapi::from_raw(u32::from(sapi::FPM)), Sapi::Fpm);
        assert_eq!(Sapi::from_raw(99), Sapi::Other);
    }
}
