//! Parses the lines of a chat: messages and `/` commands.

use std::path::PathBuf;

use crate::exit_code::Usage;

/// The list that `/help` prints.
pub(super) const HELP: &str = "\
/steps [N]         think N steps per token from now on; without N, show the number
/temp [X]          sample at temperature X from now on, 0 is greedy; without X, show it
/system [TEXT]     set the system prompt; without TEXT, remove it
/reset             forget the conversation, but not the system prompt
/regenerate        answer the last message again
/save FILE         write the conversation to a new file, as JSON; /save! replaces a file
/load FILE         continue a saved conversation
/help              this list
/quit, /bye        end the chat; so does Ctrl-D
To write several lines, end a line with \\, or put the message between lines of \"\"\".
A message that begins with / is sent if it is written with //. Ctrl-C stops an answer; at the prompt it ends the chat.";

/// Parsed line of a chat.
#[derive(Debug, PartialEq)]
pub(super) enum Command {
    Nothing,
    Say(String),
    Steps(Option<u32>),
    Temperature(Option<f32>),
    System(Option<String>),
    Reset,
    Regenerate,
    Save { path: PathBuf, replace: bool },
    Load(PathBuf),
    Help,
    Quit,
}

impl Command {
    /// Parses a line, or several joined lines.
    pub(super) fn parse(text: &str) -> Result<Self, Usage> {
        if text.trim().is_empty() {
            return Ok(Self::Nothing);
        }
        let Some(command) = text.strip_prefix('/') else { return Ok(Self::Say(text.to_owned())) };
        if command.starts_with('/') {
            return Ok(Self::Say(command.to_owned()));
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = Some(rest.trim()).filter(|rest| !rest.is_empty());
        let nothing = |command| match rest {
            None => Ok(command),
            Some(_) => Err(Usage(format!("/{name} takes no argument; write // to send a message that begins with /"))),
        };
        let path = || rest.map(PathBuf::from).ok_or_else(|| Usage(format!("/{name} needs the name of a file")));
        match name {
            "steps" => match rest.map(str::parse) {
                None => Ok(Self::Steps(None)),
                Some(Ok(steps)) if steps > 0 => Ok(Self::Steps(Some(steps))),
                Some(_) => Err(Usage("/steps needs a whole number of at least 1".to_owned())),
            },
            "temp" => match rest.map(str::parse) {
                None => Ok(Self::Temperature(None)),
                Some(Ok(temperature)) if (0.0..f32::INFINITY).contains(&temperature) => {
                    Ok(Self::Temperature(Some(temperature)))
                }
                Some(_) => Err(Usage("/temp needs a number of at least 0".to_owned())),
            },
            "system" => Ok(Self::System(rest.map(str::to_owned))),
            "reset" => nothing(Self::Reset),
            "regenerate" => nothing(Self::Regenerate),
            "save" | "save!" => Ok(Self::Save { path: path()?, replace: name.ends_with('!') }),
            "load" => Ok(Self::Load(path()?)),
            "help" => nothing(Self::Help),
            "quit" | "exit" | "bye" => nothing(Self::Quit),
            _ => Err(Usage(format!(
                "unknown command /{name}; /help lists the commands, // sends a message that begins with /"
            ))),
        }
    }
}
