//! The compliance test of all sinks, and what the two on stdout print.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::*;
use crate::{
    classify::{self, Verdict},
    enrich::{
        Event, Process,
        http::HttpState,
        php::{IncludeKind, PhpState},
    },
    finding::{Change, Finding, Fingerprint, Suggestion},
    output::{EventLine, FindingChange, State, Status, Summary},
    record::{
        ProcessInfo,
        names::{EACCES, ENOENT},
        sample::OpenSample,
    },
    time::{SECOND, Wall},
};

/// A writer that takes a few bytes at a time, and refuses after a limit.
#[derive(Clone, Default)]
struct Narrow {
    got: Rc<RefCell<Vec<u8>>>,
    limit: Option<usize>,
    flushes: Rc<RefCell<usize>>,
}

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut got = self.got.borrow_mut();
        let room = self.limit.map_or(usize::MAX, |limit| limit - got.len().min(limit));
        if room == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // Every other call is interrupted, as by a signal.
        if got.len() % 2 == 1 && bytes.len().is_multiple_of(3) {
            got.push(bytes[0]);
            return Ok(1);
        }
        let len = bytes.len().min(7).min(room);
        got.extend_from_slice(&bytes[..len]);
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        *self.flushes.borrow_mut() += 1;
        Ok(())
    }
}

fn comply(make: impl Fn(Narrow) -> Box<dyn Sink>) {
    // Delivery: what a slow reader gets is what a fast one gets, whole.
    let deliver = |to: Narrow, times: usize| -> io::Result<()> {
        let mut sink = make(to);
        for _ in 0..times {
            outputs().iter().try_for_each(|output| sink.deliver(output))?;
        }
        sink.flush()
    };
    let slow = Narrow::default();
    deliver(slow.clone(), 40).expect("a slow reader is no failure");
    let text = slow.got.borrow().clone();
    assert!(text.ends_with(b"\n") && text.len() > BATCH);
    assert!(*slow.flushes.borrow() >= 2, "a long batch is handed on in between");
    let once = Narrow::default();
    deliver(once.clone(), 1).expect("delivered");
    assert_eq!(once.got.borrow().repeat(40), text);
    // Failure: told, and what came before it is there.
    let closed = Narrow { limit: Some(100), ..Narrow::default() };
    let error = deliver(closed.clone(), 1).expect_err("a closed reader is told");
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(*closed.got.borrow(), text[..100]);
    // End: flushing with nothing to hand on is harmless.
    make(Narrow::default()).flush().expect("an empty flush");
}

#[test]
fn every_sink_complies() {
    comply(|to| Box::new(Json::new(to)));
    comply(|to| Box::new(Human::new(to, false)));
    comply(|to| Box::new(Human::new(to, true)));
}

const AT: Wall = Wall(1_773_108_007 * SECOND as i64 + 5);

fn event(sample: OpenSample) -> Event {
    let mut event = classify::test::event_of(sample);
    let info = ProcessInfo {
        executable: Some(b"/usr/sbin/apache2".to_vec()),
        cgroup: Some(b"/system.slice/apache2.service".to_vec()),
    };
    event.process = Some(Arc::new(Process { info, container: Some("ab".repeat(32)) }));
    event
}

fn finding(event: Event, count: u64) -> Finding {
    let Verdict::Finding(found) = classify::classify(&event) else { panic!("a finding") };
    Finding {
        fingerprint: Fingerprint::of(found.category, &event),
        category: found.category,
        severity: found.severity,
        confidence: found.confidence,
        summary: (found.summary)(&event),
        count,
        requests: None,
        first_seen: AT,
        last_seen: AT,
        evidence: Arc::new(event),
        suggestion: None,
    }
}

fn change(change: Change, finding: Finding) -> Output {
    Output::Finding(FindingChange { time: AT, change, rung: "fexit".into(), finding })
}

fn typo() -> Event {
    event(OpenSample::new("/var/www/html/wp-includes/class-wp-locale.phpp").errno(ENOENT))
}

