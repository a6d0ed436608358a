//! Token ids in, token ids out, with weights that the application provides: everything that a build without default features does.
//!
//! ```console
//! $ cargo run --release -p ruminate --no-default-features --example tokens -- model/demo 1 2 3
//! ```

use ruminate::{Assets, Device, GenerateOptions, LoadOptions, Model, OpenOptions, SessionOptions, Source};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let folder = words.next().ok_or("usage: tokens FOLDER ID…")?;
    let prompt = words.map(|word| word.parse()).collect::<Result<Vec<u32>, _>>()?;

    // An app would take these from its own assets.
    let mut assets = Assets::new(&folder);
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if name.ends_with(".json") || name.ends_with(".safetensors") {
            assets.insert(name, std::fs::read(&path)?);
        }
    }

    let device = Device::open(&OpenOptions::default())?;
    let model = Model::open(&Source::from(assets), &device, LoadOptions::default())?;
    let mut session = model.session(SessionOptions { seed: 7, ..SessionOptions::default() })?;
    let options = GenerateOptions { steps: Some(16), max_tokens: Some(8), ..model.generate_options()? };
    let pieces = session.generate(&prompt, &options)?.collect::<Result<Vec<_>, _>>()?;
    println!("{:?}", pieces.iter().map(|piece| piece.token).collect::<Vec<_>>());
    Ok(())
}
