//! Fuzzes the command with damaged flags, input and model folders. It must end by itself, with one of its exit codes, within [`MEMORY`].

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fastrand::Rng;
use ruminate_tests::Folder;
use ruminate_tests::demo_files::{WEIGHTS, folder};

use crate::json;
use crate::mutate::{self, NUMBERS, once_in, pick};
use crate::targets::{Target, Verdict};

/// Limit on the address space in KiB; most of it (code, stacks, mapped files) is never touched.
const MEMORY: u32 = 4 << 20;

/// Timeout of a call.
const PATIENCE: Duration = Duration::from_secs(15);

/// Flags, and values that some of them accept. Valid depths and lengths are small.
const FLAGS: [&str; 29] = [
    "--steps",
    "--temp",
    "--top-k",
    "--top-p",
    "--min-p",
    "--repeat-penalty",
    "--repeat-window",
    "--dry-multiplier",
    "--logit-bias",
    "--logprobs",
    "--noise",
    "-n",
    "-c",
    "--seed",
    "--stop",
    "--init-scale",
    "--dtype",
    "-m",
    "-p",
    "-f",
    "--gpu",
    "--backend",
    "--system",
    "--json",
    "--stream",
    "-q",
    "--stats",
    "--no-bos",
    "--help",
];
const VALUES: [&str; 20] = [
    "0",
    "1",
    "2",
    "-1",
    "nan",
    "inf",
    "1e-45",
    "0.5",
    "99999999999999999999",
    "4294967295x",
    "",
    "-",
    "f16",
    "vulkan",
    "synthetic:",
    "synthetic:n_embd=0",
    "synthetic:n_embd=64,heads=1,head_dim=64,hidden=64,vocab=300,layers=1/1/1",
    "synthetic:layers=1,,=",
    "/dev/null",
    "\u{202e}é",
];
const LINES: [&str; 14] = [
    "hello",
    "/steps",
    "/steps 2",
    "/steps 99999999999",
    "/system x",
    "/system",
    "/reset",
    "/save /dev/null/x",
    "/load /dev/null",
    "/regenerate",
    "//x",
    "\"\"\"",
    "one\\",
    "/",
];

/// Path of the command, if it was built.
pub(crate) fn program() -> Option<PathBuf> {
    let own = std::env::current_exe().ok()?;
    let folders = own.ancestors().skip(1).take(2);
    folders
        .map(|folder| folder.join("ruminate").with_extension(std::env::consts::EXE_EXTENSION))
        .find(|file| file.is_file())
}

/// Target that calls the command.
pub(crate) struct Calls {
    program: PathBuf,
    folder: Option<Folder>,
    arguments: Vec<String>,
    input: Vec<u8>,
}

impl Calls {
    pub(crate) fn new() -> Result<Self> {
        let program = program().context("the command is not built: cargo build --release -p ruminate-cli")?;
        Ok(Self { program, folder: Some(folder()?), arguments: Vec::new(), input: Vec::new() })
    }

    fn call(&self) -> Result<Verdict> {
        let home = self.folder.as_ref().context("the folder was kept")?.path();
        let mut command = if cfg!(unix) {
            let mut shell = Command::new("sh");
            shell.args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")]).arg(&self.program);
            shell
        } else {
            Command::new(&self.program)
        };
        // Without a driver, so that results are the same on all machines.
        command
            .env("VK_DRIVER_FILES", "/none.json")
            .env("VK_ICD_FILENAMES", "/none.json")
            .env("HOME", home)
            .env("HF_HUB_OFFLINE", "1");
        command.args(&self.arguments).current_dir(home);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut stdin, input) = (child.stdin.take().context("stdin is piped")?, self.input.clone());
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let mut stdout = child.stdout.take().context("stdout is piped")?;
        let mut stderr = child.stderr.take().context("stderr is piped")?;
        let text = std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        let remarks = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
        });
        let start = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if start.elapsed() > PATIENCE {
                child.kill()?;
                child.wait()?;
                return Ok(Verdict::Wrong(format!("takes longer than {} s: {:?}", PATIENCE.as_secs(), self.arguments)));
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let remarks = remarks.join().ok().context("the reader failed")??;
        let _ = (writer.join(), text.join());
        Ok(match status.code() {
            Some(0) => Verdict::Accepted,
            Some(1..=4) if !remarks.is_empty() => Verdict::Refused,
            // Errors must be printed even with --quiet.
            _ => Verdict::Wrong(format!("ends with {status} for {:?}: {remarks}", self.arguments)),
        })
    }
}

impl Target for Calls {
    fn prepare(&mut self, rng: &mut Rng) -> Result<()> {
        let verb = pick(rng, &["run", "run", "chat", "chat", "inspect", "devices", "completions", "nonsense"]);
        let mut arguments: Vec<String> = match verb {
            // Short, unless a later flag overrides it; most duplicates are refused.
            "run" | "chat" => [verb, "--cpu", "--max-tokens=2"].map(str::to_owned).to_vec(),
            _ => vec![verb.to_owned()],
        };
        for _ in 0..rng.usize(..4) {
            arguments.push(pick(rng, &FLAGS).to_owned());
            if !once_in(rng, 3) {
                arguments.push(value(rng));
            }
        }
        let folder = self.folder.as_ref().context("the folder was kept")?;
        if once_in(rng, 2) {
            // Damages one file of the demo.
            let ruminate::Source::Embedded(files) = ruminate::demo::source() else {
                anyhow::bail!("the demo is embedded")
            };
            let damaged = rng.usize(..files.len());
            for (at, (name, content)) in files.iter().enumerate() {
                let mut bytes = content.to_vec();
                if at == damaged && *name == WEIGHTS {
                    mutate::bytes(rng, &mut bytes);
                } else if at == damaged {
                    bytes = json::damaged(rng, &serde_json::from_slice(content)?);
                }
                folder.write(name, bytes)?;
            }
            arguments.extend(["-m".to_owned(), ".".to_owned()]);
        }
        self.arguments = arguments;
        let mut input: Vec<u8> =
            (0..rng.usize(..6)).flat_map(|_| format!("{}\n", pick(rng, &LINES)).into_bytes()).collect();
        if once_in(rng, 3) {
            mutate::bytes(rng, &mut input);
        }
        self.input = input;
        Ok(())
    }

    fn run(&mut self) -> Verdict {
        self.call().unwrap_or_else(|error| Verdict::Wrong(format!("cannot be called: {error:#}")))
    }

    fn keep(&mut self) -> String {
        let input = std::mem::take(&mut self.input);
        self.folder.take().map_or_else(String::new, |folder| {
            let _ = folder.write("stdin", input);
            folder.keep().display().to_string()
        })
    }
}

fn value(rng: &mut Rng) -> String {
    match rng.u32(..4) {
        0 => pick(rng, &NUMBERS).to_owned(),
        // Arguments cannot contain a zero byte.
        1 => mutate::text(rng).replace('\0', ""),
        _ => pick(rng, &VALUES).to_owned(),
    }
}
