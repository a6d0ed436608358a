//! `ruminate chat`: a conversation, formatted by the checkpoint's own chat template.
//!
//! The model runs on this machine, or on a server (`--server`).
//!
//! A terminal has line editing. Otherwise every line of stdin is a message or a command, so that a chat can be scripted.

mod command;
mod conversation;
#[cfg(feature = "client")]
mod fields;
mod file;
mod input;
mod partner;
#[cfg(feature = "client")]
mod remote;
#[cfg(feature = "client")]
mod server;

use std::io::IsTerminal;

use anstyle::Style;
use anyhow::Result;
use clap::Args;
#[cfg(feature = "structured")]
use ruminate::GenerateOptions;
use ruminate::{ChatTemplate, Error, Spec, StopReason};
use serde_json::{Map, Value};

use self::command::{Command, HELP};
use self::conversation::{Conversation, Settings};
#[cfg(feature = "client")]
use self::fields::ServerOptions;
use self::input::{Input, Line};
use self::partner::{Answer, Partner};
use crate::device::DeviceOptions;
use crate::exit_code::{self, Done, Usage};
use crate::interrupt::{self, Interrupt};
use crate::model::ModelOptions;
use crate::options::GenerationOptions;
use crate::prompt::unescape;
use crate::visible;
use crate::words::counted;

/// Flags of `ruminate chat`.
#[derive(Args)]
pub(crate) struct Chat {
    #[command(flatten)]
    model: ModelOptions,
    #[cfg(feature = "client")]
    #[command(flatten)]
    server: ServerOptions,
    /// System prompt: instructions before the conversation
    ///
    /// \n is a line break, \t a tab, and \\ a backslash. Dates in chat templates are in UTC.
    #[arg(long, value_name = "TEXT", help_heading = "Input")]
    system: Option<String>,
    /// Encode special tokens spelled out in messages
    ///
    /// By default only the chat template's own special tokens are encoded, so that no message can forge a turn.
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    parse_special: bool,
    /// Variables of the chat template, as JSON: '{"enable_thinking": false}'
    #[arg(long, value_name = "JSON", value_parser = variables, help_heading = "Input")]
    chat_template_kwargs: Option<Map<String, Value>>,
    /// Do not keep typed lines in a file
    #[arg(long, help_heading = "Input", hide_short_help = true)]
    no_history: bool,

    #[command(flatten)]
    generation: GenerationOptions,
    #[cfg(feature = "structured")]
    #[command(flatten)]
    structured: crate::structured::StructuredOptions,
    #[command(flatten)]
    device: DeviceOptions,

    /// Print figures after each answer
    #[arg(long, visible_alias = "verbose", help_heading = "Output")]
    stats: bool,
    /// Print nothing but answers and errors
    #[arg(short, long, conflicts_with = "stats", help_heading = "Output")]
    quiet: bool,
}

/// Parser of `--chat-template-kwargs`.
fn variables(text: &str) -> std::result::Result<Map<String, Value>, String> {
    let variables = serde_json::from_str(text)
        .map_err(|error| format!("not a JSON object such as {{\"enable_thinking\": false}}: {error}"))?;
    match ChatTemplate::reserved(&variables) {
        Some(name) => Err(format!("`{name}` is set by the conversation and cannot be given")),
        None => Ok(variables),
    }
}

/// Runs `ruminate chat`.
pub(crate) fn chat(options: &Chat) -> Result<Done> {
    let interrupt = Interrupt::watch()?;
    #[cfg(feature = "structured")]
    if let Some(flag) = options.structured.given().filter(|_| options.structured.reads_stdin()) {
        return Err(Usage(format!("{flag} needs a file: stdin holds the messages of the conversation")).into());
    }
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    #[cfg(feature = "client")]
    if let Some(url) = &options.server.server {
        return with_server(url, options, &interrupt, interactive);
    }
    let source = options.model.argument.source()?;
    let device = options.device.open(options.model.products(), options.quiet)?;
    let session = options.generation.session(&Spec::open(&source)?)?;
    let model = options.model.load(&source, &device, session.clone(), options.quiet)?;
    let generate = options.generation.generate(&model, options.quiet)?;
    #[cfg(feature = "structured")]
    let generate =
        GenerateOptions { constraint: options.structured.constraint(model.tokenizer(), options.quiet)?, ..generate };
    let settings = Settings {
        session,
        generate,
        system: options.system.as_deref().map(unescape),
        parse_special: options.parse_special,
        variables: options.chat_template_kwargs.clone().unwrap_or_default(),
        stats: options.stats,
        quiet: options.quiet,
        // A user sees that the answer was stopped before typing more. A script continues regardless, so there the second Ctrl-C ends the program.
        stop_every_answer: interactive,
    };
    let mut conversation = Conversation::new(&model, settings)?;
    if interactive && !options.quiet {
        options.model.argument.note_demo([]);
        note(&format!("{} on {}; /help lists the commands", model.dtypes(), model.device().name()));
    }
    talk(&mut conversation, options, &interrupt, interactive)
}

/// Runs a conversation with a server.
#[cfg(feature = "client")]
fn with_server(url: &str, options: &Chat, interrupt: &Interrupt, interactive: bool) -> Result<Done> {
    let key = options.server.key()?;
    let address = server::Address::new(url, key.as_deref()).map_err(Usage)?;
    let settings = remote::Settings {
        fields: options.fields()?,
        system: options.system.as_deref().map(unescape),
        stats: options.stats,
        stop_every_answer: interactive,
    };
    let mut remote = remote::Remote::connect(address, settings)?;
    if interactive && !options.quiet {
        note(&format!("{} on {url}; /help lists the commands", remote.name()));
    }
    talk(&mut remote, options, interrupt, interactive)
}

