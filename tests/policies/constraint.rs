//! Structured output: the text follows its schema, expression or grammar whatever tokens are drawn, and the other options keep their effect.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use ruminate::{
    BatchOptions, Constraint, Criterion, Error, Event, Exit, GenerateOptions, LoadOptions, Model, Piece, Pipeline,
    Progress, Sampling, SessionOptions, Speculate, StopReason, Synthetic,
};
use ruminate_engine::Device;
use ruminate_tests::{demo_files, demo_model, trial};
use serde::Deserialize;
use serde_json::{Value, json};

/// A generation: its text, its pieces and the stop reason.
struct Said {
    text: String,
    pieces: Vec<Piece>,
    stop: StopReason,
}

/// A model with random weights, which generates random text.
fn noise(device: &Device) -> Result<Model> {
    let shape = "n_embd=64,heads=2,hidden=96,vocab=2048,layers=1/1/1,block_size=1024,seed=3";
    Ok(Model::open(&Synthetic::parse(shape)?.source(), device, LoadOptions::default())?)
}

/// Options that draw nearly uniformly from the allowed tokens.
fn options(constraint: Constraint, tokens: u32) -> GenerateOptions {
    GenerateOptions {
        steps: Some(1),
        max_tokens: Some(tokens),
        sampling: Sampling { temperature: 2.0, ..Sampling::GREEDY },
        constraint: Some(constraint),
        ..GenerateOptions::default()
    }
}

fn say(model: &Model, seed: u64, options: &GenerateOptions) -> Result<Said> {
    let mut session = model.session(SessionOptions { seed, context: Some(1024), ..SessionOptions::default() });
    if session.is_err() {
        // The demo has a shorter context.
        session = model.session(SessionOptions { seed, ..SessionOptions::default() });
    }
    let mut session = session?;
    let mut generation = session.generate(&[5, 6, 7], options)?;
    let pieces: Vec<Piece> = generation.by_ref().collect::<Result<_, _>>()?;
    let text = pieces.iter().map(|piece| piece.text.as_str()).collect();
    Ok(Said { text, pieces, stop: generation.stop_reason().context("the generation ended without a stop reason")? })
}

fn refused<T>(outcome: Result<T, Error>) -> Result<String> {
    match outcome {
        Ok(_) => bail!("it was accepted"),
        Err(error) => Ok(error.to_string()),
    }
}

/// A value of [`schema`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    cup: String,
    moves: Vec<String>,
    certainty: i64,
    note: String,
    done: bool,
    inner: Option<Box<Inner>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    ratio: f64,
}

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "cup": {"enum": ["A", "B", "C→", "\"D\""]},
            "moves": {"type": "array", "items": {"type": "string", "pattern": "^[A-E]{2}$"}, "minItems": 1, "maxItems": 3},
            "certainty": {"type": "integer", "minimum": -5, "maximum": 100},
            "note": {"type": "string", "maxLength": 8},
            "done": {"type": "boolean"},
            "inner": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/inner"}]},
        },
        "required": ["cup", "moves", "certainty", "note", "done", "inner"],
        "additionalProperties": false,
        "$defs": {"inner": {
            "type": "object",
            "properties": {"ratio": {"type": "number", "minimum": 0, "maximum": 1, "multipleOf": 0.25}},
            "required": ["ratio"],
            "additionalProperties": false,
        }},
    })
}

fn check_report(text: &str) -> Result<()> {
    let report: Report = serde_json::from_str(text).with_context(|| format!("{text:?}"))?;
    let Report { cup, moves, certainty, note, done, inner } = report;
    ensure!(["A", "B", "C→", "\"D\""].contains(&cup.as_str()), "{cup:?}");
    ensure!((1..=3).contains(&moves.len()), "{moves:?}");
    let pair = |text: &String| text.len() == 2 && text.bytes().all(|byte| (b'A'..=b'E').contains(&byte));
    ensure!(moves.iter().all(pair), "{moves:?}");
    ensure!((-5..=100).contains(&certainty), "{certainty}");
    ensure!(note.chars().count() <= 8 && (text.contains("true") == done || note.contains("true")), "{note:?}, {done}");
    if let Some(inner) = inner {
        ensure!([0.0, 0.25, 0.5, 0.75, 1.0].contains(&inner.ratio), "{}", inner.ratio);
    }
    Ok(())
}

