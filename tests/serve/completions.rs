//! Tests of `POST /v1/completions`.

use std::collections::HashSet;

use ruminate::{Continuation, Device, LikelihoodOptions, LoadOptions, Model, Specials};
use ruminate_tests::trial;
use serde_json::{Value, json};

use crate::http::{LONG, PUZZLE, Running, batch, options};

/// Text and tokens that `ruminate run` generates for a prompt.
pub(crate) fn run(prompt: &str, arguments: &[&str]) -> (String, Value) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ruminate"));
    command.args(["run", "--cpu", "--json", "--quiet", "--seed=0", "--temp=0"]).args(arguments).arg("--").arg(prompt);
    let output = command.stdin(std::process::Stdio::null()).output().expect("the program starts");
    let object: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (object["text"].as_str().expect("a text").to_owned(), object["tokens"].clone())
}

#[trial]
fn greedy_answers_equal_those_of_run() {
    let server = Running::start(options());
    for (prompt, steps) in [(PUZZLE.0, 32), (PUZZLE.0, 1), (LONG, 4), ("A clock with 7 hours shows 3. Then next", 7)] {
        let more = json!({ "steps": steps, "max_tokens": 12 });
        let answer = server.client.complete(prompt, &more).good();
        let (text, _) = run(prompt, &[&format!("--steps={steps}"), "-n=12"]);
        assert_eq!(answer["choices"][0]["text"], text, "{prompt} at {steps} steps");
    }
    let solved = server.client.complete(PUZZLE.0, &json!({ "steps": 32 })).good();
    assert_eq!(solved["choices"][0]["text"], PUZZLE.1);
    assert_eq!(solved["choices"][0]["finish_reason"], "stop");
    server.stop().expect("drained");
}

#[trial]
fn usage_reports_steps_and_passes() {
    let server = Running::start(options());
    let answer = server.client.complete(LONG, &json!({ "steps": 5, "max_tokens": 6, "ignore_eos": true })).good();
    let usage = &answer["usage"];
    assert_eq!((&usage["completion_tokens"], &usage["steps_total"]), (&json!(6), &json!(30)));
    assert_eq!(usage["steps_per_token"], 5.0);
    assert!(usage["core_passes"].as_u64().expect("a number") >= 25, "{usage}");
    let prompt = usage["prompt_tokens"].as_u64().expect("a number");
    assert_eq!(usage["total_tokens"], prompt + 6);
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert!(answer["choices"][0].get("steps").is_none(), "steps were not requested");
    let more = json!({ "steps": 5, "max_tokens": 6, "ignore_eos": true, "return_steps": true });
    assert_eq!(server.client.complete(LONG, &more).good()["choices"][0]["steps"], json!([5, 5, 5, 5, 5, 5]));
    server.stop().expect("drained");
}

