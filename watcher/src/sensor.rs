//! The sensor: loads the kernel programs, proves them, keeps the watched set, and hands out what arrives. The only
//! user of aya.
//!
//! Reading order: [`plan`] (the ladder as data), [`scope`] (who is watched), [`load`], [`selfcheck`], [`health`].

pub mod btf;
mod health;
mod load;
mod offsets;
pub mod plan;
pub mod scope;
mod selfcheck;

use std::{
    collections::{HashMap, VecDeque},
    io,
    os::fd::{AsFd, AsRawFd},
    time::{Duration, Instant},
};

use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, MapData, MapError, PerCpuArray, RingBuf},
};
use thiserror::Error;
use tokio::io::{Interest, unix::AsyncFd};
use watcher_ebpf::{
    config::{Config, Watched, sapi, watched},
    event::{Fold, FoldKey},
    names,
};

use crate::system::kernel;

pub use health::Counters;
pub use plan::{Rung, RungChoice, RungVerdict, Verdict};
pub use scope::Scope;

/// What the sensor is to do.
#[derive(Clone, Debug, Default)]
pub struct SensorConfig {
    pub rung: RungChoice,
    pub scope: Scope,
    /// Size of the ring in bytes, a power of two of at least a page; the built-in size where absent.
    pub ring_bytes: Option<u32>,
    /// Show the kernel side's own diagnostics.
    pub verbose_bpf: bool,
}

#[derive(Debug, Error)]
pub enum SensorError {
    #[error("not permitted to load kernel programs: run as root, or with CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE")]
    NotPermitted,
    #[error(transparent)]
    KernelTypes(#[from] btf::BtfError),
    #[error("{what}")]
    Load { what: String },
    #[error("no rung of the ladder works here: {}", reasons(.0))]
    NoRung(Vec<RungVerdict>),
    #[error("{0}")]
    Scope(String),
    #[error("cannot read the running processes")]
    Scan { source: io::Error },
    #[error("cannot read the random seed")]
    Seed { source: io::Error },
    #[error("cannot wait for the ring")]
    Ring { source: io::Error },
    #[error("cannot use map {name}")]
    Map { name: &'static str, source: MapError },
}

impl SensorError {
    fn load(what: &str, error: impl std::error::Error + 'static) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(at) = cause {
            if at.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied) {
                return SensorError::NotPermitted;
            }
            cause = at.source();
        }
        SensorError::Load { what: load::reason(what, &error) }
    }

    /// Whether the operator's input is at fault rather than the host.
    pub fn is_usage(&self) -> bool {
        matches!(self, SensorError::Scope(_))
    }
}

fn reasons(verdicts: &[RungVerdict]) -> String {
    let tried = verdicts.iter().filter(|verdict| verdict.verdict == Verdict::Unavailable);
    tried.map(|verdict| format!("{}: {}", verdict.rung, verdict.reason)).collect::<Vec<_>>().join("; ")
}

/// What a sweep of the fold table tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// The key stands at this count.
    Grown { key: FoldKey, count: u64 },
    /// The key rested and was evicted at this count: it starts from 1 when it comes again.
    Evicted { key: FoldKey, count: u64 },
}

/// A running sensor. Dropping it detaches everything.
pub struct Sensor {
    ring: AsyncFd<RingBuf<MapData>>,
    folds: BpfHashMap<MapData, FoldKey, Fold>,
    watched: BpfHashMap<MapData, u32, Watched>,
    counters: PerCpuArray<MapData, u64>,
    totals: PerCpuArray<MapData, u64>,
    verdicts: Vec<RungVerdict>,
    rung: Rung,
    own: health::SelfCheck,
    /// Records of others that arrived during the self-check.
    backlog: VecDeque<Vec<u8>>,
    /// The last drain ended before the ring was empty.
    more: bool,
    /// Count and time of the last growth that a sweep saw, by key.
    swept: HashMap<FoldKey, (u64, Instant)>,
    ebpf: Ebpf,
}

/// A key that did not grow for this long may be evicted, and only when the table is half full.
const REST: Duration = Duration::from_secs(30);
const FOLDS_HALF: usize = 8_192;

