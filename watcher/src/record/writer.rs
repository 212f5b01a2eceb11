//! Writes a recording: the header once, then frames as they happen.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use thiserror::Error;
use watcher_ebpf::ABI_VERSION;

use super::{
    frame::{FORMAT_VERSION, Header, MAGIC, RAW, encode},
    input::Input,
};
use crate::time::Time;

#[derive(Debug, Error)]
pub enum WriteError {
    #[error("cannot create the recording {}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot write to the recording {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// An open recording. Dropped without [`Writer::flush`] it may lack its last frames, never half of one in the middle.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Starts a file that only its owner reads: it holds the paths of a site.
    pub fn create(path: &Path, header: &Header) -> Result<Self, WriteError> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(|source| WriteError::Create { path: path.to_owned(), source })?;
        let mut writer = Self { path: path.to_owned(), out: BufWriter::with_capacity(64 << 10, file) };
        let header = serde_json::to_vec(header).expect("a header always serializes");
        writer.write(&[
            &MAGIC,
            &FORMAT_VERSION.to_le_bytes(),
            &ABI_VERSION.to_le_bytes(),
            &(header.len() as u32).to_le_bytes(),
            &header,
        ])?;
        Ok(writer)
    }

    /// A ring record, as it came.
    pub fn raw(&mut self, now: Time, bytes: &[u8]) -> Result<(), WriteError> {
        self.frame(now, RAW, bytes)
    }

    /// What else enters the pipeline.
    pub fn input(&mut self, now: Time, input: &Input) -> Result<(), WriteError> {
        encode(input).map_or(Ok(()), |(kind, bytes)| self.frame(now, kind, &bytes))
    }

    /// Hands everything to the operating system.
    pub fn flush(&mut self) -> Result<(), WriteError> {
        self.out.flush().map_err(|source| WriteError::Write { path: self.path.clone(), source })
    }

    fn frame(&mut self, now: Time, kind: u8, bytes: &[u8]) -> Result<(), WriteError> {
        self.write(&[&[kind, 0, 0, 0], &(bytes.len() as u32).to_le_bytes(), &now.0.to_le_bytes(), bytes])
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), WriteError> {
        let written = parts.iter().try_for_each(|part| self.out.write_all(part));
        written.map_err(|source| WriteError::Write { path: self.path.clone(), source })
    }
}
