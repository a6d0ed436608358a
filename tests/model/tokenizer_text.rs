//! Encoding of all text: long runs of any kind of character, and every character next to letters, digits and apostrophes, encode to the ids of Python's
//! tokenizers package.

use anyhow::{Context, Result, bail, ensure};
use ruminate::{GenerationConfig, Spec, Specials, Tokenizer};
use ruminate_tests::{Folder, golden_json, trial};
use serde_json::{Value, json};

/// The number of characters whose texts are hashed together, as in `text/expected.py`.
const BLOCK: usize = 4096;

fn expected() -> Result<Value> {
    Ok(serde_json::from_str(include_str!("text/expected.json"))?)
}

/// Opens a tokenizer with a vocabulary of 1024 rows, enough for the added merges.
fn opened(file: &Value) -> Result<Tokenizer> {
    let folder = Folder::new()?;
    let mut config = golden_json("tiny", "config.json")?;
    config["vocab_size"] = json!(1024);
    config["padded_vocab_size"] = json!(1024);
    folder.write("config.json", config.to_string())?;
    folder.write("tokenizer.json", file.to_string())?;
    let source = folder.source();
    Ok(Tokenizer::open(&source, &Spec::open(&source)?, &GenerationConfig::open(&source)?)?)
}

fn tiny() -> Result<Tokenizer> {
    opened(&golden_json("tiny", "tokenizer.json")?)
}

fn hashed(ids: &[u32]) -> String {
    ids.iter().fold(0_u64, |value, &id| value.wrapping_mul(1_000_003) ^ u64::from(id)).to_string()
}

/// All characters of the first two planes and of the plane of marks, and some of each uniform block beyond them, as in `text/expected.py`.
fn characters() -> impl Iterator<Item = char> {
    let dense = |code: u32| code < 0x20000 || (0xe0000..0xe1000).contains(&code);
    ('\u{1}'..=char::MAX).filter(move |&c| dense(c.into()) || u32::from(c) % 64 == 0)
}

#[trial]
fn long_runs_of_every_category_encode_like_python() -> Result<()> {
    let tokenizer = tiny()?;
    let check = |run: &Value| -> Result<()> {
        let (c, length) = (run["char"].as_str().context("char")?, run["length"].as_u64().context("length")?);
        let text = format!("hello {} world tail", c.repeat(length.try_into()?));
        let ids = tokenizer.encode(&text, Specials::None)?;
        ensure!(
            json!(ids.len()) == run["count"],
            "{length} of {c:?} encode to {} tokens, not {}",
            ids.len(),
            run["count"]
        );
        ensure!(json!(hashed(&ids)) == run["hash"], "{length} of {c:?} encode to other tokens");
        Ok(())
    };
    let expected = expected()?;
    let runs = expected["runs"].as_array().context("runs")?;
    // The long runs take half a second each.
    let half = |rest: usize| runs.iter().skip(rest).step_by(2).try_for_each(check);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        half(0)?;
        other.join().unwrap_or_else(|_| bail!("the thread of the other half panicked"))
    })
}

/// Python takes hours for these texts, so the test relies on each digit being its own piece.
#[trial]
fn million_digits_encode_digit_by_digit() -> Result<()> {
    let tokenizer = tiny()?;
    for digit in ["7", "²"] {
        let few = tokenizer.encode(&format!("hello {digit} world"), Specials::None)?;
        let digits = tokenizer.encode(digit, Specials::None)?;
        let many = tokenizer.encode(&format!("hello {} world", digit.repeat(1_100_000)), Specials::None)?;
        assert_eq!(many.len(), few.len() + digits.len() * 1_099_999, "{digit}");
        assert!(many.ends_with(&tokenizer.encode(" world", Specials::None)?), "{digit}");
    }
    Ok(())
}

#[trial]
fn every_character_between_letters_and_digits_encodes_like_python() -> Result<()> {
    let expected = expected()?;
    let mut file = golden_json("tiny", "tokenizer.json")?;
    for merge in expected["merges"].as_array().context("merges")? {
        let (left, right) = merge.as_str().context("merge")?.split_once(' ').context("pair")?;
        let id = file["model"]["vocab"].as_object().context("vocab")?.len();
        file["model"]["vocab"][format!("{left}{right}")] = json!(id);
        file["model"]["merges"].as_array_mut().context("merges")?.push(merge.clone());
    }
    let tokenizer = opened(&file)?;
    let all: Vec<char> = characters().collect();
    let hashes = expected["beside"].as_array().context("beside")?;
    assert_eq!(hashes.len(), all.len().div_ceil(BLOCK));
    for (block, hash) in all.chunks(BLOCK).zip(hashes) {
        let text: String = block.iter().map(|c| format!("I'm{c}here can't{c} \\ne{c} 7{c}7{c}'ll{c}\n")).collect();
        let ids = tokenizer.encode(&text, Specials::None)?;
        assert_eq!(json!(hashed(&ids)), *hash, "the block from {:?}", block[0]);
    }
    Ok(())
}
