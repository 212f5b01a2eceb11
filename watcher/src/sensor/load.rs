//! Loads the object and climbs the ladder: for each rung, load, attach and prove, and on any failure take it back and
//! go on with the next.

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::ProgramArray,
    programs::{FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint},
};
use watcher_ebpf::{config::Config, names};

use super::{
    SensorError,
    plan::{Rung, RungChoice, RungVerdict, Verdict},
};
use crate::system::kernel;

/// The compiled kernel crate.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/watcher-ebpf"));

/// Creates the maps. `verbose` switches the kernel side's log on; off, the verifier removes it.
pub fn object(config: &Config, ring_bytes: Option<u32>, verbose: bool) -> Result<Ebpf, SensorError> {
    raise_memlock();
    let level: u8 = if verbose { aya_log::Level::Debug as u8 } else { 0 };
    let mut loader = EbpfLoader::new();
    loader.btf(None).override_global(names::CONFIG, config, true).override_global(aya_log::LEVEL, &level, true);
    if let Some(bytes) = ring_bytes {
        loader.map_max_entries(names::RING, bytes);
    }
    loader.load(OBJECT).map_err(|error| SensorError::load("create the maps", error))
}

/// Before 5.11 maps and programs count against RLIMIT_MEMLOCK. Failing to raise it is not fatal: newer kernels do not
/// ask, and on older ones the load says what is missing.
fn raise_memlock() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    if let Err(error) = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None }) {
        log::debug!("cannot raise RLIMIT_MEMLOCK: {error}");
    }
}

/// Attaches the programs that keep the watched set. They have no fallback.
pub fn processes(ebpf: &mut Ebpf) -> Result<(), SensorError> {
    for (program, tracepoint) in names::PROCESS {
        attach_raw(ebpf, program, tracepoint).map_err(|error| SensorError::load(tracepoint, error))?;
    }
    Ok(())
}

fn attach_raw(ebpf: &mut Ebpf, program: &str, tracepoint: &str) -> Result<(), ProgramError> {
    let program: &mut RawTracePoint = find(ebpf, program)?;
    program.load()?;
    program.attach(tracepoint).map(drop)
}

fn find<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<P, ProgramError>
where
    P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(name).ok_or(ProgramError::NotLoaded).and_then(P::try_from)
}

/// What to do with the rungs that work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Climb {
    /// Stay on the first that works.
    Stay,
    /// Try every one and take it back: the doctor.
    Probe,
}

/// Climbs the ladder. `prove` runs the self-check on an attached rung.
pub fn climb(
    ebpf: &mut Ebpf,
    choice: RungChoice,
    climb: Climb,
    mut prove: impl FnMut(&mut Ebpf) -> Result<(), String>,
) -> Vec<RungVerdict> {
    let wanted = choice.rungs();
    let mut used = None;
    Rung::LADDER
        .map(|rung| {
            let verdict = |verdict, reason: String| RungVerdict { rung, verdict, reason };
            if let Some(used) = used {
                return verdict(Verdict::NotTried, format!("{used} works"));
            }
            if !wanted.contains(&rung) {
                return verdict(Verdict::NotTried, "another rung was asked for".to_owned());
            }
            let result = attach(ebpf, rung).and_then(|()| prove(ebpf));
            match (result, climb) {
                (Ok(()), Climb::Stay) => {
                    used = Some(rung);
                    verdict(Verdict::Used, rung.cost().to_owned())
                }
                (Ok(()), Climb::Probe) => {
                    unload(ebpf, rung);
                    verdict(Verdict::Available, rung.cost().to_owned())
                }
                (Err(reason), _) => {
                    unload(ebpf, rung);
                    verdict(Verdict::Unavailable, reason)
                }
            }
        })
        .to_vec()
}

fn attach(ebpf: &mut Ebpf, rung: Rung) -> Result<(), String> {
    match rung {
        Rung::Fexit => attach_fexit(ebpf),
        Rung::Kprobe => attach_kprobe(ebpf),
        Rung::Tracepoint => attach_tracepoint(ebpf),
    }
}

