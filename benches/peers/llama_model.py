"""A whole model by llama.cpp: random weights of the llama architecture, from a GGUF file that llama_file.py creates.

    llama_model.py vulkan|cpu f16|bf16|q8|q4 decode/8 prefill/128 …

prints a line of JSON for each. The Vulkan backend is that of the wheel `cyllama-vulkan`, all layers on the device; the CPU backend is
`llama-cpp-python`, compiled for this machine.
"""

import json
import os
import sys
import time
from pathlib import Path

import llama_file

# Tokens in the cache before decoding is timed.
BEFORE = 16
CONTEXT = 1024


class Vulkan:
    """Through cyllama."""

    def __init__(self, path, threads):
        from cyllama.llama import llama_cpp

        llama_cpp.disable_logging()
        llama_cpp.llama_backend_init()
        self.api = llama_cpp
        self.api.ggml_backend_load_all()
        model = llama_cpp.LlamaModelParams()
        model.n_gpu_layers = 99
        self.model = llama_cpp.LlamaModel(str(path), model)
        context = llama_cpp.LlamaContextParams()
        context.n_ctx = CONTEXT
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.LlamaContext(self.model, context)

    def run(self, tokens, start):
        """Computes tokens from a position on, up to the logits of the last one."""
        batch = self.api.LlamaBatch(n_tokens=len(tokens), embd=0, n_seq_max=1)
        for place, token in enumerate(tokens):
            batch.add(token, start + place, [0], place + 1 == len(tokens))
        self.context.decode(batch)
        # The getter of logits fails in this version; waiting is what matters.
        self.context.synchronize()

    def forget(self):
        self.context.kv_cache_clear()


class Cpu:
    """Through llama-cpp-python's plain bindings."""

    def __init__(self, path, threads):
        import ctypes

        import llama_cpp

        self.api = llama_cpp
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        self.quiet = quiet
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        model = llama_cpp.llama_model_default_params()
        model.n_gpu_layers = 0
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), model)
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = CONTEXT
        context.n_threads = context.n_threads_batch = threads
        self.context = llama_cpp.llama_init_from_model(self.model, context)

    def run(self, tokens, start):
        """Computes tokens from a position on, up to the logits of the last one."""
        api = self.api
        batch = api.llama_batch_init(len(tokens), 0, 1)
        batch.n_tokens = len(tokens)
        for place, token in enumerate(tokens):
            batch.token[place] = token
            batch.pos[place] = start + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = place + 1 == len(tokens)
        if api.llama_decode(self.context, batch) != 0:
            raise SystemExit("llama.cpp could not decode")
        api.llama_get_logits_ith(self.context, -1)
        api.llama_batch_free(batch)

    def forget(self):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)


def main():
    kind, dtype, *work = sys.argv[1:]
    folder = Path(os.environ.get("PEERS_ENV", Path(__file__).parent / "target/env")) / "models"
    path = llama_file.write(dtype, folder)
    llama = {"vulkan": Vulkan, "cpu": Cpu}[kind](path, len(os.sched_getaffinity(0)))
    weights = llama_file.weights()
    for word in work:
        name, count = word.split("/")
        count = int(count)
        if name == "decode":
            llama.forget()
            llama.run(list(range(1, BEFORE + 1)), 0)
            # One token to warm up, then the requested number.
            llama.run([1], BEFORE)
            start = time.perf_counter()
            for place in range(count):
                llama.run([place % llama_file.VOCAB], BEFORE + 1 + place)
            seconds = (time.perf_counter() - start) / count
            figure = {"bytes": int(weights * llama_file.bits(dtype) / 8), "flops": 2.0 * weights}
        else:
            # The first run warms up. Long prompts take 64 seconds on Vulkan and run once: the shorter prompt before has compiled everything.
            for _ in range(1 if kind == "vulkan" and count > 128 else 2):
                llama.forget()
                start = time.perf_counter()
                llama.run(list(range(1, count + 1)), 0)
                seconds = time.perf_counter() - start
            # The head processes one row, so it is not counted.
            figure = {"bytes": 0, "flops": 2.0 * count * (weights - llama_file.VOCAB * llama_file.WIDTH)}
        print(json.dumps({"work": word, "seconds": seconds, **figure}), flush=True)


main()
