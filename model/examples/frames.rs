//! Several sequences in a frame loop: characters of a game talk while 60 frames a second are drawn.
//!
//! `cargo run --release --example frames`

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ruminate::{BatchOptions, Device, Event, GenerateOptions, LoadOptions, Model, OpenOptions, demo};

/// Duration of a frame, and the share of it for generation.
const FRAME: Duration = Duration::from_micros(16_667);
const BUDGET: Duration = Duration::from_millis(4);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::open(&OpenOptions::default())?;
    let model = Model::demo(&device, LoadOptions::default())?;
    let mut batch = model.batch(BatchOptions { sequences: 4, ..BatchOptions::default() })?;
    let options = GenerateOptions { steps: Some(16), max_tokens: Some(20), ..model.generate_options()? };
    let mut said = HashMap::new();
    for (seed, (prompt, _)) in (0..).zip(demo::PROMPTS) {
        said.insert(batch.add(*prompt, seed, &options)?, String::new());
    }

    let mut frames = 0;
    while !batch.is_idle() {
        let next = Instant::now() + FRAME;
        draw();
        // Each call submits at most one piece of work and returns at most one event.
        while let Some(event) = batch.step(BUDGET)? {
            match event {
                Event::Token { id, piece } => said.entry(id).or_default().push_str(&piece.text),
                Event::Done { id, reason, statistics } => {
                    println!("{id}: {:?} ({reason:?}, {} tokens)", said[&id], statistics.tokens);
                }
                Event::Failed { id, error } => eprintln!("{id}: {error}"),
                _ => {}
            }
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        frames += 1;
    }
    println!("{frames} frames, {} passes over the core for {} tokens", batch.totals().passes, batch.totals().tokens);
    Ok(())
}

/// Draws a frame.
fn draw() {}
