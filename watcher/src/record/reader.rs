//! Reads a recording, whoever wrote it and however it ends.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::{Path, PathBuf},
};

use thiserror::Error;
use watcher_ebpf::ABI_VERSION;

use super::frame::{BodyError, FORMAT_VERSION, FRAME_HEAD, FRAME_MAX, Frame, Header, MAGIC, parse};
use crate::time::Time;

/// Largest header that is read.
const HEADER_MAX: u32 = 1 << 20;

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{} is no recording of watcher", path.display())]
    NotARecording { path: PathBuf },
    #[error(
        "{} is a recording of format {found}, this version reads format {FORMAT_VERSION}: \
         use the version of watcher that wrote it or a later one", path.display()
    )]
    Format { path: PathBuf, found: u16 },
    #[error(
        "{} holds records of ABI {found}, this version reads ABI {ABI_VERSION}: \
         use the version of watcher that wrote it or a later one", path.display()
    )]
    Abi { path: PathBuf, found: u16 },
    #[error("the header of {} is damaged", path.display())]
    Header { path: PathBuf, source: Option<serde_json::Error> },
    #[error("{} ends within a frame at byte {at}: the {whole} whole frames before it were replayed", path.display())]
    Truncated { path: PathBuf, at: u64, whole: u64 },
    #[error("{} is damaged at byte {at}: the {whole} frames before it were replayed", path.display())]
    Damaged { path: PathBuf, at: u64, whole: u64, source: Option<BodyError> },
}

/// An open recording.
pub struct Reader<R = BufReader<File>> {
    path: PathBuf,
    from: R,
    header: Header,
    /// Bytes and frames read so far.
    at: u64,
    whole: u64,
}

impl Reader {
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        Self::new(path, BufReader::with_capacity(64 << 10, file))
    }
}

impl<R: Read> Reader<R> {
    /// Reads the header; `path` is for messages.
    pub fn new(path: &Path, mut from: R) -> Result<Self, ReadError> {
        let path = path.to_owned();
        let mut head = [0; 16];
        let len = read_up_to(&mut from, &mut head).map_err(|source| ReadError::Io { path: path.clone(), source })?;
        if len < head.len() || head[..8] != MAGIC {
            return Err(ReadError::NotARecording { path });
        }
        let number = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let (format, abi) = (number(8), number(10));
        if format != FORMAT_VERSION {
            return Err(ReadError::Format { path, found: format });
        }
        if abi != ABI_VERSION {
            return Err(ReadError::Abi { path, found: abi });
        }
        let header_len = u32::from_le_bytes([head[12], head[13], head[14], head[15]]);
        if header_len > HEADER_MAX {
            return Err(ReadError::Header { path, source: None });
        }
        let mut json = vec![0; header_len as usize];
        from.read_exact(&mut json).map_err(|_| ReadError::Header { path: path.clone(), source: None })?;
        match serde_json::from_slice(&json) {
            Ok(header) => Ok(Self { path, from, header, at: head.len() as u64 + u64::from(header_len), whole: 0 }),
            Err(error) => Err(ReadError::Header { path, source: Some(error) }),
        }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next frame, or `None` at the end.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        let mut head = [0; FRAME_HEAD];
        let got = self.read(&mut head)?;
        if got == 0 {
            return Ok(None);
        }
        if got < head.len() {
            return Err(self.truncated());
        }
        let [kind, z0, z1, z2, l0, l1, l2, l3, time @ ..] = head;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if [z0, z1, z2] != [0; 3] || len > FRAME_MAX {
            return Err(self.damaged(None));
        }
        let mut bytes = vec![0; len];
        if self.read(&mut bytes)? < len {
            return Err(self.truncated());
        }
        let body = parse(kind, bytes).map_err(|error| self.damaged(Some(error)))?;
        self.at += (FRAME_HEAD + len) as u64;
        self.whole += 1;
        Ok(Some(Frame { time: Time(u64::from_le_bytes(time)), body }))
    }

    fn read(&mut self, into: &mut [u8]) -> Result<usize, ReadError> {
        read_up_to(&mut self.from, into).map_err(|source| ReadError::Io { path: self.path.clone(), source })
    }

    fn truncated(&self) -> ReadError {
        ReadError::Truncated { path: self.path.clone(), at: self.at, whole: self.whole }
    }

