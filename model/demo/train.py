#!/usr/bin/env python3
"""Trains the demo model: a tiny recurrent-depth transformer (arXiv 2502.05171) in the file format of Huginn-0125.

    python train.py --out DIR      tokenizer, training, checkpoint, held-out problems and tables, from scratch
    python train.py --eval DIR     only the tables, from the checkpoint in DIR

Needs PyTorch from PyPI and a CPU. Every seed is fixed; with --threads 1 a machine reproduces its own run bit for bit.
The published checkpoint took 27 minutes, and a second training 16, each on one of two cores that also did other work.
The tables take a few more minutes.

The method is the paper's, and this file contains all of it: a prelude reads the prompt, one core is applied r times to a
random state, a coda reads the answer; r is drawn for every batch, and only the last steps have a gradient. Three things
make training take minutes: every position has its own label (the answer so far; see problems.py), a pass of r steps gets
only problems that r steps can solve, and the matrices are trained with Muon.
"""
import argparse, copy, math, random, time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from checkpoint import load, save
from evaluate import progress, tables, ten_prompts
from problems import LONGEST, SHARES, TASKS, draw, problem_file
from tokenizer import Tokenizer

WIDTH, HEADS, MLP, BLOCK_SIZE, ROPE_BASE, EPS = 96, 3, 192, 512, 50000, 1e-6
PRELUDE, CORE, CODA, MEAN_RECURRENCE, BACKPROP = 1, 2, 1, 32, 6
DEPTH = PRELUDE + CORE * MEAN_RECURRENCE + CODA  # layers that one token passes; scales the output projections down
STD = math.sqrt(2 / (5 * WIDTH))  # of all other matrices and of the initial state (Huginn's "like-init")
OUT_STD, EMBED_SCALE = STD / math.sqrt(2 * DEPTH), math.sqrt(WIDTH)
SIZES = {  # field names of Huginn's config.json
    "n_embd": WIDTH, "n_heads": HEADS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "head_dim": WIDTH // HEADS,
    "intermediate_size": MLP, "n_layers": PRELUDE + CORE + CODA, "n_layers_in_prelude": PRELUDE, "n_layers_in_recurrent_block": CORE,
    "n_layers_in_coda": CODA, "mean_recurrence": MEAN_RECURRENCE, "mean_backprop_depth": BACKPROP, "effective_expected_depth": DEPTH,
    "init_values": {"std": STD, "out_proj": OUT_STD, "embedding": STD, "embed_scale": EMBED_SCALE},
    "block_size": BLOCK_SIZE, "rope_base": ROPE_BASE, "norm_eps": EPS}
ROWS, LENGTH, MUON_RATE, ADAM_RATE, EVERY = 24, 64, 0.012, 3e-3, 100


