//! Tables of sequences on the device: seeds and depths, sampling options, exit parameters, noise and tokens.

use ruminate_engine::{Buffer, Device};
use ruminate_shaders::Sequence;
use ruminate_shaders::exit::ExitParams;
use ruminate_shaders::recur::{NoiseRule, SequenceNoise};
use ruminate_shaders::sample::Sampler;
use ruminate_shaders::sample::penalize::{Penalties, breaker_words};

use crate::error::Error;
use crate::sampling::Choosing;

/// Tables of all sequences of a store, shared by its plan caches.
pub(crate) struct SequenceTables {
    pub(crate) sequences: Buffer,
    pub(crate) samplers: Buffer,
    /// Exit parameters, if rows are checked.
    pub(crate) exit_params: Buffer,
    /// Noise of each sequence's states.
    pub(crate) sequence_noise: Buffer,
    pub(crate) history: Buffer,
    /// Created by the first generation that needs them.
    pub(crate) penalties: Option<PenaltyTables>,
    /// Number of sequences.
    count: u64,
}

impl SequenceTables {
    /// Creates tables for `sequences` sequences of up to `context` positions.
    pub(crate) fn new(device: &Device, sequences: u32, context: u32) -> Result<Self, Error> {
        let count = u64::from(sequences);
        Ok(Self {
            sequences: device.buffer("sequences", count * size_of::<Sequence>() as u64)?,
            samplers: device.buffer("samplers", count * size_of::<Sampler>() as u64)?,
            exit_params: device.buffer("exit parameters", count * size_of::<ExitParams>() as u64)?,
            sequence_noise: device.buffer("noise of sequences", count * size_of::<SequenceNoise>() as u64)?,
            history: device.buffer("history", count * u64::from(context) * 4)?,
            penalties: None,
            count,
        })
    }

    /// Writes the seeds and the depth of a sequence.
    pub(crate) fn write_sequence(&self, device: &Device, index: u32, entry: Sequence) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<Sequence>() as u64;
        Ok(device.write(&self.sequences, offset, bytemuck::bytes_of(&entry))?)
    }

    /// Writes the exit parameters of a sequence.
    pub(crate) fn write_exit_params(&self, device: &Device, index: u32, exit_params: ExitParams) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<ExitParams>() as u64;
        Ok(device.write(&self.exit_params, offset, bytemuck::bytes_of(&exit_params))?)
    }

    /// Writes the noise of a sequence's states.
    pub(crate) fn write_noise(&self, device: &Device, index: u32, rule: Option<NoiseRule>) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<SequenceNoise>() as u64;
        let entry = rule.map_or(SequenceNoise::NOTHING, SequenceNoise::from);
        Ok(device.write(&self.sequence_noise, offset, bytemuck::bytes_of(&entry))?)
    }

    /// Creates the tables for editing logits, which do not edit anything yet.
    pub(crate) fn make_penalties(&mut self, device: &Device, vocab: u32) -> Result<(), Error> {
        if self.penalties.is_none() {
            let none = vec![Penalties::NONE; self.count as usize];
            let rules = device.buffer("penalties", self.count * size_of::<Penalties>() as u64)?;
            device.write(&rules, 0, bytemuck::cast_slice(&none))?;
            let bias = device.buffer("bias", self.count * u64::from(vocab) * 4)?;
            let breakers = device.buffer("breakers", self.count * u64::from(breaker_words(vocab)) * 4)?;
            self.penalties = Some(PenaltyTables { rules, bias, breakers });
        }
        Ok(())
    }

    /// Writes the sampling options of a sequence.
    pub(crate) fn write_choosing(
        &mut self,
        device: &Device,
        index: u32,
        choosing: &Choosing,
        vocab: u32,
    ) -> Result<(), Error> {
        let index = u64::from(index);
        device.write(&self.samplers, index * size_of::<Sampler>() as u64, bytemuck::bytes_of(&choosing.sampler()))?;
        let words = u64::from(breaker_words(vocab));
        if choosing.edits() {
            self.make_penalties(device, vocab)?;
        }
        if let Some(tables) = &self.penalties {
            let rule = choosing.penalties();
            device.write(&tables.rules, index * size_of::<Penalties>() as u64, bytemuck::bytes_of(&rule))?;
            device.write(&tables.bias, index * u64::from(vocab) * 4, bytemuck::cast_slice(&choosing.bias(vocab)))?;
            device.write(&tables.breakers, index * words * 4, bytemuck::cast_slice(&choosing.breakers(vocab)))?;
        }
        Ok(())
    }
}

/// Tables for editing logits, per sequence.
pub(crate) struct PenaltyTables {
    pub(crate) rules: Buffer,
    /// `[sequences, vocab]`.
    pub(crate) bias: Buffer,
    /// One bit per token, set for DRY breakers, `[sequences, vocab/32]`.
    pub(crate) breakers: Buffer,
}
