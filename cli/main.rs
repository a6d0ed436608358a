//! `ruminate`: generate text with models that think in loops.
//!
//! Text goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed (also: an input that cannot be read), 2 usage, 3 no suitable device, or the
//! device failed, 4 model missing or invalid, 130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP. A closed pipe is not an error.

/// Prints a line to stderr. Errors are ignored, because a closed stderr must not stop the program.
macro_rules! remark {
    ($($text:tt)*) => {{
        let _ = std::io::Write::write_fmt(&mut anstream::stderr(), format_args!("{}\n", format_args!($($text)*)));
    }};
}

mod bench;
mod chat;
mod completions;
mod continuations;
mod depth_demo;
mod device;
mod devices;
mod doctor;
mod exit_code;
mod flags;
mod hub;
mod inspect;
mod interrupt;
mod logprobs;
mod manual;
mod model;
mod model_choice;
mod options;
mod parallel_decoding;
mod plot;
mod progress;
mod prompt;
#[cfg(feature = "pull")]
mod pull;
mod quantize;
mod report;
mod run;
mod sampling;
mod score;
#[cfg(feature = "serve")]
mod serve;
mod snapshot;
mod steps;
#[cfg(feature = "structured")]
mod structured;
mod sweep;
mod table;
mod trace;
mod tune;
mod visible;
mod words;

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, FromArgMatches, Parser, Subcommand};

/// Run language models that think in loops, on Vulkan, Metal or DX12.
#[derive(Parser)]
#[command(name = "ruminate", version, propagate_version = true, after_help = exit_code::HELP)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Generate text from a prompt, or show the embedded demo
    Run(Box<run::Run>),
    /// Chat with a model
    Chat(Box<chat::Chat>),
    /// Serve a model over HTTP, with the API of OpenAI
    #[cfg(feature = "serve")]
    Serve(Box<serve::Serve>),
    /// Measure how likely a text is, by depth, dtype or model
    Score(Box<score::ScoreOptions>),
    /// Follow every token's state through the steps, as text, page, picture or data
    Trace(Box<trace::TraceOptions>),
    /// Count right answers by depth and exit criterion
    Sweep(Box<sweep::SweepOptions>),
    /// Measure a device, its kernels and whole tokens
    Bench(Box<bench::Bench>),
    /// Find the fastest kernels of a device, and remember them
    Tune(Box<tune::Tune>),
    /// Show the sizes of a model and what fits here, from its headers
    Inspect(inspect::Inspect),
    /// Write a model in fewer bits into a folder
    Quantize(quantize::Quantize),
    /// Check every kernel of a device against its CPU reference
    Doctor(doctor::Doctor),
    /// Download a model into the Hugging Face cache
    #[cfg(feature = "pull")]
    Pull(pull::Pull),
    /// List devices
    Devices(devices::Devices),
    /// Print a completion script for a shell
    Completions(completions::Completions),
    /// Write man pages, or print all flags as Markdown
    Manual(manual::Manual),
}

/// Shown below the help of verbs with many flags.
const SHORTENED: &str = "`-h` leaves out rarely used flags; `--help` lists and explains all of them.";

/// Builds the command. A negative number after a flag is the flag's value and not another flag, so that the error names the allowed values. `--version` after a
/// verb prints the program's name.
fn command() -> Command {
    let numbers = |flag: Arg| if flag.get_action().takes_values() { flag.allow_negative_numbers(true) } else { flag };
    Arguments::command().mut_subcommands(|verb| {
        let verb = verb.display_name("ruminate").mut_args(numbers);
        let shortened = verb.get_arguments().any(Arg::is_hide_short_help_set);
        if shortened && verb.get_after_help().is_none() { verb.after_help(SHORTENED) } else { verb }
    })
}

fn main() -> ExitCode {
    // Mesa's device selection layer complains on stderr if there is no desktop, for example in a container.
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
    }
    // An empty or relative HOME is ignored, because files would be stored in the current folder. The home in the user database is used instead.
    if cfg!(unix) && std::env::var_os("HOME").is_some_and(|home| !std::path::Path::new(&home).is_absolute()) {
        // SAFETY: no other thread has been started yet.
        unsafe { std::env::remove_var("HOME") };
    }
    let parsed = Arguments::from_arg_matches(&command().get_matches());
    let arguments = parsed.unwrap_or_else(|error| error.format(&mut command()).exit());
    let outcome = match &arguments.verb {
        Verb::Run(options) => run::run(options),
        Verb::Chat(options) => chat::chat(options),
        #[cfg(feature = "serve")]
        Verb::Serve(options) => serve::serve(options),
        Verb::Score(options) => score::score(options),
        Verb::Trace(options) => trace::trace(options),
        Verb::Sweep(options) => sweep::sweep(options),
        Verb::Bench(options) => bench::bench(options),
        Verb::Tune(options) => tune::tune(options),
        Verb::Inspect(options) => inspect::inspect(options),
        Verb::Quantize(options) => quantize::quantize(options),
        Verb::Doctor(options) => doctor::doctor(options),
        #[cfg(feature = "pull")]
        Verb::Pull(options) => pull::pull(options),
        Verb::Devices(options) => devices::devices(options),
        Verb::Completions(options) => completions::completions(options),
        Verb::Manual(options) => manual::manual(options),
    };
    let failed = device::close();
    exit_code::end(outcome, failed)
}