#[trial]
fn prompt_can_be_text_tokens_or_list() {
    let server = Running::start(options());
    let client = &server.client;
    let tokens = client.post("/tokenize", &json!({ "content": PUZZLE.0 })).good()["tokens"].clone();
    let text = |prompt: Value| {
        let body = json!({ "prompt": prompt, "steps": 16, "max_tokens": 3, "temperature": 0 });
        let answer = client.post("/v1/completions", &body).good();
        let choices = answer["choices"].as_array().expect("choices").clone();
        let places: Vec<_> = choices.iter().map(|choice| choice["index"].clone()).collect();
        assert_eq!(places, (0..choices.len()).map(Value::from).collect::<Vec<_>>());
        choices.iter().map(|choice| choice["text"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    let one = text(json!(PUZZLE.0));
    assert_eq!(text(tokens.clone()), one);
    assert_eq!(text(json!([PUZZLE.0, LONG])), [one.clone(), text(json!(LONG))].concat());
    assert_eq!(text(json!([tokens, LONG])), [one, text(json!(LONG))].concat());
    server.stop().expect("drained");
}

#[trial]
fn choices_differ_and_are_reproducible_by_seed() {
    let server = Running::start(options());
    let texts = |more: &Value| -> Vec<String> {
        let mut body = json!({ "temperature": 2, "max_tokens": 8, "steps": 2, "n": 3, "ignore_eos": true });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        let answer = server.client.complete(LONG, &body).good();
        let choices = answer["choices"].as_array().expect("choices");
        assert_eq!(answer["usage"]["completion_tokens"], 8 * choices.len());
        choices.iter().map(|choice| choice["text"].as_str().expect("a text").to_owned()).collect()
    };
    let first = texts(&json!({ "seed": 7 }));
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 3, "{first:?}");
    assert_eq!(texts(&json!({ "seed": 7 })), first);
    assert_eq!(texts(&json!({ "seed": 8, "n": 1 }))[0], first[1]);
    assert_ne!(texts(&json!({})), texts(&json!({})), "samples repeat without a seed");
    assert!(!texts(&json!({ "seed": -1 })).is_empty());
    server.stop().expect("drained");
}

#[trial]
fn stop_texts_and_logit_bias_are_applied() {
    let server = Running::start(options());
    let client = &server.client;
    let whole = client.complete(LONG, &json!({ "steps": 2, "max_tokens": 20, "ignore_eos": true })).good();
    let whole = whole["choices"][0]["text"].as_str().expect("a text").to_owned();
    let stop: String = whole.chars().skip(4).take(2).collect();
    let more = json!({ "steps": 2, "max_tokens": 20, "ignore_eos": true, "stop": stop });
    let cut = client.complete(LONG, &more).good();
    let text = cut["choices"][0]["text"].as_str().expect("a text");
    assert!(whole.starts_with(text) && !text.contains(&stop) && text.len() < whole.len(), "{text:?} of {whole:?}");
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
    let token = client.post("/tokenize", &json!({ "content": " A", "add_special": false })).good()["tokens"][0].clone();
    let forced = json!({ "logit_bias": { token.to_string(): 100 }, "max_tokens": 3, "steps": 1 });
    assert_eq!(client.complete(LONG, &forced).good()["choices"][0]["text"], " A A A");
    server.stop().expect("drained");
}

#[trial]
fn streamed_answers_equal_unstreamed() {
    let server = Running::start(options());
    let more = json!({ "steps": 3, "max_tokens": 10, "n": 2, "seed": 3, "temperature": 1, "ignore_eos": true, "return_steps": true });
    let whole = server.client.complete(LONG, &more).good();
    let mut streamed = more.clone();
    streamed["stream"] = json!(true);
    streamed["stream_options"] = json!({ "include_usage": true });
    let reply = server.client.complete(LONG, &streamed);
    assert_eq!(reply.headers["content-type"], "text/event-stream");
    let (mut chunks, done) = reply.chunks();
    assert!(done, "{reply:?}");
    let last = chunks.pop().expect("a last chunk");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["steps_total"], whole["usage"]["steps_total"]);
    for place in 0..2 {
        let choices = || chunks.iter().map(|chunk| &chunk["choices"][0]).filter(|choice| choice["index"] == place);
        let text: String = choices().map(|choice| choice["text"].as_str().expect("a text")).collect();
        assert_eq!(text, whole["choices"][place]["text"].as_str().expect("a text"));
        let steps = choices().flat_map(|choice| choice["steps"].as_array().into_iter().flatten());
        assert_eq!(steps.cloned().collect::<Value>(), whole["choices"][place]["steps"]);
        let ends: Vec<_> = choices().map(|choice| &choice["finish_reason"]).filter(|end| !end.is_null()).collect();
        assert_eq!(ends, ["length"]);
    }
    assert!(chunks.iter().all(|chunk| chunk["usage"].is_null() && chunk["id"] == chunks[0]["id"]));
    server.stop().expect("drained");
}

#[trial]
fn logprobs_have_tokens_and_text_offsets() {
    let server = Running::start(options());
    let more = json!({ "steps": 4, "max_tokens": 6, "logprobs": 3, "ignore_eos": true });
    let answer = server.client.complete(LONG, &more).good();
    let choice = &answer["choices"][0];
    let lists = &choice["logprobs"];
    let text = choice["text"].as_str().expect("a text");
    let tokens: Vec<&str> =
        lists["tokens"].as_array().expect("tokens").iter().map(|token| token.as_str().expect("a text")).collect();
    assert_eq!(tokens.concat(), text);
    for (place, token) in tokens.iter().enumerate() {
        let logprob = lists["token_logprobs"][place].as_f64().expect("a number");
        let top = lists["top_logprobs"][place].as_object().expect("an object");
        assert!(logprob <= 0.0 && (3..=4).contains(&top.len()), "{lists}");
        // With greedy sampling, the chosen token is the most likely one.
        assert!(top.values().all(|other| other.as_f64() <= Some(logprob)), "{lists}");
        assert_eq!(top[*token].as_f64(), Some(logprob));
        let offset = lists["text_offset"][place].as_u64().expect("a number") as usize;
        assert_eq!(text.chars().skip(offset).take(token.chars().count()).collect::<String>(), *token);
    }
    let none = server.client.complete(LONG, &json!({ "logprobs": 0, "max_tokens": 1 })).good();
    assert_eq!(none["choices"][0]["logprobs"]["top_logprobs"], json!([null]));
    server.stop().expect("drained");
}

/// lm-eval requests the log-probabilities of the prompt, and one more token.
#[trial]
fn echo_with_logprobs_scores_the_prompt() {
    let server = Running::start(options());
    let client = &server.client;
    let model = Model::demo(&Device::cpu(), LoadOptions::default()).expect("the demo loads");
    let encode = |text: &str, specials| model.tokenizer().encode(text, specials).expect("it has tokens");
    let [context, continuation] =
        [(PUZZLE.0, Specials::Prompt), (" A.", Specials::Continue)].map(|(text, how)| encode(text, how));
    let options = LikelihoodOptions { steps: Some(8), ..LikelihoodOptions::default() };
    let asked = Continuation { context: context.clone(), continuation: continuation.clone() };
    let scored = model.likelihoods(&[asked], &options, &mut |_| true).expect("scored")[0];
    let whole = [context.clone(), continuation.clone()].concat();
    for tokens in [0, 1] {
        let body =
            json!({ "prompt": whole, "max_tokens": tokens, "echo": true, "logprobs": 1, "temperature": 0, "steps": 8 });
        let answer = client.post("/v1/completions", &body).good();
        assert_eq!(answer["usage"]["completion_tokens"], tokens);
        let lists = &answer["choices"][0]["logprobs"];
        let logprobs: Vec<Option<f64>> =
            lists["token_logprobs"].as_array().expect("numbers").iter().map(Value::as_f64).collect();
        assert_eq!(logprobs.len(), whole.len() + tokens);
        assert_eq!(logprobs[0], None);
        assert!(lists["top_logprobs"][0].is_null() && lists["top_logprobs"][1].is_object());
        let of_continuation: f64 = logprobs[context.len()..whole.len()].iter().flatten().sum();
        assert!((of_continuation - scored.logprob).abs() < 1e-2, "{of_continuation} differs from {}", scored.logprob);
        // The puzzle is solved, so the token after it ends the text.
        assert_eq!(answer["choices"][0]["finish_reason"], ["length", "stop"][tokens]);
    }
    server.stop().expect("drained");
}

/// Several tokens spell one character: they share its offset, and those after it count it once.
#[trial]
fn offsets_count_characters_of_several_tokens_once() {
    let server = Running::start(options());
    let model = Model::demo(&Device::cpu(), LoadOptions::default()).expect("the demo loads");
    let prompt = "Hello é😀 A";
    let offsets = |reply: &Value| -> Vec<u64> {
        let lists = reply["choices"][0]["logprobs"]["text_offset"].as_array().expect("a list");
        lists.iter().map(|offset| offset.as_u64().expect("a number")).collect()
    };
    let more = json!({ "echo": true, "logprobs": 0, "max_tokens": 2, "steps": 2 });
    let found = offsets(&server.client.complete(prompt, &more).good());
    let tokens = model.tokenizer().encode(prompt, Specials::Prompt).expect("it has tokens");
    let mut bytes = 0;
    let expected: Vec<u64> = tokens
        .iter()
        .map(|&token| {
            let before = prompt.char_indices().filter(|(at, c)| at + c.len_utf8() <= bytes).count() as u64;
            if prompt.as_bytes()[bytes..].starts_with(model.tokenizer().token_bytes(token)) {
                bytes += model.tokenizer().token_bytes(token).len();
            }
            before
        })
        .collect();
    assert_eq!(bytes, prompt.len());
    assert!(expected.windows(2).any(|pair| pair == [7, 7] || pair == [6, 6]), "no character has two tokens");
    assert_eq!(found[..tokens.len()], expected);
    assert_eq!(found[tokens.len()], prompt.chars().count() as u64);
    let streamed = server
        .client
        .complete(prompt, &json!({ "echo": true, "logprobs": 0, "max_tokens": 2, "steps": 2, "stream": true }));
    let (chunks, _) = streamed.chunks();
    let all = chunks.iter().filter(|chunk| chunk["choices"][0]["logprobs"].is_object());
    assert_eq!(all.flat_map(offsets).collect::<Vec<_>>(), found);
    server.stop().expect("drained");
}

#[trial]
fn zero_max_tokens_generates_nothing() {
    let server = Running::start(options());
    let answer = server.client.complete(LONG, &json!({ "max_tokens": 0 })).good();
    assert_eq!((&answer["choices"][0]["text"], &answer["usage"]["completion_tokens"]), (&json!(""), &json!(0)));
    let (chunks, done) = server.client.complete(LONG, &json!({ "max_tokens": 0, "stream": true })).chunks();
    assert!(done && chunks.len() == 1, "{chunks:?}");
    server.stop().expect("drained");
}

#[trial]
fn prefix_cache_reuses_common_prompts() {
    let mut cached = batch();
    cached.prefix_cache = 16 << 20;
    let server = Running::on(&Device::cpu(), options(), cached);
    let prompt = format!("{} {}", PUZZLE.0, PUZZLE.0);
    let ask = |more: &Value| server.client.complete(&prompt, more).good();
    let first = ask(&json!({ "steps": 4 }));
    let second = ask(&json!({ "steps": 4, "seed": 5 }));
    let cached = |answer: &Value| answer["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64();
    assert_eq!(cached(&first), Some(0));
    assert!(cached(&second) >= Some(32), "{second}");
    assert_eq!(first["choices"], second["choices"]);
    assert_eq!(cached(&ask(&json!({ "steps": 5 }))), Some(0), "the cache of another depth was used");
    server.client.wait_for("ruminate_prefix_hits_total", |hits| hits == 1.0);
    server.stop().expect("drained");
}

#[trial]
fn echoed_answer_begins_with_prompt() {
    let server = Running::start(options());
    let more = json!({ "echo": true, "steps": 16 });
    let answer = server.client.complete(PUZZLE.0, &more).good();
    let plain = server.client.complete(PUZZLE.0, &json!({ "steps": 16 })).good();
    let text = plain["choices"][0]["text"].as_str().expect("a text");
    assert_eq!(answer["choices"][0]["text"], format!("{}{text}", PUZZLE.0));
    let streamed = server.client.complete(PUZZLE.0, &json!({ "echo": true, "steps": 16, "stream": true }));
    let (chunks, done) = streamed.chunks();
    let whole: String = chunks.iter().map(|chunk| chunk["choices"][0]["text"].as_str().expect("a text")).collect();
    assert!(done && answer["choices"][0]["text"] == whole);
    server.stop().expect("drained");
}
