//! Execution: encodes a plan's launches and submits them, without creating objects and without waiting.
//!
//! Launches of one submission share one compute pass; wgpu puts the barriers between them. A submission ends when the
//! launches in it are assumed to take as long as the device's kind allows.

use std::sync::PoisonError;

use crate::buffer::Buffer;
use crate::counters::{Tally, add};
use crate::device::{Device, Engine};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::plan::{Dispatch, Plan};
use crate::readback::ReadBack;

/// See [`Device::execute`].
pub(crate) fn execute(device: &Device, plan: &Plan, counts: &[u32], reads: &[&Buffer]) -> Result<Option<ReadBack>> {
    plan.check(device, counts)?;
    reads.iter().try_for_each(|buffer| device.check_owner(buffer))?;
    let _turn = plan.turn.lock().unwrap_or_else(PoisonError::into_inner);
    match device.engine() {
        Engine::Cpu(cpu) => {
            plan.walk(counts, &mut |index| cpu.call(device.tally(), &plan.calls[index]))?;
            if reads.is_empty() {
                return Ok(None);
            }
            let results = reads.iter().map(|buffer| device.content(buffer)).collect();
            Ok(Some(ReadBack::ready_now(device, results)))
        }
        Engine::Gpu(gpu) => {
            gpu.check()?;
            let total: u64 = reads.iter().map(|buffer| buffer.size()).sum();
            // Taken first: if there is no memory for the results, nothing has run yet.
            let staging = if reads.is_empty() { None } else { Some(gpu.staging.take(device, gpu, total)?) };
            let mut recorder = Recorder::new(gpu, device.tally());
            plan.walk(counts, &mut |index| recorder.launch(&plan.dispatches[index]))?;
            let Some(staging) = staging else {
                return recorder.submit().map(|_| None);
            };
            let submission = recorder.copy(reads, &staging)?;
            let sizes = reads.iter().map(|buffer| buffer.size()).collect();
            ReadBack::start(device, gpu, staging, sizes, submission).map(Some)
        }
    }
}

/// The submission under way.
struct Recorder<'a> {
    gpu: &'a Gpu,
    tally: &'a Tally,
    encoder: Option<wgpu::CommandEncoder>,
    /// The open pass; always dropped before the encoder is used again.
    pass: Option<wgpu::ComputePass<'static>>,
    seconds: f64,
    launches: u64,
}

impl<'a> Recorder<'a> {
    fn new(gpu: &'a Gpu, tally: &'a Tally) -> Self {
        Self { gpu, tally, encoder: None, pass: None, seconds: 0.0, launches: 0 }
    }

    /// Encodes a launch, behind a new submission if this one is full.
    fn launch(&mut self, dispatch: &Dispatch) -> Result<()> {
        if self.launches > 0 && self.seconds + dispatch.seconds > self.gpu.rates.submission_seconds {
            self.submit()?;
        }
        self.seconds += dispatch.seconds;
        self.launches += 1;
        let pass = match self.pass.take() {
            Some(pass) => pass,
            None => {
                let descriptor = wgpu::ComputePassDescriptor { label: Some("ruminate"), timestamp_writes: None };
                self.encoder()?.begin_compute_pass(&descriptor).forget_lifetime()
            }
        };
        encode(self.pass.insert(pass), dispatch);
        Ok(())
    }

    fn encoder(&mut self) -> Result<&mut wgpu::CommandEncoder> {
        let encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => {
                let descriptor = wgpu::CommandEncoderDescriptor { label: Some("ruminate") };
                self.gpu
                    .guard(|| "a command encoder".to_owned(), || self.gpu.device.create_command_encoder(&descriptor))?
            }
        };
        Ok(self.encoder.insert(encoder))
    }

    /// Submits what is encoded, if there is anything.
    fn submit(&mut self) -> Result<Option<wgpu::SubmissionIndex>> {
        let (pass, encoder) = (self.pass.take(), self.encoder.take());
        let Some(encoder) = encoder else { return Ok(None) };
        // Faults of the pass show when it ends, so it ends inside the scopes of the submission.
        let index = self.gpu.submit(self.tally, || {
            drop(pass);
            Some(encoder.finish())
        })?;
        add(&self.tally.launches, self.launches);
        (self.seconds, self.launches) = (0.0, 0);
        Ok(Some(index))
    }

    /// Copies buffers behind the last launch and submits.
    fn copy(mut self, reads: &[&Buffer], staging: &wgpu::Buffer) -> Result<wgpu::SubmissionIndex> {
        let sources: Vec<&wgpu::Buffer> = reads.iter().filter_map(|buffer| buffer.wgpu()).collect();
        let pass = self.pass.take();
        let gpu = self.gpu;
        let encoder = self.encoder()?;
        gpu.guard(
            || "copies for a read-back".to_owned(),
            || {
                drop(pass);
                let mut offset = 0;
                for source in sources {
                    encoder.copy_buffer_to_buffer(source, 0, staging, offset, source.size());
                    offset += source.size();
                }
            },
        )?;
        self.submit()?.ok_or_else(|| Error::ReadBack("nothing was submitted".to_owned()))
    }
}

/// Encodes one launch into a pass.
pub(crate) fn encode(pass: &mut wgpu::ComputePass<'_>, dispatch: &Dispatch) {
    let [x, y, z] = dispatch.workgroups;
    pass.set_pipeline(&dispatch.pipeline.pipeline);
    pass.set_bind_group(0, &dispatch.bind_group, &[]);
    pass.dispatch_workgroups(x, y, z);
}
