//! Escapes texts and names from files for the terminal: an escape sequence could rename the window, clear the screen or hide the text after it.

use std::borrow::Cow;
use std::io::IsTerminal;

/// Escapes every control character of a name, or of a line of a message, as `\u{1b}`.
pub(crate) fn name(text: &str) -> Cow<'_, str> {
    escape(text, |_| false)
}

/// Escapes control characters except line breaks, for messages of several lines.
pub(crate) fn lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n')
}

/// Escapes generated text if stdout is a terminal.
pub(crate) fn generated(text: &str) -> Cow<'_, str> {
    if std::io::stdout().is_terminal() { on_terminal(text) } else { Cow::Borrowed(text) }
}

fn on_terminal(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") {
        let text = text.replace("\r\n", "\n");
        return Cow::Owned(escape(&text, |c| matches!(c, '\n' | '\t')).into_owned());
    }
    escape(text, |c| matches!(c, '\n' | '\t'))
}

fn escape(text: &str, keep: fn(char) -> bool) -> Cow<'_, str> {
    // Marks that change the direction of writing can make a name look like another one.
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let acts = |c: char| !keep(c) && (c.is_control() || turns(c));
    if !text.contains(acts) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if acts(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::{lines, name, on_terminal};

    #[test]
    fn control_characters_are_escaped() {
        assert_eq!(name("plain é 漢 👍"), "plain é 漢 👍");
        assert_eq!(name("a\u{1b}[2J\nb\t\u{7}"), "a\\u{1b}[2J\\nb\\t\\u{7}");
        assert_eq!(name("\u{9b}2J\u{7f}\u{202e}x"), "\\u{9b}2J\\u{7f}\\u{202e}x");
        assert_eq!(lines("one\n\u{1b}two"), "one\n\\u{1b}two");
        assert_eq!(on_terminal("a\tb\r\nc\rd\u{1b}"), "a\tb\nc\\rd\\u{1b}");
    }
}
