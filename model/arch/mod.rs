//! Architectures: one model, one file, one line in [`ARCHITECTURES`].
//!
//! An architecture parses its `config.json` into a [`Spec`], lists its tensors in a [`Manifest`], and names the results of its modules. [`loops`] and [`blocks`]
//! record the computation from the specification. No other file names a tensor or an architecture.

mod blocks;
mod early_exit;
mod llama;
mod loader;
mod loops;
mod manifest;
mod names;
mod nanbeige;
mod ouro;
mod pass;
mod pipeline;
mod raven;
mod resident;
mod spec;
mod stored;

pub(crate) use blocks::fold_bytes;
pub(crate) use early_exit::ExitSites;
pub(crate) use loader::{BLOCK, Weights, check};
pub(crate) use loops::Looped;
pub(crate) use manifest::{Drawn, Entry, Manifest, Role};
pub(crate) use names::{Kept, Module, When};
pub(crate) use pass::{Pass, ReadOut, Sites};
pub(crate) use pipeline::pipeline;
pub(crate) use resident::entry_bytes;
pub use spec::{Layers, Llama3Scaling, Norms, OuterNorms, Pairs, PostNorm, Rotary, Spec, SpecialIds, Start, Steps};
use stored::Stored;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::fields::Fields;
use names::Names;

/// Published models that a report on a device measures, named as after `synthetic:`: one with random initial states, one whose initial state is the embedding.
#[cfg(feature = "tools")]
pub(crate) const REPORTED: [&str; 2] = ["huginn-0125", "ouro-1.4b"];

/// Small models of the same architectures, whose tokens a report compares.
#[cfg(feature = "tools")]
pub(crate) const REPORTED_SMALL: [&str; 2] = [
    "n_embd=256,heads=4,hidden=512,layers=1/2/1,vocab=2048",
    "ouro-1.4b,hidden_size=256,num_attention_heads=4,num_key_value_heads=4,intermediate_size=512,num_hidden_layers=3,vocab_size=2048",
];

/// A model architecture.
pub(crate) trait Architecture: Sync {
    /// Name of the architecture.
    fn name(&self) -> &'static str;

    /// `model_type` of its configurations.
    fn model_type(&self) -> &'static str;

    /// Class name by which a configuration without `model_type` is recognized.
    fn class(&self) -> &'static str;

    /// Parses a configuration of this architecture.
    ///
    /// # Errors
    /// Name the field, its value and what is supported.
    fn parse(&self, fields: &Fields, stored: &Stored<'_>) -> Result<Spec>;

    /// Manifest: every tensor of the model and its role.
    fn manifest(&self, spec: &Spec) -> Manifest;

    /// Names of intermediate results, as in the authors' code.
    fn names(&self, spec: &Spec) -> Names;

    /// Published models of this architecture.
    fn published(&self) -> &'static [Published];

    /// Sets a shape field, named as in `config.json` or by a short name, to a number or flag. Returns whether the field exists.
    fn set(&self, name: &str, text: &str, fields: &mut Map<String, Value>) -> bool;

    /// Configuration of a published model with the `given` fields replaced.
    fn shape(&self, preset: &str, given: Map<String, Value>) -> Map<String, Value>;
}

/// A published model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    /// Short name, also the name of a synthetic model of this shape.
    pub name: &'static str,
    /// Owner and name on the Hugging Face Hub.
    pub repo: &'static str,
    /// Size and origin.
    pub about: &'static str,
}

/// All published models that can be loaded.
#[must_use]
pub fn published() -> Vec<Published> {
    shapes().map(|(_, published)| *published).collect()
}

/// All published models, each with its architecture.
pub(crate) fn shapes() -> impl Iterator<Item = (&'static dyn Architecture, &'static Published)> {
    ARCHITECTURES.iter().flat_map(|arch| arch.published().iter().map(|published| (*arch, published)))
}

/// Sets a field in `known`, given by its own or its short name, to a number or flag. Returns whether the field was set.
fn set(known: &[&str], short: &[(&str, &str)], (name, text): (&str, &str), fields: &mut Map<String, Value>) -> bool {
    let name = short.iter().find(|(short, _)| *short == name).map_or(name, |(_, long)| *long);
    let Ok(value) = serde_json::from_str::<Value>(text) else { return false };
    let sets = known.contains(&name);
    if sets {
        fields.insert(name.to_owned(), value);
    }
    sets
}

/// All supported architectures.
static ARCHITECTURES: &[&dyn Architecture] = &[&raven::Raven, &ouro::Ouro, &nanbeige::Nanbeige];

/// Names of all architectures that can be loaded.
#[must_use]
pub fn architectures() -> Vec<&'static str> {
    ARCHITECTURES.iter().map(|arch| arch.name()).collect()
}

/// Finds an architecture by name.
fn named(name: &str) -> &'static dyn Architecture {
    *ARCHITECTURES.iter().find(|arch| arch.name() == name).expect("specifications are made by registered architectures")
}

/// Finds the architecture of a configuration.
fn find(fields: &Fields) -> Result<&'static dyn Architecture> {
    let model_type = fields.get("model_type").and_then(|value| value.as_str());
    let classes = fields.get("architectures").and_then(|value| value.as_array());
    let of_class = |arch: &&&dyn Architecture| {
        classes.is_some_and(|all| all.iter().any(|class| class.as_str() == Some(arch.class())))
    };
    let of_type = |arch: &&&dyn Architecture| model_type == Some(arch.model_type());
    let found = match (fields.get("model_type"), classes) {
        (Some(_), _) => ARCHITECTURES.iter().find(of_type),
        (None, Some(_)) => ARCHITECTURES.iter().find(of_class),
        (None, None) => None,
    };
    let names = |of: &dyn Fn(&dyn Architecture) -> &'static str| {
        ARCHITECTURES.iter().map(|arch| of(*arch)).collect::<Vec<_>>().join(", ")
    };
    found.copied().ok_or_else(|| match (fields.get("model_type"), classes) {
        (Some(_), _) => fields.unsupported("model_type", &names(&|arch| arch.model_type())),
        (None, Some(_)) => fields.unsupported("architectures", &names(&|arch| arch.class())),
        (None, None) => {
            Error::Missing { file: fields.file.clone(), field: "model_type", expected: "the name of an architecture" }
        }
    })
}
