//! How well a model answers, by depth: problems with one right answer each, at a number of steps, with or without an exit rule.
//!
//! The right answer is fed token by token. The model answers right if each token of it was the most likely one: then, and only then, its
//! greedy continuation begins with the answer. So one pass over it gives accuracy and perplexity.

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
    /// What that took: its share of the passes that it was in.
    pub time: Duration,
}

impl Session {
    /// Encodes a problem. Where prompt and answer together begin with the prompt's own tokens, the rest is the answer; else the answer is
    /// encoded by itself.
    ///
    /// # Errors
    /// The tokenizer's, or [`Error::PromptTooLong`].
    pub fn question(&self, problem: &Problem) -> Result<Question> {
        let Continuation { context: prompt, continuation: answer } =
            Continuation::encode(self.model().tokenizer(), &problem.prompt, &problem.answer)?;
        let (tokens, context) = (prompt.len() + answer.len() - 1, self.context());
        if tokens > context as usize {
            return Err(Error::PromptTooLong { tokens, context, most: self.model().spec().context });
        }
        Ok(Question { prompt, answer })
    }

    /// Answers questions, each from an empty context on, with `steps` at most; many of them share a pass. `progress` hears how many are done, and says whether to go
    /// on; if not, there are fewer answers than questions.
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
        // Questions share their passes, and so their time.
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
