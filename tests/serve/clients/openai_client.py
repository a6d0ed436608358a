"""Tests a server with the openai package. The argument is the server's address."""

import sys

import openai

client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="none", max_retries=0)
puzzle = "The ball is under cup B. Swap AC CD AC AB AB AB CD CE CD DE"

models = client.models.list().data
assert [model.id for model in models] == ["demo"], models
assert client.models.retrieve("demo").id == "demo"

answer = client.completions.create(model="demo", prompt=puzzle, max_tokens=4, temperature=0, extra_body={"steps": 32})
assert answer.choices[0].text == " A.", answer
assert answer.choices[0].finish_reason == "stop" and answer.usage.steps_per_token == 32, answer

chunks = list(
    client.completions.create(
        model="demo",
        prompt=puzzle,
        max_tokens=4,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"steps": 32, "return_steps": True},
    )
)
assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == " A.", chunks
assert chunks[-1].usage.completion_tokens == answer.usage.completion_tokens
assert [steps for chunk in chunks for choice in chunk.choices for steps in getattr(choice, "steps", [])] == [32] * 3

ranked = client.completions.create(model="demo", prompt=puzzle, max_tokens=1, temperature=0, logprobs=3, echo=True)
lists = ranked.choices[0].logprobs
assert lists.token_logprobs[0] is None and all(value <= 0 for value in lists.token_logprobs[1:]), lists
assert ranked.choices[0].text.startswith(puzzle)

several = client.completions.create(model="demo", prompt=[puzzle, "The dial"], n=2, max_tokens=2, extra_body={"steps": 2})
assert [choice.index for choice in several.choices] == [0, 1, 2, 3]

messages = [{"role": "user", "content": puzzle}]
chat = client.chat.completions.create(
    model="demo", messages=messages, max_completion_tokens=3, logprobs=True, top_logprobs=2, extra_body={"steps": 8}
)
assert chat.choices[0].message.role == "assistant" and len(chat.choices[0].logprobs.content[0].top_logprobs) == 2, chat
parts = client.chat.completions.create(model="demo", messages=messages, max_tokens=5, stream=True, extra_body={"steps": 8})
text = "".join(chunk.choices[0].delta.content or "" for chunk in parts)
assert isinstance(text, str)

for wrong, kind in [
    ({"temperature": -1}, openai.BadRequestError),
    ({"frequency_penalty": 1}, openai.BadRequestError),
    ({"extra_body": {"steps": 0}}, openai.BadRequestError),
    ({"model": "other"}, openai.NotFoundError),
]:
    try:
        client.completions.create(**({"model": "demo", "prompt": "a"} | wrong))
    except kind as error:
        assert error.body["message"] and "param" in error.body, error.body
    else:
        raise AssertionError(f"{wrong} was accepted")
print(f"openai {openai.__version__}: all requests gave the expected results")
