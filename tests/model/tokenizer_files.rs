//! Untrusted `tokenizer.json` files: with any steps they cause neither panics nor unbounded memory, and encode like the tokenizers crate.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use ruminate::{Error, GenerationConfig, Spec, Specials, Tokenizer};
use ruminate_tests::{Folder, golden_json, trial};
use serde_json::{Value, json};

/// The time limit for all generated files together.
const BUDGET: Duration = Duration::from_secs(15);

const TEXTS: [&str; 9] = [
    "Hello world, it's 12st 345!",
    "a\tb\n\nc  d\r\n",
    "<x>hello<x>  <y> ab b",
    "ÀÉß ﷺ ½ Ⅻ e\u{301} \u{200b}x",
    "日本語 テキスト",
    "  leading and trailing  ",
    "a-b-c--d",
    "\0\u{1}🙂🙂",
    "",
];

fn pick<'a, T>(rng: &mut Rng, all: &'a [T]) -> &'a T {
    &all[rng.usize(..all.len())]
}

fn pattern(rng: &mut Rng) -> Value {
    let all = [
        json!({"String": " "}),
        json!({"String": "ab"}),
        json!({"String": ""}),
        json!({"Regex": r"\s+"}),
        json!({"Regex": r"\w+|[^\w\s]+"}),
        json!({"Regex": r"(?=a)"}),
        json!({"Regex": r"\b"}),
        json!({"Regex": r"a*"}),
        json!({"Regex": r"'s|\p{L}+| ?\p{N}{1,3}|\s+(?!\S)"}),
        json!({"Regex": "("}),
    ];
    pick(rng, &all).clone()
}

fn normalizer(rng: &mut Rng, depth: u32) -> Value {
    let simple = ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "Nmt", "StripAccents", "ByteLevel"];
    match rng.u32(..if depth > 2 { 8 } else { 9 }) {
        0..=1 => Value::Null,
        2..=3 => json!({"type": pick(rng, &simple)}),
        4 => json!({"type": "Strip", "strip_left": rng.bool(), "strip_right": rng.bool()}),
        5 => {
            json!({"type": "BertNormalizer", "clean_text": rng.bool(), "handle_chinese_chars": rng.bool(), "strip_accents": null, "lowercase": rng.bool()})
        }
        6 => json!({"type": "Prepend", "prepend": pick(rng, &["▁", "ab"])}),
        7 => json!({"type": "Replace", "pattern": pattern(rng), "content": pick(rng, &["", "▁", "aa", "xyz"])}),
        _ => {
            let inner: Vec<Value> =
                (0..rng.u32(..4)).map(|_| normalizer(rng, depth + 1)).filter(|it| !it.is_null()).collect();
            json!({"type": "Sequence", "normalizers": inner})
        }
    }
}

fn pre_tokenizer(rng: &mut Rng, depth: u32) -> Value {
    let simple = ["Whitespace", "WhitespaceSplit", "BertPreTokenizer", "UnicodeScripts"];
    let behaviors = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"];
    match rng.u32(..if depth > 2 { 11 } else { 12 }) {
        0 => Value::Null,
        1..=2 => json!({"type": pick(rng, &simple)}),
        3..=4 => {
            json!({"type": "ByteLevel", "add_prefix_space": rng.bool(), "trim_offsets": true, "use_regex": rng.bool()})
        }
        5 => {
            let scheme = pick(rng, &["never", "always"]);
            json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": rng.bool()})
        }
        6 => json!({"type": "CharDelimiterSplit", "delimiter": "-"}),
        7 => json!({"type": "Punctuation", "behavior": pick(rng, &behaviors)}),
        8 => json!({"type": "Digits", "individual_digits": rng.bool()}),
        9 => json!({"type": "FixedLength", "length": rng.u32(..4)}),
        10 => {
            json!({"type": "Split", "pattern": pattern(rng), "behavior": pick(rng, &behaviors), "invert": rng.bool()})
        }
        _ => {
            let inner: Vec<Value> =
                (0..rng.u32(..4)).map(|_| pre_tokenizer(rng, depth + 1)).filter(|it| !it.is_null()).collect();
            json!({"type": "Sequence", "pretokenizers": inner})
        }
    }
}