impl Sensor {
    /// Starts watching. Must run within a tokio runtime.
    pub fn start(config: &SensorConfig) -> Result<Self, SensorError> {
        let kernel_config = kernel_config(config)?;
        let mut ebpf = load::object(&kernel_config, config.ring_bytes, config.verbose_bpf)?;
        let mut ring = RingBuf::try_from(take(&mut ebpf, names::RING)?).map_err(map_error(names::RING))?;
        let mut watched: BpfHashMap<MapData, u32, Watched> = map(&mut ebpf, names::WATCHED)?;
        let mut folds: BpfHashMap<MapData, FoldKey, Fold> = map(&mut ebpf, names::FOLDS)?;
        let counters = PerCpuArray::try_from(take(&mut ebpf, names::COUNTERS)?).map_err(map_error(names::COUNTERS))?;
        let totals = PerCpuArray::try_from(take(&mut ebpf, names::TOTALS)?).map_err(map_error(names::TOTALS))?;
        load::processes(&mut ebpf)?;

        let mut backlog = VecDeque::new();
        let mut own = health::SelfCheck::default();
        let verdicts = load::climb(&mut ebpf, config.rung, load::Climb::Stay, |_| {
            own = prove(&mut watched, &mut ring, &mut backlog)?;
            Ok(())
        });
        let Some(rung) = verdicts.iter().find(|verdict| verdict.verdict == Verdict::Used).map(|used| used.rung) else {
            return Err(SensorError::NoRung(verdicts));
        };
        for verdict in &verdicts {
            log::info!("rung {}: {}: {}", verdict.rung, verdict.verdict.name(), verdict.reason);
        }
        for key in &own.keys {
            let _ = folds.remove(key);
        }
        if config.verbose_bpf {
            forward_log(&mut ebpf);
        }
        let watched_cell = std::cell::RefCell::new(watched);
        scope::scan(
            &config.scope,
            &kernel_config,
            // BPF_NOEXIST: an entry that fork or exec made meanwhile is newer.
            |pid, entry| match watched_cell.borrow_mut().insert(pid, entry, 1) {
                Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
                Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                Err(source) => Err(SensorError::Map { name: names::WATCHED, source }),
            },
            |pid| drop(watched_cell.borrow_mut().remove(&pid)),
        )?;
        log::info!("scope: {}", scope::describe(&config.scope));
        let ring = wait_on(ring).map_err(|source| SensorError::Ring { source })?;
        let watched = watched_cell.into_inner();
        Ok(Self {
            ring,
            folds,
            watched,
            counters,
            totals,
            verdicts,
            rung,
            own,
            backlog,
            more: false,
            swept: HashMap::new(),
            ebpf,
        })
    }

    /// Tries every rung and takes it back.
    pub fn probe() -> Result<Vec<RungVerdict>, SensorError> {
        let kernel_config = kernel_config(&SensorConfig::default())?;
        let mut ebpf = load::object(&kernel_config, None, false)?;
        let mut ring = RingBuf::try_from(take(&mut ebpf, names::RING)?).map_err(map_error(names::RING))?;
        let mut watched = map(&mut ebpf, names::WATCHED)?;
        Ok(load::climb(&mut ebpf, RungChoice::Auto, load::Climb::Probe, |_| {
            prove(&mut watched, &mut ring, &mut VecDeque::new()).map(drop)
        }))
    }

    /// Waits until there is something to drain.
    pub async fn readable(&mut self) -> io::Result<()> {
        // The kernel wakes only a reader that had emptied the ring.
        if self.more || !self.backlog.is_empty() {
            return Ok(());
        }
        self.ring.readable_mut().await.map(|mut guard| guard.clear_ready())
    }

    /// Hands out up to `most` records that have arrived; true where more may wait.
    pub fn drain(&mut self, most: usize, mut take: impl FnMut(&[u8])) -> bool {
        for record in self.backlog.drain(..) {
            take(&record);
        }
        let ring = self.ring.get_mut();
        let taken = std::iter::from_fn(|| ring.next().map(|record| take(&record))).take(most).count();
        self.more = taken == most;
        self.more
    }

    /// Looks through the fold table for counts that no record has told yet, and evicts keys that rest where the table
    /// fills. Returns whether any count grew since the last sweep.
    pub fn sweep(&mut self, mut tell: impl FnMut(Swept)) -> bool {
        let now = Instant::now();
        let mut grown = false;
        let mut resting = Vec::new();
        let mut keys = 0;
        for entry in self.folds.iter() {
            let Ok((key, fold)) = entry else { continue };
            keys += 1;
            let last = self.swept.entry(key).or_insert((0, now));
            if fold.count != last.0 {
                *last = (fold.count, now);
                grown = true;
                tell(Swept::Grown { key, count: fold.count });
            } else if now.duration_since(last.1) >= REST {
                resting.push((key, fold.count));
            }
        }
        if keys > FOLDS_HALF {
            for (key, _) in resting {
                // Read once more: what was counted since the pass above is told with the eviction.
                let Ok(fold) = self.folds.get(&key, 0) else { continue };
                if self.folds.remove(&key).is_ok() {
                    self.swept.remove(&key);
                    tell(Swept::Evicted { key, count: fold.count });
                }
            }
        }
        grown
    }

