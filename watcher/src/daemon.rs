//! Wires sensor, pipeline and sink together on one thread, and ends cleanly.
//!
//! The loop waits for the ring, for the pipeline's deadlines, for the sweep of the kernel's counts, for room in the
//! queue of results, and for a signal; when nothing fails none of these wakes it. Results are written by a thread of
//! their own behind a bounded queue. While that is full the ring is not read: the kernel side goes on counting, so a
//! reader that stands still costs detail, never totals.

mod output;

use std::{
    io,
    time::{Duration, Instant},
};

use thiserror::Error;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, sleep_until},
};

use crate::{
    config::Config,
    output::Output,
    pipeline::Pipeline,
    record::{self, Counters, Growth, Input, Started, Total, Writer, decode, names::Arch},
    sensor::{Rung, Sensor, SensorError, Swept, Verdict},
    sinks::Sink,
    system::{self, Clock, System},
    time::Time,
};
use output::Queue;

/// Records taken from the ring before results are handed on.
const BATCH: usize = 256;
/// The kernel side tells growth of a key at most once a second; what grew after that is swept up as often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Time for the last records and results when asked to stop.
const DRAIN_DEADLINE: Duration = Duration::from_secs(5);
/// The wall clock is slewed all the time; only a step is worth a correction.
const CLOCK_STEP_NS: u64 = 100_000_000;

