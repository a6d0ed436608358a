//! Writing a trace to a file of tensors, for other programs.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use super::{Pca, Trace};
use crate::error::Result;
use crate::output::write_tensors;

impl Trace {
    /// Writes a safetensors file with the tensors `tokens`, `steps_used`, `states`, `distances`, `entropies`, `top_tokens` and `top_probabilities`, and those
    /// of the components, `pca`, `pca_directions`, `pca_explained` and `pca_mean`, in the shapes of the fields. `about` goes into its metadata.
    ///
    /// # Errors
    /// [`Error::Output`](crate::Error::Output), [`Error::Write`](crate::Error::Write).
    pub fn write_safetensors(&self, pca: &Pca, about: HashMap<String, String>, path: &Path) -> Result<()> {
        let (tokens, steps, n) = (self.tokens.len(), self.steps as usize + 1, self.width as usize);
        let distances = self.distances();
        let floats: [(&str, &[f32], Vec<usize>); 8] = [
            ("states", &self.states, vec![tokens, steps, n]),
            ("distances", &distances, vec![tokens, steps]),
            ("entropies", &self.entropies, vec![tokens, steps]),
            ("top_probabilities", &self.top_probabilities, vec![tokens, steps, self.top]),
            ("pca", &pca.coordinates, vec![tokens, steps, pca.components]),
            ("pca_directions", &pca.directions, vec![pca.components, n]),
            ("pca_explained", &pca.explained, vec![pca.components]),
            ("pca_mean", &pca.mean, vec![n]),
        ];
        let words: [(&str, &[u32], Vec<usize>); 3] = [
            ("tokens", &self.tokens, vec![tokens]),
            ("steps_used", &self.used, vec![tokens]),
            ("top_tokens", &self.top_tokens, vec![tokens, steps, self.top]),
        ];
        let floats =
            floats.into_iter().map(|(name, values, shape)| (name, Dtype::F32, shape, bytemuck::cast_slice(values)));
        let words =
            words.into_iter().map(|(name, values, shape)| (name, Dtype::U32, shape, bytemuck::cast_slice(values)));
        let views =
            floats.chain(words).map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(dtype, shape, bytes)?)));
        write_tensors(path, views, about)
    }
}
