//! Reading of safetensors files. Files that are damaged, incomplete or of another model are refused with errors that name the file, the tensor and what to do.

use anyhow::{Context, Result, bail};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use ruminate::{Checkpoint, Dtype, Error, Expected, SafetensorsProblem, Source, Spec, TensorProblem};
use ruminate_tests::{Folder, golden_folder, safetensors_file, safetensors_of, trial};
use serde_json::json;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn keep_all(_: &str) -> bool {
    false
}

/// Opens a checkpoint of one file with this content.
fn open_single(content: &[u8]) -> Result<Result<Checkpoint, Error>> {
    let folder = Folder::new()?;
    folder.write(SINGLE, content)?;
    Ok(Checkpoint::open(&folder.source(), &keep_all))
}

/// The problem of a refused file; fails unless the message names the file.
fn problem(result: Result<Checkpoint, Error>, file: &str) -> Result<SafetensorsProblem> {
    let error = result.err().context("the checkpoint was accepted")?;
    assert!(error.to_string().contains(file), "the error does not name {file}: {error}");
    match error {
        Error::Safetensors { problem, .. } => Ok(problem),
        other => bail!("{other:?}"),
    }
}

/// Two shards with an index: `a` in the first and `b` in the second.
fn sharded() -> Result<Folder> {
    let folder = Folder::new()?;
    folder.write("one.safetensors", safetensors_of(&[("a", "F32", &[1], &1_f32.to_le_bytes())]))?;
    folder.write("two.safetensors", safetensors_of(&[("b", "F32", &[1], &2_f32.to_le_bytes())]))?;
    let index = json!({"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}});
    folder.write(INDEX, index.to_string())?;
    Ok(folder)
}

fn values(checkpoint: &Checkpoint, name: &str) -> Result<Vec<f32>> {
    let tensor = checkpoint.tensor(name).with_context(|| format!("{name} is missing"))?;
    let mut out = vec![f32::NAN; tensor.shape.iter().product()];
    tensor.decode(0, &mut out)?;
    Ok(out)
}

#[trial]
fn dtypes_decode_to_same_values_at_any_alignment() -> Result<()> {
    let numbers = [1.5_f32, -2.0, 0.0, 0.09375, -65504.0, 3.0];
    // bf16 cannot represent 65504.
    let coarse = [1.5_f32, -2.0, 0.0, 0.09375, -65536.0, 3.0];
    let f32s: Vec<u8> = numbers.iter().flat_map(|v| v.to_le_bytes()).collect();
    let f16s: Vec<u8> = numbers.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let bf16s: Vec<u8> = coarse.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    // Spaces after the header shift the data to every alignment.
    for shift in 0..4 {
        let header = json!({
            "h": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
            "s": {"dtype": "F32", "shape": [6], "data_offsets": [12, 36]},
            "b": {"dtype": "BF16", "shape": [3, 2], "data_offsets": [36, 48]},
            "__metadata__": {"format": "pt"},
        });
        let header = format!("{header}{}", " ".repeat(shift));
        let data = [f16s.as_slice(), f32s.as_slice(), bf16s.as_slice()].concat();
        let checkpoint = open_single(&safetensors_file(&header, &data))??;
        assert_eq!(values(&checkpoint, "s")?, numbers);
        assert_eq!(values(&checkpoint, "h")?, numbers);
        assert_eq!(values(&checkpoint, "b")?, coarse);
        let found: Vec<_> =
            checkpoint.tensors().map(|t| (t.name.as_str(), t.dtype, t.shape.as_slice(), t.bytes)).collect();
        let expected: [(&str, Dtype, &[usize], u64); 3] =
            [("b", Dtype::Bf16, &[3, 2], 12), ("h", Dtype::F16, &[2, 3], 12), ("s", Dtype::F32, &[6], 24)];
        assert_eq!(found, expected);
    }
    Ok(())
}

#[trial]
fn part_of_tensor_decodes_like_whole() -> Result<()> {
    let data: Vec<u8> = (0..10_u8).flat_map(|v| half::bf16::from_f32(f32::from(v)).to_le_bytes()).collect();
    let checkpoint = open_single(&safetensors_of(&[("a", "BF16", &[10], &data)]))??;
    let mut part = [0.0; 3];
    checkpoint.tensor("a").context("a")?.decode(4, &mut part)?;
    assert_eq!(part, [4.0, 5.0, 6.0]);
    Ok(())
}

#[trial]
fn index_joins_shards() -> Result<()> {
    let folder = sharded()?;
    let checkpoint = Checkpoint::open(&folder.source(), &keep_all)?;
    assert_eq!((values(&checkpoint, "a")?, values(&checkpoint, "b")?), (vec![1.0], vec![2.0]));
    let files: Vec<&str> = checkpoint.tensors().map(|tensor| tensor.file.as_str()).collect();
    assert_eq!(files, ["one.safetensors", "two.safetensors"]);
    Ok(())
}

#[trial]
fn shard_with_only_ignored_tensors_need_not_exist() -> Result<()> {
    let folder = sharded()?;
    folder.write("two.safetensors", "not a tensor file")?;
    Checkpoint::open(&folder.source(), &|name| name == "b")?;
    std::fs::remove_file(folder.path().join("two.safetensors"))?;
    let checkpoint = Checkpoint::open(&folder.source(), &|name| name == "b")?;
    assert!(checkpoint.tensor("b").is_none() && checkpoint.tensor("a").is_some());
    let found = problem(Checkpoint::open(&folder.source(), &keep_all), INDEX)?;
    assert_eq!(found, SafetensorsProblem::MissingShard { shard: "two.safetensors".to_owned(), tensor: "b".to_owned() });
    Ok(())
}

#[trial]
fn shard_outside_folder_is_refused() -> Result<()> {
    let folder = sharded()?;
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner)?;
    std::fs::write(inner.join(INDEX), json!({"weight_map": {"a": "../one.safetensors"}}).to_string())?;
    let found = problem(Checkpoint::open(&Source::Dir(inner), &keep_all), INDEX)?;
    assert!(matches!(found, SafetensorsProblem::MissingShard { .. }), "{found:?}");
    Ok(())
}

#[trial]
fn index_with_wrong_shard_is_refused() -> Result<()> {
    let folder = sharded()?;
    let index = json!({"weight_map": {"a": "one.safetensors", "b": "two.safetensors", "c": "one.safetensors"}});
    folder.write(INDEX, index.to_string())?;
    let found = problem(Checkpoint::open(&folder.source(), &keep_all), INDEX)?;
    assert_eq!(found, SafetensorsProblem::NotInShard { tensor: "c".to_owned(), shard: "one.safetensors".to_owned() });
    Ok(())
}

#[trial]
fn index_chooses_between_duplicate_tensors() -> Result<()> {
    let folder = sharded()?;
    let both = safetensors_of(&[("a", "F32", &[1], &[0; 4]), ("b", "F32", &[1], &[0; 4])]);
    folder.write("two.safetensors", both)?;
    let checkpoint = Checkpoint::open(&folder.source(), &keep_all)?;
    assert_eq!((values(&checkpoint, "a")?, values(&checkpoint, "b")?), (vec![1.0], vec![0.0]));
    Ok(())
}

#[trial]
fn folder_without_weights_is_explained() -> Result<()> {
    let error = Checkpoint::open(&Folder::new()?.source(), &keep_all).err().context("an empty folder was accepted")?;
    let message = error.to_string();
    assert!(message.contains(SINGLE) && message.contains(INDEX), "{message}");
    Ok(())
}

#[trial]
fn truncated_file_is_refused_with_both_sizes() -> Result<()> {
    let whole = safetensors_of(&[("a", "F32", &[2], &[0; 8]), ("b", "F32", &[2], &[0; 8])]);
    let bytes = whole.len() as u64;
    let found = problem(open_single(&whole[..whole.len() - 5])?, SINGLE)?;
    let expected = SafetensorsProblem::Truncated { tensor: "b".to_owned(), needed: bytes, bytes: bytes - 5 };
    assert_eq!(found, expected);
    let longer = [whole.as_slice(), &[0; 3]].concat();
    let found = problem(open_single(&longer)?, SINGLE)?;
    assert_eq!(found, SafetensorsProblem::Trailing { needed: bytes, bytes: bytes + 3 });
    Ok(())
}

#[trial]
fn incomplete_header_is_refused() -> Result<()> {
    assert_eq!(problem(open_single(&[])?, SINGLE)?, SafetensorsProblem::Short { bytes: 0 });
    assert_eq!(problem(open_single(&[1, 0, 0])?, SINGLE)?, SafetensorsProblem::Short { bytes: 3 });
    for header in [3, u64::MAX, u64::MAX - 7] {
        let content = [header.to_le_bytes().as_slice(), b"{}"].concat();
        assert_eq!(problem(open_single(&content)?, SINGLE)?, SafetensorsProblem::HeaderLength { header, bytes: 10 });
    }
    for header in
        ["not json", "[]", "{\"a\": 1}", "{\"a\": {\"dtype\": \"F32\", \"shape\": [-1], \"data_offsets\": [0, 4]}}"]
    {
        let found = problem(open_single(&safetensors_file(header, &[0; 4]))?, SINGLE)?;
        assert!(matches!(found, SafetensorsProblem::Header { .. }), "{header}: {found:?}");
    }
    Ok(())
}

#[trial]
fn wrong_offsets_are_refused() -> Result<()> {
    let open = |first: (u64, u64), second: (u64, u64)| {
        let header = json!({
            "a": {"dtype": "F32", "shape": [1], "data_offsets": [first.0, first.1]},
            "b": {"dtype": "F32", "shape": [1], "data_offsets": [second.0, second.1]},
        });
        problem(open_single(&safetensors_file(&header.to_string(), &[0; 8]))?, SINGLE)
    };
    let overlap = SafetensorsProblem::Overlap { first: "a".to_owned(), second: "b".to_owned() };
    assert_eq!(open((0, 4), (2, 6))?, overlap);
    let gap = SafetensorsProblem::Offsets { tensor: "b".to_owned(), start: 5, end: 9, expected: 4 };
    assert_eq!(open((0, 4), (5, 9))?, gap);
    assert!(matches!(open((0, 4), (4, 3))?, SafetensorsProblem::Offsets { .. }));
    assert!(matches!(open((0, 4), (4, u64::MAX))?, SafetensorsProblem::Truncated { .. }));
    // These offsets fit the file but not the shape.
    assert!(matches!(open((0, 2), (2, 8))?, SafetensorsProblem::Header { .. }));
    Ok(())
}

#[trial]
fn shapes_that_overflow_are_refused() -> Result<()> {
    let huge = json!({"a": {"dtype": "F32", "shape": [1_u64 << 40, 1_u64 << 40], "data_offsets": [0, 8]}});
    let found = problem(open_single(&safetensors_file(&huge.to_string(), &[0; 8]))?, SINGLE)?;
    assert!(matches!(found, SafetensorsProblem::Header { .. }), "{found:?}");
    Ok(())
}

#[trial]
fn duplicate_name_in_header_is_refused() -> Result<()> {
    let place = |start: u64| json!({"dtype": "F32", "shape": [1], "data_offsets": [start, start + 4]});
    let header = format!("{{\"a\": {}, \"a\": {}}}", place(0), place(4));
    let found = problem(open_single(&safetensors_file(&header, &[0; 8]))?, SINGLE)?;
    assert_eq!(found, SafetensorsProblem::Duplicate { tensor: "a".to_owned() });
    Ok(())
}

#[trial]
fn unsupported_dtypes_are_refused_unless_ignored() -> Result<()> {
    for (dtype, size) in [("I64", 8), ("F64", 8), ("F8_E4M3", 1), ("BOOL", 1), ("Q7", 8)] {
        let data = vec![0; size];
        let checkpoint = open_single(&safetensors_of(&[("a", dtype, &[1], &data)]))??;
        let expected = |required| [Expected { name: "a".to_owned(), shape: vec![1], required }];
        let error = checkpoint.check(&expected(true)).err().context("the dtype was accepted")?;
        let Error::Tensors(problems) = error else { bail!("{error}") };
        let (name, file, dtype) = ("a".to_owned(), SINGLE.to_owned(), dtype.to_owned());
        assert_eq!(problems, [TensorProblem::Dtype { name, file, dtype }]);
    }
    let folder = Folder::new()?;
    folder.write(SINGLE, safetensors_of(&[("a", "I64", &[1], &[0; 8])]))?;
    assert_eq!(Checkpoint::open(&folder.source(), &|name| name == "a")?.tensors().count(), 0);
    Ok(())
}

#[trial]
fn tensor_problems_are_reported_together() -> Result<()> {
    let data = [0; 8];
    let file = safetensors_of(&[
        ("here", "F32", &[2], &data),
        ("shape", "F32", &[1, 2], &data),
        ("more.weight", "F32", &[2], &data),
    ]);
    let checkpoint = open_single(&file)??;
    let expect = |name: &str, required| Expected { name: name.to_owned(), shape: vec![2], required };
    let expected = [expect("here", true), expect("shape", true), expect("lost", true), expect("optional", false)];
    let error = checkpoint.check(&expected).err().context("the tensors were accepted")?;
    let message = error.to_string();
    let Error::Tensors(problems) = error else { bail!("{message}") };
    let file = || SINGLE.to_owned();
    assert_eq!(
        problems,
        [
            TensorProblem::Shape { name: "shape".to_owned(), file: file(), found: vec![1, 2], expected: vec![2] },
            TensorProblem::Missing { name: "lost".to_owned(), shape: vec![2] },
            TensorProblem::Surplus { name: "more.weight".to_owned(), file: file() },
        ]
    );
    for part in ["shape", "[1, 2]", "[2]", "lost", "more", SINGLE] {
        assert!(message.contains(part), "{part} is missing in: {message}");
    }
    checkpoint.check(&[
        expect("here", true),
        expect("more.weight", true),
        Expected { shape: vec![1, 2], ..expect("shape", false) },
    ])?;
    Ok(())
}

#[trial]
fn published_checkpoints_have_expected_tensors_and_bytes() -> Result<()> {
    for (fixture, tied) in [("tiny", true), ("odd", false), ("block_bf16", true)] {
        let folder = golden_folder(fixture);
        let source = Source::dir(&folder)?;
        let expected = Spec::open(&source)?.tensors();
        let checkpoint = Checkpoint::open(&source, &keep_all)?;
        checkpoint.check(&expected).with_context(|| fixture.to_owned())?;
        let optional: Vec<&str> =
            expected.iter().filter(|tensor| !tensor.required).map(|tensor| tensor.name.as_str()).collect();
        // A tied head is a copy of the embedding; the rotary table can be computed.
        assert_eq!(optional, if tied { vec!["freqs_cis", "lm_head.weight"] } else { vec!["freqs_cis"] }, "{fixture}");
        for info in checkpoint.tensors() {
            let file = std::fs::read(folder.join(&info.file))?;
            let stored = safetensors::SafeTensors::deserialize(&file)?;
            let tensor = checkpoint.tensor(&info.name).context("a listed tensor was not found")?;
            assert_eq!(tensor.bytes()?, stored.tensor(&info.name)?.data(), "{fixture}: {}", info.name);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    /// A file with changed bytes and a cut end is refused, or opens and every tensor can be read.
    #[trial]
    fn damaged_files_never_panic(changes in proptest::collection::vec((0_usize..300, any::<u8>()), 0..4), cut in 0_usize..300) {
        let mut file = safetensors_of(&[("a", "F32", &[2], &[1; 8]), ("b", "BF16", &[3, 1], &[2; 6]), ("c", "F16", &[1], &[3; 2])]);
        for (at, byte) in changes {
            let at = at % file.len();
            file[at] = byte;
        }
        if cut < file.len() && cut % 2 == 0 {
            file.truncate(cut);
        }
        if let Ok(checkpoint) = open_single(&file).unwrap() {
            let names: Vec<String> = checkpoint.tensors().map(|tensor| tensor.name.clone()).collect();
            for name in names {
                values(&checkpoint, &name).unwrap();
            }
        }
    }
}
