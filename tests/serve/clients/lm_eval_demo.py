"""Runs the demo's problems as an lm-eval task through local-completions. Fails unless the accuracy equals that of `ruminate sweep`.

The arguments are the server's address, its depth and the program. The server tokenizes.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import lm_eval
from lm_eval.tasks import TaskManager

url, steps, program = sys.argv[1], int(sys.argv[2]), sys.argv[3]
work = pathlib.Path(tempfile.mkdtemp())
problems = pathlib.Path(__file__).parents[3] / "model/demo/problems.jsonl"
rows = [json.loads(line) for line in problems.read_text().splitlines()]
config = {
    "task": "demo",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": str(problems)}},
    "test_split": "test",
    "output_type": "loglikelihood",
    # lm-eval's remote tokenizer does not add a begin token, but `sweep` does.
    "doc_to_text": "<|begin_text|>{{prompt}}",
    "doc_to_target": "{{answer}}",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
(work / "demo.yaml").write_text(json.dumps(config))
results = lm_eval.simple_evaluate(
    model="local-completions",
    model_args={
        "base_url": url + "/v1/completions",
        "model": "demo",
        "tokenizer_backend": "remote",
        "max_length": 512,
        "num_concurrent": 4,
        "max_retries": 1,
    },
    tasks=["demo"],
    task_manager=TaskManager(include_path=str(work), include_defaults=False),
    bootstrap_iters=0,
)
seen = results["results"]["demo"]["acc,none"]
arguments = ["sweep", "--cpu", f"--steps={steps}", "--json", "-q"]
output = subprocess.run([program, *arguments], capture_output=True, check=True, text=True)
swept = json.loads(output.stdout)["rows"]
solved = round(sum(row["accuracy"] * row["n"] for row in swept if row["task"] in ("clock", "cups", "dial")))
print(f"steps {steps}: lm-eval counts {round(seen * len(rows))} of {len(rows)} problems solved, sweep {solved}")
assert round(seen * len(rows)) == solved, swept
