//! A conversation with a checkpoint's chat template, one message per line: `cargo run --release --example chat -- FOLDER`.

use std::io::{BufRead, Write};

use ruminate::{Device, Error, GenerateOptions, LoadOptions, Message, Model, OpenOptions, SessionOptions, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: chat FOLDER (of a model with a chat template)")?;
    let device = Device::open(&OpenOptions::default())?;
    let model = Model::open(&Source::dir(folder)?, &device, LoadOptions::default())?;
    let (template, tokenizer) = (model.chat().ok_or(Error::NoChat)?, model.tokenizer());

    // The token after an answer in the template is not an end token of every checkpoint.
    let mut end_tokens = tokenizer.eos().to_vec();
    end_tokens.extend(template.end_of_answer(tokenizer)?);
    let options = GenerateOptions { end_tokens: Some(end_tokens), ..model.generate_options()? };

    let mut session = model.session(SessionOptions::default())?;
    let mut held: Vec<u32> = Vec::new();
    let mut messages = Vec::new();
    for line in std::io::stdin().lock().lines() {
        messages.push(Message { role: "user".to_owned(), content: line? });
        let tokens = template.encode(tokenizer, &messages, true, false)?;
        // Keeps the cache of the common prefix and computes the rest, at least the last token.
        let same = held.iter().zip(&tokens).take_while(|(held, token)| held == token).count();
        let kept = same.min(tokens.len() - 1).min(session.position() as usize);
        session.rewind(u32::try_from(kept)?)?;
        let mut answer = String::new();
        held.clone_from(&tokens);
        for piece in session.generate(&tokens[kept..], &options)? {
            let piece = piece?;
            print!("{}", piece.text);
            std::io::stdout().flush()?;
            answer.push_str(&piece.text);
            held.push(piece.token);
        }
        println!();
        messages.push(Message { role: "assistant".to_owned(), content: answer });
    }
    Ok(())
}
