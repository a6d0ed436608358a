//! Speed of loading, compared with what the machine can do.
//!
//! As a bound, one thread per core reads and rounds a checkpoint; alternately, the checkpoint is loaded onto the device. Both are measured from the disk and
//! from the system's cache. `RUMINATE_BENCH_MODEL=DIR` names a checkpoint; by default, a checkpoint of 1.2 GB in f32 is created.
//!
//! ```console
//! $ cargo bench -p ruminate-benches --bench load
//! ```

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Instant;

use ruminate::{Checkpoint, Device, Dtype, Error, LoadOptions, Model, Source, Synthetic};
use ruminate_benches::{announce, device};
use ruminate_tests::synth::{Layout, write};

/// Shape of the checkpoint that is created.
const SHAPE: &str = "n_embd=1920,heads=20,hidden=6528,vocab=32000,layers=1/3/1,block_size=256,mean_recurrence=4,seed=1";
/// Times that each is measured.
const ROUNDS: usize = 5;
/// Bytes that a thread reads at a time.
const BLOCK: usize = 8 << 20;

#[expect(clippy::print_stdout, reason = "these are the figures")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = device();
    announce(&device);
    let made = tempfile::tempdir()?;
    let folder = match env::var_os("RUMINATE_BENCH_MODEL") {
        Some(folder) => PathBuf::from(folder),
        None => {
            let model = Synthetic::parse(SHAPE)?;
            write(&model, &Layout::of(&model, u64::MAX)?, made.path(), &mut |_, _| ())?;
            made.path().to_owned()
        }
    };
    let source = Source::dir(&folder)?;
    for cached in [false, true] {
        let (mut bound, mut loaded, mut bytes) = (Vec::new(), Vec::new(), 0);
        for _ in 0..ROUNDS {
            let time = |seconds: &mut Vec<f64>, run: &mut dyn FnMut() -> Result<(), Box<dyn std::error::Error>>| {
                if !cached && !forget(&folder)? {
                    return Ok(());
                }
                let start = Instant::now();
                run()?;
                seconds.push(start.elapsed().as_secs_f64());
                Ok::<_, Box<dyn std::error::Error>>(())
            };
            time(&mut bound, &mut || {
                bytes = read_and_round(&source)?;
                Ok(())
            })?;
            time(&mut loaded, &mut || Ok(load(&source, &device)?))?;
        }
        let from = if cached { "the cache" } else { "the disk" };
        if bound.is_empty() {
            println!("cannot remove files from the system's cache; not measured from {from}");
            continue;
        }
        let [bound, loaded] = [bound, loaded].map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[seconds.len() / 2]
        });
        let rate = |seconds: f64| bytes as f64 / seconds / 1e9;
        println!("from {from}: read and rounded {bound:.3} s, {:.2} GB/s of files", rate(bound));
        println!(
            "from {from}: loaded {loaded:.3} s, {:.2} GB/s, {:.0} % of that",
            rate(loaded),
            100.0 * bound / loaded
        );
    }
    Ok(())
}

/// Removes the files of a folder from the system's cache. Returns whether that was possible.
fn forget(folder: &Path) -> Result<bool, std::io::Error> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        File::open(&path)?.sync_all()?;
        // coreutils' interface to POSIX_FADV_DONTNEED.
        let done = Command::new("dd").arg(format!("if={}", path.display())).args(["iflag=nocache", "count=0"]).output();
        if !done.is_ok_and(|done| done.status.success()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn load(source: &Source, device: &Device) -> Result<(), Error> {
    let options = LoadOptions { dtype: Some(Dtype::Bf16), ..LoadOptions::default() };
    let model = Model::open(source, device, options)?;
    // Reading a result ensures that the last upload is complete.
    let mut session = model.session(ruminate::SessionOptions::default())?;
    session.forward(&[1], 1, ruminate::State::Seeded, false).map(drop)
}

/// Reads every matrix and rounds it to bf16, in blocks that the threads take in turn. Returns the bytes read.
fn read_and_round(source: &Source) -> Result<usize, Box<dyn std::error::Error>> {
    let checkpoint = Checkpoint::for_config(source, &ruminate::Spec::open(source)?)?;
    let names: Vec<String> = checkpoint.tensors().map(|tensor| tensor.name.clone()).collect();
    let tensors: Vec<_> =
        names.iter().filter_map(|name| checkpoint.tensor(name)).filter(|it| it.shape.len() == 2).collect();
    let size = |tensor: &ruminate::TensorView<'_>| tensor.shape[0] * tensor.shape[1] * tensor.dtype.bytes() as usize;
    let blocks: Vec<(usize, usize)> = tensors
        .iter()
        .enumerate()
        .flat_map(|(i, tensor)| (0..size(tensor)).step_by(BLOCK).map(move |at| (i, at)))
        .collect();
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = || -> Result<(), std::io::Error> {
            let (mut raw, mut values, mut out) = (Vec::new(), Vec::new(), Vec::new());
            while let Some(&(i, at)) = blocks.get(next.fetch_add(1, Relaxed)) {
                let tensor = &tensors[i];
                raw.resize(BLOCK.min(size(tensor) - at), 0);
                tensor.read_at(at, &mut raw)?;
                values.resize(raw.len() / tensor.dtype.bytes() as usize, 0.0);
                tensor.dtype.decode_bytes(&raw, &mut values);
                out.clear();
                Dtype::Bf16.encode_row(&values, &mut out);
                std::hint::black_box(&out);
            }
            Ok(())
        };
        let all: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        all.into_iter().try_for_each(|thread| thread.join().expect("it does not panic"))
    })?;
    Ok(tensors.iter().map(size).sum())
}
