//! Bytes of the ring to [`Record`]. Total: any bytes give a record or an error, and nothing is taken on trust, since
//! a recording may come from anywhere.

use bytemuck::Pod;
use thiserror::Error;
use watcher_ebpf::{
    ABI_VERSION,
    event::{CountRecord, OpenRecord, PATH_MAX, ProcessRecord, RecordHeader, change, flag, kind, resolution},
};

use super::{
    event::{Change, Comm, CountUpdate, OpenEvent, ProcessChange, Record, Resolution},
    names::Sapi,
};
use crate::time::Time;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    #[error("record of {len} bytes is shorter than the {need} that its kind has")]
    Short { len: usize, need: usize },
    #[error("record of ABI {found}, this version reads {ABI_VERSION}")]
    Abi { found: u16 },
    #[error("record of unknown kind {found}")]
    Kind { found: u16 },
    #[error("record says it has {said} bytes, but {len} arrived")]
    Length { said: u32, len: usize },
    #[error("the {what} of the record lies outside of it")]
    Outside { what: &'static str },
    #[error("process record of unknown change {found}")]
    Change { found: u32 },
}

/// Takes one record apart.
pub fn decode(bytes: &[u8]) -> Result<Record, DecodeError> {
    let header: RecordHeader = fixed(bytes)?;
    if header.abi != ABI_VERSION {
        return Err(DecodeError::Abi { found: header.abi });
    }
    // The ring rounds up, so more bytes than said are no error; what lies beyond the record is never looked at.
    let record = bytes
        .get(..header.len_bytes as usize)
        .ok_or(DecodeError::Length { said: header.len_bytes, len: bytes.len() })?;
    match header.kind {
        kind::OPEN => open(record).map(|event| Record::Open(Box::new(event))),
        kind::COUNT => {
            let CountRecord { time_ns, key, count, .. } = fixed(record)?;
            Ok(Record::Count(CountUpdate { key, time: Time(time_ns), count }))
        }
        kind::PROCESS => process(&fixed(record)?).map(Record::Process),
        found => Err(DecodeError::Kind { found }),
    }
}

/// The fixed part that a record starts with; the ring aligns to 8 bytes, a recording to nothing.
fn fixed<T: Pod>(bytes: &[u8]) -> Result<T, DecodeError> {
    let need = size_of::<T>();
    let head = bytes.get(..need).ok_or(DecodeError::Short { len: bytes.len(), need })?;
    Ok(bytemuck::pod_read_unaligned(head))
}

fn open(bytes: &[u8]) -> Result<OpenEvent, DecodeError> {
    let fixed: OpenRecord = fixed(bytes)?;
    let name = part(bytes, fixed.name_offset_bytes, fixed.name_len_bytes, "name")?;
    let base = part(bytes, fixed.base_offset_bytes, fixed.base_len_bytes, "base directory")?;
    let name = &name[..name.len().min(PATH_MAX)];
    let resolution = match fixed.resolution {
        resolution::ABSOLUTE => Resolution::Absolute,
        resolution::CWD => Resolution::Cwd,
        resolution::DIRFD => Resolution::Dirfd,
        _ => Resolution::Unresolved,
    };
    let path = path(name, base, resolution, fixed.flags);
    Ok(OpenEvent {
        key: fixed.key,
        time: Time(fixed.time_ns),
        count: fixed.count,
        errno: fixed.errno,
        raw_flags: fixed.open_flags,
        pid: fixed.pid,
        tid: fixed.tid,
        ppid: fixed.ppid,
        uid: fixed.uid,
        fsuid: fixed.fsuid,
        fsgid: fixed.fsgid,
        dirfd: fixed.dirfd,
        cgroup_id: fixed.cgroup_id,
        start_time: Time(fixed.start_time_ns),
        comm: Comm::new(fixed.comm),
        sapi: Sapi::from_raw(fixed.sapi.into()),
        resolution: if path.is_some() { resolution } else { Resolution::Unresolved },
        marks: fixed.flags,
        requested: name.to_vec(),
        path,
    })
}

fn part<'a>(bytes: &'a [u8], offset: u32, len: u32, what: &'static str) -> Result<&'a [u8], DecodeError> {
    if len == 0 {
        return Ok(&[]);
    }
    let start = offset as usize;
    start.checked_add(len as usize).and_then(|end| bytes.get(start..end)).ok_or(DecodeError::Outside { what })
}

/// The absolute path, or `None` where a part of it is missing: half a path would pass for a whole one.
fn path(name: &[u8], base: &[u8], resolution: Resolution, marks: u32) -> Option<Vec<u8>> {
    const HALF_BASE: u32 = flag::BASE_TRUNCATED | flag::BASE_UNREADABLE | flag::BASE_UNREACHABLE;
    if name.is_empty() || marks & (flag::NAME_UNREADABLE | flag::NAME_TRUNCATED) != 0 {
        return None;
    }
    match resolution {
        Resolution::Unresolved => None,
        Resolution::Absolute => Some(name.to_vec()),
        Resolution::Cwd | Resolution::Dirfd if marks & HALF_BASE != 0 => None,
        Resolution::Cwd | Resolution::Dirfd => Some(join(base, name)),
    }
}

/// Leaf-first components, each closed by NUL, then the name. `..` stays: what it means depends on symbolic links.
fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
        while let Some(rest) = name.strip_prefix(b"/") {
            name = rest;
        }
    }
    let mut path = Vec::with_capacity(base.len() + name.len() + 1);
    for component in base.split(|&byte| byte == 0).rev().filter(|component| !component.is_empty()) {
        path.push(b'/');
        path.extend_from_slice(component);
    }
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

