//! Overheads of using a device: launches, encoding, submissions and read-backs.

use std::time::Duration;

use ruminate_shaders::{Caps, Launch, ceiling};

use super::{Bench, Sample, blank, indirect};
use crate::buffer::Buffer;
use crate::clock::Instant;
use crate::device::Device;
use crate::error::Result;

/// Launches that are timed together.
pub(super) const LAUNCHES: u32 = 256;
/// Minimum time of one measurement.
const LEAST: Duration = Duration::from_millis(50);

/// Overheads in seconds. Each launch is a single workgroup that copies 1 KiB.
#[derive(Clone, Debug, PartialEq)]
pub struct Costs {
    /// One launch among others that do not depend on each other.
    pub independent: Sample,
    /// One launch that needs the result of the previous one.
    pub dependent: Sample,
    /// One indirect launch, whose number of workgroups is read from memory, among others that write the same buffer. `None` if not measured.
    pub indirect: Option<Sample>,
    /// One indirect launch with wgpu's validation of the number of workgroups. `None` if not measured.
    pub indirect_checked: Option<Sample>,
    /// Host time to encode and submit one launch.
    pub encode: Sample,
    /// Submitting one launch and waiting until the host knows that it is done.
    pub submission: Sample,
    /// Reading 4 bytes back.
    pub read_back: Sample,
}

/// Makes small launches, each of which needs the result of the previous one.
pub(crate) fn chain(device: &Device) -> Result<Vec<(Launch, Vec<Buffer>)>> {
    let copy = ceiling::copy(&Caps::WEBGPU, 1);
    let there = blank(device, &copy)?;
    let back = there.iter().rev().cloned().collect::<Vec<_>>();
    Ok([there, back].into_iter().cycle().take(LAUNCHES as usize).map(|pair| (copy.clone(), pair)).collect())
}

impl Costs {
    /// Measures only [`Self::independent`]: the seconds of one launch among others that do not depend on each other.
    ///
    /// # Errors
    /// A fault of the device.
    pub fn launch(device: &Device, repetitions: u32) -> Result<Sample> {
        let copy = ceiling::copy(&Caps::WEBGPU, 1);
        let there = blank(device, &copy)?;
        let apart = (0..LAUNCHES).map(|_| Ok((copy.clone(), vec![there[0].clone(), blank(device, &copy)?.remove(1)])));
        Bench::new(device, &apart.collect::<Result<Vec<_>>>()?)?.sample(repetitions, LEAST)
    }

    /// Measures all overheads of a device. Indirect launches are measured on further devices of the same adapter, because the wgpu instance decides
    /// whether they are validated. They are left out if those devices cannot be opened.
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
