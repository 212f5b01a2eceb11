//! Joins an open with its context: the process, its container, and, where they are known, PHP's state and the request.
//!
//! What the host says about a process is asked once, when its first record arrives and it still lives, and comes in as
//! input like everything else; here it is only remembered.

pub mod container;
pub mod http;
pub mod php;

use std::sync::Arc;

use crate::{
    lru::Lru,
    record::{
        OpenEvent, ProcessInfo, ProcessKey, Record,
        names::{Arch, OpenFlags},
    },
    time::Time,
};

/// A failing open with its context.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub open: OpenEvent,
    pub flags: OpenFlags,
    pub process: Option<Arc<Process>>,
    pub php: Option<php::PhpState>,
    pub http: Option<http::HttpState>,
}

/// A process as far as it is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub info: ProcessInfo,
    pub container: Option<String>,
}

/// Remembers processes.
pub struct Enricher {
    processes: Lru<u32, (Time, Arc<Process>)>,
}

impl Enricher {
    pub fn new(processes_max: usize) -> Self {
        Self { processes: Lru::new(processes_max) }
    }

    /// The process that the host should be asked about before this record goes in.
    pub fn wants(&self, record: &Record) -> Option<ProcessKey> {
        let Record::Open(open) = record else { return None };
        let known = self.processes.peek(&open.pid).is_some_and(|(start, _)| *start == open.start_time);
        (!known).then(|| open.process())
    }

    pub fn learn(&mut self, key: ProcessKey, info: ProcessInfo) {
        let container = info.cgroup.as_deref().and_then(container::id);
        self.processes.insert(key.pid, (key.start_time, Arc::new(Process { info, container })));
    }

    /// The process executes something else now: it has to be asked for anew.
    pub fn forget(&mut self, pid: u32) {
        if let Some((start, _)) = self.processes.get(&pid) {
            // No process starts at the end of time, so nothing matches the entry any more.
            *start = Time(u64::MAX);
        }
    }

    pub fn join(&mut self, open: OpenEvent, arch: Arch) -> Event {
        let process = self.processes.get(&open.pid).filter(|(start, _)| *start == open.start_time);
        let process = process.map(|(_, process)| process.clone());
        Event { flags: OpenFlags::from_raw(open.raw_flags, arch), open, process, php: None, http: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{decode, sample::OpenSample};

    fn open(pid: u32, start: u64) -> Record {
        let mut sample = OpenSample::new("/a.php");
        (sample.record.pid, sample.record.start_time_ns) = (pid, start);
        decode(&sample.bytes()).expect("whole")
    }

    fn executable(enricher: &mut Enricher, record: Record) -> Option<Vec<u8>> {
        let Record::Open(open) = record else { panic!("an open") };
        enricher.join(*open, Arch::X86_64).process.and_then(|process| process.info.executable.clone())
    }

    #[test]
    fn a_process_is_asked_for_once() {
        let mut enricher = Enricher::new(10);
        let key = enricher.wants(&open(7, 1)).expect("not known yet");
        enricher.learn(key, ProcessInfo { executable: Some(b"/usr/sbin/apache2".to_vec()), cgroup: None });
        assert_eq!(enricher.wants(&open(7, 1)), None);
        assert_eq!(executable(&mut enricher, open(7, 1)).as_deref(), Some(&b"/usr/sbin/apache2"[..]));
    }

    #[test]
    fn a_reused_pid_is_another_process() {
        let mut enricher = Enricher::new(10);
        enricher.learn(
            ProcessKey { pid: 7, start_time: Time(1) },
            ProcessInfo { executable: Some(vec![b'a']), cgroup: None },
        );
        assert_eq!(executable(&mut enricher, open(7, 2)), None);
        assert!(enricher.wants(&open(7, 2)).is_some());
        enricher.forget(7);
        assert!(enricher.wants(&open(7, 1)).is_some());
    }
}