# ------------------------------------------------------------------------------------------------------------------- model
class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight with a hand-written gradient, three times as fast as F.rms_norm on a CPU."""

    @staticmethod
    def forward(ctx, x, weight):
        scale = torch.rsqrt((x * x).mean(-1, keepdim=True) + EPS)
        unit = x * scale
        ctx.save_for_backward(unit, scale, weight)
        return unit * weight

    @staticmethod
    def backward(ctx, grad):
        unit, scale, weight = ctx.saved_tensors
        inner = grad * weight
        return scale * (inner - unit * (inner * unit).mean(-1, keepdim=True)), (grad * unit).flatten(0, -2).sum(0)


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return RmsNorm.apply(x, self.weight)


def truncated_normal_(tensor, std):
    return nn.init.trunc_normal_(tensor, std=std, a=-3 * std, b=3 * std)


def linear(rows, columns, std=STD):
    layer = nn.Linear(columns, rows, bias=False)
    truncated_normal_(layer.weight, std)
    return layer


def rotary_table():
    """Return the rotary table [1, position, 1, pair, (cos, sin)]."""
    size = WIDTH // HEADS
    angle = torch.outer(torch.arange(BLOCK_SIZE).float(), 1.0 / ROPE_BASE ** (torch.arange(0, size, 2).float() / size))
    return torch.stack([angle.cos(), angle.sin()], -1)[None, :, None]


def rotate(x, table):
    """Apply RoPE to the adjacent pairs of x [batch, position, head, size]."""
    turn = torch.view_as_complex(table[:, : x.shape[1]])
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(3)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.Wqkv = linear(3 * WIDTH, WIDTH)
        self.qk_bias = nn.Parameter(torch.zeros(2, 1, HEADS, WIDTH // HEADS))
        self.proj = linear(WIDTH, WIDTH, OUT_STD)

    def forward(self, x, table, mask):
        q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in self.Wqkv(x).chunk(3, -1))
        q, k = rotate(q + self.qk_bias[0], table), rotate(k + self.qk_bias[1], table)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, is_causal=mask is None)
        return self.proj(y.transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = linear(2 * MLP, WIDTH)
        self.proj = linear(WIDTH, MLP, OUT_STD)

    def forward(self, x):
        gate, up = self.fc(x).chunk(2, -1)
        return self.proj(F.silu(gate) * up)


class Block(nn.Module):
    """Sandwich block: a norm before each sublayer, and one of the sum after it."""

    def __init__(self):
        super().__init__()
        self.norm_1, self.norm_2, self.norm_3, self.norm_4 = Norm(), Norm(), Norm(), Norm()
        self.attn, self.mlp = Attention(), GatedMlp()

    def forward(self, x, table, mask):
        x = self.norm_2(self.attn(self.norm_1(x), table, mask) + x)
        return self.norm_4(self.mlp(self.norm_3(x)) + x)


class Model(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        blocks = lambda count: nn.ModuleList(Block() for _ in range(count))
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocab, WIDTH), "adapter": linear(WIDTH, 2 * WIDTH), "ln_f": Norm(),
            "prelude": blocks(PRELUDE), "core_block": blocks(CORE), "coda": blocks(CODA)})
        truncated_normal_(self.transformer.wte.weight, STD)
        self.register_buffer("freqs_cis", rotary_table())

    def run(self, blocks, x, mask):
        for block in self.transformer[blocks]:
            x = block(x, self.freqs_cis, mask)
        return x

    def embed(self, ids, mask=None):
        return self.run("prelude", self.transformer.wte(ids) * EMBED_SCALE, mask)

    def initial_state(self, embedded):
        return truncated_normal_(torch.empty_like(embedded), STD) * EMBED_SCALE

    def step(self, state, embedded, mask=None):
        return self.run("core_block", self.transformer.adapter(torch.cat([state, embedded], -1)), mask)

    def predict(self, state, mask=None):
        x = self.run("coda", self.transformer.ln_f(state), mask)
        return F.linear(self.transformer.ln_f(x), self.transformer.wte.weight)

    def forward(self, ids, depth, mask):
        embedded = self.embed(ids, mask)
        state = self.initial_state(embedded)
        with torch.no_grad():  # truncated back-propagation: only the last steps have a gradient
            for _ in range(depth - BACKPROP):
                state = self.step(state, embedded, mask)
        for _ in range(min(depth, BACKPROP)):
            state = self.step(state, embedded, mask)
        return self.predict(state, mask)


# ---------------------------------------------------------------------------------------------------------------- training
def random_depth(mean):
    """Draw the paper's depth: Poisson with a log-normal mean, so that some passes are very deep."""
    sigma = 0.5
    rate = torch.empty(1).log_normal_(math.log(mean) - sigma**2 / 2, sigma)
    return int(torch.poisson(rate)) + 1


