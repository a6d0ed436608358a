//! Rounds without events, between which a host can do other work.

use anyhow::Result;
use ruminate::{BatchOptions, Device, Event, GenerateOptions, LoadOptions, Model, StopReason};
use ruminate_tests::trial;

/// A number of tokens beyond the rows of a pass.
const LONG: usize = 400;

#[trial(device, cpu)]
fn sequence_can_be_cancelled_during_its_prompt(device: &Device) -> Result<()> {
    let model = Model::demo(device, LoadOptions::default())?;
    let mut batch = model.batch(BatchOptions::default())?;
    let prompt: Vec<u32> = (0..LONG).map(|place| 100 + place as u32 % 100).collect();
    let options = GenerateOptions { steps: Some(2), ..GenerateOptions::default() };
    let id = batch.add(&prompt, 1, &options)?;
    // The first call submits a round; the second one submits the next and waits for the first.
    assert!(batch.wait_round()?.is_none() && batch.wait_round()?.is_none());
    assert!(!batch.is_idle() && batch.totals().running == 1);
    batch.cancel(id)?;
    assert_eq!((batch.totals().running, batch.totals().tokens), (0, 0));
    let event = batch.wait_round()?;
    let done = matches!(event, Some(Event::Done { id: ended, reason: StopReason::Cancelled, .. }) if ended == id);
    assert!(done, "{event:?}");
    let more = batch.wait()?;
    assert!(more.is_none(), "an event after the end: {more:?}");
    assert!(batch.is_idle());
    Ok(())
}
