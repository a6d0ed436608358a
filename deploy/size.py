#!/usr/bin/env python3
"""Estimates memory, passes and tokens per second of a model on a device at a given depth, from the output of `ruminate inspect`.

    deploy/size.py -m synthetic:huginn-0125 --memory 24 --bandwidth 1000 --dtype q8 --steps 16 --context 4096 --kv anchor

docs/sizing.md explains the formulas. Only Python's standard library is used.
"""

import argparse
import json
import subprocess
import sys

KEPT = {"full": "every step", "anchor": "first 8 steps and one more", "4": "last 4 steps", "1": "last step"}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", default="ruminate", help="the program (default: ruminate)")
    parser.add_argument("-m", "--model", required=True, help="the model, as for `ruminate inspect -m`")
    parser.add_argument("--memory", type=float, required=True, help="memory of the device in GB")
    parser.add_argument("--bandwidth", type=float, required=True, help="bandwidth that decoding reaches in GB/s (see `ruminate bench`)")
    parser.add_argument("--compute", type=float, help="arithmetic that the device reaches in TFLOP/s (see `ruminate bench`)")
    parser.add_argument("--dtype", default="bf16", choices=["f32", "bf16", "q8", "q4"], help="format of the weights")
    parser.add_argument("--steps", type=int, required=True, help="steps per token")
    parser.add_argument("--context", type=int, required=True, help="positions per sequence")
    parser.add_argument("--kv", default="full", choices=KEPT, help="steps whose keys and values are kept, as for --kv-share")
    parser.add_argument("--sequences", type=int, help="concurrent sequences (default: as many as fit, up to 64)")
    parser.add_argument("--scratch", type=float, default=0.5, help="memory besides weights and cache in GB (default: 0.5)")
    return parser.parse_args()


def at(depths, steps, read):
    """Returns a figure at a depth. After the first step all figures are linear in the steps or constant, so two depths determine the others."""
    known = {depth["steps"]: read(depth) for depth in depths}
    if steps in known:
        return known[steps]
    below = max(step for step in known if step < steps)
    above = min((step for step in known if step > steps), default=None)
    if above is None:
        above, below = below, max(step for step in known if step < below)
    slope = (known[above] - known[below]) / (above - below)
    return known[below] + slope * (steps - below)


def main():
    asked = arguments()
    if min(asked.steps, asked.context) < 1 or min(asked.memory, asked.bandwidth) <= 0:
        sys.exit("--steps, --context, --memory and --bandwidth must be more than 0")
    call = [asked.program, "inspect", "-m", asked.model, "--json"]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(call)} failed:\n{done.stderr}")
    depths = json.loads(done.stdout)["depths"]

    def weights(depth):
        return depth["weight_bytes_per_token"][asked.dtype]

    def cache(depth, keeps):
        return next(entry["bytes"] for entry in depth["kv_bytes_per_position"] if entry["keeps"] == keeps)

    once = weights(depths[0])
    core = (at(depths, 2, weights) - once) if depths[0]["steps"] == 1 else sys.exit("`ruminate inspect` lists no depth of one step")
    per_token = at(depths, asked.steps, weights)
    kept = at(depths, asked.steps, lambda depth: cache(depth, KEPT[asked.kv]))
    read = at(depths, asked.steps, lambda depth: cache(depth, KEPT["full"]))

    room = asked.memory * 1e9 - once - asked.scratch * 1e9
    fit = int(room // (kept * asked.context))
    if fit < 1:
        need = (once + kept * asked.context) / 1e9 + asked.scratch
        sys.exit(f"not enough memory: weights, scratch and one sequence take {need:.1f} GB of {asked.memory:g} GB")
    sequences = asked.sequences or min(fit, 64)

    # In a round every sequence gets one token: the weights are read once for all, and each sequence reads its own cache, which is half full on average.
    def round_time(sequences):
        traffic = per_token + sequences * read * asked.context / 2
        time = traffic / (asked.bandwidth * 1e9)
        if asked.compute:
            # Two operations per parameter and row. In f32 a parameter has 4 bytes.
            parameters = at(depths, asked.steps, lambda depth: depth["weight_bytes_per_token"]["f32"]) / 4
            time = max(time, 2 * parameters * sequences / (asked.compute * 1e12))
        return time

    one, all_of_them = round_time(1), round_time(sequences)
    print(f"weights             {once / 1e9:8.2f} GB in {asked.dtype}")
    print(f"a pass of the core  {core / 1e9:8.2f} GB read, for one row or for many")
    print(f"a token             {per_token / 1e9:8.2f} GB of weights read at {asked.steps} steps")
    print(f"a position          {kept / 1e6:8.3f} MB of keys and values ({KEPT[asked.kv]})")
    print(f"a sequence          {kept * asked.context / 1e9:8.2f} GB at {asked.context} positions")
    print(f"sequences that fit  {fit:8d}  in {asked.memory:g} GB")
    print(f"alone               {1 / one:8.1f} tokens/s, {asked.steps / one:.0f} passes/s")
    print(f"{sequences:3d} at a time       {sequences / all_of_them:8.1f} tokens/s in all, {1 / all_of_them:.1f} each")
    if asked.sequences and asked.sequences > fit:
        sys.exit(f"{asked.sequences} sequences do not fit, only {fit}")


if __name__ == "__main__":
    main()
