//! Names and shapes of Raven's tensors, as Huginn-0125 publishes them.

use crate::checkpoint::Expected;
use crate::config::Config;

impl Config {
    /// Every tensor that a checkpoint of this configuration must have or may have, for [`Checkpoint::check`].
    ///
    /// [`Checkpoint::check`]: crate::Checkpoint::check
    #[must_use]
    pub fn tensors(&self) -> Vec<Expected> {
        raven_tensors(self)
    }
}

/// Every tensor that a Raven checkpoint of this configuration has or may have, in the order in which the published files list them.
pub(crate) fn raven_tensors(config: &Config) -> Vec<Expected> {
    let [n, hidden, vocab] =
        [config.n_embd, config.intermediate_size, config.padded_vocab_size].map(|size| size as usize);
    let [heads, head_dim, positions] = [config.n_heads, config.head_dim, config.block_size].map(|size| size as usize);
    let mut all = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, required| all.push(Expected { name, shape, required });
    add("freqs_cis".to_owned(), vec![1, positions, 1, head_dim / 2, 2], false);
    add("transformer.wte.weight".to_owned(), vec![vocab, n], true);
    let block = |add: &mut dyn FnMut(String, Vec<usize>, bool), kind: &str, layer: u32| {
        let mut site = |part: &str, shape| add(format!("transformer.{kind}.{layer}.{part}"), shape, true);
        site("norm_1.weight", vec![n]);
        if config.qk_bias {
            site("attn.qk_bias", vec![2, 1, heads, head_dim]);
        }
        site("attn.Wqkv.weight", vec![config.qkv_rows() as usize, n]);
        site("attn.proj.weight", vec![n, heads * head_dim]);
        site("norm_2.weight", vec![n]);
        site("norm_3.weight", vec![n]);
        site("mlp.fc.weight", vec![2 * hidden, n]);
        site("mlp.proj.weight", vec![n, hidden]);
        site("norm_4.weight", vec![n]);
    };
    (0..config.n_layers_in_prelude).for_each(|layer| block(&mut add, "prelude", layer));
    add("transformer.adapter.weight".to_owned(), vec![n, 2 * n], true);
    (0..config.n_layers_in_recurrent_block).for_each(|layer| block(&mut add, "core_block", layer));
    (0..config.n_layers_in_coda).for_each(|layer| block(&mut add, "coda", layer));
    add("transformer.ln_f.weight".to_owned(), vec![n], true);
    // A tied head is stored as a copy of the embedding, which nobody reads.
    add("lm_head.weight".to_owned(), vec![vocab, n], !config.tie_embeddings);
    all
}
