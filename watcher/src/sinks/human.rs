//! For the person at the terminal: one block for each new finding, then silence, but for a line that sums up repeats.
//! Right at 80 columns and in a pipe; colours only where the caller says that somebody sees them.

use std::io::{self, Write};

use super::{Lines, Sink};
use crate::{
    enrich::Event,
    finding::{Change, Finding, Severity},
    output::{EventLine, FindingChange, Output, Summary},
    record::names::errno_name,
    text::{thousands, visible, wrap},
};

const WIDTH: usize = 80;
/// Width of the labels in a block.
const LABEL: usize = 12;

pub struct Human<W: Write> {
    lines: Lines<W>,
    colours: bool,
}

impl<W: Write> Human<W> {
    pub fn new(to: W, colours: bool) -> Self {
        Self { lines: Lines::new(to), colours }
    }

    fn line(&mut self, text: &str) {
        self.lines.buffer.extend_from_slice(text.as_bytes());
        self.lines.buffer.push(b'\n');
    }

    /// A labelled line, continued under itself where it is long.
    fn labelled(&mut self, label: &str, text: &str) {
        for (at, line) in wrap(text, WIDTH - LABEL).iter().enumerate() {
            let label = if at == 0 { label } else { "" };
            self.line(&format!("  {label:<width$}{line}", width = LABEL - 2));
        }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn head(&mut self, change: &FindingChange) {
        let finding = &change.finding;
        let severity = finding.severity.name().to_uppercase();
        let code = match finding.severity {
            Severity::Critical => "1;31",
            Severity::Warning => "1;33",
            Severity::Info => "1;36",
        };
        let reopened = if change.change == Change::Reopened { " again" } else { "" };
        let title = format!("{}{reopened}", finding.category.title());
        let id = finding.fingerprint.id();
        let gap = WIDTH.saturating_sub(severity.len() + 2 + title.chars().count() + id.len());
        let head = format!("{}  {title}{:gap$}{id}", self.painted(code, &severity), "");
        self.line(&head);
    }

    fn block(&mut self, change: &FindingChange) {
        self.head(change);
        let finding = &change.finding;
        let Finding { evidence: event, .. } = finding;
        for line in wrap(&finding.summary, WIDTH - 2) {
            self.line(&format!("  {line}"));
        }
        self.labelled("file", &visible(event.open.best_path()));
        if event.open.path.as_deref().is_some_and(|path| path != event.open.requested) {
            self.labelled("asked as", &visible(&event.open.requested));
        }
        if let Some(asker) = asker(event) {
            self.labelled("asked by", &asker);
        }
        self.labelled("process", &process(event));
        if let Some(request) = request(event) {
            self.labelled("request", &request);
        }
        self.labelled("seen", &seen(finding));
        if let Some(suggestion) = &finding.suggestion {
            self.labelled("meant", &format!("{} ({})", visible(&suggestion.path), suggestion.reason));
        }
        self.line("");
    }

    fn event_line(&mut self, line: &EventLine) {
        let EventLine { event, .. } = line;
        let open = &event.open;
        let mut text = format!(
            "{}  {:<7} {}[{}]  {}",
            line.time.clock(),
            errno_name(open.errno),
            visible(open.comm.bytes()),
            open.pid,
            visible(open.best_path())
        );
        if line.count > 1 {
            text += &format!("  {} times", thousands(line.count));
        }
        if let Some(reason) = line.quiet {
            text += &format!("  ({})", reason.name());
        }
        self.line(&text);
    }

    fn summary(&mut self, summary: &Summary) {
        let time = summary.time.map(|time| time.clock()).unwrap_or_default();
        let findings = if summary.open_findings == 1 { "finding" } else { "findings" };
        let mut parts = vec![format!("{} {findings} open", thousands(summary.open_findings))];
        let grown = summary.grown.iter().filter(|(_, count)| **count > 0);
        parts.extend(grown.map(|(category, count)| format!("{} {} times", category.title(), thousands(*count))));
        if summary.quiet > 0 {
            parts.push(format!("{} harmless opens not shown", thousands(summary.quiet)));
        }
        for (at, line) in wrap(&parts.join("; "), WIDTH - time.len() - 2).iter().enumerate() {
            let time = if at == 0 { time.as_str() } else { "        " };
            self.line(&format!("{time}  {line}"));
        }
    }
}

impl<W: Write> Sink for Human<W> {
    fn deliver(&mut self, output: &Output) -> io::Result<()> {
        match output {
            Output::Finding(change) => match change.change {
                Change::Opened | Change::Reopened => self.block(change),
                Change::Resolved => {
                    let (id, title) = (change.finding.fingerprint.id(), change.finding.category.title());
                    let path = visible(change.finding.evidence.open.best_path()).into_owned();
                    let resolved = self.painted("1;32", "RESOLVED");
                    self.line(&format!("{}  {resolved}  {title}  {id}\n  {path}\n", change.time.clock()));
                }
                // The next summary has it.
                Change::Updated => {}
            },
            Output::Event(line) => self.event_line(line),
            Output::Summary(summary) => self.summary(summary),
            // Told by the log: results alone go to stdout.
            Output::Status(_) => {}
        }
        self.lines.end()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lines.flush()
    }
}

/// Script, line and instruction.
fn asker(event: &Event) -> Option<String> {
    let php = event.php.as_ref()?;
    let mut text = visible(php.script.as_deref()?).into_owned();
    if let Some(line) = php.line {
        text += &format!(":{line}");
    }
    if let Some(kind) = php.include {
        text += &format!(" ({})", kind.name());
    }
    Some(text)
}

fn process(event: &Event) -> String {
    let open = &event.open;
    let mut text = format!("{} {}, user {}", visible(open.comm.bytes()), open.pid, open.uid);
    if let Some(container) = event.process.as_ref().and_then(|process| process.container.as_deref()) {
        text += &format!(", container {}", container.chars().take(12).collect::<String>());
    }
    text
}

fn request(event: &Event) -> Option<String> {
    let http = event.http.as_ref()?;
    let method = visible(http.method.as_deref().unwrap_or(b"_OTHER"));
    let mut text = format!("{method} {}", visible(http.url_path.as_deref()?));
    if let Some(server) = &http.server_address {
        text += &format!(" on {}", visible(server));
    }
    Some(text)
}

fn seen(finding: &Finding) -> String {
    match finding.count {
        1 => format!("once, {} UTC", finding.first_seen.to_the_second()),
        count => format!("{} times since {} UTC", thousands(count), finding.first_seen.to_the_second()),
    }
}