#[trial(device, cpu)]
fn schema_values_parse_for_any_draw(device: &Device) -> Result<()> {
    for (model, seeds) in [(demo_model(device)?, 4), (noise(device)?, 8)] {
        let compact = {
            let mut schema = schema();
            schema["x-guidance"] = json!({"whitespace_flexible": false});
            Constraint::json_schema(model.tokenizer(), &schema)?
        };
        ensure!(compact.warnings().is_empty(), "{:?}", compact.warnings());
        for seed in 0..seeds {
            let said = say(&model, seed, &options(compact.clone(), 400))?;
            ensure!(said.stop == StopReason::Complete, "seed {seed}: {:?} after {:?}", said.stop, said.text);
            check_report(&said.text).with_context(|| format!("seed {seed}"))?;
            ensure!(!said.text.contains('\n'), "seed {seed}: {:?}", said.text);
        }
    }
    Ok(())
}

#[trial(device, full)]
fn blanks_between_json_parts_end(device: &Device) -> Result<()> {
    let model = noise(device)?;
    let schema = json!({"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 3});
    let constraint = Constraint::json_schema(model.tokenizer(), &schema)?;
    let mut blanks = 0;
    for seed in 0..16 {
        let said = say(&model, seed, &options(constraint.clone(), 400))?;
        ensure!(said.stop == StopReason::Complete, "seed {seed}: {:?} after {:?}", said.stop, said.text);
        let values: Vec<bool> = serde_json::from_str(&said.text).with_context(|| format!("{:?}", said.text))?;
        ensure!((2..=3).contains(&values.len()), "seed {seed}: {:?}", said.text);
        blanks += said.text.matches([' ', '\n', '\t']).count();
    }
    ensure!(blanks > 0, "no value has a blank, so the test shows nothing");
    Ok(())
}

#[trial(device, cpu)]
fn text_matches_regular_expression(device: &Device) -> Result<()> {
    let (demo, noise) = (demo_model(device)?, noise(device)?);
    for model in [&demo, &noise] {
        // Characters of one to four bytes, each spelled with tokens of one byte.
        let constraint = Constraint::regex(model.tokenizer(), "([xä→😀]{3}/){2}end")?;
        for seed in 0..4 {
            let said = say(model, seed, &options(constraint.clone(), 100))?;
            let Some(body) = said.text.strip_suffix("/end") else { bail!("seed {seed}: {:?}", said.text) };
            let parts: Vec<&str> = body.split('/').collect();
            let fits = |part: &&str| part.chars().count() == 3 && part.chars().all(|c| "xä→😀".contains(c));
            ensure!(parts.len() == 2 && parts.iter().all(fits), "seed {seed}: {:?}", said.text);
            ensure!(said.stop == StopReason::Complete, "seed {seed}: {:?}", said.stop);
        }
    }
    Ok(())
}

#[trial(device, cpu)]
fn text_follows_grammar_with_special_tokens(device: &Device) -> Result<()> {
    let model = noise(device)?;
    let grammar = "start: list <|end_header|>\nlist: \"(\" (list | WORD)* \")\"\nWORD: /[a-c]/";
    let constraint = Constraint::lark(model.tokenizer(), grammar)?;
    let mut complete = 0;
    for seed in 0..6 {
        let said = say(&model, seed, &options(constraint.clone(), 60))?;
        let mut depth = 0_i32;
        for (at, c) in said.text.char_indices() {
            ensure!(depth > 0 || at == 0, "seed {seed}: {:?} continues after its end", said.text);
            depth += match c {
                '(' => 1,
                ')' => -1,
                'a'..='c' => 0,
                _ => bail!("seed {seed}: {:?}", said.text),
            };
        }
        if said.stop == StopReason::Complete {
            let last = said.pieces.last().context("a token")?.token;
            let named = model.tokenizer().token_text(last);
            ensure!(depth == 0 && named.as_deref() == Some("<|end_header|>"), "seed {seed}: {named:?}, depth {depth}");
            complete += 1;
        } else {
            ensure!(said.stop == StopReason::MaxTokens, "seed {seed}: {:?}", said.stop);
        }
    }
    ensure!(complete > 0, "no text was complete");
    Ok(())
}

#[trial(device, cpu)]
fn end_tokens_appear_only_where_text_may_end(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let constraint = Constraint::regex(model.tokenizer(), "ab+")?;
    let end = model.tokenizer().eos()[0];
    let forced = GenerateOptions { logit_bias: vec![(end, f32::INFINITY)], ..options(constraint, 50) };
    let said = say(&model, 1, &forced)?;
    ensure!(said.text == "ab" && said.stop == StopReason::EndToken(end), "{:?}, {:?}", said.text, said.stop);
    // With an end token that the caller names, and with no end tokens.
    let named =
        GenerateOptions { end_tokens: Some(vec![300]), logit_bias: vec![(300, f32::INFINITY)], ..forced.clone() };
    let said = say(&model, 1, &named)?;
    ensure!(said.text == "ab" && said.stop == StopReason::EndToken(300), "{:?}, {:?}", said.text, said.stop);
    let never = GenerateOptions { end_tokens: Some(Vec::new()), max_tokens: Some(20), ..forced.clone() };
    let said = say(&model, 1, &never)?;
    ensure!(said.text.len() >= 20 && said.stop == StopReason::MaxTokens, "{:?}, {:?}", said.text, said.stop);
    // `min_tokens` delays the end token.
    let least = GenerateOptions { min_tokens: Some(6), ..forced };
    let said = say(&model, 1, &least)?;
    ensure!(said.pieces.len() == 7 && said.stop == StopReason::EndToken(end), "{:?}, {:?}", said.text, said.stop);
    Ok(())
}

#[trial(device, cpu)]
fn bans_and_forced_tokens_respect_constraint(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let one = |text: &str| -> Result<u32> {
        match model.tokenizer().encode(text, ruminate::Specials::Continue)?[..] {
            [token] => Ok(token),
            ref tokens => bail!("{text:?} is {tokens:?}"),
        }
    };
    let (a, b, c) = (one("a")?, one("b")?, one("c")?);
    let constraint = Constraint::regex(model.tokenizer(), "[ab]{8}")?;
    let banned =
        GenerateOptions { logit_bias: vec![(a, f32::NEG_INFINITY), (c, f32::INFINITY)], ..options(constraint, 50) };
    for seed in 0..4 {
        let said = say(&model, seed, &banned)?;
        ensure!(said.text == "bbbbbbbb" && said.stop == StopReason::Complete, "{:?}, {:?}", said.text, said.stop);
    }
    // All tokens that contain an `a` or a `b` are banned.
    let all = model.tokenizer().holding("a").into_iter().chain(model.tokenizer().holding("b"));
    let mut bias: Vec<(u32, f32)> = all.map(|token| (token, f32::NEG_INFINITY)).collect();
    bias.sort_by_key(|&(token, _)| token);
    bias.dedup();
    let nothing = GenerateOptions { logit_bias: bias, ..banned.clone() };
    let problem = say(&model, 1, &nothing).err().context("no token is left, but it was accepted")?.to_string();
    ensure!(problem.contains("regular expression") && problem.contains("ban every token"), "{problem}");
    // After two equal letters the same one is banned.
    let words = GenerateOptions { bad_words: vec![vec![a, a, a], vec![b, b, b]], logit_bias: Vec::new(), ..banned };
    for seed in 0..4 {
        let said = say(&model, seed, &words)?;
        ensure!(said.text.len() == 8 && !said.text.contains("aaa") && !said.text.contains("bbb"), "{:?}", said.text);
    }
    Ok(())
}

#[trial(device, cpu)]
fn logprobs_are_those_before_constraint(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let constraint = Constraint::regex(model.tokenizer(), "q[xyz]{3}")?;
    let asked = GenerateOptions { logprobs: Some(5), ..options(constraint, 50) };
    let constrained = say(&model, 1, &asked)?.pieces;
    let first = constrained.first().context("a token")?;
    let bias = vec![(first.token, f32::INFINITY)];
    let plain = GenerateOptions { constraint: None, logit_bias: bias, max_tokens: Some(1), ..asked };
    let plain = say(&model, 1, &plain)?.pieces;
    ensure!(plain[0].token == first.token && plain[0].logprob == first.logprob, "{first:?}, {:?}", plain[0]);
    ensure!(plain[0].top == first.top && first.top.len() == 5, "{first:?}, {:?}", plain[0]);
    Ok(())
}

#[trial(device, cpu)]
fn bounded_steps_choose_same_tokens_and_session_continues(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let constraint = Constraint::regex(model.tokenizer(), "[a-z]{12}")?;
    let asked = options(constraint, 50);
    let waited = say(&model, 3, &asked)?;
    let mut session = model.session(SessionOptions { seed: 3, ..SessionOptions::default() })?;
    session.start(&[5, 6, 7], &asked)?;
    let mut tokens = Vec::new();
    let stop = loop {
        match session.step(Duration::from_millis(2))? {
            Progress::Token(piece) => tokens.push(piece.token),
            Progress::Working => {}
            Progress::Done(stop) => break stop,
            other => anyhow::bail!("{other:?}"),
        }
    };
    let expected: Vec<u32> = waited.pieces.iter().map(|piece| piece.token).collect();
    ensure!(tokens == expected && stop == waited.stop, "{tokens:?} and {stop:?}, expected {expected:?}");
    // The next generation starts the grammar from its beginning, or has none.
    let again: Vec<Piece> = session.generate(&[8], &asked)?.collect::<Result<_, _>>()?;
    let text: String = again.iter().map(|piece| piece.text.as_str()).collect();
    ensure!(text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_lowercase()), "{text:?}");
    let free = GenerateOptions { constraint: None, max_tokens: Some(8), ..asked };
    let free: Vec<Piece> = session.generate(&[8], &free)?.collect::<Result<_, _>>()?;
    ensure!(free.len() <= 8 && !free.is_empty(), "{free:?}");
    Ok(())
}

#[trial(cpu)]
fn constraints_refuse_computing_ahead_and_other_tokenizers(device: &Device) -> Result<()> {
    let (model, other) = (demo_model(device)?, noise(device)?);
    let constraint = Constraint::regex(model.tokenizer(), "a+")?;
    let asked = options(constraint, 4);
    for ahead in [
        GenerateOptions { speculate: Some(Speculate::default()), steps: Some(8), ..asked.clone() },
        GenerateOptions { pipeline: Some(Pipeline::default()), steps: Some(8), ..asked.clone() },
    ] {
        let problem = refused(model.session(SessionOptions::default())?.generate("A", &ahead).map(drop))?;
        ensure!(problem.contains("constraint cannot be combined"), "{problem}");
    }
    let problem = refused(other.session(SessionOptions::default())?.generate("A", &asked).map(drop))?;
    ensure!(problem.contains("another tokenizer"), "{problem}");
    let problem = refused(other.batch(BatchOptions::default())?.add("A", 1, &asked))?;
    ensure!(problem.contains("another tokenizer"), "{problem}");
    Ok(())
}

#[trial(cpu)]
fn unsupported_constraints_are_refused_with_location(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let tokenizer = model.tokenizer();
    let deep = (0..200).fold(json!({"type": "null"}), |inner, _| json!({"type": "array", "items": inner}));
    let wide: Vec<Value> = (0..200_000).map(|index| json!(format!("value {index}"))).collect();
    let schemas = [
        (json!({"type": "nonsense"}), "nonsense"),
        (json!({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}), "not"),
        (json!({"$ref": "https://example.org/schema.json"}), "https://example.org/schema.json"),
        (json!({"$ref": "#/$defs/missing"}), "missing"),
        (json!({"type": "integer", "minimum": 3, "maximum": 2}), "3"),
        (json!({"type": "string", "pattern": "("}), "("),
        (json!(false), "no value"),
        (json!([1, 2]), "expected an object"),
        (json!({"x-guidance": 3}), "x-guidance"),
        (json!({"x-guidance": {"unknown": 3}}), "unknown"),
        (json!({"type": "array", "items": {"type": "integer"}, "minItems": 100_000_000}), ""),
        (json!({"type": "string", "minLength": 100_000_000}), ""),
        (json!({"enum": wide}), ""),
        (json!({"$ref": "#"}), "no text"),
        (deep, "128 levels"),
    ];
    for (schema, word) in schemas {
        let shown: String = schema.to_string().chars().take(80).collect();
        match Constraint::json_schema(tokenizer, &schema) {
            Err(Error::Constraint { problem, .. }) => {
                ensure!(problem.contains(word), "{shown}: {problem}");
                ensure!(!problem.contains("backtrace") && !problem.contains("non-verbose"), "{shown}: {problem}");
            }
            Err(error) => bail!("{shown}: {error}"),
            // A constraint that is merely large can be within the limits.
            Ok(_) => ensure!(word.is_empty(), "{shown} was accepted"),
        }
    }
    for (pattern, word) in [
        ("(", "unclosed group"),
        ("a{2,1}", "invalid repetition"),
        (r"\bword\b", "look"),
        ("(?=a)b", "look-around"),
        (r"(a)\1", "backreferences"),
        (&format!("{}a{}", "(".repeat(1000), ")".repeat(1000)), "nest"),
        (&"a".repeat(100_000), "65536"),
    ] {
        let shown: String = pattern.chars().take(80).collect();
        let problem = refused(Constraint::regex(tokenizer, pattern)).with_context(|| shown.clone())?;
        ensure!(problem.starts_with("regular expression: ") && problem.contains(word), "{shown}: {problem}");
    }
    for (grammar, word) in [
        ("", "start"),
        ("start: missing", "missing"),
        ("start: \"a\" (", "("),
        ("rule: \"a\"", "start"),
        ("start: <|no_such_token|>", "no_such_token"),
        (&format!("start: {}\"a\"{}", "(".repeat(1000), ")".repeat(1000)), "nested"),
        (&format!("start: {}", "\"a\" ".repeat(20_000)), "65536"),
    ] {
        let shown: String = grammar.chars().take(80).collect();
        let problem = refused(Constraint::lark(tokenizer, grammar)).with_context(|| shown.clone())?;
        ensure!(problem.starts_with("grammar: ") && problem.contains(word), "{shown}: {problem}");
    }
    // The longest possible chain of rules, each of which refers to the next.
    let rules: String = (0..5000).map(|index| format!("r{index}:r{} \"a\"\n", index + 1)).collect();
    let chain = format!("start:r0\n{rules}r5000:\"b\"");
    Constraint::lark(tokenizer, &chain).map(drop).or_else(|error| match error {
        Error::Constraint { .. } => Ok(()),
        other => Err(other),
    })?;
    Ok(())
}

#[trial(cpu)]
fn character_without_token_is_reported(device: &Device) -> Result<()> {
    // The demo's tokenizer without a token for `~`.
    let folder = demo_files::with_json("tokenizer.json", |tokenizer| {
        let vocab = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
        let id = vocab.remove("~").expect("a token");
        vocab.insert("ĠĠĠĠĠĠĠ".to_owned(), id);
    })?;
    let model = Model::open(&folder.source(), device, LoadOptions::default())?;
    let constraint = Constraint::regex(model.tokenizer(), "aa~")?;
    let problem =
        say(&model, 1, &options(constraint, 10)).err().context("a text without spelling was accepted")?.to_string();
    ensure!(problem.contains("after 2 tokens") && problem.contains("no token of the model"), "{problem}");
    Ok(())
}

#[trial(device, cpu)]
fn byte_tokens_spell_any_character(device: &Device) -> Result<()> {
    // A vocabulary like those of SentencePiece: a token for each byte, some of which spell the same text as a piece.
    let folder = demo_files::with_json("tokenizer.json", |tokenizer| {
        let mut vocab = serde_json::Map::new();
        for byte in 0..=255_u32 {
            vocab.insert(format!("<0x{byte:02X}>"), byte.into());
        }
        for (index, piece) in ["\u{2581}", "a", "b", "ab", "\u{2581}ab", "{", "}", "\"", ":"].iter().enumerate() {
            vocab.insert((*piece).to_owned(), (256 + index).into());
        }
        tokenizer["model"] = json!({"type": "BPE", "vocab": vocab, "merges": [], "byte_fallback": true});
        tokenizer["pre_tokenizer"] = Value::Null;
        tokenizer["normalizer"] = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]});
    })?;
    let model = Model::open(&folder.source(), device, LoadOptions::default())?;
    let constraint = Constraint::regex(model.tokenizer(), r#"\{"(ä|→|😀| ab){6}":ab\}"#)?;
    let mut blanks = 0;
    for seed in 0..6 {
        let said = say(&model, seed, &options(constraint.clone(), 100))?;
        let body = said.text.strip_prefix("{\"").and_then(|rest| rest.strip_suffix("\":ab}"));
        let mut body = body.with_context(|| format!("seed {seed}: {:?}", said.text))?;
        blanks += body.matches(' ').count();
        for _ in 0..6 {
            let rest = ["ä", "→", "😀", " ab"].iter().find_map(|part| body.strip_prefix(part));
            body = rest.with_context(|| format!("seed {seed}: {:?}", said.text))?;
        }
        ensure!(body.is_empty() && said.stop == StopReason::Complete, "seed {seed}: {:?}, {:?}", said.text, said.stop);
    }
    ensure!(blanks > 0, "no text has a blank, so the test shows nothing");
    Ok(())
}

