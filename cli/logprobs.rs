//! Prints log-probabilities: a line per token, or JSON.

use ruminate::{Piece, Tokenizer};
use serde_json::{Value, json};

/// Width of the column for the chosen token; longer tokens shift the rest of the line.
const WIDTH: usize = 14;

/// Line for a token: its text, log-probability and probability, then the most likely tokens.
pub(crate) fn line(piece: &Piece, tokenizer: &Tokenizer) -> String {
    let text = |token| spelled(token, tokenizer);
    let chosen = piece.logprob.unwrap_or(f32::NAN);
    // Adding 0.0 turns a rounded -0.0 into 0.0.
    let shown = (chosen * 1e4).round() / 1e4 + 0.0;
    let mut line = format!("{:<WIDTH$} {shown:>9.4} {:>8}", text(piece.token), percent(chosen));
    for &(token, logprob) in &piece.top {
        let mark = if token == piece.token { "*" } else { " " };
        line.push_str(&format!("  {mark}{} {}", text(token), percent(logprob)));
    }
    line
}

/// Heading of the columns.
pub(crate) fn heading(count: u32) -> String {
    let ranked = if count == 0 { String::new() } else { format!("  the {count} most likely, * chosen") };
    format!("{:<WIDTH$} {:>9} {:>8}{ranked}", "token", "logprob", "")
}

/// Adds `logprob` and `top` to the JSON object of a token.
pub(crate) fn add(object: &mut Value, piece: &Piece, tokenizer: &Tokenizer) {
    let Some(logprob) = piece.logprob else { return };
    let entry = |&(token, logprob): &(u32, f32)| json!({ "token": token, "text": tokenizer.decode(&[token], false), "logprob": logprob });
    object["logprob"] = json!(logprob);
    object["top"] = piece.top.iter().map(entry).collect();
}

/// Quoted text of a token, with line breaks and other control characters escaped.
fn spelled(token: u32, tokenizer: &Tokenizer) -> String {
    format!("{:?}", tokenizer.decode(&[token], false))
}

/// Probability in percent, in scientific notation below 0.01 %.
fn percent(logprob: f32) -> String {
    let percent = f64::from(logprob).exp() * 100.0;
    if percent >= 0.01 { format!("{percent:.2} %") } else { format!("{percent:.0e} %") }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn probabilities_are_rounded_to_percent() {
        assert_eq!([0.0_f32, -1.0, -9.0, -12.0].map(percent), ["100.00 %", "36.79 %", "0.01 %", "6e-4 %"]);
    }
}
