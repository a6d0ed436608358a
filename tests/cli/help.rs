//! Help texts: short with `-h`, full with `--help`, and man pages.

use anyhow::{Result, ensure};
use ruminate_tests::{Folder, trial};

use crate::call::{output, ruminate, text};

/// Lines of two screens.
const TWO_SCREENS: usize = 60;

/// Subcommands, from the help.
fn verbs() -> Vec<String> {
    let help = text(&output(&["-h"]).stdout);
    let list = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

#[trial]
fn short_help_has_a_line_per_flag_and_fits_two_screens() -> Result<()> {
    let verbs = verbs();
    ensure!(verbs.len() > 10, "subcommands: {verbs:?}");
    for verb in verbs.iter().filter(|verb| *verb != "help") {
        let help = text(&ruminate(&[verb, "-h"]).env("COLUMNS", "120").output()?.stdout);
        ensure!(help.lines().count() <= TWO_SCREENS, "{verb} -h has {} lines:\n{help}", help.lines().count());
        let more = help.lines().find(|line| line.starts_with("            "));
        ensure!(more.is_none(), "{verb} -h uses more than a line for a flag: {more:?}");
    }
    Ok(())
}

#[trial]
fn common_flags_come_first() -> Result<()> {
    let help = text(&output(&["run", "-h"]).stdout);
    let common = help.split("Common:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).unwrap_or_default();
    for flag in ["--model", "--steps", "--exit", "--max-tokens", "--temp", "--seed", "--ctx-size", "--dtype", "--gpu"] {
        ensure!(common.contains(flag), "{flag} is not among the common flags:\n{common}");
    }
    let others = ["Input:", "Depth:", "Sampling:", "Output:"];
    let place = |heading: &str| help.find(&format!("\n{heading}\n"));
    ensure!(others.iter().all(|other| place("Common:") < place(other)), "{help}");
    Ok(())
}

#[trial]
fn long_help_has_flags_that_short_help_leaves_out() -> Result<()> {
    let (short, long) = (text(&output(&["run", "-h"]).stdout), text(&output(&["run", "--help"]).stdout));
    for flag in ["--dry-base", "--noise-mix", "--kv-lookup"] {
        ensure!(!short.contains(flag) && long.contains(flag), "{flag}");
    }
    Ok(())
}

#[trial]
fn every_subcommand_has_a_man_page() -> Result<()> {
    let folder = Folder::new()?;
    let place = folder.path().join("man");
    let done = output(&["manual", "--man", &place.display().to_string()]);
    ensure!(done.status.success(), "{}", text(&done.stderr));
    for verb in verbs().iter().filter(|verb| *verb != "help") {
        let page = std::fs::read_to_string(place.join(format!("ruminate-{verb}.1")))?;
        ensure!(page.contains(".TH") && page.contains("SYNOPSIS"), "{verb}");
    }
    ensure!(std::fs::read_to_string(place.join("ruminate.1"))?.contains("SUBCOMMANDS"));
    Ok(())
}