#[derive(Debug, Error)]
pub enum DaemonError {
    #[error("cannot start the event loop")]
    Runtime(#[source] io::Error),
    #[error("cannot wait for signals")]
    Signal(#[source] io::Error),
    #[error(transparent)]
    Start(SensorError),
    #[error("cannot wait for the ring")]
    Ring(#[source] io::Error),
    #[error(transparent)]
    Record(#[from] record::WriteError),
    #[error("cannot write results to stdout")]
    Output(#[source] io::Error),
}

/// The event loop's runtime: this thread.
pub fn runtime() -> Result<Runtime, DaemonError> {
    tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(DaemonError::Runtime)
}

/// Watches until a signal, the end of the duration, or a failure.
pub fn run(config: &Config, writer: Option<Writer>, sink: Box<dyn Sink + Send>) -> Result<(), DaemonError> {
    runtime()?.block_on(async {
        let mut stop = Stop::new(config.duration)?;
        let sensor = Sensor::start(&config.sensor).map_err(DaemonError::Start)?;
        let mut daemon = Daemon::new(config, sensor, writer, Queue::start(sink));
        daemon.start()?;
        crate::system::memory::release_unused();
        let done = daemon.watch(&mut stop).await;
        let ended = daemon.end(done).await;
        match ended {
            // Whoever read the results has seen enough.
            Err(DaemonError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                log::info!("stopped: nobody reads the results any more");
                Ok(())
            }
            ended => ended,
        }
    })
}

/// What ends a run as asked.
struct Stop {
    term: Signal,
    int: Signal,
    duration: Option<Duration>,
}

impl Stop {
    fn new(duration: Option<Duration>) -> Result<Self, DaemonError> {
        let signal = |kind| signal(kind).map_err(DaemonError::Signal);
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())?, duration })
    }
}

/// What the loop woke up for.
enum Wake {
    Stop(&'static str),
    Ring(io::Result<()>),
    Deadline,
    Sweep,
    Room,
}

struct Daemon {
    sensor: Sensor,
    queue: Queue,
    core: Core,
    /// When to look through the kernel's counts; `None` while they rest.
    sweep_at: Option<Instant>,
}

/// Pipeline and recording: whatever goes into the one goes into the other first.
struct Core {
    pipeline: Pipeline,
    writer: Option<Writer>,
    /// The first failure of the recording; later frames are not worth trying.
    write_error: Option<record::WriteError>,
    system: System,
    boot_to_wall_ns: i64,
    outputs: Vec<Output>,
}

impl Core {
    fn input(&mut self, now: Time, input: Input) {
        if let Some(writer) = &mut self.writer {
            self.write_error = self.write_error.take().or(writer.input(now, &input).err());
        }
        self.pipeline.handle(input, now, &mut self.outputs);
    }

    fn raw(&mut self, now: Time, bytes: &[u8]) {
        let decoded = decode(bytes);
        if let Some(key) = decoded.as_ref().ok().and_then(|record| self.pipeline.wants(record)) {
            let info = self.system.process(key);
            self.input(now, Input::Process(key, info));
        }
        if let Some(writer) = &mut self.writer {
            self.write_error = self.write_error.take().or(writer.raw(now, bytes).err());
        }
        let input = decoded.map_or_else(
            |error| {
                log::debug!("{error}");
                Input::Undecodable
            },
            Input::Record,
        );
        self.pipeline.handle(input, now, &mut self.outputs);
    }

    /// The wall clock was set: times from here on follow it.
    fn follow_clock(&mut self, now: Time) {
        let boot_to_wall_ns = Clock.boot_to_wall_ns();
        if boot_to_wall_ns.abs_diff(self.boot_to_wall_ns) > CLOCK_STEP_NS {
            self.boot_to_wall_ns = boot_to_wall_ns;
            self.input(now, Input::Clock { boot_to_wall_ns });
        }
    }

    /// Ends a batch: what was recorded is out of this process's hands.
    fn settle(&mut self) -> Result<(), DaemonError> {
        if let Some(writer) = &mut self.writer {
            writer.flush()?;
        }
        self.write_error.take().map_or(Ok(()), |error| Err(error.into()))
    }
}

impl Daemon {
    fn new(config: &Config, sensor: Sensor, writer: Option<Writer>, queue: Queue) -> Self {
        let core = Core {
            pipeline: Pipeline::new(config.pipeline),
            writer,
            write_error: None,
            system: System::default(),
            boot_to_wall_ns: Clock.boot_to_wall_ns(),
            outputs: Vec::new(),
        };
        // The first sweep picks up what failed while the sensor was still starting.
        Self { sensor, queue, core, sweep_at: Some(Instant::now() + SWEEP_INTERVAL) }
    }

    fn start(&mut self) -> Result<(), DaemonError> {
        let watched = self.sensor.watched();
        let started = Started {
            kernel: system::kernel_release(),
            rung: self.sensor.rung().name().to_owned(),
            arch: Arch::HERE,
            watched_processes: watched as u64,
            boot_to_wall_ns: self.core.boot_to_wall_ns,
            reasons: reasons(&self.sensor),
        };
        log::info!("watching {watched} processes on Linux {} with {}", started.kernel, started.rung);
        self.core.input(Clock.now(), Input::Started(started));
        self.core.settle()
    }

    async fn watch(&mut self, stop: &mut Stop) -> Result<(), DaemonError> {
        let end = stop.duration.map(|duration| tokio::time::Instant::now() + duration);
        loop {
            match self.wake(stop, end).await {
                Wake::Stop(reason) => {
                    log::info!("stopping: {reason}");
                    return Ok(());
                }
                Wake::Ring(ready) => {
                    ready.map_err(DaemonError::Ring)?;
                    self.drain(BATCH)?;
                }
                Wake::Deadline => self.core.input(Clock.now(), Input::Tick),
                Wake::Sweep => self.sweep()?,
                Wake::Room => self.queue.send(&mut self.core.outputs).map_err(DaemonError::Output)?,
            }
        }
    }

    async fn wake(&mut self, stop: &mut Stop, end: Option<tokio::time::Instant>) -> Wake {
        let waiting = !self.core.outputs.is_empty();
        let deadline = self.core.pipeline.next_deadline().map(|due| Duration::from_nanos(due.since(Clock.now())));
        tokio::select! {
            biased;
            _ = stop.term.recv() => Wake::Stop("SIGTERM"),
            _ = stop.int.recv() => Wake::Stop("SIGINT"),
            () = maybe(end.map(sleep_until)) => Wake::Stop("the duration is over"),
            () = self.queue.room(), if waiting => Wake::Room,
            () = maybe(self.sweep_at.map(|at| sleep_until(at.into()))), if !waiting => Wake::Sweep,
            () = maybe(deadline.map(sleep)), if !waiting => Wake::Deadline,
            ready = self.sensor.readable(), if !waiting => Wake::Ring(ready),
        }
    }

    /// Takes what has arrived, in batches until the ring is empty or there are results to hand on.
    fn drain(&mut self, most: usize) -> Result<bool, DaemonError> {
        let core = &mut self.core;
        let mut more = true;
        while more && core.outputs.len() < most {
            let now = Clock.now();
            core.follow_clock(now);
            more = self.sensor.drain(most, |bytes| core.raw(now, bytes));
        }
        core.settle()?;
        self.sweep_at.get_or_insert_with(|| Instant::now() + SWEEP_INTERVAL);
        Ok(more)
    }

    /// Looks through the kernel's counts; once they rest, not again before something arrives.
    fn sweep(&mut self) -> Result<(), DaemonError> {
        let mut grown = Vec::new();
        let any = self.sensor.sweep(|swept| {
            grown.push(match swept {
                Swept::Grown { key, count } => Growth { key, count, evicted: false },
                Swept::Evicted { key, count } => Growth { key, count, evicted: true },
            });
        });
        self.sweep_at = any.then(|| Instant::now() + SWEEP_INTERVAL);
        // Taken after the sweep: a record from before it is part of a count that was told with an eviction.
        let now = Clock.now();
        self.core.follow_clock(now);
        if !grown.is_empty() {
            self.core.input(now, Input::Sweep(grown));
        }
        let counters = self.counters();
        self.core.input(now, Input::Counters(counters));
        self.core.settle()
    }

    fn counters(&self) -> Counters {
        let counters = self.sensor.counters();
        let lost = counters.lost.iter().filter(|(_, count)| *count > 0);
        Counters {
            lost: lost.map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
            totals: counters
                .totals
                .iter()
                .map(|&(sapi, errno, count)| Total { sapi: sapi.into(), errno, count })
                .collect(),
            watched_processes: self.sensor.watched() as u64,
        }
    }

    /// Drains ring, counts and results within a deadline, however the run ended.
    async fn end(mut self, done: Result<(), DaemonError>) -> Result<(), DaemonError> {
        let deadline = Instant::now() + DRAIN_DEADLINE;
        let drained = self.last_words(deadline).await;
        let written = self.queue.finish(deadline).await.map_err(DaemonError::Output);
        done.and(drained).and(written)
    }

    async fn last_words(&mut self, deadline: Instant) -> Result<(), DaemonError> {
        // Bounded: on a host that fails without pause the ring never empties. Counts are exact all the same.
        while self.drain(BATCH)? && Instant::now() < deadline {
            self.hand_on(deadline).await?;
        }
        self.sweep()?;
        self.core.input(Clock.now(), Input::Shutdown);
        self.core.settle()?;
        self.hand_on(deadline).await
    }

    async fn hand_on(&mut self, deadline: Instant) -> Result<(), DaemonError> {
        if self.core.outputs.is_empty() {
            return Ok(());
        }
        // A reader that stands still does not keep the sensor from ending.
        if tokio::time::timeout_at(deadline.into(), self.queue.room()).await.is_err() {
            let stalled = io::Error::new(io::ErrorKind::TimedOut, "the reader does not take them");
            return Err(DaemonError::Output(stalled));
        }
        self.queue.send(&mut self.core.outputs).map_err(DaemonError::Output)
    }
}

/// Waits for the timer, or for ever where there is none.
async fn maybe<T>(timer: Option<impl Future<Output = T>>) -> T {
    match timer {
        Some(timer) => timer.await,
        None => std::future::pending().await,
    }
}

/// What is worse than it could be.
fn reasons(sensor: &Sensor) -> Vec<String> {
    let refused = sensor.verdicts().iter().filter(|verdict| verdict.verdict == Verdict::Unavailable);
    let mut reasons: Vec<_> = refused.map(|verdict| format!("{}: {}", verdict.rung, verdict.reason)).collect();
    if sensor.rung() == Rung::Tracepoint {
        reasons.push(format!("{}: {}", sensor.rung(), sensor.rung().cost()));
    }
    reasons
}
