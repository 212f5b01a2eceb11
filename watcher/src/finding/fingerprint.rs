//! Identity of a cause: the same on every host, in every version, after every release of the application.
//!
//! The first 128 bits of the SHA-256 of these fields, each preceded by its length in bytes as a little-endian u64:
//! the text `watcher finding 1`, the category's name, the errno's name, the path, the PHP script and its line in
//! decimal, the application. A field that is unknown is empty. Release directories in the paths are replaced by `*`
//! first, so a cause that survives a deployment stays one finding.

use std::{borrow::Cow, fmt};

use sha2::{Digest as _, Sha256};

use super::Category;
use crate::{enrich::Event, record::names::errno_name};

const SCHEME: &[u8] = b"watcher finding 1";

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);

impl Fingerprint {
    pub fn of(category: Category, event: &Event) -> Self {
        let php = event.php.as_ref();
        let script = php.and_then(|php| php.script.as_deref()).unwrap_or_default();
        let line = php.and_then(|php| php.line).map(|line| line.to_string()).unwrap_or_default();
        let errno = errno_name(event.open.errno);
        let fields: [&[u8]; 7] = [
            SCHEME,
            category.name().as_bytes(),
            errno.as_bytes(),
            &without_release(event.open.best_path()),
            &without_release(script),
            line.as_bytes(),
            b"",
        ];
        let mut hash = Sha256::new();
        for field in fields {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field);
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hash.finalize()[..16]);
        Self(short)
    }

    /// What a person types: the first twelve digits.
    pub fn id(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Directories whose children are releases, as Capistrano, Deployer and their kin lay them out.
const RELEASES: [&[u8]; 6] = [b"releases", b"release", b"deploys", b"deployments", b"builds", b"revisions"];

/// The path with each release directory as `*`: the child of a directory of releases, and any component that is a
/// timestamp or a full commit id.
fn without_release(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.split(is_slash).any(|part| is_stamp(part) || RELEASES.contains(&part)) {
        return Cow::Borrowed(path);
    }
    let mut stripped = Vec::with_capacity(path.len());
    let parts: Vec<&[u8]> = path.split(is_slash).collect();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            stripped.push(b'/');
        }
        let is_directory = at + 1 < parts.len();
        let is_release = is_directory && ((at > 0 && RELEASES.contains(&parts[at - 1])) || is_stamp(part));
        stripped.extend_from_slice(if is_release { b"*" } else { part });
    }
    Cow::Owned(stripped)
}

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

/// `20260310020000`, with or without separators, or forty hex digits.
fn is_stamp(part: &[u8]) -> bool {
    let digits = part.iter().filter(|byte| byte.is_ascii_digit()).count();
    let plain = part.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.' | b'T' | b'Z'));
    (plain && (12..=17).contains(&digits)) || (part.len() == 40 && part.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::test::event;

    #[test]
    fn releases_are_stripped() {
        let check = |path: &str, expect: &str| {
            assert_eq!(without_release(path.as_bytes()), expect.as_bytes());
        };
        check("/srv/app/releases/42/a.php", "/srv/app/releases/*/a.php");
        check("/srv/app/20260310020000/a.php", "/srv/app/*/a.php");
        check("/srv/app/2026-03-10_02.00.00/a.php", "/srv/app/*/a.php");
        check(&format!("/srv/{}/a.php", "ab".repeat(20)), "/srv/*/a.php");
        check("/srv/app/releases", "/srv/app/releases");
        check("/srv/app/releases/a.php", "/srv/app/releases/a.php");
        check("/srv/2026/03/a.php", "/srv/2026/03/a.php");
        check("", "");
    }

    #[test]
    fn one_cause_is_one_fingerprint() {
        let of = |path: &str, errno| Fingerprint::of(Category::MissingInclude, &event(path, errno, 0));
        // Kept for ever: findings in stores and feeds are joined by it.
        assert_eq!(of("/srv/a.php", 2).to_string(), FIXED);
        assert_eq!(of("/srv/a.php", 2).id(), FIXED[..12]);
        assert_eq!(of("/srv/releases/1/a.php", 2), of("/srv/releases/2/a.php", 2));
        assert_ne!(of("/srv/a.php", 2), of("/srv/a.php", 13));
        assert_ne!(of("/srv/a.php", 2), of("/srv/b.php", 2));
    }

    const FIXED: &str = "bb5275b1bc8977792ccefc405895292e";
}
