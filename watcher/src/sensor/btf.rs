//! Reads the running kernel's BTF: where a field stands in a struct, and whether a function exists.
//!
//! Own code because aya keeps its parser private and the one maintained crate is under the LGPL, which a statically
//! linked tool under MIT or Apache-2.0 cannot take lightly. The format: Documentation/bpf/btf.rst. Kernel 7.2 has a
//! longer header; only its length field is relied on. The bytes come from the kernel but are read as if they were
//! hostile: every access is bounded.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where the kernel shows its BTF.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

#[derive(Debug, Error)]
pub enum BtfError {
    #[error("cannot read kernel types from {path}: the kernel needs CONFIG_DEBUG_INFO_BTF")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("kernel types are malformed at byte {at}: {what}")]
    Malformed { at: usize, what: &'static str },
    #[error("kernel types have no struct {0}")]
    NoStruct(String),
    #[error("kernel struct {0} has no field {1}")]
    NoField(String, String),
}

/// Kinds of BTF type, as include/uapi/linux/btf.h numbers them.
mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
/// `struct btf_type`: name, info, size or type.
const TYPE_BYTES: usize = 12;
/// Depth of anonymous members and of qualifiers that is followed: real kernels have fewer than ten.
const NESTING_MAX: usize = 32;

/// Parsed type information: the raw sections and where each type starts.
pub struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Offset of type `i + 1` in `types`.
    starts: Vec<u32>,
}

/// A field's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    pub offset_bytes: u32,
    type_id: u32,
}

impl Btf {
    /// Reads the running kernel's.
    pub fn vmlinux() -> Result<Self, BtfError> {
        Self::read(Path::new(VMLINUX))
    }

    pub fn read(path: &Path) -> Result<Self, BtfError> {
        let bytes = crate::system::kernel::read_kernel_types(path)
            .map_err(|source| BtfError::Read { path: path.to_owned(), source })?;
        Self::parse(&bytes)
    }