    fn damaged(&self, source: Option<BodyError>) -> ReadError {
        ReadError::Damaged { path: self.path.clone(), at: self.at, whole: self.whole, source }
    }
}

/// Fills `into` as far as the file goes.
fn read_up_to(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < into.len() {
        match from.read(&mut into[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{
        Writer,
        event::ProcessKey,
        frame::Body,
        input::{Counters, Growth, Input, ProcessInfo, Started, Total},
        sample::{Dice, OpenSample, key},
    };

    fn inputs() -> Vec<Input> {
        let lost = vec![("ring_full".to_owned(), 3)];
        let totals = vec![Total { sapi: 1, errno: 2, count: 9 }];
        let info = ProcessInfo { executable: Some(b"/usr/bin/\xff".to_vec()), cgroup: Some(b"/a b".to_vec()) };
        vec![
            Input::Started(Started { kernel: "6.1".into(), rung: "fexit".into(), ..Started::default() }),
            Input::Process(ProcessKey { pid: 7, start_time: Time(8) }, info),
            Input::Sweep(vec![
                Growth { key: key(b"a"), count: 5, evicted: false },
                Growth { key: key(b"b"), count: u64::MAX, evicted: true },
            ]),
            Input::Counters(Counters { lost, totals, watched_processes: 2 }),
            Input::Clock { boot_to_wall_ns: -5 },
            Input::Shutdown,
        ]
    }

    fn recording() -> Vec<u8> {
        let directory = tempfile::tempdir().expect("a scratch directory");
        let path = directory.path().join("a.watch");
        let header = Header { watcher: "0.1.0".into(), kernel: "6.1".into(), ..Header::default() };
        let mut writer = Writer::create(&path, &header).expect("a new file");
        writer.raw(Time(1), &OpenSample::new("/a.php").bytes()).expect("written");
        for (at, input) in inputs().iter().enumerate() {
            writer.input(Time(at as u64), input).expect("written");
        }
        writer.input(Time(99), &Input::Tick).expect("left out");
        writer.flush().expect("flushed");
        std::fs::read(&path).expect("readable")
    }

    fn read(bytes: &[u8]) -> (Vec<Frame>, Result<(), ReadError>) {
        let mut frames = Vec::new();
        let mut reader = match Reader::new(Path::new("a.watch"), bytes) {
            Ok(reader) => reader,
            Err(error) => return (frames, Err(error)),
        };
        loop {
            match reader.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, Ok(())),
                Err(error) => return (frames, Err(error)),
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (frames, end) = read(&recording());
        end.expect("whole");
        assert_eq!(frames[0].body, Body::Raw(OpenSample::new("/a.php").bytes()));
        let others: Vec<_> = frames.into_iter().skip(1).map(|frame| frame.body.into_input()).collect();
        assert_eq!(others, inputs());
    }

    #[test]
    fn versions_are_refused_by_name() {
        let check = |at: usize, expect: &str| {
            let mut bytes = recording();
            bytes[at] = 42;
            let error = read(&bytes).1.expect_err("refused").to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(0, "a.watch is no recording of watcher");
        check(8, "a.watch is a recording of format 42, this version reads format 1");
        check(10, "a.watch holds records of ABI 42, this version reads ABI");
    }

    #[test]
    fn a_cut_tail_keeps_what_was_whole() {
        let bytes = recording();
        let all = read(&bytes).0.len();
        let (frames, end) = read(&bytes[..bytes.len() - 1]);
        assert_eq!(frames.len(), all - 1);
        assert!(matches!(end, Err(ReadError::Truncated { whole, .. }) if whole == all as u64 - 1));
    }

    #[test]
    fn arbitrary_damage_never_panics() {
        let (bytes, mut dice) = (recording(), Dice::new(7));
        for _ in 0..20_000 {
            let mut bytes = bytes.clone();
            for _ in 0..1 + dice.below(4) {
                let at = dice.below(bytes.len());
                bytes[at] = dice.below(256) as u8;
            }
            bytes.truncate(dice.below(bytes.len() + 1));
            let (frames, _) = read(&bytes);
            frames.into_iter().for_each(|frame| drop(frame.body.into_input()));
        }
    }
}
