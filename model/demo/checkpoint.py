"""Checkpoint files in the format of Huginn-0125 on the Hugging Face hub."""
import json, struct

import torch

HUGINN = {  # fields that do not depend on the size
    "architecture_class_name": "RecurrentGPT", "architectures": ["RavenForCausalLM"],
    "auto_map": {"AutoConfig": "raven_config_minimal.RavenConfig", "AutoModel": "raven_modeling_minimal.RavenForCausalLM",
                 "AutoModelForCausalLM": "raven_modeling_minimal.RavenForCausalLM"},
    "bias": False, "block_class_name": "SandwichBlock", "init_orthogonal": False, "init_strategy": "takase", "injection_type": "linear",
    "mlp_class_name": "GatedMLP", "model_type": "huginn_raven", "nonlin_name": "SiLU", "norm_class_name": "RMSNorm_llama", "padding_multiple": 64,
    "qk_bias": True, "sampling_scheme": "poisson-lognormal-filling", "state_init": "like-init", "test_time_noise": 0,
    "test_time_noise_type": "fixed", "tie_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.47.1"}


def save(folder, sizes, weights, tokenizer):
    """Write all files of a model: bf16 weights, the rotary table in f32, a second copy of the tied head."""
    tensors = {name: t if name == "freqs_cis" else t.bfloat16() for name, t in weights.items()}
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, t in sorted(tensors.items()):
        raw = bytes(t.contiguous().view(torch.uint8).flatten().tolist())
        kind = "F32" if t.dtype == torch.float32 else "BF16"
        header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    ids = {"bos_token_id": tokenizer.bos, "eos_token_id": tokenizer.eos, "pad_token_id": tokenizer.pad}
    config = HUGINN | sizes | {"vocab_size": tokenizer.size, "padded_vocab_size": tokenizer.size}
    files = tokenizer.files(sizes["block_size"]) | {
        "config.json": dict(sorted(config.items())) | ids,
        "generation_config.json": {"_from_model_config": True} | ids | {"transformers_version": HUGINN["transformers_version"], "do_sample": False}}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")


def load(folder):
    """Load the weights of a folder, in f32."""
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name not in ("__metadata__", "lm_head.weight"):
            first, last = entry["data_offsets"]
            kind = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
            tensors[name] = torch.frombuffer(bytearray(raw[start + first : start + last]), dtype=kind).view(entry["shape"]).float()
    return tensors
