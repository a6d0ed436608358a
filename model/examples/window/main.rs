//! A window that draws with wgpu and generates text on the same device, between its frames.
//!
//! ```text
//! cargo run --release -p ruminate --features window --example window
//! ```
//!
//! `canvas.rs` creates the device with the features that the engine requests, and draws. `writer.rs` passes the device to the engine and keeps a session;
//! loading and compiling run on another thread, generating does not. `app.rs` is the event loop: about 60 times a second it draws a frame, and in the time
//! until the next one it calls `Session::step` with that time as the budget. `frames.rs` records the frame times before and during generation, and `panels.rs`
//! shows them.

mod app;
mod canvas;
mod frames;
mod panels;
mod writer;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use ruminate::Source;
use winit::event_loop::EventLoop;

use crate::app::App;

/// Any error ends the program with a message.
type Failure = Box<dyn std::error::Error + Send + Sync>;

const HELP: &str = "\
A window that draws with wgpu and generates text on the same device

  --model DIR          a checkpoint in the Hugging Face layout [default: the embedded demo]
  --budget MS          device time that a piece of work may take [default: 4]
  --fps N              frames per second [default: 60]
  --demo-run SECONDS   draw for this long idle, then for this long while generating, then print the frame times and exit
  --screenshot FILE    save the window as PNG at the end of a demo run";

/// Options of the command line.
struct Options {
    model: Source,
    budget: Duration,
    /// Time from one frame to the next.
    frame: Duration,
    demo_run: Option<Duration>,
    screenshot: Option<PathBuf>,
}

impl Options {
    /// Parses the command line; `None` if help was requested.
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, Failure> {
        let mut options = Self {
            model: ruminate::demo::source(),
            budget: Duration::from_millis(4),
            frame: Duration::from_secs(1) / 60,
            demo_run: None,
            screenshot: None,
        };
        while let Some(flag) = words.next() {
            if flag == "--help" || flag == "-h" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{flag} needs a value; see --help"))?;
            let number = || value.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number).ok());
            let wrong = || format!("{flag} {value}: not a positive number");
            match flag.as_str() {
                "--model" => options.model = Source::dir(&value)?,
                "--budget" => options.budget = number().ok_or_else(wrong)? / 1000,
                "--fps" => {
                    let fps = value.parse().ok().filter(|fps| (1..=1000).contains(fps));
                    options.frame = Duration::from_secs(1) / fps.ok_or_else(wrong)?;
                }
                "--demo-run" => options.demo_run = Some(number().ok_or_else(wrong)?),
                "--screenshot" => options.screenshot = Some(value.into()),
                _ => return Err(format!("unknown flag {flag}; see --help").into()),
            }
        }
        if options.screenshot.is_some() && options.demo_run.is_none() {
            return Err("--screenshot requires --demo-run".into());
        }
        Ok(Some(options))
    }
}

fn run() -> Result<(), Failure> {
    let Some(options) = Options::parse(std::env::args().skip(1))? else {
        println!("{HELP}");
        return Ok(());
    };
    let events = EventLoop::new()?;
    let display = events.owned_display_handle();
    let mut app = App::new(options, display);
    events.run_app(&mut app)?;
    app.finish()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
