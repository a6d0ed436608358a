#!/usr/bin/env python3
"""Trains the demo model: a tiny recurrent-depth transformer (arXiv 2502.05171) in the file format of Huginn-0125.

    python train.py --out DIR      tokenizer, training, checkpoint, held-out problems and tables, from nothing
    python train.py --eval DIR     the tables again, from the checkpoint in DIR

Needs PyTorch from PyPI and a CPU. Every seed is fixed; with --threads 1 a machine repeats its own run bit for bit.

The method is the paper's: a prelude reads the prompt, one core is applied r times to a random state, a coda reads the
answer; r is drawn anew for every batch, and only the last steps have a gradient. Three things make it work in minutes:
every position has a label of its own (the answer so far), a pass of r steps is only asked what r steps can do, and the
matrices are trained with Muon.
"""
import argparse, copy, json, math, random, re, struct, time, zlib
from pathlib import Path
import torch
import torch.nn.functional as F
from torch import nn

WIDTH, HEADS, MLP, BLOCK_SIZE, ROPE_BASE, EPS = 96, 3, 192, 512, 50000, 1e-6
PRELUDE, CORE, CODA, MEAN_RECURRENCE, BACKPROP = 1, 2, 1, 32, 6
STD = math.sqrt(2 / (5 * WIDTH))  # of every matrix and of the initial state (Huginn's "like-init")
DEPTH = PRELUDE + CORE * MEAN_RECURRENCE + CODA  # layers that one token passes; scales the output projections down

# ---------------------------------------------------------------------------------------------------------------- problems
# A problem is a list of (token, label). The label is the answer so far: every position is a problem of its own, and the
# short beginnings are the curriculum of the long ones. A label of None asks for the token that follows.
CUPS = "ABCDE"
PAIRS = [a + b for a in CUPS for b in CUPS if a < b]
MARKS = 20
WORD = re.compile(r" ?\d+(?:st|nd|rd|th)| ?\d| ?[A-Za-z]+|[.,]")


def plain(text):
    return [(word, None) for word in WORD.findall(text)]


