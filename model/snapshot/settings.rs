//! Metadata of a saved session: its settings and its model.

use ruminate_shaders::attention::cache::{KV_DTYPES, KvShare, Lookup};
use ruminate_shaders::weight::Dtype;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SnapshotProblem;
use super::file::{Expected, hex};
use crate::arch::Spec;
use crate::kv::KvCache;
use crate::kv_pages::Layout;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::session::Session;

/// Fields of a configuration that do not affect results.
const NAMES: [&str; 4] = ["bos", "eos", "pad", "torch_dtype"];

/// The model that a session belongs to.
#[derive(Serialize, Deserialize)]
pub(super) struct About {
    /// Its configuration.
    spec: Value,
    /// Dtypes of its weights.
    dtypes: String,
    /// Fingerprint of its weights.
    weights: String,
}

impl About {
    pub(super) fn of(model: &Model) -> Self {
        let mut spec = serde_json::to_value(model.spec()).unwrap_or_default();
        if let Some(fields) = spec.as_object_mut() {
            fields.retain(|name, _| !NAMES.contains(&name.as_str()));
        }
        let (dtypes, weights) = (model.dtypes().to_string(), hex(model.fingerprint()));
        Self { spec, dtypes, weights }
    }

    /// Checks that `model` is the saved model.
    pub(super) fn check(&self, model: &Model) -> Result<(), SnapshotProblem> {
        let here = Self::of(model);
        for (field, expected) in here.spec.as_object().into_iter().flatten() {
            let found = &self.spec[field];
            if found != expected {
                let (found, expected) = (found.to_string(), expected.to_string());
                return Err(SnapshotProblem::Shape { field: field.clone(), found, expected });
            }
        }
        if self.weights != here.weights {
            return Err(SnapshotProblem::Weights);
        }
        if self.dtypes != here.dtypes {
            return Err(SnapshotProblem::Rounded { found: self.dtypes.clone(), expected: here.dtypes });
        }
        Ok(())
    }
}

/// Settings of a session: everything that is not in its tensors.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Settings {
    pub(super) position: u32,
    context: u32,
    steps: Option<u32>,
    kv_dtype: String,
    lookup: String,
    /// Distance of the steps that share keys and values; 0 for `anchor`.
    share: Option<u32>,
    seed: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    state_seed: Option<u64>,
    init_scale: f32,
    invariant: bool,
    pub(super) next: Option<u32>,
    pub(super) layout: Layout,
}

const LOOKUPS: [(&str, Lookup); 3] =
    [("full", Lookup::Full), ("latest", Lookup::Latest), ("always-last", Lookup::AlwaysLast)];

impl Settings {
    pub(super) fn of(session: &Session, layout: Layout) -> Self {
        let SessionOptions { steps, kv_dtype, lookup, share, seed, state_seed, init_scale, invariant, .. } =
            *session.options();
        let named = LOOKUPS.iter().find(|(_, one)| *one == lookup);
        Self {
            position: session.own.position,
            context: session.context(),
            steps,
            kv_dtype: kv_dtype.name().to_owned(),
            lookup: named.map_or("latest", |(name, _)| name).to_owned(),
            share: match share {
                KvShare::None => None,
                KvShare::Steps(apart) => Some(apart),
                KvShare::Anchor => Some(0),
            },
            seed,
            state_seed,
            init_scale,
            invariant,
            next: session.own.next,
            layout,
        }
    }

    /// Options of the session; none if the file has unknown names.
    pub(super) fn options(&self) -> Option<SessionOptions> {
        let kv_dtype: Dtype = KV_DTYPES.into_iter().find(|dtype| dtype.name() == self.kv_dtype)?;
        let (_, lookup) = LOOKUPS.into_iter().find(|(name, _)| *name == self.lookup)?;
        let share = match self.share {
            None => KvShare::None,
            Some(0) => KvShare::Anchor,
            Some(apart) => KvShare::Steps(apart),
        };
        Some(SessionOptions {
            context: Some(self.context),
            steps: self.steps,
            kv_dtype,
            lookup,
            share,
            seed: self.seed,
            state_seed: self.state_seed,
            init_scale: self.init_scale,
            invariant: self.invariant,
        })
    }

    /// Tensors of the file, in order.
    pub(super) fn tensors(&self, spec: &Spec, kv: &KvCache, depth: &[u32], state: bool) -> Vec<Expected> {
        let count = u64::from(self.position);
        let slots = u64::from(1 + kv.share.slots(self.layout.steps));
        let mut all = vec![
            Expected::new("tokens", "U32", vec![count]),
            Expected::new("depth", "U32", vec![count]),
            Expected::new("pages", "U32", vec![slots, u64::from(kv.shape.pages_per_slot())]),
        ];
        if state {
            all.push(Expected::new("state", "F32", vec![u64::from(spec.width)]));
        }
        for (layer, slot) in places(kv, depth) {
            let shape = vec![kv.in_slot(depth, slot).len() as u64, kv.position_bytes() as u64];
            all.push(Expected::new(&name(layer, slot), "U8", shape));
        }
        all
    }
}

/// Layers and slots with data for positions that have stored `depth` steps: those of prelude and coda, then those of the core.
pub(super) fn places(kv: &KvCache, depth: &[u32]) -> Vec<(usize, u32)> {
    let outside = (0..kv.layers(false)).map(|layer| (layer, 0));
    let slots = kv.slots_of(depth);
    outside.chain((0..kv.layers(true)).flat_map(|layer| (1..=slots).map(move |slot| (layer, slot)))).collect()
}

/// Name of the tensor for a layer's slot.
pub(super) fn name(layer: usize, slot: u32) -> String {
    match slot.checked_sub(1) {
        None => format!("kv.outside.{layer}"),
        Some(slot) => format!("kv.core.{layer}.{slot}"),
    }
}