    pub fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let malformed = |at, what| BtfError::Malformed { at, what };
        if u16_at(bytes, 0) != Some(MAGIC) {
            return Err(malformed(0, "no BTF magic"));
        }
        let header = u32_at(bytes, 4).ok_or(malformed(4, "header cut off"))? as usize;
        let section = |at: usize| -> Result<Vec<u8>, BtfError> {
            let offset = u32_at(bytes, at).ok_or(malformed(at, "header cut off"))? as usize;
            let len = u32_at(bytes, at + 4).ok_or(malformed(at, "header cut off"))? as usize;
            let start = header.checked_add(offset).ok_or(malformed(at, "section outside the data"))?;
            let end = start.checked_add(len).ok_or(malformed(at, "section outside the data"))?;
            Ok(bytes.get(start..end).ok_or(malformed(at, "section outside the data"))?.to_vec())
        };
        let (types, strings) = (section(8)?, section(16)?);
        let mut starts = Vec::with_capacity(types.len() / 24);
        let mut at = 0;
        while at < types.len() {
            starts.push(at as u32);
            let info = u32_at(&types, at + 4).ok_or(malformed(at, "type cut off"))?;
            let count = (info & 0xffff) as usize;
            let tail = match info >> 24 & 0x1f {
                kind::INT | kind::VAR | kind::DECL_TAG => 4,
                kind::ARRAY => 12,
                kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => 12 * count,
                kind::ENUM | kind::FUNC_PROTO => 8 * count,
                kind::PTR | kind::FWD | kind::TYPEDEF | kind::VOLATILE | kind::CONST => 0,
                kind::RESTRICT | kind::FUNC | kind::FLOAT | kind::TYPE_TAG => 0,
                _ => return Err(malformed(at, "unknown kind of type")),
            };
            at += TYPE_BYTES + tail;
        }
        Ok(Self { types, strings, starts })
    }

    /// Whether the kernel has a function of this name.
    pub fn has_function(&self, name: &str) -> bool {
        self.find(name, |kind| kind == kind::FUNC).is_some()
    }

    /// Size of a struct in bytes.
    pub fn size_of(&self, name: &str) -> Result<u32, BtfError> {
        let id = self.struct_id(name)?;
        self.word(id, 8).ok_or(BtfError::NoStruct(name.to_owned()))
    }

    /// Offset of a field in bytes. `path` goes through structs by value ("d_name.name"); members of anonymous structs
    /// and unions count as the outer one's. Alternatives are separated by `|` for a field that was renamed.
    pub fn offset_of(&self, name: &str, path: &str) -> Result<u32, BtfError> {
        let id = self.struct_id(name)?;
        path.split('|')
            .find_map(|path| self.follow(id, path))
            .ok_or_else(|| BtfError::NoField(name.to_owned(), path.to_owned()))
    }

    fn follow(&self, mut id: u32, path: &str) -> Option<u32> {
        let mut offset = 0u32;
        for name in path.split('.') {
            let field = self.member(id, name, 0)?;
            offset = offset.checked_add(field.offset_bytes)?;
            id = field.type_id;
        }
        Some(offset)
    }

    fn struct_id(&self, name: &str) -> Result<u32, BtfError> {
        self.find(name, |kind| kind == kind::STRUCT).ok_or_else(|| BtfError::NoStruct(name.to_owned()))
    }

    fn find(&self, name: &str, kind: impl Fn(u32) -> bool) -> Option<u32> {
        (1..=self.starts.len() as u32)
            .find(|&id| self.kind(id).is_some_and(&kind) && self.name(id, 0) == name.as_bytes())
    }

    fn member(&self, id: u32, name: &str, depth: usize) -> Option<Field> {
        if depth > NESTING_MAX {
            return None;
        }
        let id = self.unqualified(id)?;
        if !matches!(self.kind(id)?, kind::STRUCT | kind::UNION) {
            return None;
        }
        let info = self.word(id, 4)?;
        (0..(info & 0xffff) as usize).find_map(|i| {
            let at = TYPE_BYTES + i * 12;
            let type_id = self.word(id, at + 4)?;
            let bits = self.word(id, at + 8)?;
            // With the flag set, the upper byte is the width of a bit field.
            let bits = if info >> 31 == 1 { bits & 0x00ff_ffff } else { bits };
            let offset_bytes = bits / 8;
            match self.name(id, at) {
                found if found == name.as_bytes() => Some(Field { offset_bytes, type_id }),
                b"" => self
                    .member(type_id, name, depth + 1)
                    .map(|inner| Field { offset_bytes: offset_bytes + inner.offset_bytes, ..inner }),
                _ => None,
            }
        })
    }

    /// Follows typedefs and qualifiers.
    fn unqualified(&self, mut id: u32) -> Option<u32> {
        for _ in 0..NESTING_MAX {
            match self.kind(id)? {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                    id = self.word(id, 8)?
                }
                _ => return Some(id),
            }
        }
        None
    }

    fn kind(&self, id: u32) -> Option<u32> {
        self.word(id, 4).map(|info| info >> 24 & 0x1f)
    }

    /// The name whose string offset stands `at` bytes into the type.
    fn name(&self, id: u32, at: usize) -> &[u8] {
        let text = self.word(id, at).and_then(|offset| self.strings.get(offset as usize..)).unwrap_or_default();
        text.split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn word(&self, id: u32, at: usize) -> Option<u32> {
        let start = *self.starts.get(id.checked_sub(1)? as usize)? as usize;
        u32_at(&self.types, start + at)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Kernel structs in miniature: `outer { int a; union { long b; struct { int c; inner d; }; }; }` and
    /// `inner { int x; int y; }`, written by hand from btf.rst with the longer header of kernel 7.2.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0inner\0a\0b\0c\0d\0x\0y\0func\0";
        let at = |name: &[u8]| {
            let mut needle = name.to_vec();
            needle.push(0);
            strings.windows(needle.len()).position(|w| w == needle).unwrap() as u32
        };
        let mut t: Vec<u32> = Vec::new();
        t.extend([at(b"int"), kind::INT << 24, 4, 32]); // 1
        t.extend([at(b"inner"), kind::STRUCT << 24 | 2, 8, at(b"x"), 1, 0, at(b"y"), 1, 32]); // 2
        t.extend([0, kind::STRUCT << 24 | 2, 12, at(b"c"), 1, 0, at(b"d"), 6, 32]); // 3
        t.extend([0, kind::UNION << 24 | 2, 12, at(b"b"), 1, 0, 0, 3, 0]); // 4
        t.extend([at(b"outer"), kind::STRUCT << 24 | 2, 16, at(b"a"), 1, 0, 0, 4, 32]); // 5
        t.extend([at(b"inner"), kind::TYPEDEF << 24, 2]); // 6
        t.extend([0, kind::FUNC_PROTO << 24, 1]); // 7
        t.extend([at(b"func"), kind::FUNC << 24, 7]); // 8
        let types: Vec<u8> = t.iter().flat_map(|w| w.to_ne_bytes()).collect();
        let mut out = MAGIC.to_ne_bytes().to_vec();
        out.extend([1, 0]);
        let header = 32u32;
        for word in [header, 0, types.len() as u32, types.len() as u32, strings.len() as u32, 0, 0] {
            out.extend(word.to_ne_bytes());
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn fields_are_found_through_anonymous_members_typedefs_and_paths() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset_of("outer", "a").unwrap(), 0);
        assert_eq!(btf.offset_of("outer", "b").unwrap(), 4);
        assert_eq!(btf.offset_of("outer", "d").unwrap(), 8);
        assert_eq!(btf.offset_of("outer", "d.y").unwrap(), 12);
        assert_eq!(btf.offset_of("outer", "gone|c").unwrap(), 4);
        assert_eq!(btf.size_of("inner").unwrap(), 8);
        assert!(btf.has_function("func") && !btf.has_function("inner"));
    }

    #[test]
    fn what_is_missing_is_named() {
        let btf = Btf::parse(&sample()).unwrap();
        assert_eq!(btf.offset_of("outer", "nope").unwrap_err().to_string(), "kernel struct outer has no field nope");
        assert_eq!(btf.offset_of("nope", "a").unwrap_err().to_string(), "kernel types have no struct nope");
    }

    #[test]
    fn damaged_types_are_refused_or_read_but_never_panic() {
        let whole = sample();
        for len in 0..whole.len() {
            if let Ok(btf) = Btf::parse(&whole[..len]) {
                let _ = btf.offset_of("outer", "d.y");
            }
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(btf) = Btf::parse(&bytes) {
                    let _ = (btf.offset_of("outer", "d.y"), btf.has_function("func"), btf.size_of("inner"));
                }
            }
        }
    }
}
