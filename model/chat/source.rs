//! Preparation of a template's text: replaces Hugging Face's extensions of the language, and bounds the work of the compiler itself.

use minijinja::machinery::{Span, Token, WhitespaceConfig, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Error, ErrorKind};

use super::guard;

/// Whitespace control around tags, as transformers sets it.
pub(super) const WHITESPACE: WhitespaceConfig =
    WhitespaceConfig { keep_trailing_newline: false, lstrip_blocks: true, trim_blocks: true };

/// Maximum length of a template in bytes; published ones have several thousand.
const MOST_BYTES: usize = 256 << 10;

/// Maximum number of tokens in one tag: the compiler recurses over an expression.
const MOST_TOKENS: usize = 1000;

/// Maximum number of branches of all conditions: the compiler recurses over them too.
const MOST_BRANCHES: usize = 500;

/// Keywords, which look like names but do not end a value.
const WORDS: [&str; 14] =
    ["and", "do", "elif", "else", "for", "if", "in", "is", "not", "or", "recursive", "set", "with", "call"];

/// Rewrites a template into one that renders the same text and compiles in bounded time.
///
/// `{% generation %}` only marks a model's answers, for training; a block that is always taken has the same effect. Operations on constants, which the compiler
/// would evaluate itself (`'a' * 100000000`), are deferred until the template is rendered. Tuples are marked as such, since the compiler treats them as lists.
pub(super) fn prepare(text: &str) -> Result<String, Error> {
    let text = &line_ends(text);
    let refused = |problem: String| Error::new(ErrorKind::SyntaxError, problem);
    if text.len() > MOST_BYTES {
        return Err(refused(format!("the template has {} bytes, more than {MOST_BYTES}", text.len())));
    }
    let mut edits: Vec<(usize, usize, String)> = Vec::new();
    let mut edit = |span: Span, length: usize, with: String| {
        edits.push((span.start_offset as usize, length, with));
    };
    let (mut in_tag, mut branches) = (0, 0);
    // Whether the previous tokens open a statement, and whether they end a value.
    let (mut first, mut after_value) = (false, false);
    // Open brackets, and whether names are being bound, as in `for (key, value) in`.
    let (mut brackets, mut binds) = (Vec::new(), false);
    // Whether the previous token opened a round bracket.
    let mut opened = false;
    for token in tokenize(text, false, SyntaxConfig, WHITESPACE) {
        let (token, span) = token?;
        in_tag = if matches!(token, Token::TemplateData(_)) { 0 } else { in_tag + 1 };
        branches += usize::from(first && token_is(&token, "elif"));
        if in_tag > MOST_TOKENS || branches > MOST_BRANCHES {
            let line = span.start_line;
            let most = format!("{MOST_TOKENS} tokens in a tag or {MOST_BRANCHES} branches in all");
            return Err(refused(format!(
                "the template is more complicated than allowed: it has more than {most} (line {line})"
            )));
        }
        match &token {
            Token::Ident(tag @ ("include" | "import" | "from" | "extends")) if first => {
                let line = span.start_line;
                return Err(refused(format!("`{tag}` on line {line}: a chat template cannot read other files")));
            }
            Token::Ident("generation") if first => edit(span, "generation".len(), "if true".to_owned()),
            Token::Ident("endgeneration") if first => edit(span, "endgeneration".len(), "endif".to_owned()),
            Token::Ident("for" | "set" | "with" | "call") if first => binds = true,
            Token::Ident("in") | Token::Assign if brackets.is_empty() => binds = false,
            Token::BlockEnd | Token::VariableEnd => {
                binds = false;
                brackets.clear();
            }
            Token::ParenOpen => brackets.push(if after_value || binds { Bracket::Other } else { Bracket::Round }),
            Token::BracketOpen | Token::BraceOpen => brackets.push(Bracket::Other),
            Token::BracketClose | Token::BraceClose => drop(brackets.pop()),
            Token::Comma => {
                if let Some(bracket @ Bracket::Round) = brackets.last_mut() {
                    *bracket = Bracket::Tuple;
                }
            }
            Token::ParenClose => {
                let bracket = brackets.pop();
                let empty = opened && matches!(bracket, Some(Bracket::Round));
                if empty || matches!(bracket, Some(Bracket::Tuple)) {
                    edit(span, 1, format!(")|{}", guard::TUPLE));
                }
            }
            _ => {}
        }
        let operator = matches!(&token, Token::Mul | Token::Pow | Token::Mod | Token::FloorDiv | Token::Tilde)
            || matches!(&token, Token::Ident("and" | "or"));
        if operator && after_value {
            edit(span, 0, format!("|{} ", guard::SAME));
        }
        in_tag = if matches!(token, Token::VariableEnd | Token::BlockEnd) { 0 } else { in_tag };
        first = matches!(token, Token::BlockStart);
        opened = matches!(token, Token::ParenOpen);
        after_value = matches!(
            token,
            Token::Str(_)
                | Token::String(_)
                | Token::Int(_)
                | Token::Int128(_)
                | Token::Float(_)
                | Token::ParenClose
                | Token::BracketClose
                | Token::BraceClose
        ) || matches!(token, Token::Ident(name) if !WORDS.contains(&name));
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for (start, length, with) in edits {
        out.push_str(&text[done..start]);
        out.push_str(&with);
        done = start + length;
    }
    out.push_str(&text[done..]);
    Ok(out)
}

/// An open bracket.
enum Bracket {
    /// Bracket of a call, a list, a map, or names that are bound.
    Other,
    /// Round bracket, so far without a comma.
    Round,
    /// Round bracket with a comma.
    Tuple,
}

/// Normalizes line ends as Jinja2 does: all become `\n`. Jinja2 keeps the one after `{% raw %}`, which takes two here because minijinja removes one.
fn line_ends(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(text.len());
    for (place, part) in text.split("%}\n").enumerate() {
        let opens = |before: &str| {
            let inside = before.rsplit("{%").next().unwrap_or_default();
            inside.len() < before.len() && inside.trim_start_matches(['-', '+']).trim() == "raw"
        };
        if place > 0 {
            let raw = opens(&out);
            out.push_str(if raw { "%}\n\n" } else { "%}\n" });
        }
        out.push_str(part);
    }
    out
}

fn token_is(token: &Token<'_>, word: &str) -> bool {
    matches!(token, Token::Ident(found) if *found == word)
}
