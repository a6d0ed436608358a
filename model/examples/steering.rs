//! Steering: changes what a model predicts by adding a vector to its states during the recurrence.
//!
//! Two prompts are computed step by step, and the difference of their final states is a direction. Further runs add a multiple of it to the last token's state
//! after every step. `cargo run --release --example steering` prints each run's prediction.

use ruminate::trace::most_likely;
use ruminate::{Device, Error, LoadOptions, Model, OpenOptions, Session, SessionOptions, Specials, State, demo};

const STEPS: u32 = 16;

fn main() -> Result<(), Error> {
    let device = Device::open(&OpenOptions::default())?;
    let model = Model::demo(&device, LoadOptions::default())?;
    let n = model.spec().width as usize;
    let vocab = model.spec().padded_vocab as usize;

    // Runs a prompt and adds `amount · direction` to the last row after every step.
    let run = |prompt: &str, direction: &[f32], amount: f32| -> Result<(Session, Vec<f32>), Error> {
        let mut session = model.session(SessionOptions::default())?;
        let tokens = session.encode(prompt, Specials::Bos)?;
        session.begin(&tokens, STEPS, State::Seeded)?;
        session.iterate_with(STEPS, |_, states| {
            let last = states.len() - n;
            states[last..].iter_mut().zip(direction).for_each(|(state, &more)| *state += amount * more);
            Ok::<(), Error>(())
        })?;
        let states = session.states()?;
        Ok((session, states[states.len() - n..].to_vec()))
    };
    let says = |mut session: Session| -> Result<String, Error> {
        let outputs = session.read_out()?;
        let rows = outputs.statistics();
        let token = most_likely(&outputs.logits[outputs.logits.len() - vocab..], 1)[0];
        let entropy = rows.last().map_or(0.0, |row| row.entropy);
        Ok(format!("{:?}, entropy {entropy:.2} nats", session.model().tokenizer().decode(&[token], false)))
    };

    let first = demo::PROMPTS[0].0;
    let second = first.replacen("cup D", "cup B", 1);
    let (one, from) = run(first, &[], 0.0)?;
    let (other, to) = run(&second, &[], 0.0)?;
    let direction: Vec<f32> = to.iter().zip(&from).map(|(to, from)| to - from).collect();
    println!("{first}\n  predicts {}", says(one)?);
    println!("{second}\n  predicts {}", says(other)?);
    for amount in [0.25, 0.5, 1.0] {
        let (steered, _) = run(first, &direction, amount)?;
        println!("the first, with {amount} of the difference added after every step\n  predicts {}", says(steered)?);
    }
    Ok(())
}
