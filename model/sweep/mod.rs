//! Accuracy of a model by depth: problems with one right answer each, at a number of steps, with or without early exit.
//!
//! The right answer is fed token by token. The model answers right if each of its tokens was the most likely one, which is equivalent to its greedy
//! continuation starting with the answer. So one pass over the answer gives accuracy and perplexity.

mod tally;

use std::time::Duration;

use ruminate_engine::clock::Instant;
use serde::Deserialize;

pub use self::tally::Tally;
use crate::early_exit::Exit;
use crate::error::{Error, Result};
use crate::likelihood::{Continuation, Likelihood, LikelihoodOptions};
use crate::options::SessionOptions;
use crate::session::Session;

/// A prompt with its right answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// Kind of problem.
    pub task: String,
    /// Text to continue.
    pub prompt: String,
    /// Start of the right continuation.
    pub answer: String,
    /// Whether it is one of the hard problems of its kind, if known.
    pub hard: Option<bool>,
}

impl Problem {
    /// Reads problems, one JSON object per line: `{"task":"sums","prompt":"3+4","answer":" 7"}`, optionally with `"hard":true`. Other fields are ignored.
    /// `file` is the name of the text in errors.
    ///
    /// # Errors
    /// [`Error::Json`] with the number of the line.
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

/// A problem, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the answer.
    pub answer: Vec<u32>,
}

/// Result of a question.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answered {
    /// Whether the greedy continuation starts with the answer.
    pub right: bool,
    /// Number of tokens of the answer.
    pub tokens: u32,
    /// Recurrence steps of the rows that predict them, summed.
    pub steps: u64,
    /// Negative log-likelihood of the answer given the prompt, in nats.
    pub nll: f64,
    /// Number of tokens computed: those of the prompt and all but the last of the answer.
    pub computed: u32,
    /// Time for it: its share of the passes that it was part of.
    pub time: Duration,
}

impl Session {
    /// Encodes a problem. If prompt and answer together start with the prompt's own tokens, the rest is the answer; otherwise the answer is encoded by itself.
    ///
    /// # Errors
    /// Tokenizer errors, or [`Error::PromptTooLong`].
    pub fn question(&self, problem: &Problem) -> Result<Question> {
        let Continuation { context: prompt, continuation: answer } =
            Continuation::encode(self.model().tokenizer(), &problem.prompt, &problem.answer)?;
        let (tokens, context) = (prompt.len() + answer.len() - 1, self.context());
        if tokens > context as usize {
            return Err(Error::PromptTooLong { tokens, context, most: self.model().spec().context });
        }
        Ok(Question { prompt, answer })
    }

    /// Answers questions, each from an empty context with at most `steps` steps; many of them share a pass. `progress` receives the number of finished
    /// questions and returns whether to go on; if it returns false, there are fewer answers than questions.
    ///
    /// # Errors
    /// As [`Model::likelihoods`](crate::Model::likelihoods).
    pub fn answer(
        &mut self,
        questions: &[Question],
        steps: u32,
        exit: Option<&Exit>,
        progress: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Vec<Answered>> {
        let asked: Vec<Continuation> = questions
            .iter()
            .map(|Question { prompt, answer }| Continuation { context: prompt.clone(), continuation: answer.clone() })
            .collect();
        let session = SessionOptions { context: Some(self.context()), ..self.options().clone() };
        let options =
            LikelihoodOptions { steps: Some(steps), exit: exit.copied(), session, ..LikelihoodOptions::default() };
        let start = Instant::now();
        let found = self.model().likelihoods(&asked, &options, progress)?;
        // Questions share passes, so they share the time, too.
        let time = start.elapsed() / u32::try_from(found.len()).unwrap_or(u32::MAX).max(1);
        let answered = |(asked, found): (&Continuation, &Likelihood)| Answered {
            right: found.greedy,
            tokens: found.tokens,
            steps: found.steps,
            nll: -found.logprob,
            computed: (asked.context.len() + asked.continuation.len() - 1) as u32,
            time,
        };
        Ok(asked.iter().zip(&found).map(answered).collect())
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