/// With everything that may be known.
fn full() -> Finding {
    let mut event = typo();
    event.php = Some(PhpState {
        version: Some("8.2.36".into()),
        include: Some(IncludeKind::RequireOnce),
        script: Some(b"/var/www/html/wp-settings.php".to_vec()),
        line: Some(156),
        stack: vec![Default::default()],
        ..PhpState::default()
    });
    event.http = Some(HttpState {
        method: Some(b"GET".to_vec()),
        url_path: Some(b"/".to_vec()),
        server_address: Some(b"shop.example".to_vec()),
        status: Some(500),
    });
    let suggestion = Suggestion {
        path: b"/var/www/html/wp-includes/class-wp-locale.php".to_vec(),
        reason: "one letter less".into(),
    };
    Finding { suggestion: Some(suggestion), requests: Some(3), ..finding(event, 3) }
}

fn status() -> Output {
    Output::Status(Status {
        time: AT,
        state: State::Stopping,
        rung: "fexit".into(),
        kernel: "6.1.0".into(),
        watched_processes: 7,
        lost: [("ring_full".to_owned(), 2)].into(),
        failed_opens: [("ENOENT".to_owned(), 12)].into(),
        quiet: [("htaccess", 4)].into(),
        reasons: vec!["fexit: \"refused\"".into()],
    })
}

fn outputs() -> Vec<Output> {
    let hostile = event(OpenSample::new(b"/srv/a\n\x1b[31m\xff b.php"));
    let line =
        EventLine { time: AT, count: 1_500, rung: "fexit".into(), quiet: None, event: Arc::new(hostile.clone()) };
    vec![
        change(Change::Opened, finding(typo(), 1)),
        change(Change::Opened, full()),
        change(Change::Opened, finding(hostile, 2)),
        change(Change::Opened, finding(event(OpenSample::new("/srv/app/config.php").errno(EACCES)), 1)),
        change(Change::Updated, finding(typo(), 20)),
        change(Change::Resolved, finding(typo(), 20)),
        Output::Event(line),
        Output::Summary(Summary {
            time: Some(AT),
            open_findings: 2,
            grown: [(crate::finding::Category::MissingInclude, 1_234)].into(),
            quiet: 4_321,
        }),
        status(),
    ]
}

fn printed(make: impl Fn(Narrow) -> Box<dyn Sink>, outputs: &[Output]) -> String {
    let to = Narrow::default();
    let mut sink = make(to.clone());
    outputs.iter().for_each(|output| sink.deliver(output).expect("delivered"));
    sink.flush().expect("flushed");
    String::from_utf8(to.got.take()).expect("text")
}

/// Compares with the file; `UPDATE_SNAPSHOTS=1 cargo test` writes it anew, for `git diff` to judge.
fn snapshot(name: &str, text: &str) {
    let path = format!("{}/src/sinks/{name}.snapshot", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, text).expect("written");
    }
    assert_eq!(text, std::fs::read_to_string(&path).expect("a snapshot"));
}

#[test]
fn a_person_reads_blocks() {
    let text = printed(|to| Box::new(Human::new(to, false)), &outputs());
    snapshot("human", &text);
    for line in text.lines() {
        // A path is never broken: somebody will copy it.
        assert!(line.chars().count() <= WIDTH_SEEN || line.contains('/'), "{line}");
    }
    assert!(!text.bytes().any(|byte| byte < 0x20 && byte != b'\n'));
}

const WIDTH_SEEN: usize = 80;

#[test]
fn colours_change_nothing_else() {
    let plain = printed(|to| Box::new(Human::new(to, false)), &outputs());
    let mut coloured = printed(|to| Box::new(Human::new(to, true)), &outputs());
    for code in ["\x1b[1;31m", "\x1b[1;33m", "\x1b[1;32m", "\x1b[0m"] {
        assert!(coloured.contains(code), "{}", code.escape_debug());
        coloured = coloured.replace(code, "");
    }
    assert_eq!(coloured, plain);
}

#[test]
fn scripts_read_one_object_a_line() {
    let text = printed(|to| Box::new(Json::new(to)), &outputs());
    snapshot("json", &text);
    for line in text.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("an object");
        let object = object.as_object().expect("an object");
        assert!(object["schema"].as_str().is_some_and(|schema| schema.ends_with(".v1")));
        for (key, value) in object {
            let empty = value.is_null() || value.as_str() == Some("");
            assert!(!empty, "{key} is known to be nothing: it should be absent");
        }
    }
}