def ordinal(n):
    return f" {n}" + ("th" if n // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th"))


def cups(rng, k, practice):
    """The ball is under cup B. Swap AC DE AB"""
    ball, near = rng.choice(CUPS), practice and rng.random() < 0.5  # practice moves the ball more often than chance would
    out = plain(f"The ball is under cup {ball}.") + [(" Swap", " " + ball)]
    for _ in range(k):
        touching = [p for p in PAIRS if ball in p]
        pair = rng.choice(touching if near and rng.random() < 0.5 else PAIRS)
        ball = pair.replace(ball, "") if ball in pair else ball
        out.append((" " + pair, " " + ball))
    return out


def dial(rng, k, practice):
    """The dial is at the 12th of 20. Turn 7 5 9"""
    mark = rng.randint(1, MARKS)
    out = plain(f"The dial is at the{ordinal(mark)} of {MARKS}.") + [(" Turn", ordinal(mark))]
    for _ in range(k):
        turn = rng.randint(1, 9)
        mark = (mark + turn - 1) % MARKS + 1
        out.append((f" {turn}", ordinal(mark)))
    return out


def clock(rng, k, practice):
    """A clock with 7 hours shows 3. Then next double back triple"""
    hour = rng.randint(0, 6)
    out = plain(f"A clock with 7 hours shows {hour}.") + [(" Then", f" {hour}")]
    for _ in range(k):
        word, times, plus = rng.choice([("next", 1, 1), ("back", 1, -1), ("double", 2, 0), ("triple", 3, 0)])
        hour = (hour * times + plus) % 7
        out.append((f" {word}", f" {hour}"))
    return out


TASKS = {  # generator, share of the training problems, longest in training, lengths of the easy and of the hard half
    "cups": (cups, 0.3, 20, range(1, 7), range(7, 15)),
    "dial": (dial, 0.4, 20, range(1, 7), range(7, 15)),
    "clock": (clock, 0.3, 20, range(1, 7), range(7, 15)),
}


def prompt_of(problem):
    return "".join(token for token, _ in problem)


def draw(rng, task, k, held_out):
    """A problem of length k. A tenth of all prompts, by checksum, is held out: training never asks for them."""
    while True:
        problem = TASKS[task][0](rng, k, not held_out)
        if (zlib.crc32(prompt_of(problem).encode()) % 10 == 0) == held_out:
            return problem


# --------------------------------------------------------------------------------------------------------------- tokenizer
SPLIT = (  # Huginn's; the demo's texts need only words, single digits, ordinals and marks
    "(\\\\n(?:e(?:wcommand|wenvironment|wline|wpage|wtheorem)|abla|e|eq|geq|gtr|leq|exists|ocite|oindent|olinebreak|onumber|opagebreak|"
    "ormalsize|ot(?!(?:ag\\b|\\b)))\\b|\\n+|\\\\n(?!\\b)|[ \\t]?(?:==|!=|<=|>=|<<|>>|\\*\\*|//|\\+=|-=|\\*=|/=|%=|&=|\\|=|\\^=|<<=|>>=|\\*\\*=|//=|"
    ":=|\\+\\+|--|[\\p{L}]+['\u2019\u02bc](?:\\p{L}+)\\b|\\\\[a-zA-Z]+|\\\\{|\\\\}|{|}|\\\\\\[|\\\\\\]|\\[|\\]|\\(|\\)|_+|"
    "\\||\\+|-|\\*|\u2014|-|=|[.,!?;()]|\\$\\$?|`+|\\\"+|\\#+|\\p{N}+(?:st|nd|rd|th)|"
    "\\p{N}{1,1}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|[\\p{P}\\p{S}]+)|\\s+|\\p{So})")
SPECIALS = ["begin_text", "end_text", "begin_header", "end_header", "end_turn", "pad", "fim_prefix", "fim_middle", "fim_suffix", "fim_pad", "...",
            "del"] + [f"c_{i}" for i in range(10)] + ["?", "&", "!", "-", "+", "interrupt", ">>-", "-<<", "->>", "<<-"]
CHAT = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set start_content = '<|begin_header|>' %}{% set end_content = "
    "message['content'] | trim  + '<|end_turn|>' %}{% if loop.index0 == 0 %}{% set start_content = bos_token + start_content %}{% endif %}{% if "
    "message['role'] == 'Huginn' or message['role'] == 'assistant' %}{% set start_content = start_content + 'Huginn<|end_header|>\n\n' %}{{ "
    "start_content }}{% generation %}{{ end_content }}{% endgeneration %}{% else %}{% set start_content = start_content + message['role'] + "
    "'<|end_header|>\n\n' %}{{ start_content }}{{ end_content }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|begin_header|>Huginn<|end_header|>\n\n' }}{% else %}{{ '<|end_text|>' }}{% endif %}")


