//! Who is watched: the operator's choice turned into kernel-side patterns, and the scan that finds those who run
//! already.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::PathBuf,
};

use watcher_ebpf::{
    config::{CGROUPS_MAX, CgroupScope, Config, NAMES_MAX, Watched, sapi, scope, watched},
    filter,
};

use super::SensorError;
use crate::system::kernel::{self, Scanned};

/// What the operator asks for. Names replace the default ones; pids alone watch nothing else; cgroups narrow both.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Process names, a trailing `*` for a prefix, `*` alone for every process.
    pub comms: Vec<String>,
    pub pids: Vec<u32>,
    /// Cgroup v2 directories, from the mount or from the top of the hierarchy.
    pub cgroups: Vec<PathBuf>,
}

/// Watched without being asked: Debian's and Red Hat's names of Apache and PHP's server programs.
pub const DEFAULT_COMMS: [&str; 4] = ["apache2", "httpd", "php-fpm*", "php-cgi*"];

impl Scope {
    /// The names in force.
    fn names(&self) -> Vec<&str> {
        match (self.comms.is_empty(), self.pids.is_empty()) {
            (false, _) => self.comms.iter().map(String::as_str).collect(),
            (true, true) => DEFAULT_COMMS.to_vec(),
            (true, false) => Vec::new(),
        }
    }

    /// Writes the scope into the kernel's configuration.
    pub(super) fn configure(&self, config: &mut Config) -> Result<(), SensorError> {
        let mut names = self.names();
        if names.contains(&"*") {
            config.scope |= scope::ALL;
            names.retain(|&name| name != "*");
            names.extend(DEFAULT_COMMS.iter().filter(|name| !self.comms.iter().any(|comm| comm == *name)));
        }
        if names.len() > NAMES_MAX {
            return Err(SensorError::Scope(format!("{} process names are more than {NAMES_MAX}", names.len())));
        }
        for (slot, name) in config.names.iter_mut().zip(&names) {
            if name.trim_end_matches('*').is_empty() {
                return Err(SensorError::Scope(format!("\"{name}\" is not a process name")));
            }
            *slot = filter::name_pattern(name.as_bytes(), sapi_of(name));
        }
        config.names_len = names.len() as u32;
        if self.cgroups.len() > CGROUPS_MAX {
            return Err(SensorError::Scope(format!("{} cgroups are more than {CGROUPS_MAX}", self.cgroups.len())));
        }
        for (slot, path) in config.cgroups.iter_mut().zip(&self.cgroups) {
            let (id, level) = kernel::cgroup_scope(path)
                .map_err(|error| SensorError::Scope(format!("cannot watch cgroup {}: {error}", path.display())))?;
            *slot = CgroupScope { id, level };
            config.scope |= scope::CGROUPS;
        }
        config.cgroups_len = self.cgroups.len() as u32;
        for &pid in &self.pids {
            if kernel::process(pid).is_none() {
                return Err(SensorError::Scope(format!("there is no process {pid} to watch")));
            }
        }
        Ok(())
    }
}

/// The kind of program that goes by this name.
fn sapi_of(name: &str) -> u8 {
    let kinds = [
        ("apache2", sapi::APACHE),
        ("httpd", sapi::APACHE),
        ("php-fpm", sapi::FPM),
        ("php-cgi", sapi::CGI),
        ("php", sapi::CLI),
    ];
    kinds.iter().find(|(prefix, _)| name.starts_with(prefix)).map_or(sapi::OTHER, |&(_, kind)| kind)
}

/// Finds every running process in scope and hands it to `insert`. The fork hook is attached already: a process that
/// is forked by one not yet inserted is found by the next pass, and passes go on until one finds nothing new.
pub(super) fn scan(
    scope: &Scope,
    config: &Config,
    mut insert: impl FnMut(u32, Watched) -> Result<(), SensorError>,
    mut remove: impl FnMut(u32),
) -> Result<(), SensorError> {
    let mut known: HashSet<(u32, u64)> = HashSet::new();
    loop {
        let processes = kernel::processes().map_err(|source| SensorError::Scan { source })?;
        let mut grown = false;
        for (process, entry) in select(&processes, scope, config) {
            if known.insert((process.pid, process.start_ticks)) {
                grown = true;
                insert(process.pid, entry)?;
                // Ended before the entry was there: its exit could not remove it, and its pid may come again.
                if kernel::process(process.pid).is_none_or(|now| now.start_ticks != process.start_ticks) {
                    remove(process.pid);
                }
            }
        }
        if !grown {
            return Ok(());
        }
    }
}

