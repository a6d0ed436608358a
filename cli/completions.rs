//! `ruminate completions`: completion scripts for shells, generated from the clap definitions.

use std::io::Write;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::exit_code::Done;

/// Flags of `ruminate completions`.
#[derive(Args)]
pub(crate) struct Completions {
    /// Shell: bash, elvish, fish, powershell or zsh
    #[arg(hide_possible_values = true)]
    shell: Shell,
}

/// Prints the script.
pub(crate) fn completions(options: &Completions) -> anyhow::Result<Done> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut crate::Arguments::command(), "ruminate", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Done::Complete)
}
