//! Bytes from anywhere as text that is safe to print. Names of files are bytes and may be hostile: escape sequences,
//! line breaks, marks that turn the reading direction.

use std::{borrow::Cow, fmt::Write as _};

/// For JSON: exact where the bytes are UTF-8, else with each invalid byte as `\xNN`.
pub fn escaped(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(escape(bytes, |_| false)),
    }
}

/// For a person: what would not show as itself, or would act on a terminal, is written out.
pub fn visible(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(acts) => Cow::Borrowed(text),
        _ => Cow::Owned(escape(bytes, acts)),
    }
}

/// Control characters of both sets, line separators, direction marks, and what has no width.
fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{61c}' | '\u{180e}' | '\u{ad}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

fn escape(bytes: &[u8], special: impl Fn(char) -> bool) -> String {
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if !special(c) {
                text.push(c);
            } else if c.is_ascii() {
                push_byte(&mut text, c as u8);
            } else {
                write!(text, "\\u{{{:x}}}", c as u32).expect("a string takes everything");
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_byte(&mut text, byte));
    }
    text
}

fn push_byte(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("a string takes everything");
}

/// Breaks at spaces so that lines have at most `width` characters; a longer word keeps its line to itself, unbroken,
/// since it is a path that somebody will copy.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= width {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_what_is_text() {
        assert_eq!(escaped("a\nb\u{202e}".as_bytes()), "a\nb\u{202e}");
        assert_eq!(escaped(b"a\xff\\\n"), "a\\xff\\\n");
    }

    #[test]
    fn a_person_sees_what_acts() {
        assert_eq!(visible("/srv/caf\u{e9} x".as_bytes()), "/srv/caf\u{e9} x");
        assert_eq!(visible(b"a\n\x1b[2J\x7f"), "a\\x0a\\x1b[2J\\x7f");
        assert_eq!(visible("\u{9b}31m\u{202e}php\u{200b}".as_bytes()), "\\u{9b}31m\\u{202e}php\\u{200b}");
        assert_eq!(visible(b"\xe2\x80"), "\\xe2\\x80");
    }

    #[test]
    fn lines_break_at_spaces_only() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a /a/very/long/path b", 6), ["a", "/a/very/long/path", "b"]);
    }

    #[test]
    fn large_numbers_are_grouped() {
        assert_eq!(
            [thousands(0), thousands(999), thousands(1_000), thousands(1_234_567)],
            ["0", "999", "1,000", "1,234,567"]
        );
    }
}
