"""Accuracy of a model on held-out problems: by depth, and at the steps where the reference's exit criteria stop."""
import math, random

import torch

from problems import EASY, HARD, LONGEST, TASKS, draw, prompt_of

DEPTHS = [1, 2, 4, 8, 16, 32, 64, 128]


@torch.no_grad()
def readings(model, tokenizer, problems, depths, exits=0):
    """Return greedy answers [problem] by depth, and (steps, answers) by exit criterion, as the authors' code decides in a prefill.

    An exit is at step `exits` at the latest; 0 disables exits.
    """
    ids = torch.tensor([tokenizer.encode(prompt_of(p)) for p in problems])
    embedded = model.embed(ids)
    state, answers, leaves = model.initial_state(embedded), {}, []
    for i in range(1, max(depths) + 1):
        before, state = state, model.step(state, embedded)
        if i in depths or i <= exits:
            logits = model.predict(state)[:, -1]
            answers[i] = logits.argmax(-1)
        if i <= exits:
            log_p = logits.log_softmax(-1)
            old = torch.full_like(log_p, -math.log(log_p.shape[1])) if i == 1 else old
            moved = ((state - before).norm(dim=-1) / state.norm(dim=-1)).mean(-1)
            leaves.append(torch.stack([moved < 0.03, (old.exp() * (old - log_p)).sum(-1) < 5e-4]))
            old = log_p
    leave = {}
    if exits:
        leaves[-1][:] = True
        first = torch.stack(leaves).int().argmax(0)  # [criterion, problem]: first step with True, counted from 0
        by_step = torch.stack([answers[i] for i in range(1, exits + 1)])
        leave = {name: (steps + 1, by_step.gather(0, steps[None])[0]) for name, steps in zip(("latent-diff", "kl"), first)}
    return {r: answers[r] for r in depths}, leave


def accuracy(model, tokenizer, task, k, depths, count, seed, exits=0):
    """Return {r: right answers in %}, {criterion: (mean steps, right answers in %)} on held-out problems of length k."""
    rng, state = random.Random(f"{task} {k} {seed}"), torch.get_rng_state()
    torch.manual_seed(seed)  # measuring uses its own random states, so that it does not affect training
    problems = [draw(rng, task, k, True) for _ in range(count)]
    answers, leave = readings(model, tokenizer, problems, depths, exits)
    torch.set_rng_state(state)
    right = torch.tensor([tokenizer.id(p[-1][1]) for p in problems])
    share = lambda chosen: 100 * (chosen == right).float().mean().item()
    return {r: share(answers[r]) for r in depths}, {name: (steps.float().mean().item(), share(chosen)) for name, (steps, chosen) in leave.items()}


def progress(model, tokenizer):
    """Return a line for the log: right answers in % at r = 1/8/32 for three lengths of each kind."""
    line = ""
    for task in TASKS:
        line += f" | {task}"
        for k in (2, EASY[-1], HARD[-1]):
            marks, _ = accuracy(model, tokenizer, task, k, [1, 8, 32], 32, 1)
            line += f" {k}:" + "/".join(f"{mark:.0f}" for mark in marks.values())
    return line


def tables(model, tokenizer, count):
    """Return two tables, problem and length by depth and by exit criterion; the halves are means over four lengths each."""
    by_depth = [f"Right answers, %: {count} held-out problems a row, greedy, seeded random state.", "",
                "| problem, length | " + " | ".join(f"r = {r}" for r in DEPTHS) + " |", "|--|" + "--|" * len(DEPTHS)]
    by_exit = ["", "Adaptive exit at the reference's thresholds, at most 32 steps: mean steps and right answers, %, beside those of r = 32.", "",
               "| problem, length | latent-diff 0.03: steps | right | kl 5e-4: steps | right | r = 32 |", "|--|--|--|--|--|--|"]

    def measure(task, k):
        share, leave = accuracy(model, tokenizer, task, k, DEPTHS, count, 2, exits=32)
        return [*share.values(), *leave["latent-diff"], *leave["kl"]]

    for task in TASKS:
        easy, hard = ({k: measure(task, k) for k in lengths} for lengths in ((1, 2, 4, 6), (7, 9, 11, 14)))
        rows = {f"{task}, {k}": row for k, row in (easy | hard).items()}
        rows[f"{task}, {LONGEST} (the longest in training)"] = measure(task, LONGEST)
        for name, half in {"easy half, 1 to 6": easy, "hard half, 7 to 14": hard}.items():
            rows[f"**{task}, {name}**"] = [sum(column) / 4 for column in zip(*half.values())]
        for name, row in rows.items():
            by_depth.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in row[:8]) + " |")
            by_exit.append(f"| {name} | " + " | ".join(f"{x:.1f}" for x in (*row[8:], row[5])) + " |")
    return "\n".join(by_depth + by_exit) + "\n"


def ten_prompts(model, tokenizer):
    """Return a table of ten held-out prompts, with the model's answers after 1, 4, 8 and 32 steps."""
    rng, lines = random.Random("ten"), ["| prompt | right | r=1 | r=4 | r=8 | r=32 |", "|--|--|--|--|--|--|"]
    words = {i: piece.replace("Ġ", " ") for piece, i in tokenizer.vocab.items()}
    torch.manual_seed(3)
    for task, lengths in {"cups": (3, 6, 10, 14), "dial": (3, 8, 14), "clock": (3, 8, 14)}.items():
        for k in lengths:
            problem = draw(rng, task, k, True)
            answers, _ = readings(model, tokenizer, [problem], [1, 4, 8, 32])
            cells = [words.get(a.item(), "?").strip() for a in answers.values()]
            lines.append(f"| {prompt_of(problem)} | {problem[-1][1].strip()} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