/// Processes lines until the end of the input.
fn talk(partner: &mut dyn Partner, options: &Chat, interrupt: &Interrupt, interactive: bool) -> Result<Done> {
    let mut input = if interactive { Input::terminal(!options.no_history)? } else { Input::plain() };
    let mut chat = Running { partner, interrupt, quiet: options.quiet };
    let mut failed = None;
    loop {
        let command = match input.read()? {
            Line::Text(line) => Command::parse(&line),
            Line::Message(text) => Ok(Command::Say(text)),
            Line::End => break,
            Line::Interrupted => return Ok(Done::Interrupted),
        };
        match command.map_err(Into::into).and_then(|command| chat.take(command)) {
            Ok(Next::Line) => {}
            Ok(Next::Leave) => break,
            Err(error) if can_go_on(&error) => {
                exit_code::say(&error);
                if matches!(
                    error.downcast_ref(),
                    Some(Error::PromptTooLong { .. } | Error::TextTooLong { .. } | Error::NoRoom { .. })
                ) {
                    note(FULL);
                }
                failed.get_or_insert(exit_code::number(&error));
            }
            Err(error) => return Err(error),
        }
        if interrupt::ending() {
            return Ok(Done::Interrupted);
        }
    }
    // A user has seen the error; a script needs the exit code.
    Ok(failed.filter(|_| !interactive).map_or(Done::Complete, Done::Failed))
}

/// Advice when the context is full.
const FULL: &str = "/reset forgets the conversation; `ruminate chat -c N` makes room for a longer one";

/// Action after a line of input.
enum Next {
    Line,
    Leave,
}

/// State of a running chat.
struct Running<'a> {
    partner: &'a mut dyn Partner,
    interrupt: &'a Interrupt,
    quiet: bool,
}

impl Running<'_> {
    /// Executes a command.
    fn take(&mut self, command: Command) -> Result<Next> {
        match command {
            Command::Nothing => {}
            Command::Say(text) => {
                let answer = self.partner.say(&text, self.interrupt)?;
                self.comment(&answer);
            }
            Command::Regenerate => {
                let answer = self.partner.regenerate(self.interrupt)?;
                self.comment(&answer);
            }
            Command::Steps(steps) => {
                steps.map_or(Ok(()), |steps| self.partner.set_steps(steps))?;
                match self.partner.steps() {
                    Some(steps) => self.note(&format!("{} per token", counted(steps, "step"))),
                    None => self.note("the server's default number of steps per token"),
                }
            }
            Command::Temperature(temperature) => {
                if let Some(temperature) = temperature {
                    self.partner.set_temperature(temperature);
                }
                match self.partner.temperature() {
                    Some(temperature) => self.note(&format!("temperature {temperature}")),
                    None => self.note("the server's default temperature"),
                }
            }
            Command::System(text) => {
                self.note(if text.is_some() { "system prompt set" } else { "no system prompt" });
                self.partner.transcript().system = text;
            }
            Command::Reset => {
                self.partner.transcript().messages.clear();
                self.note("conversation forgotten");
            }
            Command::Save { path, replace } => {
                self.partner.transcript().save(&path, replace)?;
                self.note(&format!("saved to {}", path.display()));
            }
            Command::Load(path) => {
                let count = self.partner.transcript().load(&path)?;
                self.note(&format!("{} from {}", counted(count, "message"), path.display()));
            }
            Command::Help => remark!("{HELP}"),
            Command::Quit => return Ok(Next::Leave),
        }
        Ok(Next::Line)
    }

    /// Reports why an answer ended, unless the model ended it.
    fn comment(&self, answer: &Answer) {
        match answer.stop {
            None if answer.said => self.note("stopped"),
            None => self.note("stopped before the answer began; the message was discarded"),
            Some(StopReason::MaxTokens) => self.note("stopped by the limit on tokens (-n)"),
            // Printed even with `--quiet`: the next message will not fit.
            Some(StopReason::ContextFull) => {
                note(
                    &answer.context.map_or("the context is full".to_owned(), |it| {
                        format!("the context of {it} positions is full")
                    }),
                );
                note(FULL);
            }
            Some(_) => {}
        }
    }

    fn note(&self, text: &str) {
        if !self.quiet {
            note(text);
        }
    }
}

/// Prints a note that is not part of an answer.
fn note(text: &str) {
    let dim = Style::new().dimmed();
    let text = visible::lines(text);
    remark!("{dim}({text}){dim:#}");
}

/// Whether the conversation can continue after an error: the line caused it, not the device or the terminal.
fn can_go_on(error: &anyhow::Error) -> bool {
    let refused = matches!(
        error.downcast_ref::<Error>(),
        Some(
            Error::Chat { .. }
                | Error::PromptTooLong { .. }
                | Error::TextTooLong { .. }
                | Error::NoRoom { .. }
                | Error::Option { .. }
                | Error::Range { .. }
                | Error::Tokenizer { .. }
        )
    );
    #[cfg(feature = "client")]
    let refused = refused || error.is::<server::ServerError>();
    refused || error.is::<Usage>() || error.is::<file::FileError>()
}
