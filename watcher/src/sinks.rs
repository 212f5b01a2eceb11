//! Where results go. One trait; every sink passes the same compliance test: delivery, back-pressure, failure, end.

mod human;
mod json;
pub mod report;

use std::io::{self, Write};

pub use human::Human;
pub use json::Json;

use crate::output::Output;

/// A place for results. Deliveries are in order, and whole lines or blocks: a failure loses what it returns an error
/// for and nothing before it.
pub trait Sink {
    fn deliver(&mut self, output: &Output) -> io::Result<()>;

    /// Hands everything on; called when a batch ends.
    fn flush(&mut self) -> io::Result<()>;
}

/// Collects one line or block and writes it at once, so that other writers to a terminal or a log cannot break it.
struct Lines<W: Write> {
    to: W,
    buffer: Vec<u8>,
}

/// Hands on when this much has come together within a batch.
const BATCH: usize = 32 << 10;

impl<W: Write> Lines<W> {
    fn new(to: W) -> Self {
        Self { to, buffer: Vec::new() }
    }

    /// Ends a line or block.
    fn end(&mut self) -> io::Result<()> {
        if self.buffer.len() >= BATCH { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let written = self.to.write_all(&self.buffer);
        self.buffer.clear();
        written?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests;
