//! The queue of results and the thread that writes them: a slow terminal or disk never holds up the ring.

use std::{io, thread, time::Instant};

use tokio::sync::{mpsc, oneshot};

use crate::{output::Output, sinks::Sink};

/// Batches under way. One holds the results of at most a few hundred records.
const DEPTH: usize = 16;

pub struct Queue {
    sender: Option<mpsc::Sender<Vec<Output>>>,
    done: oneshot::Receiver<io::Result<()>>,
}

impl Queue {
    pub fn start(sink: Box<dyn Sink + Send>) -> Self {
        let (sender, mut batches) = mpsc::channel(DEPTH);
        let (tell, done) = oneshot::channel();
        thread::spawn(move || {
            // Told before the queue closes, and nobody waits for it where the daemon has given up waiting.
            let _ = tell.send(write(&mut batches, sink));
        });
        Self { sender: Some(sender), done }
    }

    /// Waits until a batch fits, or until it is known that none will be taken any more.
    pub async fn room(&self) {
        if let Some(sender) = &self.sender {
            drop(sender.reserve().await);
        }
    }

    /// Hands on what has collected; it stays where there is no room.
    pub fn send(&mut self, outputs: &mut Vec<Output>) -> io::Result<()> {
        let Some(sender) = &self.sender else { return Ok(()) };
        match sender.try_send(std::mem::take(outputs)) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(batch)) => {
                *outputs = batch;
                Ok(())
            }
            Err(mpsc::error::TrySendError::Closed(_)) => {
                self.sender = None;
                // The writer ends only after it has told why.
                Err(match self.done.try_recv() {
                    Ok(Err(error)) => error,
                    _ => io::Error::other("the writer ended"),
                })
            }
        }
    }

    /// Waits until everything is written, at most until the deadline.
    pub async fn finish(mut self, deadline: Instant) -> io::Result<()> {
        if self.sender.take().is_none() {
            return Ok(());
        }
        match tokio::time::timeout_at(deadline.into(), self.done).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(io::Error::other("the writer ended")),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the reader does not take them")),
        }
    }
}

fn write(batches: &mut mpsc::Receiver<Vec<Output>>, mut sink: Box<dyn Sink + Send>) -> io::Result<()> {
    while let Some(batch) = batches.blocking_recv() {
        batch.iter().try_for_each(|output| sink.deliver(output))?;
        sink.flush()?;
    }
    Ok(())
}
