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

/// Every tensor that a Raven checkpoint of this configuration has or may have.
pub(crate) fn raven_tensors(config: &Config) -> Vec<Expected> {
    let [n, hidden, vocab] =
        [config.n_embd, config.intermediate_size, config.padded_vocab_size].map(|size| size as usize);
    let [heads, head_dim, positions] = [config.n_heads, config.head_dim, config.block_size].map(|size| size as usize);
    let queries = heads * head_dim;
    let mut all = Vec::new();
    let mut add = |name: String, shape: Vec<usize>, required| all.push(Expected { name, shape, required });
    add("transformer.wte.weight".to_owned(), vec![vocab, n], true);
    // A tied head is stored as a copy of the embedding, which nobody reads.
    add("lm_head.weight".to_owned(), vec![vocab, n], !config.tie_embeddings);
    add("freqs_cis".to_owned(), vec![1, positions, 1, head_dim / 2, 2], false);
    add("transformer.adapter.weight".to_owned(), vec![n, 2 * n], true);
    add("transformer.ln_f.weight".to_owned(), vec![n], true);
    let kinds = [
        ("prelude", config.n_layers_in_prelude),
        ("core_block", config.n_layers_in_recurrent_block),
        ("coda", config.n_layers_in_coda),
    ];
    for (kind, count) in kinds {
        for layer in 0..count {
            let site = |part: &str| format!("transformer.{kind}.{layer}.{part}");
            for norm in 1..=4 {
                add(site(&format!("norm_{norm}.weight")), vec![n], true);
            }
            add(site("attn.Wqkv.weight"), vec![config.qkv_rows() as usize, n], true);
            if config.qk_bias {
                add(site("attn.qk_bias"), vec![2, 1, heads, head_dim], true);
            }
            add(site("attn.proj.weight"), vec![n, queries], true);
            add(site("mlp.fc.weight"), vec![2 * hidden, n], true);
            add(site("mlp.proj.weight"), vec![n, hidden], true);
        }
    }
    all
}
