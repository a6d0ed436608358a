"""Sends many requests of random depths and lengths and cancels some. Fails if one is lost or answered twice, if a greedy answer differs from
`ruminate run`, or if memory grows.

The arguments are the server's address, its process ID, the number of requests and the program.
"""

import collections
import http.client
import json
import random
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

url, process, requests, program = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
host = urlsplit(url).netloc
PROMPTS = ["The ball is under cup E. Swap AE", "The dial is at the 3rd of 5. Turn 2 1", "A clock with", "The ball is under cup C. Swap BD AE"]
STEPS = [1, 2, 3, 5, 8, 13, 32]
TOKENS = [1, 2, 5, 12]


def resident():
    """Returns the server's resident memory in bytes and its number of open files."""
    import os

    with open(f"/proc/{process}/statm") as statm:
        return int(statm.read().split()[1]) * 4096, len(os.listdir(f"/proc/{process}/fd"))


lock = threading.Lock()
left = iter(range(requests))
texts = collections.defaultdict(set)
counts = collections.Counter()
memory = []


def post(body):
    connection = http.client.HTTPConnection(host, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    return connection, connection.getresponse()


def one(number):
    draw = random.Random(number)
    key = (draw.choice(PROMPTS), draw.choice(STEPS), draw.choice(TOKENS))
    body = {"prompt": key[0], "steps": key[1], "max_tokens": key[2], "temperature": 0, "seed": 0}
    kind = draw.choice(["whole", "whole", "streamed", "cancelled", "sampled"])
    if kind == "sampled":
        body |= {"temperature": 1.5, "seed": number, "n": 2}
    if kind in ("streamed", "cancelled"):
        body["stream"] = True
    connection, answer = post(body)
    if answer.status != 200:
        return f"status {answer.status}", None
    if kind == "cancelled":
        answer.read(draw.randrange(1, 200))
        connection.sock.close() if connection.sock else answer.close()
        return kind, None
    data = answer.read()
    connection.close()
    if kind == "sampled":
        assert len(json.loads(data)["choices"]) == 2
        return kind, None
    if kind == "whole":
        (choice,) = json.loads(data)["choices"]
        return kind, (key, choice["text"])
    events = [line[6:] for line in data.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", data
    choices = [choice for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert sum(choice["finish_reason"] is not None for choice in choices) == 1, data
    return kind, (key, "".join(choice["text"] for choice in choices))


def work():
    while True:
        with lock:
            number = next(left, None)
            if number is not None and number % max(requests // 10, 1) == 0:
                memory.append(resident())
        if number is None:
            return
        try:
            kind, answer = one(number)
        except Exception as error:  # Counted and reported below.
            kind, answer = f"failed: {error!r}", None
        with lock:
            counts[kind] += 1
            if answer:
                texts[answer[0]].add(answer[1])


begin = time.time()
threads = [threading.Thread(target=work) for _ in range(24)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
took = time.time() - begin
time.sleep(1)
memory.append(resident())
print(f"{requests} requests in {took:.0f} s: {dict(counts)}")
print("resident MB and open files during the run:", [(bytes_ // 1_000_000, files) for bytes_, files in memory])
connection = http.client.HTTPConnection(host)
connection.request("GET", "/metrics")
figures = [line for line in connection.getresponse().read().decode().splitlines() if not line.startswith("#")]
figures = dict(line.rsplit(" ", 1) for line in figures if "_bucket" not in line)
for name in ["ruminate_sequences_running", "ruminate_sequences_waiting", "ruminate_tokens_total", "ruminate_passes_total", "ruminate_pass_rows_total", "ruminate_cancelled_total"]:
    print(f"{name} {figures[name]}")

assert sum(counts.values()) == requests and set(counts) <= {"whole", "streamed", "cancelled", "sampled"}, counts
assert figures["ruminate_sequences_running"] == figures["ruminate_sequences_waiting"] == "0"
different = {key: found for key, found in texts.items() if len(found) > 1}
assert not different, different
# `ruminate run` answers each distinct request once.
wrong = []
for (prompt, steps, tokens), found in sorted(texts.items()):
    arguments = ["run", "--cpu", "--json", "-q", "--seed=0", "--temp=0", f"--steps={steps}", f"-n={tokens}", "--", prompt]
    said = json.loads(subprocess.run([program, *arguments], capture_output=True, check=True).stdout)["text"]
    if found != {said}:
        wrong.append((prompt, steps, tokens, found, said))
assert not wrong, wrong
print(f"{len(texts)} distinct greedy answers, all equal to those of `ruminate run`")
settled = memory[len(memory) // 3 :]
growth = settled[-1][0] - settled[0][0]
assert growth < 20_000_000, f"memory grew by {growth} bytes: {memory}"
