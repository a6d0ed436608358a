//! Patterns that split text. They run on Oniguruma, as in Python's tokenizers, because regex engines disagree on word characters. Work is bounded; an engine
//! that gives up is an error, never the end of the text.

use std::ops::Range;

use onig::{MatchParam, Regex, Region, SearchOptions};
use serde_json::Value;

/// Consecutive parts of a text, and whether each is a match.
pub(super) type Parts = Vec<(Range<usize>, bool)>;

/// GPT-2's pattern, by which a ByteLevel step splits.
pub(super) const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Backtracking steps in one match that are free; most matches need fewer.
const FREE: u32 = 4096;

/// Maximum number of entries of the engine's stack: about 50 bytes each, one for every character of a run that may be backtracked.
const STACK: u32 = 16 << 20;

// Codes of Oniguruma's errors (oniguruma.h).
const STACK_OVER: i32 = -15;
const RETRIES_OVER: i32 = -17;

/// Backtracking steps left for the patterns of one text: a few seconds' worth, so that no pattern takes hours.
#[derive(Debug)]
pub(super) struct Work(u64);

impl Work {
    pub(super) fn for_text(text: &str) -> Self {
        Self((1 << 26) + 64 * text.len() as u64)
    }

    fn spend(&mut self, steps: u32) -> Result<(), String> {
        self.0 = self
            .0
            .checked_sub(u64::from(steps))
            .ok_or("a pattern takes too long on this text; shorten its runs of similar characters")?;
        Ok(())
    }
}

/// Pattern that splits text or is replaced in it.
#[derive(Debug)]
pub(super) enum Pattern {
    /// A literal text.
    Literal(String),
    /// A regular expression.
    Regex(Box<Expression>),
}

/// A regular expression, with a shortcut for the published one.
#[derive(Debug)]
pub(super) struct Expression {
    regex: Regex,
    shortcut: Option<Shortcut>,
}

impl Pattern {
    /// Reads `{"String": …}` or `{"Regex": …}`.
    pub(super) fn read(value: &Value) -> Result<Self, String> {
        match (value["String"].as_str(), value["Regex"].as_str()) {
            (Some(text), None) => Ok(Self::Literal(text.to_owned())),
            (None, Some(text)) => Self::regex(text),
            _ => Err(format!("invalid pattern {value} (expected {{\"String\": …}} or {{\"Regex\": …}})")),
        }
    }

    pub(super) fn regex(text: &str) -> Result<Self, String> {
        let wrong = |error: onig::Error| format!("the pattern {text:?} does not compile: {}", error.description());
        let regex = Regex::new(text).map_err(wrong)?;
        let shortcut = (text == Shortcut::PATTERN).then(Shortcut::new).transpose().map_err(wrong)?;
        Ok(Self::Regex(Box::new(Expression { regex, shortcut })))
    }

    /// Whether this is the published expression, which matches all white space and all visible ASCII.
    pub(super) fn is_published(&self) -> bool {
        matches!(self, Self::Regex(expression) if expression.shortcut.is_some())
    }

    /// Splits a text into matches and the text between them.
    pub(super) fn parts(&self, text: &str, work: &mut Work) -> Result<Parts, String> {
        let mut parts = Parts::new();
        let mut end = 0;
        let mut found = |part: Range<usize>| {
            if part.start > end {
                parts.push((end..part.start, false));
            }
            end = part.end;
            parts.push((part, true));
        };
        match self {
            Self::Literal(literal) => {
                text.match_indices(literal.as_str()).for_each(|(at, literal)| found(at..at + literal.len()));
            }
            Self::Regex(expression) => expression.search(text, work, &mut found)?,
        }
        if end < text.len() {
            parts.push((end..text.len(), false));
        }
        Ok(parts)
    }
}

impl Expression {
    /// Finds all matches, except an empty one right after another.
    fn search(&self, text: &str, work: &mut Work, found: &mut impl FnMut(Range<usize>)) -> Result<(), String> {
        let mut region = Region::new();
        let (mut at, mut last) = (0, None);
        while at <= text.len() {
            if let Some(shortcut) = &self.shortcut {
                let from = shortcut.skip(text, at, found);
                if from > at {
                    (at, last) = (from, Some(from));
                    continue;
                }
                at = shortcut.next_start(text, at);
            }
            region.clear();
            let Some((start, end)) = self.find(text, at, &mut region, work)? else { break };
            if start == end && last == Some(end) {
                at = end + text[end..].chars().next().map_or(1, char::len_utf8);
                continue;
            }
            (at, last) = (end, Some(end));
            found(start..end);
        }
        Ok(())
    }

