//! Conversation with a server through OpenAI's `/v1/chat/completions`, streamed.

use std::io::Write;
use std::time::{Duration, Instant};

use anstyle::Style;
use anyhow::Result;
use ruminate::StopReason;
use serde_json::{Map, Value, json};

use super::partner::{Answer, Partner, Transcript};
use super::server::{Address, Event, ServerError};
use crate::exit_code::Usage;
use crate::interrupt::{Generating, Interrupt};
use crate::visible;
use crate::words::counted;

/// Time between two checks for Ctrl-C.
const LOOK: Duration = Duration::from_millis(50);

/// Settings of a conversation with a server.
pub(super) struct Settings {
    /// Fields of every request besides the messages.
    pub(super) fields: Map<String, Value>,
    pub(super) system: Option<String>,
    /// Whether to print figures after every answer.
    pub(super) stats: bool,
    /// Whether Ctrl-C stops each answer; otherwise only the first Ctrl-C stops an answer, and the second ends the program.
    pub(super) stop_every_answer: bool,
}

/// Conversation with a server.
pub(super) struct Remote {
    address: Address,
    settings: Settings,
    transcript: Transcript,
    /// Model entry of the server's `/v1/models`.
    model: Value,
    interrupted: bool,
}

impl Remote {
    /// Queries the server's model.
    ///
    /// # Errors
    /// If the server cannot be reached, does not speak OpenAI's API, or its model has no chat template.
    pub(super) fn connect(address: Address, mut settings: Settings) -> Result<Self> {
        let mut list = address.get("/v1/models")?;
        let model = list["data"].get_mut(0).map(Value::take).filter(|model| model["id"].is_string());
        let Some(model) = model else {
            return Err(ServerError(format!("{address} lists no model; is it a server with OpenAI's API?")).into());
        };
        if model["meta"]["chat"] == false {
            let id = model["id"].as_str().unwrap_or_default();
            let problem = format!(
                "{address}: its model {id} has no chat template, so it can only continue texts (/v1/completions)"
            );
            return Err(ServerError(problem).into());
        }
        settings.fields.insert("model".to_owned(), model["id"].clone());
        let transcript = Transcript { system: settings.system.take(), messages: Vec::new() };
        Ok(Self { address, settings, transcript, model, interrupted: false })
    }

    /// The model's name.
    pub(super) fn name(&self) -> &str {
        self.model["id"].as_str().unwrap_or_default()
    }

    fn field(&self, name: &str) -> Option<u32> {
        self.settings.fields.get(name)?.as_u64()?.try_into().ok()
    }

    fn known(&self, names: [&str; 2]) -> Option<u32> {
        self.model["meta"][names[0]][names[1]].as_u64()?.try_into().ok()
    }

    fn answer(&mut self, interrupt: &Interrupt) -> Result<Answer> {
        let mut body = self.settings.fields.clone();
        body.insert("messages".to_owned(), json!(self.transcript.whole()));
        body.insert("stream".to_owned(), true.into());
        body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        let armed = self.settings.stop_every_answer || !self.interrupted;
        let watch = armed.then(|| interrupt.generating());
        let stopped = || watch.as_ref().is_some_and(Generating::stopped);
        let start = Instant::now();
        let events = self.address.stream("/v1/chat/completions", &Value::Object(body));
        let mut out = std::io::stdout().lock();
        let (mut text, mut finish, mut usage, mut first) = (String::new(), None, Value::Null, None);
        let failed = loop {
            if stopped() {
                break None;
            }
            let chunk = match events.next(LOOK) {
                Event::Nothing => continue,
                Event::Chunk(chunk) => chunk,
                Event::End if finish.is_some() => break None,
                Event::End => {
                    break Some(ServerError(format!("{} ended the connection within the answer", self.address)));
                }
                Event::Failed(error) => break Some(error),
            };
            if !chunk["usage"].is_null() {
                usage = chunk["usage"].clone();
            }
            let choice = &chunk["choices"][0];
            if let Some(part) = choice["delta"]["content"].as_str().filter(|part| !part.is_empty()) {
                first.get_or_insert_with(Instant::now);
                text.push_str(part);
                write!(out, "{}", visible::generated(part)).and_then(|()| out.flush())?;
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                finish = Some(if reason == "length" { StopReason::MaxTokens } else { StopReason::Complete });
            }
        };
        // Closes the connection, which tells the server to stop generating.
        drop(events);
        if !text.ends_with('\n') && (finish.is_some() || !text.is_empty()) {
            writeln!(out)?;
        }
        let said = finish.is_some() || !text.is_empty();
        if said {
            self.transcript.push("assistant", &text);
        }
        if let Some(error) = failed {
            return Err(error.into());
        }
        self.interrupted |= finish.is_none();
        if self.settings.stats {
            figures(&usage, start, first);
        }
        Ok(Answer { stop: finish, said, context: self.context() })
    }