/// The processes in scope, with their entries.
fn select<'a>(processes: &'a [Scanned], scope: &Scope, config: &Config) -> Vec<(&'a Scanned, Watched)> {
    let by_pid: HashMap<u32, &Scanned> = processes.iter().map(|process| (process.pid, process)).collect();
    let mut selected = Vec::new();
    for process in processes.iter().filter(|process| process.pid != config.own_pid) {
        let parent_comm = by_pid.get(&process.ppid).map(|parent| &parent.comm);
        let main = if parent_comm == Some(&process.comm) { 0 } else { watched::MAIN };
        if scope.pids.contains(&process.pid) {
            let sapi = sapi_by_name(process, config).unwrap_or(sapi_of(&String::from_utf8_lossy(&process.comm)));
            selected.push((process, Watched { flags: watched::BY_PID | watched::MAIN, sapi: sapi.into() }));
        } else if let Some(sapi) = sapi_by_name(process, config) {
            selected.push((process, Watched { flags: main, sapi: sapi.into() }));
        } else if forked_from_any(process, &scope.pids, &by_pid) {
            let sapi = sapi_of(&String::from_utf8_lossy(&process.comm));
            selected.push((process, Watched { flags: 0, sapi: sapi.into() }));
        }
    }
    selected
}

fn sapi_by_name(process: &Scanned, config: &Config) -> Option<u8> {
    let mut comm = [0u8; filter::COMM_LEN];
    let len = process.comm.len().min(filter::COMM_LEN - 1);
    comm[..len].copy_from_slice(&process.comm[..len]);
    let names = config.names.get(..config.names_len as usize)?;
    names.iter().find(|name| filter::name_matches(filter::words(comm), name)).map(|name| name.sapi as u8)
}

/// Whether a process was forked, over any number of generations of the same name, from one of `pids`.
fn forked_from_any(process: &Scanned, pids: &[u32], by_pid: &HashMap<u32, &Scanned>) -> bool {
    let mut at = process;
    for _ in 0..by_pid.len() {
        match by_pid.get(&at.ppid) {
            Some(parent) if parent.comm == process.comm => {
                if pids.contains(&parent.pid) {
                    return true;
                }
                at = parent;
            }
            _ => return false,
        }
    }
    false
}

impl From<io::Error> for SensorError {
    fn from(source: io::Error) -> Self {
        SensorError::Scan { source }
    }
}

/// Number of names in force, for the log.
pub(super) fn describe(scope: &Scope) -> String {
    let mut parts = Vec::new();
    let names = scope.names();
    if !names.is_empty() {
        parts.push(names.join(", "));
    }
    if !scope.pids.is_empty() {
        parts.push(format!("pids {:?} and their forks", scope.pids));
    }
    for cgroup in &scope.cgroups {
        parts.push(format!("in cgroup {}", cgroup.display()));
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, ppid: u32, comm: &str) -> Scanned {
        Scanned { pid, ppid, comm: comm.into(), start_ticks: 1 }
    }

    fn check(scope: &Scope, expect: &[(u32, u32, u8)]) {
        let processes = [
            process(1, 0, "init"),
            process(10, 1, "apache2"),
            process(11, 10, "apache2"),
            process(20, 1, "php-fpm8.2"),
            process(21, 20, "php-fpm8.2"),
            process(22, 21, "convert"),
            process(30, 1, "bash"),
            process(31, 30, "bash"),
        ];
        let mut config: Config = bytemuck::Zeroable::zeroed();
        let scope_without_pids = Scope { pids: Vec::new(), ..scope.clone() };
        let names = if scope.comms.is_empty() && !scope.pids.is_empty() {
            &Scope { comms: vec!["none".into()], ..Scope::default() }
        } else {
            &scope_without_pids
        };
        names.configure(&mut config).unwrap();
        let found: Vec<_> =
            select(&processes, scope, &config).iter().map(|(p, w)| (p.pid, w.flags, w.sapi as u8)).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn default_names_find_servers_and_their_workers() {
        check(
            &Scope::default(),
            &[
                (10, watched::MAIN, sapi::APACHE),
                (11, 0, sapi::APACHE),
                (20, watched::MAIN, sapi::FPM),
                (21, 0, sapi::FPM),
            ],
        );
    }

    #[test]
    fn a_pid_alone_is_watched_with_its_forks_only() {
        let both = watched::MAIN | watched::BY_PID;
        check(&Scope { pids: vec![20], ..Scope::default() }, &[(20, both, sapi::FPM), (21, 0, sapi::FPM)]);
        check(&Scope { pids: vec![30], ..Scope::default() }, &[(30, both, sapi::OTHER), (31, 0, sapi::OTHER)]);
    }

    #[test]
    fn names_replace_the_default() {
        let scope = Scope { comms: vec!["conv*".into()], ..Scope::default() };
        check(&scope, &[(22, watched::MAIN, sapi::OTHER)]);
    }

    #[test]
    fn a_pid_of_nothing_is_refused_by_number() {
        let mut config: Config = bytemuck::Zeroable::zeroed();
        let scope = Scope { pids: vec![u32::MAX], ..Scope::default() };
        let error = scope.configure(&mut config).unwrap_err();
        assert_eq!(error.to_string(), "there is no process 4294967295 to watch");
    }
}
