//! What using a device costs, beside the work itself.

use std::time::Duration;

use ruminate_shaders::{Caps, Launch, ceiling};

use super::{Bench, Sample, blank, indirect};
use crate::buffer::Buffer;
use crate::clock::Instant;
use crate::device::Device;
use crate::error::Result;

/// Launches that are timed together.
pub(super) const LAUNCHES: u32 = 256;
/// How long one measurement takes at least.
const LEAST: Duration = Duration::from_millis(50);

/// Seconds, of launches of a single workgroup that copies 1 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// Of one launch among others that don't wait for each other.
    pub independent: Sample,
    /// Of one launch that needs the result of the last.
    pub dependent: Sample,
    /// Of one such launch, its number of workgroups read from memory.
    pub indirect: Option<Sample>,
    /// Of the same with wgpu's check of that number.
    pub indirect_checked: Option<Sample>,
    /// The host's time to encode and submit one launch.
    pub encode: Sample,
    /// From a submission of one launch to the host's knowing that it is done.
    pub submission: Sample,
    /// Of reading 4 bytes.
    pub read_back: Sample,
}

/// Small launches, each of which needs the result of the last.
pub(crate) fn chain(device: &Device) -> Result<Vec<(Launch, Vec<Buffer>)>> {
    let copy = ceiling::copy(&Caps::WEBGPU, 1);
    let there = blank(device, &copy)?;
    let back = there.iter().rev().cloned().collect::<Vec<_>>();
    Ok([there, back].into_iter().cycle().take(LAUNCHES as usize).map(|pair| (copy.clone(), pair)).collect())
}

impl Costs {
    /// Measures only what one launch takes among others that don't wait for each other, in seconds.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn launch(device: &Device, repetitions: u32) -> Result<Sample> {
        let copy = ceiling::copy(&Caps::WEBGPU, 1);
        let there = blank(device, &copy)?;
        let apart = (0..LAUNCHES).map(|_| Ok((copy.clone(), vec![there[0].clone(), blank(device, &copy)?.remove(1)])));
        Bench::new(device, &apart.collect::<Result<Vec<_>>>()?)?.sample(repetitions, LEAST)
    }

    /// Measures a device. Indirect launches are measured on further devices of the same adapter, since whether wgpu checks them is a matter of the
    /// instance; they are left out if those cannot be opened.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn measure(device: &Device, repetitions: u32) -> Result<Self> {
        let copy = ceiling::copy(&Caps::WEBGPU, 1);
        let there = blank(device, &copy)?;
        let single = Bench::new(device, &[(copy, there)])?;
        let chain = Bench::new(device, &chain(device)?)?;
        let timed = |run: &mut dyn FnMut() -> Result<()>, per: f64| {
            let times = (0..repetitions.max(1) * 5).map(|_| {
                let start = Instant::now();
                run()?;
                let seconds = start.elapsed().as_secs_f64() / per;
                single.time(1)?;
                Ok(seconds)
            });
            Ok(Sample::new(times.collect::<Result<_>>()?))
        };
        let indirect = |checked| indirect::sample(device, checked, repetitions);
        Ok(Self {
            independent: Self::launch(device, repetitions)?,
            dependent: chain.sample(repetitions, LEAST)?,
            indirect: indirect(false),
            indirect_checked: indirect(true),
            encode: timed(&mut || device.execute(&chain.plan, &[], &[]).map(drop), LAUNCHES.into())?,
            submission: timed(&mut || single.time(1).map(drop), 1.0)?,
            read_back: timed(&mut || device.read(&single.mark, 0..4).map(drop), 1.0)?,
        })
    }
}