def byte_alphabet():
    """GPT-2's printable character for every byte, in order of character."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


class Tokenizer:
    """Byte-level BPE, trained until each word of the problems is one token; so encoding is a look-up of whole words."""

    def __init__(self):
        rng, words = random.Random(0), set()
        for task, (_, _, longest, _, _) in TASKS.items():
            for _ in range(100):
                words.update(token for token, _ in draw(rng, task, longest, False))
        words.update(ordinal(n) for n in range(1, MARKS + 1))
        words.update([" user", " system", " Huginn", " and", " of", " to", " a", " in", " who", " where", " what", " cups", " marks"])
        split = {word: ["Ġ" if c == " " else c for c in word] for word in sorted(words)}
        self.merges = []
        while any(len(parts) > 1 for parts in split.values()):
            count = {}
            for parts in split.values():
                for pair in zip(parts, parts[1:]):
                    count[pair] = count.get(pair, 0) + 1
            best = min(count, key=lambda pair: (-count[pair], pair))
            self.merges.append(list(best))
            for word, parts in split.items():
                merged = []
                for part in parts:
                    if merged and (merged[-1], part) == best:
                        merged[-1] += part
                    else:
                        merged.append(part)
                split[word] = merged
        pieces = byte_alphabet() + ["".join(pair) for pair in self.merges]
        self.vocab = {piece: i for i, piece in enumerate(pieces)}
        self.size = -(-(len(pieces) + len(SPECIALS)) // 64) * 64
        unused = self.size - len(SPECIALS) - len(pieces)
        names = [f"unused_{i}" for i in range(unused)] + SPECIALS
        self.added = [{"id": len(pieces) + i, "content": f"<|{name}|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
                       "special": True} for i, name in enumerate(names)]
        self.bos, self.eos, self.pad = (self.size - len(SPECIALS) + SPECIALS.index(n) for n in ("begin_text", "end_text", "pad"))

    def id(self, word):
        return self.vocab[word.replace(" ", "Ġ")]

    def encode(self, prompt):
        return [self.bos] + [self.id(w) for w in WORD.findall(prompt)]

    def save(self, folder):
        begin = {"SpecialToken": {"id": "<|begin_text|>", "type_id": 0}}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        isolated = {"type": "Split", "pattern": {"Regex": SPLIT}, "behavior": "Isolated", "invert": False}
        bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
               "byte_fallback": False, "ignore_merges": False, "vocab": self.vocab, "merges": self.merges}
        post = {"type": "TemplateProcessing", "single": [begin, {"Sequence": {"id": "A", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<|begin_text|>": {"id": "<|begin_text|>", "ids": [self.bos], "tokens": ["<|begin_text|>"]}}}
        write_json(folder / "tokenizer.json", {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": self.added, "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [isolated, level]}, "post_processor": post,
            "decoder": level | {"add_prefix_space": True, "use_regex": True}, "model": bpe})
        specials = {"bos_token": "<|begin_text|>", "eos_token": "<|end_text|>", "pad_token": "<|pad|>"}
        write_json(folder / "special_tokens_map.json", specials)
        decoder = {str(t["id"]): {key: t[key] for key in ("content", "lstrip", "normalized", "rstrip", "single_word", "special")} for t in self.added}
        write_json(folder / "tokenizer_config.json", {"added_tokens_decoder": decoder} | specials | {
            "chat_template": CHAT, "clean_up_tokenization_spaces": False, "model_max_length": BLOCK_SIZE,
            "tokenizer_class": "PreTrainedTokenizerFast"})


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")


# ------------------------------------------------------------------------------------------------------------------- model
class RmsNorm(torch.autograd.Function):
    """x / rms(x) * weight, with its gradient by hand: three times as fast as F.rms_norm on a CPU."""

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


def linear(rows, columns, std=STD):
    layer = nn.Linear(columns, rows, bias=False)
    nn.init.trunc_normal_(layer.weight, std=std, a=-3 * std, b=3 * std)
    return layer


def rotary_table():
    angle = torch.outer(torch.arange(BLOCK_SIZE).float(), 1.0 / ROPE_BASE ** (torch.arange(0, WIDTH // HEADS, 2).float() / (WIDTH // HEADS)))
    return torch.stack([angle.cos(), angle.sin()], -1)[None, :, None]  # [1, position, 1, pair, (cos, sin)]


def rotate(x, table):
    """RoPE on the adjacent pairs of x [batch, position, head, size]."""
    turn = torch.view_as_complex(table[:, : x.shape[1]])
    return torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (-1, 2))) * turn).flatten(3)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.Wqkv = linear(3 * WIDTH, WIDTH)
        self.qk_bias = nn.Parameter(torch.zeros(2, 1, HEADS, WIDTH // HEADS))
        self.proj = linear(WIDTH, WIDTH, STD / math.sqrt(2 * DEPTH))

    def forward(self, x, table, mask):
        q, k, v = (part.unflatten(-1, (HEADS, -1)) for part in self.Wqkv(x).chunk(3, -1))
        q, k = rotate(q + self.qk_bias[0], table), rotate(k + self.qk_bias[1], table)
        y = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), mask, is_causal=mask is None)
        return self.proj(y.transpose(1, 2).flatten(2))


class GatedMlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = linear(2 * MLP, WIDTH)
        self.proj = linear(WIDTH, MLP, STD / math.sqrt(2 * DEPTH))

    def forward(self, x):
        gate, up = self.fc(x).chunk(2, -1)
        return self.proj(F.silu(gate) * up)


class Block(nn.Module):
    """The sandwich block: a norm before each sublayer, and one on the sum after it."""

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
        self.transformer = nn.ModuleDict({
            "wte": nn.Embedding(vocab, WIDTH), "adapter": linear(WIDTH, 2 * WIDTH), "ln_f": Norm(),
            "prelude": nn.ModuleList(Block() for _ in range(PRELUDE)), "core_block": nn.ModuleList(Block() for _ in range(CORE)),
            "coda": nn.ModuleList(Block() for _ in range(CODA))})
        nn.init.trunc_normal_(self.transformer.wte.weight, std=STD, a=-3 * STD, b=3 * STD)
        self.register_buffer("freqs_cis", rotary_table())

    def embed(self, ids, mask=None):
        x = self.transformer.wte(ids) * math.sqrt(WIDTH)
        for block in self.transformer.prelude:
            x = block(x, self.freqs_cis, mask)
        return x

    def initial_state(self, embedded):
        return nn.init.trunc_normal_(torch.empty_like(embedded), std=STD, a=-3 * STD, b=3 * STD) * math.sqrt(WIDTH)

    def step(self, state, embedded, mask=None):
        state = self.transformer.adapter(torch.cat([state, embedded], -1))
        for block in self.transformer.core_block:
            state = block(state, self.freqs_cis, mask)
        return state

    def predict(self, state, mask=None):
        x = self.transformer.ln_f(state)
        for block in self.transformer.coda:
            x = block(x, self.freqs_cis, mask)
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
ROWS, MUON_RATE, ADAM_RATE, EVERY = 24, 0.012, 3e-3, 100


def batch_of(tokenizer, rng, rows, reach, width=64):
    """ids, labels, weights [rows, width] and mask [rows, 1, width, width]. Problems share a row, and a problem sees only itself.

    Weights: 1 for answers, 0.3 for the full stop and the end, little for the prompt's own words.
    """
    ids, labels = torch.full((rows, width), tokenizer.pad), torch.full((rows, width), tokenizer.pad)
    weights, owner, used = torch.zeros(rows, width), torch.zeros(rows, width), [0] * rows
    misses, number = 0, 0
    while misses < 10:  # until ten problems in a row found no place
        task = rng.choices(list(TASKS), [t[1] for t in TASKS.values()])[0]
        longest = min(reach, TASKS[task][2])
        problem = draw(rng, task, rng.randint(1 + longest // 3, longest), False)
        tokens = [tokenizer.bos] + [tokenizer.id(token) for token, _ in problem] + [tokenizer.id(problem[-1][1]), tokenizer.id("."), tokenizer.eos]
        label, weight = tokens[1:], [0.02] * len(problem) + [1.0, 0.3, 0.3]
        for i, (_, dense) in enumerate(problem):
            if dense:
                label[i + 1], weight[i + 1] = tokenizer.id(dense), 1.0
        row = next((row for row in range(rows) if used[row] + len(label) <= width), None)
        if row is None:
            misses += 1
            continue
        place, number = slice(used[row], used[row] + len(label)), number + 1
        ids[row, place], labels[row, place], weights[row, place] = torch.tensor(tokens[:-1]), torch.tensor(label), torch.tensor(weight)
        owner[row, place], used[row] = number, place.stop
    return ids, labels, weights, (owner[:, None, :, None] == owner[:, None, None, :]).tril()


def random_depth(mean):
    """The paper's depth: Poisson around a log-normal mean, so that now and then a very deep pass is trained."""
    sigma = 0.5
    rate = torch.empty(1).log_normal_(math.log(mean) - sigma**2 / 2, sigma)
    return int(torch.poisson(rate)) + 1


