//! The prototypes of the hooked functions, against this kernel's own BTF.
//!
//! The probes' documentation names the function and its prototype for the oldest and the newest kernel; a kernel
//! that changes one has to fail here, by name, not by reading the wrong register. The reader below knows just
//! enough of the format (Documentation/bpf/btf.rst) to find a function's parameters.

use std::{collections::HashMap, fs};

use anyhow::{Context as _, bail, ensure};

/// Needs no sensor: it is about the kernel.
pub const NAME: &str = "btf::prototypes";

/// Function, and the types of the leading parameters that the probes read. Kernels may append more.
#[cfg(target_arch = "x86_64")]
const EXPECTED: &[(&str, &[&str])] = &[
    ("__x64_sys_open", &["struct pt_regs *"]),
    ("__x64_sys_openat", &["struct pt_regs *"]),
    ("__x64_sys_openat2", &["struct pt_regs *"]),
    ("__x64_sys_creat", &["struct pt_regs *"]),
];
#[cfg(not(target_arch = "x86_64"))]
const EXPECTED: &[(&str, &[&str])] =
    &[("__arm64_sys_openat", &["struct pt_regs *"]), ("__arm64_sys_openat2", &["struct pt_regs *"])];

/// Raw tracepoints: the first parameter of the typedef'd prototype is the tracing context's own.
const TRACEPOINTS: &[(&str, &[&str])] = &[
    ("btf_trace_sched_process_fork", &["void *", "struct task_struct *", "struct task_struct *"]),
    ("btf_trace_sched_process_exec", &["void *", "struct task_struct *"]),
    ("btf_trace_sched_process_exit", &["void *", "struct task_struct *"]),
];

pub fn prototypes() -> anyhow::Result<()> {
    let btf = Btf::read()?;
    for (name, expected) in EXPECTED {
        starts_with(name, &btf.function(name)?, expected)?;
    }
    for (name, expected) in TRACEPOINTS {
        starts_with(name, &btf.tracepoint(name)?, expected)?;
    }
    Ok(())
}

fn starts_with(name: &str, found: &[String], expected: &[&str]) -> anyhow::Result<()> {
    ensure!(
        found.iter().map(String::as_str).zip(expected.iter().copied()).all(|(a, b)| a == b)
            && found.len() >= expected.len(),
        "{name} takes ({}), expected ({})",
        found.join(", "),
        expected.join(", ")
    );
    Ok(())
}

struct Btf {
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Offset of each type in `types`, by id.
    offsets: Vec<usize>,
    named: HashMap<(u32, String), u32>,
}

const PTR: u32 = 2;
const STRUCT: u32 = 4;
const TYPEDEF: u32 = 8;
const VOLATILE: u32 = 9;
const CONST: u32 = 10;
const FUNC: u32 = 12;

impl Btf {
    fn read() -> anyhow::Result<Self> {
        let bytes = fs::read("/sys/kernel/btf/vmlinux").context("cannot read the kernel's BTF")?;
        let at = |offset: usize| {
            bytes
                .get(offset..offset + 4)
                .and_then(|word| word.try_into().ok())
                .map(u32::from_le_bytes)
                .map(|word| word as usize)
                .context("the BTF is cut off")
        };
        // magic, version, flags, header length; then offset and length of types and strings after the header.
        let header = at(4)?;
        let section = |offset: usize| -> anyhow::Result<Vec<u8>> {
            let start = header + at(offset)?;
            Ok(bytes.get(start..start + at(offset + 4)?).context("the BTF is cut off")?.to_vec())
        };
        let mut btf =
            Self { types: section(8)?, strings: section(16)?, offsets: vec![usize::MAX], named: HashMap::new() };
        let mut offset = 0;
        while offset + 12 <= btf.types.len() {
            let id = btf.offsets.len() as u32;
            btf.offsets.push(offset);
            let kind = btf.kind(id);
            if kind == FUNC || kind == TYPEDEF {
                btf.named.insert((kind, btf.name(id)), id);
            }
            offset += 12 + btf.tail(id)?;
        }
        Ok(btf)
    }

    fn word(&self, offset: usize) -> u32 {
        self.types.get(offset..offset + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn info(&self, id: u32) -> u32 {
        self.offsets.get(id as usize).map_or(0, |offset| self.word(offset.wrapping_add(4)))
    }

    fn kind(&self, id: u32) -> u32 {
        self.info(id) >> 24 & 0x1f
    }

    /// Number of members or parameters.
    fn length(&self, id: u32) -> usize {
        (self.info(id) & 0xffff) as usize
    }

    /// The type that this one points to or names.
    fn inner(&self, id: u32) -> u32 {
        self.offsets.get(id as usize).map_or(0, |offset| self.word(offset.wrapping_add(8)))
    }

    /// Bytes after the common twelve.
    fn tail(&self, id: u32) -> anyhow::Result<usize> {
        let length = self.length(id);
        Ok(match self.kind(id) {
            1 | 14 | 17 => 4,               // INT, VAR, DECL_TAG
            3 => 12,                        // ARRAY
            4 | 5 | 15 | 19 => 12 * length, // STRUCT, UNION, DATASEC, ENUM64
            6 | 13 => 8 * length,           // ENUM, FUNC_PROTO
            2 | 7..=12 | 16 | 18 => 0,      // pointers, modifiers, FWD, FUNC, FLOAT, TYPE_TAG
            kind => bail!("BTF kind {kind} is unknown"),
        })
    }

    fn name(&self, id: u32) -> String {
        self.string(self.offsets.get(id as usize).map_or(0, |offset| self.word(*offset)))
    }

    fn string(&self, offset: u32) -> String {
        let bytes = self.strings.get(offset as usize..).unwrap_or_default();
        String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }

    fn function(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let id = self.named.get(&(FUNC, name.to_owned())).with_context(|| format!("no function {name} in BTF"))?;
        Ok(self.parameters(self.inner(*id)))
    }

    fn tracepoint(&self, name: &str) -> anyhow::Result<Vec<String>> {
        let id = self.named.get(&(TYPEDEF, name.to_owned())).with_context(|| format!("no tracepoint {name} in BTF"))?;
        // typedef -> pointer -> prototype
        Ok(self.parameters(self.inner(self.inner(*id))))
    }

    fn parameters(&self, prototype: u32) -> Vec<String> {
        let Some(offset) = self.offsets.get(prototype as usize) else { return Vec::new() };
        (0..self.length(prototype)).map(|number| self.spelled(self.word(offset + 12 + 8 * number + 4))).collect()
    }

    /// A type as C spells it, without const and volatile.
    fn spelled(&self, id: u32) -> String {
        match self.kind(id) {
            0 => "void".to_owned(),
            PTR => format!("{} *", self.spelled(self.inner(id))).replace("* *", "**"),
            CONST | VOLATILE => self.spelled(self.inner(id)),
            STRUCT => format!("struct {}", self.name(id)),
            _ => self.name(id),
        }
    }
}