    fn context(&self) -> Option<u32> {
        self.model["meta"]["context"].as_u64().or_else(|| self.model["max_model_len"].as_u64())?.try_into().ok()
    }
}

impl Partner for Remote {
    fn say(&mut self, text: &str, interrupt: &Interrupt) -> Result<Answer> {
        let before = self.transcript.messages.len();
        self.transcript.push("user", text);
        let answer = self.answer(interrupt);
        // The part of an answer that came before an error is kept.
        let answered = self.transcript.messages.len() > before + 1;
        if !answered {
            self.transcript.messages.truncate(before);
        }
        answer
    }

    fn regenerate(&mut self, interrupt: &Interrupt) -> Result<Answer> {
        let messages = &mut self.transcript.messages;
        let Some(last) = messages.pop_if(|last| last.role == "assistant") else {
            return Err(Usage("nothing to regenerate: the chat has no answer yet".to_owned()).into());
        };
        let before = messages.len();
        if let Some(seed) = self.settings.fields.get("seed").and_then(Value::as_i64) {
            self.settings.fields.insert("seed".to_owned(), seed.wrapping_add(1).into());
        }
        let answer = self.answer(interrupt);
        if self.transcript.messages.len() == before {
            self.transcript.messages.push(last);
        }
        answer
    }

    fn steps(&self) -> Option<u32> {
        self.field("steps").or_else(|| self.known(["steps", "default"]))
    }

    fn set_steps(&mut self, steps: u32) -> Result<()> {
        let most = self.known(["steps", "max"]).unwrap_or(ruminate::MAX_STEPS);
        if steps > most {
            return Err(Usage(format!("/steps needs a number of at most {most}")).into());
        }
        self.settings.fields.insert("steps".to_owned(), steps.into());
        Ok(())
    }

    fn temperature(&self) -> Option<f32> {
        self.settings.fields.get("temperature").and_then(Value::as_f64).map(|value| value as f32)
    }

    fn set_temperature(&mut self, temperature: f32) {
        self.settings.fields.insert("temperature".to_owned(), temperature.into());
    }

    fn transcript(&mut self) -> &mut Transcript {
        &mut self.transcript
    }
}

/// Prints the figures of an answer that the server reports.
fn figures(usage: &Value, start: Instant, first: Option<Instant>) {
    let count = |name: &str| usage[name].as_u64();
    let mut words = Vec::new();
    words.extend(count("prompt_tokens").map(|tokens| format!("prompt {}", counted(tokens, "token"))));
    if let Some(tokens) = count("completion_tokens") {
        let seconds = first.map_or(0.0, |first| first.elapsed().as_secs_f64());
        let rate = if tokens > 1 && seconds > 0.0 {
            format!(", {:.1} tokens/s", (tokens - 1) as f64 / seconds)
        } else {
            String::new()
        };
        words.push(format!("generated {}{rate}", counted(tokens, "token")));
    }
    words.extend(usage["steps_per_token"].as_f64().map(|steps| format!("{steps:.1} steps per token")));
    words.extend(count("core_passes").map(|passes| counted(passes, "core pass")));
    words.extend(first.map(|first| format!("first token after {:.2} s", (first - start).as_secs_f64())));
    let dim = Style::new().dimmed();
    remark!("{dim}{}{dim:#}", words.join(" · "));
}
