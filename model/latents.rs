//! What chosen layers came to at every step, on the host or in a file, and what is done to the states on the way.

#[cfg(feature = "files")]
use std::collections::HashMap;
#[cfg(feature = "files")]
use std::path::Path;

#[cfg(feature = "files")]
use safetensors::tensor::TensorView;

use crate::arch::{Module, When};
use crate::error::{Error, Result};
#[cfg(feature = "files")]
use crate::output::write_tensors;
use crate::session::Session;

/// Outputs of layers at every step of some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// Steps that were taken.
    pub steps: u32,
    /// Rows: the tokens of [`Session::begin`].
    pub rows: u32,
    /// The layers, as they were asked for.
    pub layers: Vec<Layer>,
}

/// Outputs of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of the module in the checkpoint, or `states`.
    pub name: String,
    /// Values of a row.
    pub width: u32,
    /// `[steps, rows, width]`.
    pub values: Vec<f32>,
}

impl Latents {
    /// A layer's values `[steps, rows, width]`.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<&[f32]> {
        self.layers.iter().find(|layer| layer.name == name).map(|layer| &layer.values[..])
    }

    /// What a layer gave for a row at a step, from 0, `[width]`.
    #[must_use]
    pub fn at(&self, name: &str, step: u32, row: u32) -> Option<&[f32]> {
        let layer = self.layers.iter().find(|layer| layer.name == name)?;
        let place = (row < self.rows).then_some(step as usize * self.rows as usize + row as usize)?;
        layer.values.chunks(layer.width as usize).nth(place)
    }

    /// Writes a safetensors file with a tensor for each layer, F32 `[steps, rows, width]`. `about` goes into its metadata.
    ///
    /// # Errors
    /// [`Error::Output`], [`Error::Write`].
    #[cfg(feature = "files")]
    pub fn write_safetensors(&self, about: HashMap<String, String>, path: impl AsRef<Path>) -> Result<()> {
        let (steps, rows) = (self.steps as usize, self.rows as usize);
        let views = self.layers.iter().map(|layer| {
            let (shape, bytes) = (vec![steps, rows, layer.width as usize], bytemuck::cast_slice(&layer.values));
            Ok((layer.name.as_str(), TensorView::new(safetensors::Dtype::F32, shape, bytes)?))
        });
        write_tensors(path.as_ref(), views, about)
    }
}

impl Session {
    /// Applies the core block to the rows that [`Self::begin`] appended, and keeps what the named layers come to at every step: names as in the
    /// checkpoint, such as `core_block.1`, `core_block.1.attn.proj`, `adapter`; `states` for the states after the step; and of the read-out `ln_f`, `head` or
    /// `coda.0.mlp.proj`, for which every step is read out.
    ///
    /// # Errors
    /// [`Error::Option`] names a layer that there is none of; as [`Self::iterate`].
    pub fn iterate_keeping(&mut self, steps: u32, names: &[&str]) -> Result<Latents> {
        let modules = self.model().spec().modules();
        let (mut layers, mut reads_out) = (Vec::new(), false);
        for &name in names {
            // What comes before the loop is the same at every step.
            let found = modules.iter().find(|it| it.name == name && (it.when != When::Begin || name == "states"));
            let module = found.ok_or_else(|| unknown(name, &modules))?;
            reads_out |= module.when == When::Finish;
            layers.push(Layer { name: name.to_owned(), width: module.width, values: Vec::new() });
        }
        let rows = self.rows()?;
        for _ in 0..steps {
            self.iterate(1)?;
            if reads_out {
                self.read_out()?;
            }
            for layer in &mut layers {
                layer.values.extend(self.trace(&layer.name)?);
            }
        }
        Ok(Latents { steps, rows, layers })
    }
}

fn unknown(name: &str, modules: &[Module]) -> Error {
    let example = modules.iter().filter(|module| module.when == When::Step).map(|module| module.name.as_str()).nth(1);
    let value = format!("{name:?} (a module here is {})", example.unwrap_or("states"));
    let allowed = "the name of a module in or behind the loop as the authors' code has it, or states, or head";
    Error::Option { name: "layer", value, allowed }
}
