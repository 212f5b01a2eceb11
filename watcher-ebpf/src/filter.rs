//! Pure predicates of the kernel side, tested on the host.

use crate::config::NamePattern;

/// Largest errno that a system call returns (`MAX_ERRNO`, linux/err.h).
pub const MAX_ERRNO: i32 = 4095;

/// The errno of a failed system call, or `None` for one that succeeded. The wrappers return `long` on some kernels
/// and `int` on others: only the low 32 bits are defined on all.
#[inline(always)]
pub fn failed_errno(ret: u64) -> Option<u32> {
    let ret = ret as i32;
    if (-MAX_ERRNO..0).contains(&ret) { Some(-ret as u32) } else { None }
}

/// Whether an errno never leaves the kernel: an open that a signal interrupted, and that is begun again or becomes
/// EINTR (ERESTARTSYS to ERESTART_RESTARTBLOCK, include/linux/errno.h). The hooks see the result before that.
#[inline(always)]
pub fn restarts(errno: u32) -> bool {
    matches!(errno, 512..=516)
}

/// Whether a process name (16 bytes as two words) is the pattern's.
#[inline(always)]
pub fn name_matches(comm: [u64; 2], pattern: &NamePattern) -> bool {
    (comm[0] & pattern.mask[0]) == pattern.name[0] && (comm[1] & pattern.mask[1]) == pattern.name[1]
}

/// One step of the fold hash: both lanes take the word, each through its own odd multiplier, and mix across.
#[inline(always)]
pub fn mix(state: [u64; 2], word: u64) -> [u64; 2] {
    let lo = (state[0] ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let hi = (state[1] ^ word.rotate_left(32)).wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    [lo ^ (hi >> 29), hi ^ (lo >> 32)]
}

/// Bytes that a process name has, the closing NUL included (`TASK_COMM_LEN`).
pub const COMM_LEN: usize = 16;

/// The pattern for a name: exact, or with a closing `*` a prefix. Names above 15 bytes are cut as the kernel does.
pub fn name_pattern(name: &[u8], sapi: u8) -> NamePattern {
    let (name, prefix) = match name {
        [head @ .., b'*'] => (head, true),
        whole => (whole, false),
    };
    let len = if name.len() > COMM_LEN - 1 { COMM_LEN - 1 } else { name.len() };
    let (mut text, mut mask) = ([0u8; COMM_LEN], [0u8; COMM_LEN]);
    let mut i = 0;
    while i < len {
        text[i] = name[i];
        mask[i] = 0xff;
        i += 1;
    }
    if !prefix {
        mask[len] = 0xff;
    }
    NamePattern { name: words(text), mask: words(mask), sapi: sapi as u64 }
}

/// Sixteen bytes as two native words.
#[inline(always)]
pub fn words(bytes: [u8; COMM_LEN]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = bytes;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comm(name: &str) -> [u64; 2] {
        let mut bytes = [0u8; COMM_LEN];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        words(bytes)
    }

    #[test]
    fn only_failures_have_an_errno() {
        assert_eq!(failed_errno(3), None);
        assert_eq!(failed_errno(0), None);
        assert_eq!(failed_errno(-2i64 as u64), Some(2));
        // An int return leaves the upper half undefined.
        assert_eq!(failed_errno(0x1234_5678_ffff_fffe), Some(2));
        assert_eq!(failed_errno(i32::MIN as u32 as u64), None);
    }

    #[test]
    fn a_restart_is_no_failure() {
        assert!(restarts(512) && restarts(516));
        assert!(!restarts(2) && !restarts(133) && !restarts(517));
    }

    #[test]
    fn names_match_whole_or_by_prefix() {
        let exact = name_pattern(b"apache2", 1);
        assert!(name_matches(comm("apache2"), &exact));
        assert!(!name_matches(comm("apache2ctl"), &exact));
        assert!(!name_matches(comm("apache"), &exact));
        let prefix = name_pattern(b"php-fpm*", 2);
        assert!(name_matches(comm("php-fpm8.2"), &prefix));
        assert!(name_matches(comm("php-fpm"), &prefix));
        assert!(!name_matches(comm("php-cgi"), &prefix));
        let long = name_pattern(b"a-name-longer-than-fifteen", 0);
        assert!(name_matches(comm("a-name-longer-t"), &long));
    }

    #[test]
    fn the_fold_hash_tells_words_and_their_order_apart() {
        let seed = [1, 2];
        let one = mix(mix(seed, 7), 8);
        assert_ne!(one, mix(mix(seed, 8), 7));
        assert_ne!(one, mix(mix([3, 2], 7), 8));
        assert_eq!(one, mix(mix(seed, 7), 8));
    }
}
