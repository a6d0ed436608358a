//! Text that comes in pieces: the decoder never breaks a character, and stop strings are found wherever the pieces are cut.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use ruminate::{Config, GenerationConfig, Specials, StopStrings, Tokenizer, demo};

/// Ids behind the demo's vocabulary, which the decoder must pass over.
const UNKNOWN: u32 = 40;

static DEMO: LazyLock<Demo> = LazyLock::new(Demo::open);

/// The demo's tokenizer, and what its file says about each token, read without the library.
struct Demo {
    tokenizer: Tokenizer,
    /// Bytes of each token, and whether it is special.
    tokens: Vec<(Vec<u8>, bool)>,
}

impl Demo {
    fn open() -> Self {
        let source = demo::source();
        let config = Config::open(&source).unwrap();
        let tokenizer = Tokenizer::open(&source, &config, &GenerationConfig::default()).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&source.read("tokenizer.json").unwrap()).unwrap();
        let alphabet = alphabet();
        let mut tokens = vec![(Vec::new(), false); config.padded_vocab_size as usize];
        for (text, id) in file["model"]["vocab"].as_object().unwrap() {
            let bytes = text.chars().filter_map(|c| alphabet.get(&c).copied()).collect();
            tokens[usize::try_from(id.as_u64().unwrap()).unwrap()] = (bytes, false);
        }
        for added in file["added_tokens"].as_array().unwrap() {
            let text = added["content"].as_str().unwrap();
            let id = usize::try_from(added["id"].as_u64().unwrap()).unwrap();
            tokens[id] = (text.as_bytes().to_vec(), added["special"] == true);
        }
        assert!(tokens.iter().all(|(bytes, _)| !bytes.is_empty()), "the oracle knows every token");
        Self { tokenizer, tokens }
    }

    /// What ids decode to, by way of their bytes alone.
    fn text(&self, ids: &[u32], skip_special: bool) -> String {
        let known = ids.iter().filter_map(|&id| self.tokens.get(id as usize));
        let kept = known.filter(|(_, special)| !(skip_special && *special));
        let bytes: Vec<u8> = kept.flat_map(|(bytes, _)| bytes.iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// The byte-level alphabet as GPT-2's encoder.py builds it: three printable ranges as they are, the other bytes from U+0100 on.
fn alphabet() -> HashMap<char, u8> {
    let mut bytes: Vec<u8> = (b'!'..=b'~').chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let mut characters: Vec<u32> = bytes.iter().map(|&byte| u32::from(byte)).collect();
    for byte in 0..=u8::MAX {
        if !bytes.contains(&byte) {
            characters.push(256 + u32::try_from(bytes.len() - 188).unwrap());
            bytes.push(byte);
        }
    }
    characters.into_iter().map(|c| char::from_u32(c).unwrap()).zip(bytes).collect()
}

/// The text before the stop string that is complete first; of those that end together, the longest counts.
fn before_stop(text: &str, stops: &[String]) -> Option<String> {
    let ends = text.char_indices().map(|(at, c)| at + c.len_utf8());
    ends.map(|end| &text[..end]).find_map(|read| {
        let longest = stops.iter().filter(|stop| read.ends_with(*stop)).map(String::len).max()?;
        Some(read[..read.len() - longest].to_owned())
    })
}

/// Cuts a text at places given as fractions of its length, moved to the next character border.
fn cut<'a>(text: &'a str, places: &[u16]) -> Vec<&'a str> {
    let place = |&place: &u16| (usize::from(place) * (text.len() + 1) / (usize::from(u16::MAX) + 1)).min(text.len());
    let mut borders: Vec<usize> = places.iter().map(place).collect();
    borders.iter_mut().for_each(|at| *at = (*at..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap());
    borders.extend([0, text.len()]);
    borders.sort_unstable();
    borders.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

/// A fixed seed: a failure prints the smallest input that fails, and the next run meets it again.
fn settings() -> ProptestConfig {
    ProptestConfig { cases: 2000, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..ProptestConfig::default() }
}

/// Texts over few characters of one to four bytes, so that stop strings occur, overlap and begin in vain.
fn small_text(most: usize) -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!['a', 'b', 'é', '€', '🙂']), 0..=most).prop_map(String::from_iter)
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_stream_of_any_ids_is_the_lossy_text_of_their_bytes(
        ids in prop::collection::vec(0..u32::try_from(DEMO.tokens.len()).unwrap() + UNKNOWN, 0..60),
        skip_special: bool,
    ) {
        let expected = DEMO.text(&ids, skip_special);
        let mut stream = DEMO.tokenizer.stream(skip_special);
        let mut text = String::new();
        for &id in &ids {
            text.push_str(&stream.push(id));
            prop_assert!(expected.starts_with(&text), "{text:?} was given out, the whole is {expected:?}");
        }
        text.push_str(&stream.flush());
        prop_assert_eq!(&text, &expected);
        prop_assert_eq!(stream.flush(), "", "a stream that has ended holds nothing back");
        prop_assert_eq!(DEMO.tokenizer.decode(&ids, skip_special), expected);
    }

    #[test]
    fn a_character_is_given_out_whole_and_with_its_last_byte(text in "[^\u{fffd}]{0,40}") {
        let ids = DEMO.tokenizer.encode(&text, Specials::None).unwrap();
        let mut stream = DEMO.tokenizer.stream(false);
        let mut bytes = Vec::new();
        let mut given = String::new();
        for &id in &ids {
            bytes.extend_from_slice(&DEMO.tokens[id as usize].0);
            given.push_str(&stream.push(id));
            let complete = match std::str::from_utf8(&bytes) {
                Ok(whole) => whole.len(),
                Err(error) => error.valid_up_to(),
            };
            prop_assert_eq!(given.as_bytes(), &bytes[..complete]);
        }
        prop_assert_eq!(stream.flush(), "");
        prop_assert_eq!(given, text);
    }

    #[test]
    fn decoding_undoes_encoding(text in any::<String>()) {
        let ids = DEMO.tokenizer.encode(&text, Specials::None).unwrap();
        prop_assert_eq!(DEMO.tokenizer.decode(&ids, false), text);
    }

    #[test]
    fn special_tokens_survive_in_text_and_vanish_on_request(before in "[a-z ]{0,8}", after in "[a-z ]{0,8}") {
        let text = format!("{before}<|end_turn|>{after}");
        let ids = DEMO.tokenizer.encode(&text, Specials::Bos).unwrap();
        prop_assert_eq!(ids.first().copied(), DEMO.tokenizer.bos());
        prop_assert_eq!(DEMO.tokenizer.decode(&ids, false), format!("<|begin_text|>{text}"));
        prop_assert_eq!(DEMO.tokenizer.decode(&ids, true), before + &after);
    }

    #[test]
    fn a_stop_string_ends_the_text_wherever_the_pieces_are_cut(
        text in small_text(24),
        places in prop::collection::vec(any::<u16>(), 0..12),
        stops in prop::collection::vec(small_text(4).prop_filter("not empty", |stop| !stop.is_empty()), 0..4),
    ) {
        let expected = before_stop(&text, &stops);
        let mut watch = StopStrings::new(stops).unwrap();
        let (mut out, mut stopped) = (String::new(), false);
        for piece in cut(&text, &places) {
            let (more, now) = watch.push(piece);
            prop_assert!(!stopped || (more.is_empty() && now), "nothing follows a stop string");
            stopped = now;
            out.push_str(&more);
        }
        out.push_str(&watch.flush());
        prop_assert_eq!(stopped, expected.is_some());
        prop_assert_eq!(out, expected.unwrap_or(text));
    }

    #[test]
    fn no_more_is_held_back_than_a_stop_string_may_still_need(text in small_text(24), stop in "[ab]{1,5}") {
        let mut watch = StopStrings::new(vec![stop.clone()]).unwrap();
        let mut given = 0;
        let mut read = 0;
        for character in text.chars() {
            let (more, stopped) = watch.push(character.encode_utf8(&mut [0; 4]));
            given += more.len();
            read += character.len_utf8();
            if stopped {
                break;
            }
            prop_assert!(stop.starts_with(&text[given..read]), "{:?} can not begin {:?}", &text[given..read], stop);
        }
    }
}

#[test]
fn an_empty_stop_string_is_refused() {
    let error = StopStrings::new(vec!["a".to_owned(), String::new()]).unwrap_err().to_string();
    assert_eq!(error, "stop string is empty; it must be at least one character");
}
