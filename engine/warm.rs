//! Warm-up: finishes pipelines before they are needed.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use crate::device::{Device, Engine};
use crate::error::Result;
use crate::plan::Plan;

/// Seconds that a driver is estimated to take for a pipeline that it compiles at its first dispatch.
const COMPILING: f64 = 0.3;

/// Counts a call of [`Device::warming`] while it runs, even if it panics.
struct Counted<'a>(&'a AtomicU32);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Device {
    /// Makes the driver finish the pipelines of all plans that `work` makes, and waits for it.
    ///
    /// Some drivers compile at the first dispatch, software drivers among them. Each launch is dispatched once without workgroups, so nothing is computed.
    ///
    /// # Errors
    /// Those of `work`; a fault of the device.
    pub fn warming<T, E: From<crate::Error>>(&self, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        self.warmers().fetch_add(1, Relaxed);
        let counted = Counted(self.warmers());
        let made = work()?;
        drop(counted);
        self.wait_idle()?;
        Ok(made)
    }

    /// Dispatches each launch of a plan without workgroups, during [`Self::warming`].
    pub(crate) fn warm(&self, plan: &Plan) -> Result<()> {
        let Engine::Gpu(gpu) = self.engine() else { return Ok(()) };
        if self.warmers().load(Relaxed) == 0 {
            return Ok(());
        }
        let pipelines = u32::try_from(plan.pipelines().count()).unwrap_or(u32::MAX);
        gpu.submit(self.tally(), || {
            let mut encoder =
                gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("warm-up") });
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for dispatch in &plan.prepared().dispatches {
                pass.set_pipeline(&dispatch.pipeline.pipeline);
                pass.set_bind_group(0, &dispatch.bind_group, &[]);
                pass.dispatch_workgroups(0, 1, 1);
            }
            drop(pass);
            Some(encoder.finish())
        })?;
        gpu.watchdog.estimate(COMPILING * f64::from(pipelines));
        Ok(())
    }
}
