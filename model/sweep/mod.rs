//! How well a model answers, by depth: problems with one right answer each, at a number of steps, with or without an exit rule.
//!
//! The right answer is fed token by token. The model answers right if each token of it was the most likely one: then, and only then, its
//! greedy continuation begins with the answer. So one pass over it gives accuracy and perplexity.

mod tally;

use std::time::{Duration, Instant};

use serde::Deserialize;

pub use self::tally::Tally;
use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::options::State;
use crate::session::Session;
use crate::statistics::log_probability;
use crate::tokenizer::Specials;
use crate::trace::most_likely;

/// A prompt with the answer that is right.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// What kind of problem it is.
    pub task: String,
    /// What the model is to continue.
    pub prompt: String,
    /// What the continuation must begin with.
    pub answer: String,
    /// Whether it belongs to the hard ones of its kind, if that is said.
    pub hard: Option<bool>,
}

impl Problem {
    /// Reads problems, one JSON object a line: `{"task":"sums","prompt":"3+4","answer":" 7"}`, and perhaps `"hard":true`. What else a line
    /// holds is ignored. `file` is what errors call the text.
    ///
    /// # Errors
    /// [`Error::Json`] names the line.
    pub fn read(text: &str, file: &str) -> Result<Vec<Self>> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let problems = lines.map(|(at, line)| {
            let problem = serde_json::from_str(line).and_then(Self::checked);
            problem.map_err(|source| Error::Json { file: format!("{file}, line {}", at + 1), source })
        });
        problems.collect()
    }

    fn checked(self) -> Result<Self, serde_json::Error> {
        let empty = [("prompt", &self.prompt), ("answer", &self.answer)].into_iter().find(|(_, text)| text.is_empty());
        match empty {
            Some((name, _)) => Err(serde::de::Error::custom(format!("`{name}` is empty"))),
            None => Ok(self),
        }
    }
}

/// A problem in tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the answer.
    pub answer: Vec<u32>,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Whether the greedy continuation begins with the answer.
    pub right: bool,
    /// Tokens of the answer.
    pub tokens: u32,
    /// Recurrence steps that went into them, all together.
    pub steps: u64,
    /// Negative log-likelihood of the answer given the prompt, in nats.
    pub nll: f64,
    /// Tokens computed: the prompt's, and the answer's but the last.
    pub computed: u32,
    /// What that took.
    pub time: Duration,
}

impl Session {
    /// Encodes a problem. Where prompt and answer together begin with the prompt's own tokens, the rest is the answer; else the answer is
    /// encoded by itself.
    ///
    /// # Errors
    /// The tokenizer's, or [`Error::PromptTooLong`].
    pub fn question(&self, problem: &Problem) -> Result<Question> {
        let tokenizer = self.model().tokenizer();
        let specials = if tokenizer.bos().is_some() { Specials::Bos } else { Specials::None };
        let prompt = self.encode(&problem.prompt, specials)?;
        let whole = self.encode(&format!("{}{}", problem.prompt, problem.answer), specials)?;
        let answer = match whole.strip_prefix(&prompt[..]) {
            Some(answer) if !answer.is_empty() => answer.to_vec(),
            _ => tokenizer.encode(&problem.answer, Specials::None)?,
        };
        let (tokens, context) = (prompt.len() + answer.len() - 1, self.context());
        if tokens > context as usize {
            return Err(Error::PromptTooLong { tokens, context, most: self.model().config().block_size });
        }
        Ok(Question { prompt, answer })
    }

    /// Answers questions, each from an empty context on, with `steps` at most. `progress` hears how many are done, and says whether to go
    /// on; if not, there are fewer answers than questions.
    ///
    /// # Errors
    /// As [`Self::forward_until_settled`].
    pub fn answer(
        &mut self,
        questions: &[Question],
        steps: u32,
        exit: Option<&Exit>,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Answered>> {
        let mut answered = Vec::with_capacity(questions.len());
        for question in questions {
            answered.push(self.answer_one(question, steps, exit)?);
            if !progress(answered.len()) {
                break;
            }
        }
        Ok(answered)
    }

    fn answer_one(&mut self, question: &Question, steps: u32, exit: Option<&Exit>) -> Result<Answered> {
        let Question { prompt, answer } = question;
        self.rewind(0)?;
        let start = Instant::now();
        let computed = (prompt.len() + answer.len() - 1) as u32;
        let mut found =
            Answered { right: true, tokens: answer.len() as u32, steps: 0, nll: 0.0, computed, time: Duration::ZERO };
        // What comes before each token of the answer.
        let fed = std::iter::once(&prompt[..]).chain(answer.chunks(1));
        for (tokens, &right) in fed.zip(answer) {
            let (logits, taken) = match exit {
                None => (self.forward(tokens, steps, State::Seeded, false)?, steps),
                Some(exit) => {
                    let found = self.forward_until_settled(tokens, steps, exit, State::Seeded, false)?;
                    (found.logits, found.steps.last().copied().unwrap_or(steps))
                }
            };
            found.right &= most_likely(&logits, 1) == [right];
            found.nll -= f64::from(log_probability(&logits, right as usize));
            found.steps += u64::from(taken);
        }
        found.time = start.elapsed();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::Problem;

    #[test]
    fn problems_are_lines_and_an_error_names_the_line() {
        let text = "{\"task\":\"a\",\"prompt\":\"1+1\",\"answer\":\" 2\",\"length\":1,\"hard\":true}\n\n";
        let problems = Problem::read(text, "p.jsonl").expect("a problem");
        assert_eq!((problems.len(), problems[0].hard, problems[0].answer.as_str()), (1, Some(true), " 2"));
        for (wrong, words) in [
            ("{\"task\":\"a\",\"prompt\":\"1\"}", "missing field `answer`"),
            ("nothing", "expected"),
            ("{\"task\":\"a\",\"prompt\":\"1\",\"answer\":\"\"}", "`answer` is empty"),
        ] {
            let error = Problem::read(&format!("{text}{wrong}"), "p.jsonl").expect_err("no problem").to_string();
            assert!(error.contains("p.jsonl, line 3") && error.contains(words), "{error}");
        }
    }
}
