"""A recurrent-depth model in plain PyTorch, on the CPU: the architecture of Huginn, with random weights and a KV cache.

    torch_raven.py f32|bf16 STEPS decode/8 prefill/128 …

prints a line of JSON for each. It is not the authors' code, but does the same arithmetic with what PyTorch offers for it: one matmul for q, k and
v and one for gate and up, `scaled_dot_product_attention`, a cache that is allocated once, no gradients. 768 wide, 8 heads of 96, MLP 2560,
8192 tokens, layers 2/4/2.
"""

import json
import os
import sys
import time

import torch
from torch.nn import functional

WIDTH, HEADS, MLP, VOCAB = 768, 8, 2560, 8192
PRELUDE, CORE, CODA = 2, 4, 2
HEAD_DIM = WIDTH // HEADS
CONTEXT = 1024
# Tokens in the cache before decoding is timed.
BEFORE = 16
EPS = 1e-6


class Block:
    """x = norm_2(attn(norm_1(x)) + x); x = norm_4(mlp(norm_3(x)) + x)."""

    def __init__(self, draw, dtype, steps):
        def matrix(n, k):
            return (torch.randn(n, k, generator=draw) * (2 / (5 * WIDTH)) ** 0.5).to(dtype)

        self.norms = [torch.ones(WIDTH, dtype=dtype) for _ in range(4)]
        self.qkv, self.proj = matrix(3 * WIDTH, WIDTH), matrix(WIDTH, WIDTH)
        self.fc, self.mlp_proj = matrix(2 * MLP, WIDTH), matrix(WIDTH, MLP)
        self.qk_bias = torch.zeros(2, 1, HEADS, HEAD_DIM, dtype=dtype)
        self.cache = torch.zeros(steps, 2, HEADS, CONTEXT, HEAD_DIM, dtype=dtype)

    def weights(self):
        return sum(matrix.numel() for matrix in (self.qkv, self.proj, self.fc, self.mlp_proj))

    def __call__(self, x, step, start, freqs, mask):
        x = norm(self.attend(norm(x, self.norms[0]), step, start, freqs, mask) + x, self.norms[1])
        gate, up = functional.linear(norm(x, self.norms[2]), self.fc).chunk(2, dim=-1)
        return norm(functional.linear(functional.silu(gate) * up, self.mlp_proj) + x, self.norms[3])

    def attend(self, x, step, start, freqs, mask):
        rows = x.shape[0]
        q, k, v = functional.linear(x, self.qkv).view(rows, 3, HEADS, HEAD_DIM).unbind(1)
        q, k = rotate(q + self.qk_bias[0], freqs), rotate(k + self.qk_bias[1], freqs)
        keys, values = self.cache[step]
        keys[:, start : start + rows] = k.transpose(0, 1)
        values[:, start : start + rows] = v.transpose(0, 1)
        end = start + rows
        y = functional.scaled_dot_product_attention(
            q.transpose(0, 1)[None], keys[None, :, :end], values[None, :, :end], attn_mask=mask, is_causal=mask is None and rows > 1
        )
        return functional.linear(y[0].transpose(0, 1).reshape(rows, WIDTH), self.proj)


def norm(x, weight):
    """RMSNorm in f32, as in the authors' code."""
    y = x.float()
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + EPS)
    return y.to(x.dtype) * weight


def rotate(x, freqs):
    """RoPE over neighboring pairs, in f32."""
    pairs = x.float().unflatten(-1, (-1, 2))
    cos, sin = freqs[:, None, :, 0], freqs[:, None, :, 1]
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2).to(x.dtype)


class Raven:
    """Prelude, r times adapter and core, coda, tied head."""

    def __init__(self, dtype, steps):
        draw = torch.Generator().manual_seed(1)
        self.dtype, self.steps = dtype, steps
        self.draw = draw
        std = (2 / (5 * WIDTH)) ** 0.5
        self.wte = (torch.randn(VOCAB, WIDTH, generator=draw) * std).to(dtype)
        self.adapter = (torch.randn(WIDTH, 2 * WIDTH, generator=draw) * std).to(dtype)
        self.prelude = [Block(draw, dtype, 1) for _ in range(PRELUDE)]
        self.core = [Block(draw, dtype, steps) for _ in range(CORE)]
        self.coda = [Block(draw, dtype, 1) for _ in range(CODA)]
        self.ln_f = torch.ones(WIDTH, dtype=dtype)
        angles = torch.arange(CONTEXT)[:, None] / 50000 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
        self.freqs = torch.stack([angles.cos(), angles.sin()], -1)

    def weights(self):
        """Weights that one token reads, with and without the head."""
        once = sum(block.weights() for block in self.prelude + self.coda)
        looped = self.adapter.numel() + sum(block.weights() for block in self.core)
        body = once + self.steps * looped
        return body + self.wte.numel(), body

    def __call__(self, tokens, start):
        """Logits of the last token."""
        rows = len(tokens)
        freqs = self.freqs[start : start + rows]
        mask = None
        if rows > 1 and start > 0:
            mask = torch.ones(rows, start + rows, dtype=torch.bool).tril(start)
        e = self.wte[tokens] * WIDTH**0.5
        for block in self.prelude:
            e = block(e, 0, start, freqs, mask)
        s = torch.empty(rows, WIDTH)
        std = (2 / 5) ** 0.5
        s = torch.nn.init.trunc_normal_(s, std=std, a=-3 * std, b=3 * std, generator=self.draw).to(self.dtype)
        for step in range(self.steps):
            s = functional.linear(torch.cat([s, e], -1), self.adapter)
            for block in self.core:
                s = block(s, step, start, freqs, mask)
        x = norm(s, self.ln_f)
        for block in self.coda:
            x = block(x, 0, start, freqs, mask)
        return functional.linear(norm(x[-1:], self.ln_f), self.wte).float()


def main():
    dtype, steps, *work = sys.argv[1:]
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    raven = Raven({"f32": torch.float32, "bf16": torch.bfloat16}[dtype], int(steps))
    with_head, body = raven.weights()
    for word in work:
        name, count = word.split("/")
        count = int(count)
        with torch.inference_mode():
            if name == "decode":
                raven(torch.arange(1, BEFORE + 1), 0)
                token = raven(torch.tensor([1]), BEFORE).argmax(-1)
                start = time.perf_counter()
                for place in range(count):
                    token = raven(token, BEFORE + 1 + place).argmax(-1)
                seconds = (time.perf_counter() - start) / count
                figure = {"bytes": with_head * raven.wte.element_size(), "flops": 2.0 * with_head}
            else:
                for _ in range(2):
                    start = time.perf_counter()
                    raven(torch.arange(1, count + 1), 0)
                    seconds = time.perf_counter() - start
                figure = {"bytes": 0, "flops": 2.0 * count * body}
        print(json.dumps({"work": word, "seconds": seconds, **figure}), flush=True)


main()