class Muon:
    """Momentum whose matrices are made orthogonal by Newton-Schulz steps: many times fewer steps than Adam needs here."""

    def __init__(self, model):
        self.parts = []  # (weight view, momentum): q, k, v and gate, up are matrices of their own
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
        for shape, pairs in shapes.items():  # matrices of one shape share their multiplications
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
        # No problem is longer than its pass can solve. A model that is trained on hopeless ones learns to stand still on
        # "all answers are equally likely", and an exit criterion takes that for a decision.
        ids, labels, weights, mask = batch_of(tokenizer, rng, ROWS, reach=int(1.5 * depth) + 2)
        logits = model(ids, depth, mask).flatten(0, 1)
        loss = F.cross_entropy(logits, labels.flatten(), reduction="none") @ weights.flatten() / weights.sum()
        adam.zero_grad(), [setattr(p[0], "grad", None) for p in muon.parts]
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
            line = f"step {i + 1} loss {sum_loss / EVERY:.3f} {time.time() - start:.0f} s"
            for task, (_, _, longest, easy, hard) in TASKS.items():
                line += f" | {task}"
                for k in (2, easy[-1], hard[-1]):
                    marks, _ = accuracy(average, tokenizer, task, k, [1, 8, 32], 32, 1)
                    line += f" {k}:" + "/".join(f"{mark:.0f}" for mark in marks.values())
            print(line, flush=True)
            sum_loss = 0.0
            save(average, tokenizer, args.out)  # so far; to be tried while training goes on
    return average


