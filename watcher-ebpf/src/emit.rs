//! The only reserve and submit, and the counters: what cannot be sent is counted here.

use aya_ebpf::helpers::generated;
use watcher_ebpf::{
    ABI_VERSION,
    event::{CountRecord, FoldKey, NAME_SHORT, OpenRecord, PATH_MAX, ProcessRecord, RecordHeader, flag, kind},
    stats::Counter,
};

use crate::{
    maps::{COUNTERS, RING, TOTALS},
    path::{self, BASE_BYTES, Location},
    task,
};

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot is this CPU's own and valid while the program runs.
        unsafe { *slot += 1 };
    }
}

/// Adds one to the total of a sapi and errno.
#[inline(always)]
pub fn count_total(sapi: u32, errno: u32) {
    if let Some(slot) = TOTALS.get_ptr_mut(watcher_ebpf::stats::total_index(sapi, errno)) {
        // SAFETY: the slot is this CPU's own and valid while the program runs.
        unsafe { *slot += 1 };
    }
}

/// What the probe knows about a failing open before it writes the record.
pub struct Open {
    pub time_ns: u64,
    pub key: FoldKey,
    pub count: u64,
    pub errno: u32,
    pub flags: u32,
    pub arguments: task::Arguments,
    pub name_len: u32,
    pub resolution: u8,
    pub sapi: u8,
    pub base: Location,
    pub root: Location,
}

/// An absolute name of ordinary length.
#[repr(C)]
struct Short {
    open: OpenRecord,
    name: [u8; NAME_SHORT],
}

/// Any name, and the base of a relative one.
#[repr(C)]
struct Long {
    open: OpenRecord,
    name: [u8; PATH_MAX],
    base: [u8; BASE_BYTES],
}

/// Sends the record of an open; false where the ring has no place.
#[inline(always)]
pub fn open(open: &Open) -> bool {
    let sent = if open.base == path::NOWHERE && open.name_len < NAME_SHORT as u32 { short(open) } else { long(open) };
    count(if sent { Counter::Emitted } else { Counter::RingFull });
    sent
}

#[inline(always)]
fn short(open: &Open) -> bool {
    let Some(mut entry) = RING.reserve::<Short>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation holds a Short; the name is copied within its field.
    unsafe {
        let (len, flags) = copy_name((&raw mut (*record).name).cast(), NAME_SHORT as u32, open);
        let fixed = &raw mut (*record).open;
        write_fixed(fixed, open, size_of::<Short>() as u32, len, flags);
        (&raw mut (*fixed).base_len_bytes).write(0);
        (&raw mut (*fixed).base_offset_bytes).write(size_of::<Short>() as u32);
    }
    entry.submit(0);
    true
}

#[inline(always)]
fn long(open: &Open) -> bool {
    let Some(mut entry) = RING.reserve::<Long>(0) else { return false };
    let record = entry.as_mut_ptr();
    // SAFETY: the reservation holds a Long; name and base are written within their fields.
    unsafe {
        let (len, flags) = copy_name((&raw mut (*record).name).cast(), PATH_MAX as u32, open);
        let (base_len, base_flags) = if open.base == path::NOWHERE {
            (0, 0)
        } else {
            path::walk((&raw mut (*record).base).cast(), open.base, open.root)
        };
        if base_flags & flag::BASE_TRUNCATED != 0 {
            count(Counter::BaseTruncated);
        }
        if base_flags & flag::BASE_UNREADABLE != 0 {
            count(Counter::BaseUnreadable);
        }
        let fixed = &raw mut (*record).open;
        write_fixed(fixed, open, size_of::<Long>() as u32, len, flags | base_flags);
        (&raw mut (*fixed).base_len_bytes).write(base_len);
        (&raw mut (*fixed).base_offset_bytes).write((size_of::<OpenRecord>() + PATH_MAX) as u32);
    }
    entry.submit(0);
    true
}

/// Copies the requested name once more, into the record. It can have changed since it was hashed; then the record
/// shows the later text.
///
/// # Safety
///
/// `to` is valid for writes of `cap` bytes.
#[inline(always)]
unsafe fn copy_name(to: *mut u8, cap: u32, open: &Open) -> (u32, u32) {
    // SAFETY: the caller vouches for `to` and `cap`; the helper checks the user address.
    let n = unsafe { generated::bpf_probe_read_user_str(to.cast(), cap, open.arguments.name as *const _) };
    if n < 1 { (0, flag::NAME_UNREADABLE) } else { (n as u32 - 1, 0) }
}

/// # Safety
///
/// `record` is valid for writes.
#[inline(always)]
unsafe fn write_fixed(record: *mut OpenRecord, open: &Open, len_bytes: u32, name_len: u32, flags: u32) {
    // SAFETY: the caller vouches for `record`; every field is written here, in write_identity, or by the caller.
    unsafe {
        (&raw mut (*record).header).write(RecordHeader { kind: kind::OPEN, abi: ABI_VERSION, len_bytes });
        (&raw mut (*record).time_ns).write(open.time_ns);
        (&raw mut (*record).key).write(open.key);
        (&raw mut (*record).count).write(open.count);
        (&raw mut (*record).open_flags).write(open.arguments.open_flags);
        (&raw mut (*record).errno).write(open.errno);
        (&raw mut (*record).dirfd).write(open.arguments.dirfd);
        (&raw mut (*record).flags).write(open.flags | flags);
        (&raw mut (*record).name_len_bytes).write(name_len);
        (&raw mut (*record).name_offset_bytes).write(size_of::<OpenRecord>() as u32);
        (&raw mut (*record).syscall).write(open.arguments.syscall);
        (&raw mut (*record).resolution).write(open.resolution);
        (&raw mut (*record).sapi).write(open.sapi);
        (&raw mut (*record).reserved).write(0);
        (&raw mut (*record).reserved_too).write(0);
        task::write_identity(record);
    }
}

/// Sends the growth of a known key. A full ring loses nothing: the count is in the table.
#[inline(always)]
pub fn growth(time_ns: u64, key: FoldKey, so_far: u64) {
    let record = CountRecord { header: header::<CountRecord>(kind::COUNT), time_ns, key, count: so_far };
    if RING.output::<CountRecord>(&record, 0).is_err() {
        count(Counter::RingFull);
    }
}

/// Sends the start or end of a main process.
#[inline(always)]
pub fn process(record: &ProcessRecord) {
    if RING.output::<ProcessRecord>(record, 0).is_err() {
        count(Counter::ProcessRingFull);
    }
}

/// Header of a record without strings.
#[inline(always)]
pub const fn header<T>(kind: u16) -> RecordHeader {
    RecordHeader { kind, abi: ABI_VERSION, len_bytes: size_of::<T>() as u32 }
}
