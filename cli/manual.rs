//! `ruminate manual`: reference of all commands and flags, as man pages or Markdown, generated from the clap definitions.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Arg, ArgAction, Args, Command, CommandFactory};
use clap_mangen::Man;
use ruminate::OutputFile;

use crate::exit_code::Done;

/// Heading for flags without one.
const OTHER: &str = "Options";

/// Flags of `ruminate manual`.
#[derive(Args)]
pub(crate) struct Manual {
    /// Write man pages into a folder, one per verb
    #[arg(long, value_name = "DIR", required_unless_present = "markdown")]
    man: Option<PathBuf>,
    /// Print all flags as Markdown
    #[arg(long, conflicts_with = "man")]
    markdown: bool,
}

/// Runs `ruminate manual`.
pub(crate) fn manual(options: &Manual) -> Result<Done> {
    // The pages already cover `help`.
    let mut command = crate::Arguments::command().disable_help_subcommand(true);
    command.build();
    match &options.man {
        Some(folder) => man_pages(&command, folder)?,
        None => std::io::stdout().lock().write_all(markdown(&command)?.as_bytes())?,
    }
    Ok(Done::Complete)
}

/// Writes a man page for the program and one for each command.
fn man_pages(command: &Command, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create the folder {}", folder.display()))?;
    for described in std::iter::once(command).chain(command.get_subcommands()) {
        let page = Man::new(described.clone());
        let mut file = OutputFile::create(folder.join(page.get_filename()))?;
        page.render(&mut file)?;
        file.finish()?;
    }
    Ok(())
}

/// Markdown page: a section per command, a table per group of flags.
fn markdown(command: &Command) -> Result<String> {
    let mut page = "# Commands and flags\n\nMade by `ruminate manual --markdown`. `ruminate manual --man DIR` writes the same as man pages, and \
                    `ruminate completions SHELL` prints completions.\n\n| verb | does |\n|---|---|\n"
        .to_owned();
    for verb in command.get_subcommands() {
        let name = verb.get_name();
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "| [`{name}`](#ruminate-{name}) | {} |", cell(&about))?;
    }
    for verb in command.get_subcommands() {
        section(&mut page, verb)?;
    }
    Ok(page)
}

/// Writes the section of a command.
fn section(page: &mut String, verb: &Command) -> Result<()> {
    writeln!(page, "\n## ruminate {}\n", verb.get_name())?;
    if let Some(about) = verb.get_long_about().or_else(|| verb.get_about()) {
        writeln!(page, "{}.\n", cell(&about.to_string()))?;
    }
    let usage = verb.clone().render_usage().to_string();
    writeln!(page, "```text\n{}\n```", usage.trim_start_matches("Usage: "))?;
    let flags: Vec<&Arg> = verb.get_arguments().filter(|it| !it.is_hide_set() && !is_help(it)).collect();
    let mut headings: Vec<&str> = flags.iter().map(|flag| heading(flag)).collect();
    let mut known = std::collections::HashSet::new();
    headings.retain(|heading| known.insert(*heading));
    for group in headings {
        let mut members: Vec<&&Arg> = flags.iter().filter(|flag| heading(flag) == group).collect();
        members.sort_by_key(|flag| flag.get_display_order());
        writeln!(page, "\n**{group}**\n\n| flag | meaning | default |\n|---|---|---|")?;
        for flag in members {
            let (meaning, default) = meaning(flag);
            writeln!(page, "| `{}` | {meaning} | {default} |", spelled(flag).replace('|', "\\|"))?;
        }
    }
    if let Some(after) = verb.get_after_long_help().or_else(|| verb.get_after_help()) {
        for paragraph in after.to_string().split("\n\n") {
            writeln!(page, "\n{}", cell(paragraph))?;
        }
    }
    Ok(())
}

/// Whether a flag is one of those that every command has.
fn is_help(flag: &Arg) -> bool {
    matches!(flag.get_action(), ArgAction::Help | ArgAction::HelpShort | ArgAction::HelpLong | ArgAction::Version)
}

fn heading(flag: &Arg) -> &str {
    flag.get_help_heading().unwrap_or(OTHER)
}

/// Flag with its short form and value name, as in `-n, --max-tokens <N>`.
fn spelled(flag: &Arg) -> String {
    if flag.is_positional() {
        return flag.to_string();
    }
    let short = flag.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
    let aliases = flag.get_visible_aliases().unwrap_or_default();
    let aliases: String = aliases.iter().map(|alias| format!(", --{alias}")).collect();
    format!("{short}{flag}{aliases}")
}

/// Table cells with the meaning and the default of a flag.
fn meaning(flag: &Arg) -> (String, String) {
    let help = flag.get_long_help().or_else(|| flag.get_help()).map(ToString::to_string).unwrap_or_default();
    // Defaults that clap does not know are written in the help text.
    let (help, written) =
        match help.split_once(" [default: ").and_then(|(before, rest)| Some((before, rest.split_once(']')?))) {
            Some((before, (default, after))) => (format!("{before}{after}"), cell(default)),
            None => (help, String::new()),
        };
    let mut paragraphs: Vec<String> = help.split("\n\n").map(cell).collect();
    let values: Vec<String> = flag.get_possible_values().iter().map(|it| format!("`{}`", it.get_name())).collect();
    // Flags with hidden possible values list them in the help text.
    if !values.is_empty() && flag.get_action().takes_values() && !flag.is_hide_possible_values_set() {
        paragraphs.push(format!("One of {}.", values.join(", ")));
    }
    let known = flag.get_default_values().iter().map(|value| value.to_string_lossy().into_owned());
    let known = known.collect::<Vec<_>>().join(",");
    let known = if known.is_empty() || !flag.get_action().takes_values() { written } else { format!("`{known}`") };
    (paragraphs.join("<br>"), known)
}

/// Escapes Markdown except for code between backticks.
fn cell(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(at, part)| {
        let part = part.replace('\n', " ");
        if at % 2 == 1 {
            return part.replace('|', "\\|");
        }
        part.chars().fold(String::new(), |mut out, c| {
            match c {
                '<' => out.push_str("&lt;"),
                '|' | '\\' | '*' | '[' | ']' | '_' => out.extend(['\\', c]),
                c => out.push(c),
            }
            out
        })
    });
    parts.collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{cell, markdown};

    #[test]
    fn cells_escape_table_delimiters() {
        assert_eq!(cell("a <|end|> \\n"), "a &lt;\\|end\\|> \\\\n");
        assert_eq!(cell("`a|b_c` d_e"), "`a\\|b_c` d\\_e");
    }

    #[test]
    fn every_flag_of_every_verb_is_on_the_page() {
        let mut command = crate::Arguments::command();
        command.build();
        let page = markdown(&command).expect("a page");
        for verb in command.get_subcommands() {
            for flag in verb.get_arguments().filter_map(|flag| flag.get_long()) {
                assert!(flag == "help" || flag == "version" || page.contains(&format!("--{flag}")), "--{flag}");
            }
        }
    }
}