# -------------------------------------------------------------------------------------------------------------- evaluation
@torch.no_grad()
def readings(model, tokenizer, problems, depths, exits=0):
    """Greedy answer ids per depth, and per exit criterion (steps, answer ids) as the authors' code decides in a prefill."""
    ids = torch.tensor([tokenizer.encode(prompt_of(p)) for p in problems])
    embedded = model.embed(ids)
    state, answers, leave = model.initial_state(embedded), {}, {}
    for i in range(1, max(depths) + 1):
        before, state = state, model.step(state, embedded)
        if i in depths or i <= exits:
            logits = model.predict(state)[:, -1].float()
            answers[i] = logits.argmax(-1)
        if i <= exits:
            log_p = logits.log_softmax(-1)
            old = log_p.new_full(log_p.shape, -math.log(log_p.shape[1])) if i == 1 else old
            moved = ((state - before).norm(dim=-1) / state.norm(dim=-1)).mean(-1)
            values = {"latent-diff": moved < 0.03, "kl": (old.exp() * (old - log_p)).sum(-1) < 5e-4}
            old = log_p
            for name, leaves in values.items():
                steps, chosen = leave.setdefault(name, (torch.full_like(answers[i], exits), answers[i].clone()))
                open_rows = steps == exits
                chosen[open_rows] = answers[i][open_rows]
                steps[open_rows & leaves] = i
    return {r: answers[r] for r in depths}, leave


def accuracy(model, tokenizer, task, k, depths, count, seed, exits=0):
    """{r: share of right answers}, {criterion: (mean steps, share)} on held-out problems of length k."""
    rng, state = random.Random(f"{task} {k} {seed}"), torch.get_rng_state()
    torch.manual_seed(seed)  # measuring has its own random states, and training goes on as if it had not happened
    problems = [draw(rng, task, k, True) for _ in range(count)]
    answers, leave = readings(model, tokenizer, problems, depths, exits)
    torch.set_rng_state(state)
    right = torch.tensor([tokenizer.id(p[-1][1]) for p in problems])
    share = lambda chosen: 100 * (chosen == right).float().mean().item()
    return {r: share(answers[r]) for r in depths}, {name: (steps.float().mean().item(), share(chosen)) for name, (steps, chosen) in leave.items()}


