//! Sessions of the embedded demo, and prompts for it.

use anyhow::Result;
use ruminate::{GenerateOptions, LoadOptions, Model, Piece, Prompt, Sampling, Session};
use ruminate_engine::Device;

/// The embedded demo with the library's defaults.
///
/// # Errors
/// If it does not load.
pub fn demo_model(device: &Device) -> Result<Model> {
    Ok(Model::demo(device, LoadOptions::default())?)
}

/// `count` arbitrary token ids within the demo's vocabulary.
#[must_use]
pub fn prompt_of(count: u32) -> Vec<u32> {
    (0..count).map(|i| (i * 37 + i * i) % 400).collect()
}

/// Options for `tokens` greedy tokens, without end tokens.
#[must_use]
pub fn greedy(steps: u32, tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(steps),
        max_tokens: Some(tokens),
        sampling: Sampling::GREEDY,
        end_tokens: Some(Vec::new()),
        ..GenerateOptions::default()
    }
}

/// All pieces that a session generates after a prompt.
///
/// # Errors
/// If the request is refused or the device fails.
pub fn pieces_of<'a>(
    session: &mut Session,
    prompt: impl Into<Prompt<'a>>,
    options: &GenerateOptions,
) -> Result<Vec<Piece>> {
    Ok(session.generate(prompt, options)?.collect::<Result<_, _>>()?)
}

/// The tokens that a session generates after a prompt.
///
/// # Errors
/// If the request is refused or the device fails.
pub fn tokens_of<'a>(
    session: &mut Session,
    prompt: impl Into<Prompt<'a>>,
    options: &GenerateOptions,
) -> Result<Vec<u32>> {
    Ok(pieces_of(session, prompt, options)?.into_iter().map(|piece| piece.token).collect())
}
