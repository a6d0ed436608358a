"""A model of the llama architecture with random weights, as a GGUF file: 1536 wide, 16 heads of 96, MLP 5120, 8 layers, 8192 tokens, tied head.

It has 277 million weights and no tokenizer: tokens are numbers. Random weights produce noise at the cost of real ones.
"""

from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, MLP, LAYERS, VOCAB = 1536, 16, 5120, 8, 8192

TYPES = {
    "f16": gguf.GGMLQuantizationType.F16,
    "bf16": gguf.GGMLQuantizationType.BF16,
    "q8": gguf.GGMLQuantizationType.Q8_0,
    "q4": gguf.GGMLQuantizationType.Q4_0,
}


def matrices():
    """Names and shapes [n, k] of all matrices."""
    yield "token_embd.weight", (VOCAB, WIDTH)
    for layer in range(LAYERS):
        for part in "qkv":
            yield f"blk.{layer}.attn_{part}.weight", (WIDTH, WIDTH)
        yield f"blk.{layer}.attn_output.weight", (WIDTH, WIDTH)
        yield f"blk.{layer}.ffn_gate.weight", (MLP, WIDTH)
        yield f"blk.{layer}.ffn_up.weight", (MLP, WIDTH)
        yield f"blk.{layer}.ffn_down.weight", (WIDTH, MLP)


def weights():
    """Number of weights that one token reads: the embedding counts once, as the head."""
    return sum(n * k for _, (n, k) in matrices())


def bits(dtype):
    """Bits per weight."""
    return {"f16": 16, "bf16": 16, "q8": 8.5, "q4": 4.5}[dtype]


def write(dtype, folder):
    """Path of the file of a dtype, which is created if it is missing."""
    path = Path(folder) / f"llama-{WIDTH}-{dtype}.gguf"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    writer = gguf.GGUFWriter(unfinished, "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(50000)
    writer.add_vocab_size(VOCAB)
    writer.add_tokenizer_model("none")
    draw = np.random.default_rng(1)
    for name, shape in matrices():
        values = draw.standard_normal(shape, dtype=np.float32) * np.float32(0.016)
        data = gguf.quants.quantize(values, TYPES[dtype])
        writer.add_tensor(name, data, raw_dtype=TYPES[dtype])
    norms = [f"blk.{layer}.{part}_norm.weight" for layer in range(LAYERS) for part in ("attn", "ffn")]
    for name in [*norms, "output_norm.weight"]:
        writer.add_tensor(name, np.ones(WIDTH, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    unfinished.rename(path)
    return path