def tables(model, tokenizer, count):
    """Two tables, problem and length by depth and by exit criterion; the halves are means over four lengths each."""
    depths = [1, 2, 4, 8, 16, 32, 64, 128]
    by_depth = [f"Right answers, %: {count} held-out problems a row, greedy, seeded random state.", "",
                "| problem, length | " + " | ".join(f"r = {r}" for r in depths) + " |", "|--|" + "--|" * len(depths)]
    by_exit = ["", "Adaptive exit at the reference's thresholds, at most 32 steps: mean steps and right answers, %, beside those of r = 32.", "",
               "| problem, length | latent-diff 0.03: steps | right | kl 5e-4: steps | right | r = 32 |", "|--|--|--|--|--|--|"]

    def add(name, row):
        by_depth.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in row[:8]) + " |")
        by_exit.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in (*row[8:], row[5])) + " |")

    for task, (_, _, longest, easy, hard) in TASKS.items():
        means = {}
        for half in (easy, hard):
            rows = []
            for k in [half[i * (len(half) - 1) // 3] for i in range(4)]:
                share, leave = accuracy(model, tokenizer, task, k, depths, count, 2, exits=32)
                rows.append([*share.values(), *leave["latent-diff"], *leave["kl"]])
                add(f"{task}, {k}", rows[-1])
            means[half] = [sum(column) / 4 for column in zip(*rows)]
        share, leave = accuracy(model, tokenizer, task, longest, depths, count, 2, exits=32)
        add(f"{task}, {longest} (the longest in training)", [*share.values(), *leave["latent-diff"], *leave["kl"]])
        for half in (easy, hard):
            add(f"**{task}, {'easy' if half is easy else 'hard'} half, {half[0]} to {half[-1]}**", means[half])
    return "\n".join(by_depth + by_exit) + "\n"


def problem_file(count=50):
    """Held-out problems for the bundle, with a seed of their own: half of them easy, half of them hard."""
    rng, lines = random.Random("bundle"), []
    for task, (_, _, _, easy, hard) in TASKS.items():
        for half in (easy, hard):
            found, turn = {}, 0
            while len(found) < count:
                k, turn = half[turn % len(half)], turn + 1  # all lengths in turn; the shortest may run out of different problems
                problem = draw(rng, task, k, True)
                found[prompt_of(problem)] = {"task": task, "prompt": prompt_of(problem), "answer": problem[-1][1], "length": k, "hard": half is hard}
            lines += found.values()
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)


def ten_prompts(model, tokenizer):
    """Ten held-out prompts with the model's continuation after 1, 4, 8 and 32 steps."""
    rng, lines = random.Random("ten"), ["| prompt | right | r=1 | r=4 | r=8 | r=32 |", "|--|--|--|--|--|--|"]
    words = {i: piece.replace("Ġ", " ") for piece, i in tokenizer.vocab.items()}
    torch.manual_seed(3)
    for task, lengths in {"cups": (3, 6, 10, 14), "dial": (3, 8, 14), "clock": (3, 8, 14)}.items():
        for k in lengths if task in TASKS else ():
            problem = draw(rng, task, k, True)
            answers, _ = readings(model, tokenizer, [problem], [1, 4, 8, 32])
            cells = [words.get(a.item(), "?").strip() for a in answers.values()]
            lines.append(f"| {prompt_of(problem)} | {problem[-1][1].strip()} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


# -------------------------------------------------------------------------------------------------------------- checkpoint
def save(model, tokenizer, folder):
    """Huginn's files: bf16 weights, the rotary table in f32, the tied head stored a second time."""
    tensors = {name: t if name == "freqs_cis" else t.bfloat16() for name, t in model.state_dict().items()}
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
    write_json(folder / "config.json", {
        "architecture_class_name": "RecurrentGPT", "architectures": ["RavenForCausalLM"],
        "auto_map": {"AutoConfig": "raven_config_minimal.RavenConfig", "AutoModel": "raven_modeling_minimal.RavenForCausalLM",
                     "AutoModelForCausalLM": "raven_modeling_minimal.RavenForCausalLM"},
        "bias": False, "block_class_name": "SandwichBlock", "block_size": BLOCK_SIZE, "effective_expected_depth": DEPTH, "head_dim": WIDTH // HEADS,
        "init_orthogonal": False, "init_strategy": "takase",
        "init_values": {"std": STD, "out_proj": STD / math.sqrt(2 * DEPTH), "embedding": STD, "embed_scale": math.sqrt(WIDTH)},
        "injection_type": "linear", "intermediate_size": MLP, "mean_backprop_depth": BACKPROP, "mean_recurrence": MEAN_RECURRENCE,
        "mlp_class_name": "GatedMLP", "model_type": "huginn_raven", "n_embd": WIDTH, "n_heads": HEADS, "n_layers": PRELUDE + CORE + CODA,
        "n_layers_in_coda": CODA, "n_layers_in_prelude": PRELUDE, "n_layers_in_recurrent_block": CORE, "nonlin_name": "SiLU",
        "norm_class_name": "RMSNorm_llama", "norm_eps": EPS, "num_attention_heads": HEADS, "num_key_value_heads": HEADS,
        "padded_vocab_size": tokenizer.size, "padding_multiple": 64, "qk_bias": True, "rope_base": ROPE_BASE,
        "sampling_scheme": "poisson-lognormal-filling", "state_init": "like-init", "test_time_noise": 0, "test_time_noise_type": "fixed",
        "tie_embeddings": True, "torch_dtype": "bfloat16", "transformers_version": "4.47.1", "vocab_size": tokenizer.size} | ids)
    write_json(folder / "generation_config.json", {"_from_model_config": True} | ids | {"transformers_version": "4.47.1", "do_sample": False})
    tokenizer.save(folder)


def load(tokenizer, folder):
    raw = (folder / "model.safetensors").read_bytes()
    start = 8 + struct.unpack("<Q", raw[:8])[0]
    tensors = {}
    for name, entry in json.loads(raw[8:start]).items():
        if name not in ("__metadata__", "lm_head.weight"):
            first, last = entry["data_offsets"]
            kind = torch.float32 if entry["dtype"] == "F32" else torch.bfloat16
            tensors[name] = torch.frombuffer(bytearray(raw[start + first : start + last]), dtype=kind).view(entry["shape"]).float()
    model = Model(tokenizer.size)
    model.load_state_dict(tensors)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--out", type=Path, metavar="DIR", help="train, and write everything into DIR")
    target.add_argument("--eval", type=Path, metavar="DIR", help="evaluate the checkpoint in DIR")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2, help="one thread gives the same model bit for bit; more may round differently")
    parser.add_argument("--count", type=int, default=200, help="problems in a row of the tables")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder, tokenizer = args.out or args.eval, Tokenizer()
    if args.out:
        folder.mkdir(parents=True, exist_ok=True)
        save(train(args, tokenizer), tokenizer, folder)
        (folder / "problems.jsonl").write_text(problem_file())
    model = load(tokenizer, folder)  # as stored: the tables are those of the bf16 weights
    print(sum(p.numel() for p in model.parameters()), "parameters,", (folder / "model.safetensors").stat().st_size, "bytes\n")
    for name, text in {"prompts.md": ten_prompts(model, tokenizer), "table.md": tables(model, tokenizer, args.count)}.items():
        (folder / name).write_text(text)
        print(text, flush=True)


if __name__ == "__main__":
    main()
