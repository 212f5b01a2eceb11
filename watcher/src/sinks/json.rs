//! One JSON object a line, with flat dotted keys: the contract of scripts. Unknown is absent, never empty or zero.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

use super::{Lines, Sink};
use crate::{
    enrich::{Event, php::Frame},
    finding::Finding,
    output::{EventLine, FindingChange, Output, Status},
    record::names::errno_name,
    text::escaped,
};

pub struct Json<W: Write> {
    lines: Lines<W>,
}

impl<W: Write> Json<W> {
    pub fn new(to: W) -> Self {
        Self { lines: Lines::new(to) }
    }
}

impl<W: Write> Sink for Json<W> {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        let line = match output {
            Output::Status(status) => Object::begin(&mut self.lines.buffer, "watcher.status.v1").status(status),
            Output::Finding(change) => Object::begin(&mut self.lines.buffer, "watcher.finding.v1").change(change),
            Output::Event(line) => Object::begin(&mut self.lines.buffer, "watcher.event.v1").event_line(line),
            // What it sums up is in the findings' own lines.
            Output::Summary(_) => return Ok(()),
        };
        line.end();
        self.lines.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

/// An object under construction. Writing to memory cannot fail, and strings and numbers always serialize.
struct Object<'a>(&'a mut Vec<u8>);

impl<'a> Object<'a> {
    fn begin(buffer: &'a mut Vec<u8>, schema: &str) -> Self {
        buffer.extend_from_slice(b"{\"schema\":\"");
        buffer.extend_from_slice(schema.as_bytes());
        buffer.push(b'"');
        Self(buffer)
    }

    fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    fn key(&mut self, key: &str, suffix: &str) {
        for part in [",\"", key, suffix, "\":"] {
            self.0.extend_from_slice(part.as_bytes());
        }
    }

    fn put(&mut self, key: &str, value: impl Serialize) {
        self.key(key, "");
        serde_json::to_writer(&mut *self.0, &value).expect("plain values serialize to memory");
    }

    fn put_some(&mut self, key: &str, value: Option<impl Serialize>) {
        if let Some(value) = value {
            self.put(key, value);
        }
    }

    /// A time, any type that displays without characters that JSON escapes.
    fn put_plain(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key, "");
        write!(self.0, "\"{value}\"").expect("memory takes everything");
    }

    /// Bytes that should be text: what is not UTF-8 is escaped, and stands exactly in a key of its own.
    fn put_bytes(&mut self, key: &str, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return };
        self.put(key, escaped(bytes));
        if std::str::from_utf8(bytes).is_err() {
            self.key(key, ".base64");
            self.0.push(b'"');
            self.0.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            self.0.push(b'"');
        }
    }

    fn status(mut self, status: &Status) -> Self {
        self.put_plain("time", status.time);
        self.put("state", status.state.name());
        self.put_some("rung", Some(&*status.rung).filter(|rung| !rung.is_empty()));
        self.put_some("kernel", Some(&status.kernel).filter(|kernel| !kernel.is_empty()));
        self.put("watched.processes", status.watched_processes);
        self.put("lost", &status.lost);
        self.put("failed_opens", &status.failed_opens);
        self.put("not_shown", &status.quiet);
        self.put("reasons", &status.reasons);
        self
    }

    fn change(mut self, change: &FindingChange) -> Self {
        let FindingChange { time, change, rung, finding } = change;
        self.put_plain("time", time);
        self.put_plain("finding.id", finding.fingerprint.id());
        self.put_plain("finding.fingerprint", finding.fingerprint);
        self.put("finding.change", change.name());
        self.finding(finding);
        self.event(&finding.evidence);
        self.put_some("rung", Some(&**rung).filter(|rung| !rung.is_empty()));
        self
    }

    fn finding(&mut self, finding: &Finding) {
        self.put("finding.category", finding.category.name());
        self.put("finding.severity", finding.severity.name());
        self.put("finding.confidence", finding.confidence.name());
        self.put("finding.summary", &finding.summary);
        self.put("finding.count", finding.count);
        self.put_some("finding.requests", finding.requests);
        self.put_plain("finding.first_seen", finding.first_seen);
        self.put_plain("finding.last_seen", finding.last_seen);
        if let Some(suggestion) = &finding.suggestion {
            self.put_bytes("suggestion.path", Some(&suggestion.path));
            self.put("suggestion.reason", &suggestion.reason);
        }
    }

    fn event_line(mut self, line: &EventLine) -> Self {
        self.put_plain("time", line.time);
        self.event(&line.event);
        self.put_some("not_shown", line.quiet.map(|reason| reason.name()));
        self.put_some("rung", Some(&*line.rung).filter(|rung| !rung.is_empty()));
        self.put("count", line.count);
        self
    }

    fn event(&mut self, event: &Event) {
        let open = &event.open;
        self.put("error.type", errno_name(open.errno));
        self.put("syscall.flags", event.flags.names());
        self.put_bytes("file.path", open.path.as_deref());
        self.put_bytes("file.requested_path", Some(&open.requested));
        self.put("file.path_resolution", open.resolution.name());
        self.put("process.pid", open.pid);
        self.put("process.thread.id", open.tid);
        self.put("process.parent.pid", open.ppid);
        let info = event.process.as_ref().map(|process| &process.info);
        let executable = info.and_then(|info| info.executable.as_deref());
        self.put_bytes("process.executable.path", executable);
        self.put_bytes("process.executable.name", executable.and_then(|path| path.rsplit(|&b| b == b'/').next()));
        self.put_bytes("process.comm", Some(open.comm.bytes()));
        self.put("process.user.id", open.uid);
        self.put_some("container.id", event.process.as_ref().and_then(|process| process.container.as_deref()));
        self.put_bytes("process.linux.cgroup", info.and_then(|info| info.cgroup.as_deref()));
        self.php(event);
        self.http(event);
    }

    fn php(&mut self, event: &Event) {
        let Some(php) = &event.php else { return };
        self.put_some("php.include.kind", php.include.map(|kind| kind.name()));
        self.put_some("php.version", php.version.as_deref());
        self.put_bytes("code.file.path", php.script.as_deref());
        self.put_some("code.line.number", php.line);
        self.put_bytes("code.function.name", php.function.as_deref());
        let stack: Vec<u8> = php.stack.iter().enumerate().flat_map(|(at, frame)| frame_line(at, frame)).collect();
        self.put_bytes("code.stacktrace", Some(stack.trim_ascii_end()));
    }

    fn http(&mut self, event: &Event) {
        let Some(http) = &event.http else { return };
        self.put_bytes("http.request.method", http.method.as_deref());
        self.put_bytes("url.path", http.url_path.as_deref());
        self.put_bytes("server.address", http.server_address.as_deref());
        self.put_some("http.response.status_code", http.status);
    }
}

/// As PHP writes its own traces: `#0 /srv/a.php(7): f()`.
fn frame_line(at: usize, frame: &Frame) -> Vec<u8> {
    let mut line = format!("#{at} ").into_bytes();
    line.extend_from_slice(frame.script.as_deref().unwrap_or(b"[internal function]"));
    if let Some(number) = frame.line {
        line.extend_from_slice(format!("({number})").as_bytes());
    }
    line.extend_from_slice(b": ");
    line.extend_from_slice(frame.function.as_deref().unwrap_or(b"{main}"));
    line.push(b'\n');
    line
}