fn post_processor(rng: &mut Rng) -> Value {
    match rng.u32(..6) {
        0 => json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": rng.bool(), "use_regex": true}),
        1 => json!({"type": "BertProcessing", "sep": ["<x>", 500], "cls": ["<y>", 501]}),
        2 => {
            json!({"type": "RobertaProcessing", "sep": ["<x>", 500], "cls": ["<y>", 501], "trim_offsets": rng.bool(), "add_prefix_space": true})
        }
        3 => {
            json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<x>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": if rng.bool() { json!({}) } else { json!({"<x>": {"id": "<x>", "ids": [500], "tokens": ["<x>"]}}) }})
        }
        4 => json!({"type": "Sequence", "processors": []}),
        _ => Value::Null,
    }
}

fn added(rng: &mut Rng) -> Vec<Value> {
    let texts = ["<x>", "<y>", "hello", " ab", "b", "ß", "\n", "  ", "▁", "日", "é", "", "<x>hello"];
    let count = rng.u32(..5);
    let token = |rng: &mut Rng| {
        json!({"id": rng.u32(480..520), "content": pick(rng, &texts), "single_word": rng.u32(..4) == 0, "lstrip": rng.u32(..4) == 0,
            "rstrip": rng.u32(..4) == 0, "normalized": rng.bool(), "special": rng.bool()})
    };
    let mut tokens: Vec<Value> = (0..count).map(|_| token(rng)).collect();
    // Of two tokens that normalize to the same text, the crate finds one at random.
    tokens.iter_mut().skip(1).for_each(|token| token["normalized"] = json!(false));
    tokens
}

fn model(rng: &mut Rng, tiny: &Value) -> Value {
    let vocab = &tiny["vocab"];
    match rng.u32(..8) {
        0 => json!({"type": "WordLevel", "vocab": vocab, "unk_token": "a"}),
        1 => {
            json!({"type": "WordPiece", "vocab": vocab, "unk_token": pick(rng, &["a", "not there"]), "continuing_subword_prefix": "", "max_input_chars_per_word": rng.u32(..9)})
        }
        2 => {
            json!({"type": "Unigram", "unk_id": 0, "vocab": [["a", 0.0], ["b", -1.0], ["ab", -1.5], [" ", -2.0], ["▁", -2.0]], "byte_fallback": rng.bool()})
        }
        3 => json!({"type": "Unigram", "unk_id": 7, "vocab": []}),
        _ => {
            let mut model = tiny.clone();
            model["dropout"] = pick(rng, &[Value::Null, json!(0.5), json!(1.0)]).clone();
            model["ignore_merges"] = json!(rng.bool());
            model["byte_fallback"] = json!(rng.bool());
            model["unk_token"] = pick(rng, &[Value::Null, json!("a"), json!("not there")]).clone();
            model
        }
    }
}

fn open(folder: &Folder) -> Result<Tokenizer, Error> {
    let source = folder.source();
    Tokenizer::open(&source, &Spec::open(&source)?, &GenerationConfig::open(&source)?)
}

fn folder_of_tiny() -> Result<Folder> {
    let folder = Folder::in_memory()?;
    let mut config = golden_json("tiny", "config.json")?;
    config["vocab_size"] = json!(600);
    config["padded_vocab_size"] = json!(600);
    folder.write("config.json", config.to_string())?;
    Ok(folder)
}

