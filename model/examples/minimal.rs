//! Generates a text with the demo model: `cargo run --release --example minimal -- "The ball is under cup D. Swap AD AE DE"`.

use std::io::Write;

use ruminate::{Device, GenerateOptions, LoadOptions, Model, OpenOptions, SessionOptions, demo};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompt = std::env::args().nth(1).unwrap_or_else(|| demo::PROMPTS[0].0.to_owned());
    let device = Device::open(&OpenOptions::default())?;
    let model = Model::demo(&device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 7, ..SessionOptions::default() })?;

    let options = GenerateOptions { steps: Some(16), max_tokens: Some(20), ..model.generate_options()? };
    print!("{prompt}");
    for piece in session.generate(&prompt, &options)? {
        print!("{}", piece?.text);
        std::io::stdout().flush()?;
    }
    println!();
    Ok(())
}
