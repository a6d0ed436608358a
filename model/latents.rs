//! Outputs of chosen layers at every step, kept on the host or written to a file.

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

/// Outputs of layers at every step, for some rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Latents {
    /// Number of steps.
    pub steps: u32,
    /// Number of rows: the tokens of [`Session::begin`].
    pub rows: u32,
    /// Layers, in the order requested.
    pub layers: Vec<Layer>,
}

/// Outputs of one layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of the module in the checkpoint, or `states`.
    pub name: String,
    /// Values per row.
    pub width: u32,
    /// `[steps, rows, width]`.
    pub values: Vec<f32>,
}

impl Latents {
    /// Values of a layer `[steps, rows, width]`.
    #[must_use]
    pub fn layer(&self, name: &str) -> Option<&[f32]> {
        self.layers.iter().find(|layer| layer.name == name).map(|layer| &layer.values[..])
    }

    /// Values of a layer for one row at one step, both counted from 0, `[width]`.
    #[must_use]
    pub fn at(&self, name: &str, step: u32, row: u32) -> Option<&[f32]> {
        let layer = self.layers.iter().find(|layer| layer.name == name)?;
        let place = (row < self.rows).then_some(step as usize * self.rows as usize + row as usize)?;
        layer.values.chunks(layer.width as usize).nth(place)
    }

    /// Writes a safetensors file with one F32 tensor `[steps, rows, width]` per layer, and `about` in its metadata.
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
    /// Applies the core block to the rows that [`Self::begin`] appended, and keeps the outputs of the named layers at every step. Names are those of the
    /// checkpoint, such as `core_block.1`, `core_block.1.attn.proj` or `adapter`, or `states` for the states after the step. With names of the read-out, such
    /// as `ln_f`, `head` or `coda.0.mlp.proj`, every step is read out.
    ///
    /// # Errors
    /// [`Error::Option`] for an unknown layer; otherwise as [`Self::iterate`].
    pub fn iterate_keeping(&mut self, steps: u32, names: &[&str]) -> Result<Latents> {
        let modules = self.model().spec().modules();
        let (mut layers, mut reads_out) = (Vec::new(), false);
        for &name in names {
            // Layers before the loop have the same output at every step, so they are excluded.
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
    let value = format!("{name:?} (a module of this model is {})", example.unwrap_or("states"));
    let allowed = "the name that a module in or after the loop has in the authors' code, or states or head";
    Error::Option { name: "layer", value, allowed }
}