fn process(record: &ProcessRecord) -> Result<ProcessChange, DecodeError> {
    let change = match record.change {
        change::EXEC => Change::Exec,
        change::EXIT => Change::Exit(record.exit_status),
        found => return Err(DecodeError::Change { found }),
    };
    Ok(ProcessChange {
        time: Time(record.time_ns),
        change,
        pid: record.pid,
        ppid: record.ppid,
        comm: Comm::new(record.comm),
        sapi: Sapi::from_raw(record.sapi),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::sample::{Dice, OpenSample, count, process as process_sample};
    use watcher_ebpf::event::FoldKey;

    fn check(sample: &OpenSample, path: Option<&str>, resolution: Resolution) {
        let Record::Open(event) = decode(&sample.bytes()).expect("a whole record decodes") else {
            panic!("an open record decodes to an open");
        };
        assert_eq!(event.path.as_deref(), path.map(str::as_bytes));
        assert_eq!(event.resolution, resolution);
        assert_eq!(event.requested, sample.name);
    }

    #[test]
    fn paths_are_put_together() {
        let absolute = OpenSample::new("/var/www/a.php");
        check(&absolute, Some("/var/www/a.php"), Resolution::Absolute);
        let cwd = OpenSample::new("./inc/a.php").base(&["html", "www", "var"], resolution::CWD);
        check(&cwd, Some("/var/www/html/inc/a.php"), Resolution::Cwd);
        let dots = OpenSample::new(".//./../a.php").base(&["html"], resolution::DIRFD);
        check(&dots, Some("/html/../a.php"), Resolution::Dirfd);
        let root = OpenSample::new("a.php").base(&[], resolution::CWD);
        check(&root, Some("/a.php"), Resolution::Cwd);
    }

    #[test]
    fn half_a_path_is_none() {
        for mark in [flag::BASE_TRUNCATED, flag::BASE_UNREADABLE, flag::BASE_UNREACHABLE, flag::NAME_TRUNCATED] {
            let sample = OpenSample::new("a.php").base(&["www"], resolution::CWD).marks(mark);
            check(&sample, None, Resolution::Unresolved);
        }
        let deep = OpenSample::new("/a.php").marks(flag::BASE_TRUNCATED);
        check(&deep, Some("/a.php"), Resolution::Absolute);
        check(&OpenSample::new(""), None, Resolution::Unresolved);
    }

    #[test]
    fn counts_and_processes_decode() {
        let key = FoldKey { lo: 1, hi: 2 };
        let update = CountUpdate { key, time: Time(9), count: 7 };
        assert_eq!(decode(&count(key, 9, 7)), Ok(Record::Count(update)));
        let Ok(Record::Process(exit)) = decode(&process_sample(change::EXIT, 256)) else {
            panic!("a process record decodes");
        };
        assert_eq!((exit.change, exit.sapi), (Change::Exit(256), Sapi::Apache));
        assert_eq!(decode(&process_sample(7, 0)), Err(DecodeError::Change { found: 7 }));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let whole = OpenSample::new("/a").bytes();
        assert_eq!(decode(&whole[..7]), Err(DecodeError::Short { len: 7, need: 8 }));
        assert_eq!(
            decode(&whole[..whole.len() - 1]),
            Err(DecodeError::Length { said: whole.len() as u32, len: whole.len() - 1 })
        );
        let mut other = whole.clone();
        other[2] = 99;
        assert_eq!(decode(&other), Err(DecodeError::Abi { found: 99 }));
        let mut other = whole.clone();
        other[0] = 77;
        assert_eq!(decode(&other), Err(DecodeError::Kind { found: 77 }));
        let mut sample = OpenSample::new("/a");
        sample.record.name_offset_bytes = u32::MAX;
        assert_eq!(decode(&sample.raw()), Err(DecodeError::Outside { what: "name" }));
    }

    #[test]
    fn arbitrary_bytes_never_panic() {
        let mut dice = Dice::new(0x77_6174_6368);
        let samples = [
            OpenSample::new("inc/a.php").base(&["html", "www"], resolution::CWD).bytes(),
            count(FoldKey::default(), 1, 1),
            process_sample(change::EXEC, 0),
        ];
        for round in 0..200_000u32 {
            let mut bytes = if round % 4 == 0 {
                (0..dice.below(400)).map(|_| dice.below(256) as u8).collect::<Vec<u8>>()
            } else {
                samples[dice.below(samples.len())].clone()
            };
            // Changed in a few places, mostly in the fixed part, and cut: most still pass the first checks.
            for _ in 0..dice.below(6) {
                if bytes.len() > 4 {
                    let at = if dice.below(3) == 0 { dice.below(bytes.len()) } else { 4 + dice.below(bytes.len() - 4) };
                    bytes[at] = [0, 1, 0x7f, 0xff, dice.below(256) as u8][dice.below(5)];
                }
            }
            if dice.below(4) == 0 {
                bytes.truncate(dice.below(bytes.len() + 1));
            }
            if let Ok(Record::Open(event)) = decode(&bytes) {
                assert!(event.requested.len() <= bytes.len());
                assert!(
                    event
                        .path
                        .is_none_or(|path| path.first() == Some(&b'/') || event.resolution == Resolution::Absolute)
                );
            }
        }
    }
}
