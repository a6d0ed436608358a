//! A loaded model.

use std::sync::Arc;
use std::time::Duration;

use ruminate_engine::clock::Instant;
use ruminate_engine::{Buffer, Device};
use ruminate_shaders::Dtype;

use crate::arch::{Looped, Spec, Weights};
use crate::chat::ChatTemplate;
use crate::checkpoint::{Checkpoint, UnusedTensor};
use crate::error::Error;
use crate::generation_config::GenerationConfig;
use crate::kv::KvCache;
use crate::memory_budget;
use crate::options::{GenerateOptions, LoadOptions, SessionOptions};
use crate::parallel_decoding::ParallelSites;
use crate::plans::{Next, PlanInputs};
use crate::precision::{Dtypes, Group};
use crate::sequence_tables::SequenceTables;
use crate::session::Session;
use crate::source::Source;
use crate::tokenizer::Tokenizer;

/// A model with its weights on a device. Cheap to clone; sessions keep it alive.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    device: Device,
    spec: Spec,
    generation: GenerationConfig,
    tokenizer: Tokenizer,
    chat: Option<ChatTemplate>,
    looped: Looped,
    fingerprint: Vec<u8>,
    unused: Vec<UnusedTensor>,
    load_time: Duration,
}

impl Model {
    /// Loads a checkpoint in the Hugging Face layout. Everything is checked before anything is uploaded. After an error, nothing stays on the device.
    ///
    /// # Errors
    /// Name the file, field or tensor and what is expected; [`Error::Cancelled`] once [`LoadOptions::cancel`] is set; [`Error::Engine`] if the device fails.
    pub fn open(source: &Source, device: &Device, options: LoadOptions<'_>) -> Result<Self, Error> {
        let begin = Instant::now();
        let cancel = options.cancel.clone();
        options.session.validate()?;
        cancel.check()?;
        let spec = Spec::open(source)?;
        let generation = GenerationConfig::open(source)?;
        let tokenizer = Tokenizer::open(source, &spec, &generation)?;
        let chat = ChatTemplate::open(source)?;
        cancel.check()?;
        let opened;
        let weights = match source {
            Source::Synthetic(made) => Weights::Synthetic(made),
            _ => {
                opened = Checkpoint::for_config(source, &spec)?;
                Weights::Stored(&opened)
            }
        };
        let asked = options.precision();
        let (dtypes, quantized) = match weights {
            Weights::Synthetic(_) => (asked.dtypes(&spec)?, false),
            Weights::Stored(checkpoint) => (checkpoint.dtypes(&spec, &asked)?, checkpoint.is_quantized()),
        };
        dtypes.check(&device.caps())?;
        if let Some(announce) = options.announce {
            announce(&memory_budget::wanted(&spec, dtypes, &options.session, &device.caps()).1);
        }
        if !options.overcommit {
            memory_budget::check_model(&spec, (dtypes, !quantized), &options.session, device)?;
        }
        let total = spec.weight_bytes_on(dtypes, &device.caps());
        let mut done = 0;
        let mut progress = options.progress;
        let loaded = cancel.check().and_then(|()| {
            let looped = Looped::load(device, &spec, weights, dtypes, &mut |bytes| {
                done += bytes;
                if let Some(progress) = &mut progress {
                    progress(done, total.max(done));
                }
                cancel.check()
            })?;
            // The sampled parts of the files have just been read, so most of them are cached by the system.
            Ok((looped, weights.fingerprint(&spec)?))
        });
        // wgpu frees dropped buffers only when it is polled after the device is done with them. The first error is returned.
        let (looped, fingerprint) = loaded.inspect_err(|_| drop(device.wait_idle()))?;
        let unused = match weights {
            Weights::Stored(checkpoint) => checkpoint.unused().to_vec(),
            Weights::Synthetic(_) => Vec::new(),
        };
        let device = device.clone();
        let load_time = begin.elapsed();
        let inner = Inner { device, spec, generation, tokenizer, chat, looped, fingerprint, unused, load_time };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Loads the embedded demo: a tiny model that shows the effect of depth.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device fails.
    #[cfg(feature = "demo")]
    pub fn demo(device: &Device, options: LoadOptions<'_>) -> Result<Self, Error> {
        Self::open(&crate::demo::source(), device, options)
    }

    /// Starts a session: a sequence with its KV cache.
    ///
    /// # Errors
    /// [`Error::Option`] if the options are invalid for this model, [`Error::Engine`] if the device fails.
    pub fn session(&self, options: SessionOptions) -> Result<Session, Error> {
        Session::new(self, options)
    }

    /// Specification of the model: its sizes and structure.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    /// Generation defaults of the checkpoint.
    #[must_use]
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.inner.generation
    }

    /// Generation options from the checkpoint's `generation_config.json`, with the library's defaults for everything else. [`GenerateOptions::default`] ignores
    /// the file. [`GenerationConfig::not_obeyed`] lists the file's fields that have no effect.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a field that would be used has a value that is not supported.
    pub fn generate_options(&self) -> Result<GenerateOptions, Error> {
        self.generate_options_but(&[])
    }

    /// Generation options as from [`Self::generate_options`], for a caller that replaces some fields of the file: those in `given`, such as `top_k`, may have
    /// unsupported values.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if any other field that would be used has a value that is not supported.
    pub fn generate_options_but(&self, given: &[&str]) -> Result<GenerateOptions, Error> {
        self.inner.generation.check_used(given)?;
        Ok(self.inner.generation.options(self.inner.spec.padded_vocab))
    }

    /// The tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.inner.tokenizer
    }

    /// The chat template, if the checkpoint has one.
    #[must_use]
    pub fn chat(&self) -> Option<&ChatTemplate> {
        self.inner.chat.as_ref()
    }

    /// Tensors of the checkpoint that the model does not read; see [`Checkpoint::unused`].
    #[must_use]
    pub fn unused_tensors(&self) -> &[UnusedTensor] {
        &self.inner.unused
    }

    /// The device that holds the weights.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// Dtype on the device of the core's matrices, which are most of what a token reads.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtypes().of(Group::Core)
    }

    /// Dtypes on the device of every group of matrices.
    #[must_use]
    pub fn dtypes(&self) -> Dtypes {
        self.inner.looped.dtypes()
    }

    /// Bytes of all matrices on the device.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.inner.looped.bytes()
    }

    /// Duration of loading, from the first file to the last weight.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.inner.load_time
    }

    /// Bytes of weights that one decoded token reads at `steps` steps.
    #[must_use]
    pub fn bytes_per_token(&self, steps: u32) -> u64 {
        self.inner.spec.weight_bytes_per_token(self.dtypes(), steps)
    }

    /// SHA-256 of a sample of the stored weights, or of the recipe of synthetic ones.
    pub(crate) fn fingerprint(&self) -> &[u8] {
        &self.inner.fingerprint
    }

    /// Uploads the rotary table: cosine and sine per position and pair of a context.
    pub(crate) fn rotary(&self, context: u32) -> Result<Buffer, Error> {
        self.inner.looped.rotary(&self.inner.device, context)
    }

    /// Inputs for the recording of plans.
    pub(crate) fn plan_inputs<'a>(
        &'a self,
        kv: &'a KvCache,
        tables: &'a SequenceTables,
        next: Option<&'a Next>,
        parallel_sites: Option<&'a ParallelSites>,
    ) -> PlanInputs<'a> {
        PlanInputs { device: &self.inner.device, looped: &self.inner.looped, kv, tables, next, parallel_sites }
    }
}
