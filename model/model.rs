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

/// A model whose weights are resident on a device. Cheap to clone; sessions keep it alive.
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
    /// Loads a checkpoint in the Hugging Face layout. Everything is checked before anything is uploaded. If it fails, nothing stays on the device.
    ///
    /// # Errors
    /// Says which file, field or tensor is wrong, and what would be right; [`Error::Cancelled`] once [`LoadOptions::cancel`] is set; [`Error::Engine`] if the
    /// device fails.
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
        let (dtypes, quantised) = match weights {
            Weights::Synthetic(_) => (asked.dtypes(&spec)?, false),
            Weights::Stored(checkpoint) => (checkpoint.dtypes(&spec, &asked)?, checkpoint.is_quantised()),
        };
        dtypes.check(&device.caps())?;
        if let Some(announce) = options.announce {
            announce(&memory_budget::wanted(&spec, dtypes, &options.session, &device.caps()).1);
        }
        if !options.overcommit {
            memory_budget::check_model(&spec, (dtypes, !quantised), &options.session, device)?;
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
            // Once the files have been read, most of what it looks at is in memory.
            Ok((looped, weights.fingerprint(&spec)?))
        });
        // wgpu frees what was dropped once the device is done with it and is asked. The first error counts.
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

    /// Loads the embedded demo: a tiny model that shows what depth is for.
    ///
    /// # Errors
    /// [`Error::Engine`] if the device fails.
    #[cfg(feature = "demo")]
    pub fn demo(device: &Device, options: LoadOptions<'_>) -> Result<Self, Error> {
        Self::open(&crate::demo::source(), device, options)
    }

    /// Starts a session: a sequence with its cache.
    ///
    /// # Errors
    /// [`Error::Option`] if the options make no sense for this model, [`Error::Engine`] if the device fails.
    pub fn session(&self, options: SessionOptions) -> Result<Session, Error> {
        Session::new(self.clone(), options)
    }

    /// The model's sizes, and how it is built.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.inner.spec
    }

    /// The generation defaults that come with the checkpoint.
    #[must_use]
    pub fn generation_config(&self) -> &GenerationConfig {
        &self.inner.generation
    }

    /// What to generate, as the checkpoint's `generation_config.json` has it, and by the library's defaults where it says nothing: to begin with, and to
    /// change as one likes. [`GenerateOptions::default`] knows nothing of the file. What of it is not obeyed, [`GenerationConfig::not_obeyed`] says.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if a field that would be used has a value that is not supported.
    pub fn generate_options(&self) -> Result<GenerateOptions, Error> {
        self.generate_options_but(&[])
    }

    /// The same for a caller that sets some fields of the file itself: the values of those in `given`, such as `top_k`, need not be supported.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if another field that would be used has a value that is not supported.
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

    /// Tensors of the checkpoint that the model does not read, as [`Checkpoint::unused`] has them.
    #[must_use]
    pub fn unused_tensors(&self) -> &[UnusedTensor] {
        &self.inner.unused
    }

    /// The device that holds the weights.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// How the matrices of the recurrence are stored on the device: most of what a token reads.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtypes().of(Group::Core)
    }

    /// How every group of matrices is stored on the device.
    #[must_use]
    pub fn dtypes(&self) -> Dtypes {
        self.inner.looped.dtypes()
    }

    /// Bytes of all matrices on the device.
    #[must_use]
    pub fn weight_bytes(&self) -> u64 {
        self.inner.looped.bytes()
    }

    /// How long loading took, from the first file to the last weight.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.inner.load_time
    }

    /// Bytes of weights that one decoded token reads at a number of steps.
    #[must_use]
    pub fn bytes_per_token(&self, steps: u32) -> u64 {
        self.inner.spec.weight_bytes_per_token(self.dtypes(), steps)
    }

    /// SHA-256 of a sample of the weights as they are stored, or of what they are made from.
    pub(crate) fn fingerprint(&self) -> &[u8] {
        &self.inner.fingerprint
    }

    /// Cosine and sine per position and pair of a context.
    pub(crate) fn rotary(&self, context: u32) -> Result<Buffer, Error> {
        self.inner.looped.rotary(&self.inner.device, context)
    }

    /// What plans are recorded on.
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