#[trial]
fn generated_files_are_refused_or_encode_like_tokenizers_crate() -> Result<()> {
    let mut tiny = golden_json("tiny", "tokenizer.json")?;
    // Other tests cover the published expression, which is long.
    tiny["added_tokens"] = json!([]);
    let folder = folder_of_tiny()?;
    let mut rng = Rng::with_seed(11);
    let start = Instant::now();
    let (mut opened, mut compared, mut cases) = (0, 0, 0);
    let mut wrong = Vec::new();
    // Suppress the messages of the crate's own panics, which would be printed a thousand times.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let outcome = (|| -> Result<()> {
        while cases < 4000 && start.elapsed() < BUDGET {
            cases += 1;
            let mut file = tiny.clone();
            file["normalizer"] = normalizer(&mut rng, 0);
            file["pre_tokenizer"] = pre_tokenizer(&mut rng, 0);
            file["post_processor"] = post_processor(&mut rng);
            file["added_tokens"] = json!(added(&mut rng));
            file["model"] = model(&mut rng, &tiny["model"]);
            let content = file.to_string();
            folder.write("tokenizer.json", &content)?;
            let Ok(tokenizer) = open(&folder) else { continue };
            opened += 1;
            file["model"]["dropout"] = Value::Null;
            let reference = catch_unwind(|| file.to_string().parse::<tokenizers::Tokenizer>().ok()).ok().flatten();
            for text in TEXTS {
                for specials in [Specials::Prompt, Specials::PostProcessor] {
                    let _ = tokenizer.encode(text, specials);
                }
                let _ = tokenizer.encode_plain(text, Specials::None);
                let Ok(ids) = tokenizer.encode(text, Specials::None) else { continue };
                ensure!(tokenizer.encode(text, Specials::None)? == ids, "a second encoding of {text:?} differs");
                let encode = || reference.as_ref()?.encode_fast(text, false).ok();
                if let Ok(Some(expected)) = catch_unwind(AssertUnwindSafe(encode)) {
                    compared += 1;
                    let small = file["model"]["vocab"].as_object().is_none();
                    let model = if small { file["model"].clone() } else { json!(file["model"]["type"]) };
                    if ids != expected.get_ids() && wrong.len() < 20 {
                        wrong.push(format!(
                            "case {cases}: {text:?} encodes to {ids:?}, in the crate to {:?}\nmodel {model}\nnormalizer {}\npre_tokenizer {}\nadded_tokens {}\n",
                            expected.get_ids(),
                            file["normalizer"],
                            file["pre_tokenizer"],
                            file["added_tokens"]
                        ));
                    }
                }
            }
        }
        Ok(())
    })();
    std::panic::set_hook(hook);
    outcome?;
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(opened > cases / 4 && compared > opened, "{opened} of {cases} opened, {compared} texts compared");
    Ok(())
}

#[trial]
fn normalizer_output_is_bounded() -> Result<()> {
    let folder = folder_of_tiny()?;
    let step = |content: &str| json!({"type": "Replace", "pattern": {"String": "o"}, "content": content});
    let prepend = json!({"type": "Prepend", "prepend": "o".repeat(1000)});
    for steps in
        [vec![step("oo"); 60], vec![step(&"o".repeat(1000)); 3], [vec![prepend; 90], vec![step("ooo"); 9]].concat()]
    {
        let mut file = golden_json("tiny", "tokenizer.json")?;
        file["normalizer"] = json!({"type": "Sequence", "normalizers": steps});
        folder.write("tokenizer.json", file.to_string())?;
        let error = open(&folder)?.encode("foo", Specials::None).err().context("the text was encoded")?;
        assert!(error.to_string().contains("normalizer makes more than"), "{error}");
        // Added tokens are normalized when the file is read.
        file["added_tokens"][0]["normalized"] = json!(true);
        file["added_tokens"][0]["content"] = json!("foo");
        folder.write("tokenizer.json", file.to_string())?;
        assert!(open(&folder).is_err());
    }
    Ok(())
}

#[trial]
fn pattern_that_backtracks_loses_no_text() -> Result<()> {
    let folder = folder_of_tiny()?;
    let mut file = golden_json("tiny", "tokenizer.json")?;
    let split = json!({"type": "Split", "pattern": {"Regex": "(a+)+b"}, "behavior": "Isolated", "invert": false});
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
    file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split, bytes]});
    folder.write("tokenizer.json", file.to_string())?;
    let text = "a".repeat(60) + "c";
    let tokenizer = open(&folder)?;
    match tokenizer.encode(&text, Specials::None) {
        Ok(ids) => assert_eq!(tokenizer.decode(&ids, false), text, "text was lost"),
        Err(error) => assert!(error.to_string().contains("takes too long"), "{error}"),
    }
    Ok(())
}