def batch_of(tokenizer, rng, reach):
    """Return ids, labels, weights [ROWS, LENGTH] and mask [ROWS, 1, LENGTH, LENGTH]. Problems share a row; the mask separates them.

    No problem is longer than `reach`. Weights: 1 for answers, 0.3 for the full stop and the end token, 0.02 for the words
    of the prompt.
    """
    ids, labels = torch.full((2, ROWS, LENGTH), tokenizer.pad)
    weights, owner, used = torch.zeros(ROWS, LENGTH), torch.zeros(ROWS, LENGTH), [0] * ROWS
    longest, misses, number = min(reach, LONGEST), 0, 0
    while misses < 10:  # until ten problems did not fit
        task = rng.choices(list(TASKS), SHARES)[0]
        problem = draw(rng, task, rng.randint(1 + longest // 3, longest), False)
        tokens = [tokenizer.bos] + [tokenizer.id(token) for token, _ in problem] + [tokenizer.id(problem[-1][1]), tokenizer.id("."), tokenizer.eos]
        label, weight = tokens[1:], [0.02] * len(problem) + [1.0, 0.3, 0.3]
        for i, (_, answer) in enumerate(problem, 1):
            if answer:
                label[i], weight[i] = tokenizer.id(answer), 1.0
        row = next((row for row in range(ROWS) if used[row] + len(label) <= LENGTH), None)
        if row is None:
            misses += 1
            continue
        place, number = slice(used[row], used[row] + len(label)), number + 1
        ids[row, place], labels[row, place], weights[row, place] = torch.tensor(tokens[:-1]), torch.tensor(label), torch.tensor(weight)
        owner[row, place], used[row] = number, place.stop
    return ids, labels, weights, (owner[:, None, :, None] == owner[:, None, None, :]).tril()


class Muon:
    """Momentum with matrices orthogonalized by Newton-Schulz steps: needs many times fewer training steps than Adam here."""

    def __init__(self, model):
        self.parts = []  # (weight, the matrices in it, momentum): q, k, v and gate, up are matrices of their own
        for name, weight in model.named_parameters():
            if weight.ndim == 2 and "wte" not in name:
                self.parts.append((weight, 3 if "Wqkv" in name else 2 if "mlp.fc" in name else 1, torch.zeros_like(weight)))

    @torch.no_grad()
    def step(self, lr, momentum=0.95, decay=0.02):
        shapes = {}
        for weight, count, mean in self.parts:
            mean.lerp_(weight.grad, 1 - momentum)
            update = weight.grad.lerp(mean, momentum)
            for target, part in zip(weight.chunk(count), update.chunk(count)):
                shapes.setdefault(part.shape, []).append((target, part))
        for shape, pairs in shapes.items():  # matrices of one shape are multiplied together
            x = torch.stack([part for _, part in pairs])
            x = x.mT if shape[0] > shape[1] else x
            x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
            for _ in range(5):
                a = x @ x.mT
                x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
            x = x.mT if shape[0] > shape[1] else x
            for (target, _), direction in zip(pairs, x):
                target.mul_(1 - lr * decay).sub_(direction, alpha=lr * math.sqrt(max(1, shape[0] / shape[1])))


def train(args, tokenizer):
    torch.manual_seed(args.seed)
    rng, model = random.Random(args.seed), Model(tokenizer.size)
    average = copy.deepcopy(model)
    muon = Muon(model)
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "wte" in n]
    adam = torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0)
    start, sum_loss = time.time(), 0.0
    for i in range(args.steps):
        done = i / args.steps
        rate = min(1, (i + 1) / 30) * min(1, 1 - 0.98 * (done - 0.2) / 0.8)
        depth = random_depth(2.5 + 7.0 * min(1, done / 0.5))
        # No problem is longer than its pass can solve. A model trained on unsolvable problems learns to stay at "all answers
        # are equally likely", which an exit criterion mistakes for convergence.
        ids, labels, weights, mask = batch_of(tokenizer, rng, reach=int(1.5 * depth) + 2)
        logits = model(ids, depth, mask).flatten(0, 1)
        loss = F.cross_entropy(logits, labels.flatten(), reduction="none") @ weights.flatten() / weights.sum()
        model.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.param_groups[0]["lr"] = ADAM_RATE * rate
        adam.step()
        muon.step(MUON_RATE * rate)
        with torch.no_grad():
            keep = min(0.998, (i + 1) / (i + 10))
            for p, q in zip(average.parameters(), model.parameters()):
                p.lerp_(q, 1 - keep)
        sum_loss += loss.item()
        if (i + 1) % EVERY == 0:
            print(f"step {i + 1} loss {sum_loss / EVERY:.3f} {time.time() - start:.0f} s{progress(average, tokenizer)}", flush=True)
            sum_loss = 0.0
            save(args.out, SIZES, average.state_dict(), tokenizer)  # intermediate checkpoint, to be tried during training
    return average


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="train, and write everything to DIR")
    target.add_argument("--eval", type=Path, metavar="DIR", help="evaluate the checkpoint in DIR")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="the published checkpoint used 1; another number rounds differently")
    parser.add_argument("--count", type=int, default=200, help="problems per table row")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder, tokenizer = args.out or args.eval, Tokenizer()
    if args.out:
        folder.mkdir(parents=True, exist_ok=True)
        save(folder, SIZES, train(args, tokenizer).state_dict(), tokenizer)
        (folder / "problems.jsonl").write_text(problem_file())
    model = Model(tokenizer.size)
    model.load_state_dict(load(folder))  # as stored, so that the tables are for the bf16 weights
    print(sum(p.numel() for p in model.parameters()), "parameters,", (folder / "model.safetensors").stat().st_size, "bytes\n")
    for name, text in {"prompts.md": ten_prompts(model, tokenizer), "table.md": tables(model, tokenizer, args.count)}.items():
        (folder / name).write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