fn attach_fexit(ebpf: &mut Ebpf) -> Result<(), String> {
    let btf = Btf::from_sys_fs().map_err(|error| reason("read kernel types", &error))?;
    for_each_syscall(|syscall, i| {
        let function = wrapper(syscall);
        let entry: &mut FExit = find(ebpf, names::FEXIT[i]).map_err(failed("load for", &function))?;
        entry.load(&function, &btf).map_err(failed("load for", &function))
    })?;
    // Loaded against any of the functions: they share the prototype, which a tail call demands.
    let function = wrapper(names::SYSCALLS[0]);
    let handler: &mut FExit = find(ebpf, names::FEXIT_HANDLER).map_err(failed("load for", &function))?;
    handler.load(&function, &btf).map_err(failed("load for", &function))?;
    let handler = handler.fd().and_then(|fd| fd.try_clone().map_err(ProgramError::from));
    let handler = handler.map_err(|error| reason("hold the handler", &error))?;
    let handlers = ebpf.map_mut(names::HANDLERS).ok_or_else(|| format!("the object has no map {}", names::HANDLERS))?;
    let mut handlers = ProgramArray::try_from(handlers).map_err(|error| reason("use the handlers", &error))?;
    handlers.set(0, &handler, 0).map_err(|error| reason("set the handler", &error))?;
    for_each_syscall(|syscall, i| {
        let function = wrapper(syscall);
        let entry: &mut FExit = find(ebpf, names::FEXIT[i]).map_err(failed("attach to", &function))?;
        entry.attach().map_err(failed("attach to", &function)).map(drop)
    })
}

fn attach_kprobe(ebpf: &mut Ebpf) -> Result<(), String> {
    if !kernel::has_kprobes() {
        return Err("the kernel has no kprobes (CONFIG_KPROBE_EVENTS)".to_owned());
    }
    let program: &mut KProbe = find(ebpf, names::KRETPROBE).map_err(failed("load", names::KRETPROBE))?;
    program.load().map_err(failed("load", names::KRETPROBE))?;
    for_each_syscall(|syscall, _| {
        let function = wrapper(syscall);
        program.attach(&function, 0).map_err(failed("attach to", &function)).map(drop)
    })
}

fn attach_tracepoint(ebpf: &mut Ebpf) -> Result<(), String> {
    kernel::tracefs().map_err(|error| format!("cannot find or mount tracefs: {error}"))?;
    let program: &mut TracePoint = find(ebpf, names::TRACEPOINT).map_err(failed("load", names::TRACEPOINT))?;
    program.load().map_err(failed("load", names::TRACEPOINT))?;
    for_each_syscall(|syscall, _| {
        let event = format!("sys_exit_{syscall}");
        program.attach("syscalls", &event).map_err(failed("attach to", &event)).map(drop)
    })
}

/// Runs `attach` for each system call. Where the architecture lacks one, no function has its name; the self-check
/// proves those that count.
fn for_each_syscall(mut attach: impl FnMut(&str, usize) -> Result<(), String>) -> Result<(), String> {
    for (i, syscall) in names::SYSCALLS.iter().enumerate() {
        match attach(syscall, i) {
            Err(error) if i > 0 && !cfg!(target_arch = "x86_64") => log::debug!("{syscall} is not hooked: {error}"),
            result => result?,
        }
    }
    Ok(())
}

fn failed(what: &str, object: &str) -> impl FnOnce(ProgramError) -> String {
    let what = format!("{what} {object}");
    move |error| reason(&what, &error)
}

fn wrapper(syscall: &str) -> String {
    format!("{WRAPPER_PREFIX}{syscall}")
}

/// What the architecture puts before a system call's name in its wrapper (`__SYSCALL_DEFINEx`,
/// arch/*/include/asm/syscall_wrapper.h).
const WRAPPER_PREFIX: &str = if cfg!(target_arch = "aarch64") { "__arm64_sys_" } else { "__x64_sys_" };

/// Takes a rung's programs back; those that never loaded have nothing to take.
fn unload(ebpf: &mut Ebpf, rung: Rung) {
    let programs: &[&str] = match rung {
        Rung::Fexit => &[names::FEXIT_HANDLER],
        Rung::Kprobe => &[names::KRETPROBE],
        Rung::Tracepoint => &[names::TRACEPOINT],
    };
    let entries: &[&str] = if rung == Rung::Fexit { &names::FEXIT } else { &[] };
    for name in entries.iter().chain(programs) {
        let _ = match ebpf.program_mut(name) {
            Some(Program::FExit(program)) => program.unload(),
            Some(Program::KProbe(program)) => program.unload(),
            Some(Program::TracePoint(program)) => program.unload(),
            _ => Ok(()),
        };
    }
}

/// An error with its causes on one line; of a verifier's log only the last words.
pub fn reason(what: &str, error: &dyn std::error::Error) -> String {
    log::trace!("cannot {what}, in full: {error:#?}");
    let mut text = format!("cannot {what}");
    let mut cause = Some(error);
    while let Some(error) = cause {
        let text_of = error.to_string();
        let line = text_of.lines().map(str::trim).rfind(|line| is_telling(line)).unwrap_or_default();
        if !line.is_empty() && !text.ends_with(line) {
            text.push_str(": ");
            text.push_str(line);
        }
        cause = error.source();
    }
    text
}

/// Whether a line tells why; a verifier's log ends with what it spent.
fn is_telling(line: &str) -> bool {
    let accounts = ["processed ", "stack depth ", "verification time ", "max_states_per_insn "];
    !line.is_empty() && !accounts.iter().any(|account| line.starts_with(account))
}