/// Sequences of a batch, each with its own constraint or none, generate what they generate alone.
#[trial(device, cpu, full)]
fn constraints_in_batch_match_single_sessions(device: &Device) -> Result<()> {
    let model = demo_model(device)?;
    let exact = |seed| SessionOptions { seed, invariant: true, context: Some(96), ..SessionOptions::default() };
    let exit = Exit { threshold: 0.3, ..Exit::new(Criterion::LatentDiff) };
    let asked = |seed: u64| -> Result<GenerateOptions> {
        let constraint = match seed % 3 {
            0 => Some(Constraint::regex(model.tokenizer(), "[a-f]{9}")?),
            1 => Some(Constraint::json_schema(model.tokenizer(), &json!({ "enum": ["one", "two", 3] }))?),
            _ => None,
        };
        let exit = Some(exit).filter(|_| seed.is_multiple_of(2));
        let sampling = Sampling { temperature: 1.5, ..Sampling::GREEDY };
        Ok(GenerateOptions {
            steps: Some(4),
            max_tokens: Some(20),
            constraint,
            exit,
            sampling,
            ..GenerateOptions::default()
        })
    };
    let mut batch = model.batch(BatchOptions { session: exact(0), sequences: 4, ..BatchOptions::default() })?;
    let ids: Vec<_> = (0..9).map(|seed| Ok(batch.add(&[5, 6, 7], seed, &asked(seed)?)?)).collect::<Result<_>>()?;
    let (mut said, mut ends) = (HashMap::new(), HashMap::new());
    while let Some(event) = batch.wait()? {
        match event {
            Event::Token { id, piece } => said.entry(id).or_insert_with(Vec::new).push(piece),
            Event::Done { id, reason, .. } => drop(ends.insert(id, reason)),
            event => bail!("{event:?}"),
        }
    }
    for (seed, id) in (0..).zip(ids) {
        let mut session = model.session(exact(seed))?;
        let options = asked(seed)?;
        let mut generation = session.generate(&[5, 6, 7], &options)?;
        let expected: Vec<Piece> = generation.by_ref().collect::<Result<_, _>>()?;
        ensure!(said[&id] == expected, "{seed}: {:?} instead of {expected:?}", said[&id]);
        ensure!(Some(ends[&id]) == generation.stop_reason(), "{seed}: {:?}", ends[&id]);
    }
    Ok(())
}
