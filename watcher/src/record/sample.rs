//! Records made by hand, for tests and benchmarks: what the kernel side would write, and dice to damage it with.

use bytemuck::Zeroable as _;
use watcher_ebpf::{
    ABI_VERSION,
    config::sapi,
    event::{CountRecord, FoldKey, OpenRecord, ProcessRecord, RecordHeader, kind, resolution},
};

/// An open record under construction.
#[derive(Clone, Debug)]
pub struct OpenSample {
    pub record: OpenRecord,
    pub name: Vec<u8>,
    base: Vec<u8>,
}

impl OpenSample {
    /// ENOENT on a plain read by an Apache worker; the key follows from the name.
    pub fn new(name: impl AsRef<[u8]>) -> Self {
        let name = name.as_ref().to_vec();
        let mut comm = [0; 16];
        comm[..7].copy_from_slice(b"apache2");
        let record = OpenRecord {
            header: RecordHeader { kind: kind::OPEN, abi: ABI_VERSION, len_bytes: 0 },
            time_ns: 1_000_000_000,
            key: key(&name),
            count: 1,
            cgroup_id: 1,
            start_time_ns: 500_000_000,
            errno: 2,
            pid: 1_234,
            tid: 1_234,
            ppid: 1_000,
            uid: 33,
            fsuid: 33,
            fsgid: 33,
            dirfd: -100,
            comm,
            resolution: resolution::ABSOLUTE,
            sapi: sapi::APACHE,
            ..OpenRecord::zeroed()
        };
        Self { record, name, base: Vec::new() }
    }

    /// Base directory, leaf first.
    pub fn base(mut self, components: &[&str], resolution: u8) -> Self {
        self.base = components.iter().flat_map(|part| part.bytes().chain([0])).collect();
        self.record.resolution = resolution;
        self
    }

    pub fn marks(mut self, marks: u32) -> Self {
        self.record.flags = marks;
        self
    }

    pub fn errno(mut self, errno: u32) -> Self {
        self.record.errno = errno;
        self
    }

    pub fn open_flags(mut self, flags: u64) -> Self {
        self.record.open_flags = flags;
        self
    }

    pub fn sapi(mut self, sapi: u8) -> Self {
        self.record.sapi = sapi;
        self
    }

    pub fn time(mut self, time_ns: u64) -> Self {
        self.record.time_ns = time_ns;
        self
    }

    pub fn count(mut self, count: u64) -> Self {
        self.record.count = count;
        self
    }

    /// The record with its offsets set.
    pub fn bytes(&self) -> Vec<u8> {
        let mut whole = self.clone();
        let fixed = size_of::<OpenRecord>() as u32;
        whole.record.name_len_bytes = self.name.len() as u32;
        whole.record.base_len_bytes = self.base.len() as u32;
        whole.record.name_offset_bytes = fixed;
        whole.record.base_offset_bytes = fixed + self.name.len() as u32;
        whole.raw()
    }

    /// The record with its offsets and lengths as they are.
    pub fn raw(&self) -> Vec<u8> {
        let mut record = self.record;
        if record.name_len_bytes == 0 {
            record.name_len_bytes = self.name.len() as u32;
        }
        record.header.len_bytes = (size_of::<OpenRecord>() + self.name.len() + self.base.len()) as u32;
        let mut bytes = bytemuck::bytes_of(&record).to_vec();
        bytes.extend_from_slice(&self.name);
        bytes.extend_from_slice(&self.base);
        bytes
    }
}

/// Some key that differs from name to name (FNV-1a).
pub fn key(name: &[u8]) -> FoldKey {
    let lo = name
        .iter()
        .fold(0xcbf2_9ce4_8422_2325u64, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    FoldKey { lo, hi: !lo }
}

pub fn count(key: FoldKey, time_ns: u64, count: u64) -> Vec<u8> {
    let len_bytes = size_of::<CountRecord>() as u32;
    let header = RecordHeader { kind: kind::COUNT, abi: ABI_VERSION, len_bytes };
    bytemuck::bytes_of(&CountRecord { header, time_ns, key, count }).to_vec()
}

pub fn process(change: u32, exit_status: u32) -> Vec<u8> {
    let len_bytes = size_of::<ProcessRecord>() as u32;
    let record = ProcessRecord {
        header: RecordHeader { kind: kind::PROCESS, abi: ABI_VERSION, len_bytes },
        time_ns: 1,
        change,
        pid: 1_000,
        ppid: 1,
        exit_status,
        comm: *b"apache2\0\0\0\0\0\0\0\0\0",
        sapi: sapi::APACHE.into(),
        ..ProcessRecord::zeroed()
    };
    bytemuck::bytes_of(&record).to_vec()
}

/// Numbers that look random and are the same each time (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    pub fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        if limit == 0 { 0 } else { (self.roll() >> 11) as usize % limit }
    }
}