#[cfg(unix)]
#[trial]
fn only_regular_files_of_bounded_size_are_read() -> Result<()> {
    for name in
        ["tokenizer.json", "config.json", "tokenizer_config.json", "generation_config.json", "special_tokens_map.json"]
    {
        let folder = folder_of_tiny()?;
        folder.write("tokenizer.json", golden_json("tiny", "tokenizer.json")?.to_string())?;
        let path = folder.path().join(name);
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path)?;
        let error = open(&folder).err().context("a device was opened")?.to_string();
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
        std::fs::remove_file(&path)?;
        assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
        let error = open(&folder).err().context("a pipe was opened")?.to_string();
        assert!(error.contains(name) && error.contains("not a regular file"), "{error}");
        std::fs::remove_file(&path)?;
        std::fs::File::create(&path)?.set_len(3 << 30)?;
        let error = open(&folder).err().context("a file of 3 GB was read")?.to_string();
        assert!(error.contains(name) && error.contains("may have at most"), "{error}");
    }
    Ok(())
}

#[trial]
fn tokens_beyond_embedding_fail_only_when_used() -> Result<()> {
    let folder = folder_of_tiny()?;
    folder.write("config.json", golden_json("tiny", "config.json")?.to_string())?;
    let mut file = golden_json("tiny", "tokenizer.json")?;
    let token = |id: u32, content: &str| json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true});
    file["added_tokens"].as_array_mut().context("added")?.extend([token(512, "<extra>"), token(513, "<more>")]);
    folder.write("tokenizer.json", file.to_string())?;
    folder.write("tokenizer_config.json", json!({"pad_token": "<extra>"}).to_string())?;
    let tokenizer = open(&folder)?;
    assert_eq!(tokenizer.pad(), None, "a padding token without an embedding row was accepted");
    assert!(!tokenizer.encode("plain", Specials::None)?.is_empty());
    let error = tokenizer.encode("a <more> b", Specials::None).err().context("the text was encoded")?.to_string();
    assert!(error.contains("\"<more>\"") && error.contains("513") && error.contains("0 to 511"), "{error}");
    assert!(tokenizer.encode_plain("a <more> b", Specials::None).is_ok());
    Ok(())
}

#[trial]
fn begin_token_follows_post_processor_and_add_bos_token() -> Result<()> {
    let folder = folder_of_tiny()?;
    let named = |add: Value| json!({"bos_token": "<|begin_text|>", "add_bos_token": add}).to_string();
    let file = golden_json("tiny", "tokenizer.json")?;
    let without = {
        let mut file = file.clone();
        file["post_processor"] = Value::Null;
        file
    };
    let bytes = {
        let mut file = file.clone();
        file["post_processor"] =
            json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
        file
    };
    let cases = [
        (&file, Value::Null, true),
        (&file, json!(true), true),
        (&file, json!(false), false),
        (&without, Value::Null, false),
        (&without, json!(true), true),
        (&without, json!(false), false),
        (&bytes, Value::Null, false),
    ];
    for (file, add, begins) in cases {
        folder.write("tokenizer.json", file.to_string())?;
        folder.write("tokenizer_config.json", named(add.clone()))?;
        let tokenizer = open(&folder)?;
        let ids = tokenizer.encode("hello", Specials::Prompt)?;
        assert_eq!(ids.first() == Some(&480), begins, "{add} with {}", file["post_processor"]);
        assert_eq!(
            tokenizer.encode("<|begin_text|>hello", Specials::Prompt)?[..2],
            [480, tokenizer.encode("hello", Specials::None)?[0]]
        );
        assert_eq!(tokenizer.encode("hello", Specials::Bos)?[0], 480, "the requested begin token is missing");
    }
    Ok(())
}
