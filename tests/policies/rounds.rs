//! Rounds that bring nothing: a host can look for something else between them.

use anyhow::Result;
use ruminate::{BatchOptions, Device, Event, GenerateOptions, LoadOptions, Model, StopReason};
use ruminate_tests::trial;

/// More tokens than a pass has rows.
const LONG: usize = 400;

#[trial(device, cpu)]
fn a_sequence_can_be_cancelled_in_the_midst_of_its_prompt(device: &Device) -> Result<()> {
    let model = Model::demo(device, LoadOptions::default())?;
    let mut batch = model.batch(BatchOptions::default())?;
    let prompt: Vec<u32> = (0..LONG).map(|place| 100 + place as u32 % 100).collect();
    let options = GenerateOptions { steps: Some(2), ..GenerateOptions::default() };
    let id = batch.add(&prompt, 1, &options)?;
    // The first call submits a round, the second one the next, and waits for the first.
    assert!(batch.wait_round()?.is_none() && batch.wait_round()?.is_none());
    assert!(!batch.is_idle() && batch.totals().running == 1);
    batch.cancel(id)?;
    assert_eq!((batch.totals().running, batch.totals().tokens), (0, 0));
    let event = batch.wait_round()?;
    let done = matches!(event, Some(Event::Done { id: ended, reason: StopReason::Cancelled, .. }) if ended == id);
    assert!(done, "{event:?}");
    let more = batch.wait()?;
    assert!(more.is_none(), "after the end: {more:?}");
    assert!(batch.is_idle());
    Ok(())
}