    /// The kernel side's counters at this moment.
    pub fn counters(&self) -> Counters {
        let mut counters = health::read(&self.counters, &self.totals, &self.own);
        counters.lost.push(("missed_runs", self.missed_runs()));
        counters
    }

    /// Runs that the kernel left out. A program that is preempted keeps its next run on that processor from starting
    /// (`prog->active`, kernel/bpf/trampoline.c; `bpf_prog_active` on the other rungs): on a preemptible kernel under
    /// a flood these opens are in no total.
    fn missed_runs(&self) -> u64 {
        let fds = self.ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        fds.filter_map(|fd| kernel::missed_runs(fd.as_fd().as_raw_fd())).sum()
    }

    /// What became of each rung.
    pub fn verdicts(&self) -> &[RungVerdict] {
        &self.verdicts
    }

    /// The rung in use.
    pub fn rung(&self) -> Rung {
        self.rung
    }

    /// Number of watched processes.
    pub fn watched(&self) -> usize {
        self.watched.keys().filter(Result::is_ok).count()
    }
}

/// Watches this process for the length of a self-check.
fn prove(
    watched: &mut BpfHashMap<MapData, u32, Watched>,
    ring: &mut RingBuf<MapData>,
    backlog: &mut VecDeque<Vec<u8>>,
) -> Result<health::SelfCheck, String> {
    let own = std::process::id();
    watched
        .insert(own, Watched { flags: watched::BY_PID, sapi: sapi::OTHER.into() }, 0)
        .map_err(|error| load::reason("watch this process", &error))?;
    let result = selfcheck::run(|| ring.next().map(|record| record.to_vec()), backlog);
    let _ = watched.remove(&own);
    result
}

fn kernel_config(config: &SensorConfig) -> Result<Config, SensorError> {
    let btf = btf::Btf::vmlinux()?;
    let mut out: Config = bytemuck::Zeroable::zeroed();
    out.offsets = offsets::resolve(&btf)?;
    out.has_task_pt_regs = u32::from(btf.has_function("bpf_task_pt_regs"));
    // THREAD_SIZE of x86-64 and arm64 with 4 KiB pages, without KASAN (arch/*/include/asm/*thread_info.h,
    // page_64_types.h); the self-check proves it.
    out.thread_size_bytes = 16_384;
    out.own_pid = std::process::id();
    out.seed = kernel::random_words().map_err(|source| SensorError::Seed { source })?;
    config.scope.configure(&mut out)?;
    Ok(out)
}

fn take(ebpf: &mut Ebpf, name: &'static str) -> Result<aya::maps::Map, SensorError> {
    ebpf.take_map(name).ok_or_else(|| SensorError::Load { what: format!("the object has no map {name}") })
}

fn map<K: aya::Pod, V: aya::Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
) -> Result<BpfHashMap<MapData, K, V>, SensorError> {
    BpfHashMap::try_from(take(ebpf, name)?).map_err(map_error(name))
}

fn map_error(name: &'static str) -> impl Fn(MapError) -> SensorError {
    move |source| SensorError::Map { name, source }
}

/// Hands the kernel side's diagnostics to the logger.
fn forward_log(ebpf: &mut Ebpf) {
    let logger = match aya_log::EbpfLogger::init(ebpf) {
        Ok(logger) => logger,
        Err(error) => return log::warn!("the kernel side's diagnostics cannot be shown: {error}"),
    };
    let Ok(mut logger) = wait_on(logger) else { return };
    tokio::spawn(async move {
        while let Ok(mut guard) = logger.readable_mut().await {
            guard.get_inner_mut().flush();
            guard.clear_ready();
        }
    });
}

/// Registers a ring with the runtime, to be woken when it has something to read.
fn wait_on<T: AsFd + AsRawFd>(ring: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the ring owns its descriptor (AsFd borrows it from the ring) and moves into the AsyncFd, which drops the
    // registration before the ring, so the descriptor stays open and the ring's own as long as it is registered.
    unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }.map_err(|error| error.into_parts().1)
}
