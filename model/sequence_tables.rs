//! What a device knows of sequences: their seeds and depths, how their tokens are chosen, when their rows leave, and what they have said.

use ruminate_engine::{Buffer, Device};
use ruminate_shaders::Sequence;
use ruminate_shaders::exit::ExitParams;
use ruminate_shaders::recur::{NoiseRule, SequenceNoise};
use ruminate_shaders::sample::Sampler;
use ruminate_shaders::sample::penalise::{Penalties, breaker_words};

use crate::error::Error;
use crate::sampling::Choosing;

/// Tables of the sequences, shared by all plan caches of a session.
pub(crate) struct SequenceTables {
    pub(crate) sequences: Buffer,
    pub(crate) samplers: Buffer,
    /// When rows leave, if they are checked.
    pub(crate) exit_params: Buffer,
    /// What noise states get, if they get some.
    pub(crate) sequence_noise: Buffer,
    pub(crate) history: Buffer,
    /// Made when the first generation asks for them.
    pub(crate) penalties: Option<PenaltyTables>,
    /// Sequences.
    count: u64,
}

impl SequenceTables {
    /// For so many sequences of up to `context` positions.
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

    /// Writes what seeds and depth of a sequence are.
    pub(crate) fn write_sequence(&self, device: &Device, index: u32, entry: Sequence) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<Sequence>() as u64;
        Ok(device.write(&self.sequences, offset, bytemuck::bytes_of(&entry))?)
    }

    /// Writes when rows of a sequence leave.
    pub(crate) fn write_exit_params(&self, device: &Device, index: u32, exit_params: ExitParams) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<ExitParams>() as u64;
        Ok(device.write(&self.exit_params, offset, bytemuck::bytes_of(&exit_params))?)
    }

    /// Writes what noise states of a sequence get.
    pub(crate) fn write_noise(&self, device: &Device, index: u32, rule: Option<NoiseRule>) -> Result<(), Error> {
        let offset = u64::from(index) * size_of::<SequenceNoise>() as u64;
        let entry = rule.map_or(SequenceNoise::NOTHING, SequenceNoise::from);
        Ok(device.write(&self.sequence_noise, offset, bytemuck::bytes_of(&entry))?)
    }

    /// Makes the tables that logits are edited by, which edit nothing yet.
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

    /// Writes what tokens of a sequence are chosen by.
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

/// What logits are edited by, per sequence.
pub(crate) struct PenaltyTables {
    pub(crate) rules: Buffer,
    /// `[sequences, vocab]`.
    pub(crate) bias: Buffer,
    /// A bit for each token `[sequences, vocab/32]`.
    pub(crate) breakers: Buffer,
}