    fn find(
        &self,
        text: &str,
        at: usize,
        region: &mut Region,
        work: &mut Work,
    ) -> Result<Option<(usize, usize)>, String> {
        let mut limit = FREE;
        loop {
            let mut bounds = MatchParam::default();
            bounds.set_retry_limit_in_match(limit);
            bounds.set_match_stack_limit(STACK);
            let none = SearchOptions::SEARCH_OPTION_NONE;
            match self.regex.search_with_param(text, at, text.len(), none, Some(region), bounds) {
                Ok(found) => return Ok(found.and_then(|_| region.pos(0))),
                Err(error) if error.code() == RETRIES_OVER => {
                    work.spend(limit)?;
                    limit = limit.saturating_mul(16);
                }
                Err(error) if error.code() == STACK_OVER => {
                    return Err(
                        "the text has a run of similar characters that is too long for the tokenizer's pattern"
                            .to_owned(),
                    );
                }
                Err(error) => return Err(format!("a pattern fails on this text: {}", error.description())),
            }
        }
    }
}

/// Shortcuts through the published pattern, with the same matches. The pattern takes quadratic time for numbers (it looks for "1st" from every digit, and reads
/// the number to its end each time), and tries all alternatives at characters that begin no match.
#[derive(Debug)]
struct Shortcut {
    numbers: Regex,
    others: Regex,
}

impl Shortcut {
    /// A digit begins a match only as `\p{N}+(?:st|nd|rd|th)` or `\p{N}{1,1}`, tried in this order. A character that is neither letter, number, punctuation,
    /// symbol nor white space begins a match only as `[^\r\n\p{L}\p{N}]?\p{L}+`, so right before a letter.
    const PATTERN: &str = concat!(
        r##"(\\n(?:e(?:wcommand|wenvironment|wline|wpage|wtheorem)|abla|e|eq|geq|gtr|leq|exists|ocite|oindent|olinebreak|o"##,
        r##"number|opagebreak|ormalsize|ot(?!(?:ag\b|\b)))\b|\n+|\\n(?!\b)|[ \t]?(?:==|!=|<=|>=|<<|>>|\*\*|//|\+=|-=|\*=|/"##,
        r##"=|%=|&=|\|=|\^=|<<=|>>=|\*\*=|//=|:=|\+\+|--|[\p{L}]+['’ʼ](?:\p{L}+)\b|\\[a-zA-Z]+|\\{|\\}|{|}|\\\[|\\\]|\[|\]"##,
        r##"|\(|\)|_+|\||\+|-|\*|—|-|=|[.,!?;()]|\$\$?|`+|\"+|\#+|\p{N}+(?:st|nd|rd|th)|\p{N}{1,1}|[^\r\n\p{L}\p{N}]?\p{L}"##,
        r##"+|[\p{P}\p{S}]+)|\s+|\p{So})"##,
    );

    /// Endings of ordinal numbers.
    const ORDINAL: [&str; 4] = ["st", "nd", "rd", "th"];

    fn new() -> Result<Self, onig::Error> {
        Ok(Self { numbers: Regex::new(r"\p{N}++")?, others: Regex::new(r"[^\p{L}\p{N}\p{P}\p{S}\s]++")? })
    }

    /// Finds the matches of a number at `at`, if there is one; returns the index after it.
    fn skip(&self, text: &str, at: usize, found: &mut impl FnMut(Range<usize>)) -> usize {
        if !text[at..].starts_with(char::is_numeric) {
            return at;
        }
        let Some(end) = run(&self.numbers, text, at) else { return at };
        if let Some(ending) = Self::ORDINAL.iter().find(|ending| text[end..].starts_with(**ending)) {
            found(at..end + ending.len());
            return end + ending.len();
        }
        text[at..end].char_indices().for_each(|(digit, c)| found(at + digit..at + digit + c.len_utf8()));
        end
    }

    /// First index from `at` on at which a match may begin.
    fn next_start(&self, text: &str, at: usize) -> usize {
        let plain = |c: char| c.is_alphabetic() || c.is_whitespace() || c.is_ascii_graphic();
        match text[at..].chars().next() {
            Some(c) if !plain(c) => run(&self.others, text, at)
                .and_then(|end| text[at..end].char_indices().next_back())
                .map_or(at, |(last, _)| at + last),
            _ => at,
        }
    }
}

/// End of the run of characters of a class that begins at `at`.
fn run(class: &Regex, text: &str, at: usize) -> Option<usize> {
    let length = class.match_with_options(text, at, SearchOptions::SEARCH_OPTION_NONE, None)?;
    (length > 0).then_some(at + length)
}
