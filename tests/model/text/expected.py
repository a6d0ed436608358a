"""Writes expected.json: token ids from Python's tokenizers 0.23.3 for long runs of equal characters, and for every character next to letters, digits and
apostrophes. Takes some minutes.

    pip install tokenizers==0.23.3 && python tests/model/text/expected.py
"""

import json
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer

HERE = Path(__file__).parent
TINY = HERE.parents[1] / "golden" / "tiny" / "tokenizer.json"

# Tokens that cross places where the split depends on a word boundary.
MERGES = ["' m", "I 'm", "' t", "n 't", "\\ n", "\\n e", "' l", "'l l"]
BLOCK = 4096


def glued():
    """Returns tiny's tokenizer with additional merges."""
    file = json.loads(TINY.read_text())
    model = file["model"]
    for merge in MERGES:
        left, right = merge.split(" ")
        model["vocab"][left + right] = len(model["vocab"])
        model["merges"].append(merge)
    return Tokenizer.from_str(json.dumps(file))


def hashed(ids):
    value = 0
    for token in ids:
        value = (value * 1000003 ^ token) & (2**64 - 1)
    return str(value)


def characters():
    """Returns all characters of the first two planes and of the plane of marks, and some of each uniform block beyond them."""
    dense = lambda code: code < 0x20000 or 0xE0000 <= code < 0xE1000
    every = (code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000)
    return (chr(code) for code in every if dense(code) or code % 64 == 0)


def main():
    tiny = Tokenizer.from_file(str(TINY))
    ids = lambda tokenizer, text: tokenizer.encode(text, add_special_tokens=False).ids
    first = {}
    for c in characters():
        first.setdefault(unicodedata.category(c), c)
    runs = []
    for category, c in sorted(first.items()):
        # The tokenizer takes quadratic time on numbers.
        for length in [20000] if category[0] == "N" else [20000, 1100000]:
            found = ids(tiny, f"hello {c * length} world tail")
            runs.append({"category": category, "char": c, "length": length, "count": len(found), "hash": hashed(found)})
    model = glued()
    beside = []
    text = ""
    for place, c in enumerate(characters()):
        text += f"I'm{c}here can't{c} \\ne{c} 7{c}7{c}'ll{c}\n"
        if place % BLOCK == BLOCK - 1:
            beside.append(hashed(ids(model, text)))
            text = ""
    beside.append(hashed(ids(model, text)))
    (HERE / "expected.json").write_text(json.dumps({"merges": MERGES, "runs": runs, "beside": beside}, indent=1) + "\n")


main()
