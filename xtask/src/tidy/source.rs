//! A file as the rules see it: its text, its code without comments, text and unit tests, and the paths it names.

/// A tracked file.
pub struct Source {
    /// Relative to the checkout, with `/`.
    pub path: String,
    pub bytes: Vec<u8>,
    /// Empty for files that are not text.
    pub text: String,
    /// Rust only: the text with comments, literals and `#[cfg(test)]` items blanked, line for line.
    pub code: String,
    /// Rust only: string literals outside unit tests, with their lines.
    pub literals: Vec<(usize, String)>,
}

impl Source {
    pub fn new(path: &str, bytes: Vec<u8>) -> Self {
        let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0')).unwrap_or_default().to_owned();
        let mut source = Self { path: path.to_owned(), bytes, text, code: String::new(), literals: Vec::new() };
        if source.is_rust() {
            (source.code, source.literals) = blank(&source.text);
            let tests = test_lines(&source.code);
            let in_tests = |line: usize| source.is_test_file() || tests.iter().any(|range| range.contains(&line));
            let literals = source.literals.iter().filter(|(line, _)| !in_tests(*line)).cloned().collect();
            let code = source.code.split('\n').enumerate();
            let code: Vec<&str> = code.map(|(index, line)| if in_tests(index + 1) { "" } else { line }).collect();
            (source.code, source.literals) = (code.join("\n"), literals);
        }
        source
    }

    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// A unit-test module in a file of its own.
    fn is_test_file(&self) -> bool {
        self.path.contains("/src/") && (self.path.ends_with("/tests.rs") || self.path.contains("/tests/"))
    }

    /// The top module of the user side that it belongs to: `sensor` for `watcher/src/sensor/ring.rs`.
    pub fn module(&self) -> Option<&str> {
        let inside = self.path.strip_prefix("watcher/src/")?;
        inside.split('/').next()?.strip_suffix(".rs").or_else(|| inside.split_once('/').map(|(first, _)| first))
    }

    /// Every path that the code names, imports expanded: `use std::{fs, io::Read}` is `std::fs` and `std::io::Read`.
    pub fn paths(&self) -> Vec<(usize, String)> {
        let mut paths = Vec::new();
        let mut rest = self.code.as_str();
        let mut line = 1;
        while let Some(start) = rest.find(|c: char| c.is_alphabetic() || c == '_') {
            line += newlines(&rest[..start]);
            rest = &rest[start..];
            let word = &rest[..word_end(rest)];
            let end = if word == "use" {
                let end = rest.find(';').unwrap_or(rest.len());
                expand("", &rest[word.len()..end], line, &mut paths);
                end
            } else {
                let end = path_end(rest);
                paths.push((line, rest[..end].to_owned()));
                end
            };
            line += newlines(&rest[..end]);
            rest = &rest[end..];
        }
        paths
    }
}

/// Expands a use tree, whose own lines count from `line`.
fn expand(prefix: &str, tree: &str, line: usize, paths: &mut Vec<(usize, String)>) {
    let line = line + newlines(&tree[..tree.len() - tree.trim_start().len()]);
    let tree = tree.trim();
    match tree.split_once('{') {
        Some((head, group)) => {
            let prefix = format!("{prefix}{}", head.trim().trim_start_matches("::"));
            let group = group.strip_suffix('}').unwrap_or(group);
            let mut at = line + newlines(head);
            for part in split_group(group) {
                expand(&prefix, part, at, paths);
                at += newlines(part);
            }
        }
        None if tree.is_empty() => {}
        None => {
            let name = tree.split_once(" as ").map_or(tree, |(name, _)| name).trim_start_matches("::");
            paths.push((line, format!("{prefix}{name}").trim_end_matches("::self").to_owned()));
        }
    }
}

/// Splits at the commas outside inner braces.
fn split_group(group: &str) -> Vec<&str> {
    let mut depth = 0;
    group
        .split(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            c == ',' && depth == 0
        })
        .collect()
}

fn newlines(text: &str) -> usize {
    text.matches('\n').count()
}

