"""Problems of the demo model: swapped cups, a dial that wraps around, and a clock with 7 hours.

A problem is a list of (token, label). The label is the answer so far: every position is a problem of its own, and short
beginnings are the curriculum for long problems. A label of None means the token that follows.
"""
import json, random, re, zlib

CUPS = "ABCDE"
PAIRS = [a + b for a in CUPS for b in CUPS if a < b]
MARKS = 20
WORD = re.compile(r" ?\d+(?:st|nd|rd|th)| ?\d| ?[A-Za-z]+|[.,]")
LONGEST = 20  # in training
EASY, HARD = range(1, 7), range(7, 15)  # lengths


def plain(text):
    return [(word, None) for word in WORD.findall(text)]


def ordinal(n):
    return f" {n}" + ("th" if n // 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th"))


def cups(rng, k, practice):
    """The ball is under cup B. Swap AC DE AB"""
    ball, near = rng.choice(CUPS), practice and rng.random() < 0.5  # practice moves the ball more often than chance
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


TASKS = {"cups": cups, "dial": dial, "clock": clock}
SHARES = [0.3, 0.4, 0.3]  # of the training problems


def prompt_of(problem):
    return "".join(token for token, _ in problem)


def draw(rng, task, k, held_out):
    """Draw a problem of length k. A tenth of all prompts, chosen by checksum, is held out and never used in training."""
    while True:
        problem = TASKS[task](rng, k, not held_out)
        if (zlib.crc32(prompt_of(problem).encode()) % 10 == 0) == held_out:
            return problem


def problem_file(count=50):
    """Return held-out problems as lines of JSON, drawn with a separate seed: as many easy as hard ones of each kind."""
    rng, lines = random.Random("bundle"), []
    for task in TASKS:
        for half in (EASY, HARD):
            found, turn = {}, 0
            while len(found) < count:
                k, turn = half[turn % len(half)], turn + 1  # cycles through the lengths, because the shortest have few distinct problems
                problem = draw(rng, task, k, True)
                prompt = prompt_of(problem)
                found[prompt] = {"task": task, "prompt": prompt, "answer": problem[-1][1], "length": k, "hard": half is HARD}
            lines += found.values()
    return "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