fn word_end(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The end of `a::b::c`; a `::` before anything but a name is left out.
fn path_end(text: &str) -> usize {
    let mut end = word_end(text);
    while let Some(next) = text[end..].strip_prefix("::") {
        let length = word_end(next);
        if length == 0 {
            break;
        }
        end += 2 + length;
    }
    end
}

/// Lines of items under `#[cfg(test)]`, in blanked code.
fn test_lines(code: &str) -> Vec<std::ops::RangeInclusive<usize>> {
    const MARK: &str = "#[cfg(test)]";
    let mut ranges = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find(MARK).map(|at| at + from) {
        let end = item_end(code, at + MARK.len());
        ranges.push(1 + newlines(&code[..at])..=1 + newlines(&code[..end]));
        from = end;
    }
    ranges
}

/// Where the item ends: at its `;`, or at the brace that closes its body.
fn item_end(code: &str, from: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[from..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth <= 1 => return from + at + 1,
            '}' => depth -= 1,
            ';' if depth == 0 => return from + at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Blanks comments and literals, keeping every line break; returns the string literals too.
fn blank(text: &str) -> (String, Vec<(usize, String)>) {
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while !rest.is_empty() {
        let (length, literal) = token(rest, code.chars().next_back());
        let piece = &rest[..length];
        match literal {
            Token::Code => code.push_str(piece),
            Token::Hidden => code.push_str(&blanked(piece)),
            Token::Text => {
                literals.push((line, piece.to_owned()));
                code.push_str(&blanked(piece));
            }
        }
        line += newlines(piece);
        rest = &rest[length..];
    }
    (code, literals)
}

fn blanked(piece: &str) -> String {
    piece.chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect()
}

enum Token {
    Code,
    Hidden,
    Text,
}

/// The length and kind of what stands first; `before` is the character in front of it.
fn token(rest: &str, before: Option<char>) -> (usize, Token) {
    let first = rest.chars().next().map_or(1, char::len_utf8);
    let after_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), Token::Hidden);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), Token::Hidden);
    }
    if rest.starts_with('"') {
        return (quoted(rest), Token::Text);
    }
    if !after_word && rest.starts_with(['r', 'b', 'c']) {
        let prefix = rest.find(|c| !matches!(c, 'r' | 'b' | 'c')).unwrap_or(rest.len());
        let hashes = rest[prefix..].len() - rest[prefix..].trim_start_matches('#').len();
        let raw = rest[..prefix].ends_with('r');
        if prefix <= 2 && rest[prefix + hashes..].starts_with('"') && (raw || hashes == 0) {
            let start = prefix + hashes;
            let end = if raw {
                let close = format!("\"{}", "#".repeat(hashes));
                rest[start + 1..].find(&close).map_or(rest.len(), |at| start + 1 + at + close.len())
            } else {
                start + quoted(&rest[start..])
            };
            return (end, Token::Text);
        }
    }
    if rest.starts_with('\'') {
        return character(rest).map_or((first, Token::Code), |length| (length, Token::Hidden));
    }
    (first, Token::Code)
}

fn block_comment(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The length of a literal that starts and ends with `"`.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// The length of a character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        // The escaped character itself may be a quote.
        chars.next()?;
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars.next().filter(|(_, c)| *c == '\'').map(|(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(usize, &str)]) {
        let source = Source::new("watcher/src/noise.rs", text.as_bytes().to_vec());
        let found = source.paths();
        for path in expect {
            assert!(found.iter().any(|(line, name)| (*line, name.as_str()) == *path), "{path:?} not in {found:?}");
        }
    }

    #[test]
    fn expands_imports() {
        check(
            "use std::{\n    fs,\n    io::{self, Read as _},\n};\nuse a::b as c;\n",
            &[(2, "std::fs"), (3, "std::io"), (3, "std::io::Read"), (5, "a::b")],
        );
    }

    #[test]
    fn sees_paths_in_code_and_not_in_comments_text_or_tests() {
        let text = "// std::net\nfn f() { std::fs::read(\"std::env\"); }\n#[cfg(test)]\nmod tests {\n use std::env;\n}\nfn g() {}";
        check(text, &[(2, "std::fs::read"), (7, "g")]);
        let source = Source::new("watcher/src/noise.rs", text.as_bytes().to_vec());
        assert!(!source.paths().iter().any(|(_, path)| path.contains("net") || path.contains("env")));
        assert_eq!(source.literals, [(2, "\"std::env\"".to_owned())]);
    }

    #[test]
    fn is_not_misled_by_literals() {
        check(
            "let a = '\"'; let b = '\\''; let c: &'static str = r#\"\"x\"#; d::e();\n/* /* \" */ ' */ f::g()",
            &[(1, "d::e"), (2, "f::g")],
        );
    }

    #[test]
    fn knows_the_module() {
        let module = |path: &str| Source::new(path, Vec::new()).module().map(str::to_owned);
        assert_eq!(module("watcher/src/sensor/ring.rs").as_deref(), Some("sensor"));
        assert_eq!(module("watcher/src/sensor.rs").as_deref(), Some("sensor"));
        assert_eq!(module("xtask/src/main.rs"), None);
    }
}
