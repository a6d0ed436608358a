//! Sweeps: an answer is right if a greedy generation gives it, and its likelihood is its score.

use anyhow::{Result, ensure};
use ruminate::score::Score;
use ruminate::sweep::{Problem, Question, Tally};
use ruminate::{Criterion, Device, Exit, GenerateOptions, LoadOptions, Model, Sampling, Session, SessionOptions, demo};
use ruminate_tests::trial;

fn session(device: &Device) -> Result<Session> {
    let model = Model::demo(device, LoadOptions::default())?;
    Ok(model.session(SessionOptions { seed: 2, ..SessionOptions::default() })?)
}

/// Some of the demo's problems, with a period after each answer, so that it has at least two tokens.
fn questions(session: &Session, count: usize) -> Result<Vec<Question>> {
    let problems = Problem::read(demo::PROBLEMS, "the demo's problems")?;
    ensure!(problems.len() >= count && problems.iter().all(|problem| problem.hard.is_some()));
    let apart = problems.len() / count;
    let some = problems.iter().step_by(apart).take(count);
    some.map(|problem| Ok(session.question(&Problem { answer: format!("{}.", problem.answer), ..problem.clone() })?))
        .collect()
}

#[trial(device, cpu, full)]
fn right_answers_are_those_of_greedy_generation(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    let questions = questions(&session, 12)?;
    ensure!(questions.iter().all(|question| question.answer.len() > 1), "{questions:?}");
    let mut seen = [false; 2];
    for steps in [1, 16] {
        let answered = session.answer(&questions, steps, None, &mut |_| true)?;
        for (question, answered) in questions.iter().zip(answered) {
            session.rewind(0)?;
            let asked = GenerateOptions {
                steps: Some(steps),
                max_tokens: Some(question.answer.len() as u32),
                sampling: Sampling::GREEDY,
                end_tokens: Some(Vec::new()),
                ..GenerateOptions::default()
            };
            let said: Vec<u32> = session
                .generate(&question.prompt[..], &asked)?
                .map(|piece| piece.map(|piece| piece.token))
                .collect::<Result<_, _>>()?;
            ensure!(answered.right == (said == question.answer), "{steps} steps: {said:?}, {question:?}");
            ensure!(answered.steps == u64::from(steps) * question.answer.len() as u64);
            seen[usize::from(answered.right)] = true;
        }
    }
    ensure!(seen == [true, true], "the answers are not both right and wrong");
    Ok(())
}

#[trial(device, cpu, full)]
fn answer_likelihood_matches_score(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    for question in questions(&session, 4)? {
        let answered = session.answer(std::slice::from_ref(&question), 5, None, &mut |_| true)?[0];
        let mut nll = |tokens: &[u32]| -> Result<f64> {
            let mut score = Score::default();
            session.score(tokens, 5, None, None, &mut score)?;
            Ok(score.nll.mean() * score.nll.count() as f64)
        };
        let expected = nll(&[&question.prompt[..], &question.answer].concat())? - nll(&question.prompt)?;
        ensure!((answered.nll - expected).abs() < 2e-3 * expected.max(1.0), "{} nats, not {expected}", answered.nll);
        let mut tally = Tally::default();
        tally.add(&answered);
        ensure!((tally.perplexity().ln() * question.answer.len() as f64 - answered.nll).abs() < 1e-6);
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn exit_rules_reduce_steps(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    let questions = questions(&session, 6)?;
    let mut steps_with = |exit: Option<&Exit>| -> Result<f64> {
        let mut tally = Tally::default();
        session.answer(&questions, 32, exit, &mut |_| true)?.iter().for_each(|answered| tally.add(answered));
        Ok(tally.mean_steps())
    };
    ensure!(steps_with(None)? == 32.0);
    for criterion in [Criterion::LatentDiff, Criterion::Kl] {
        let steps = steps_with(Some(&Exit::new(criterion)))?;
        ensure!((1.0..24.0).contains(&steps), "{criterion:?}: {steps} steps");
    }
    Ok(())
}

#[trial(device, cpu, full)]
fn sweep_stops_when_cancelled(device: &Device) -> Result<()> {
    let mut session = session(device)?;
    // More questions than fit into one pass.
    let questions: Vec<Question> = questions(&session, 5)?.into_iter().cycle().take(100).collect();
    let mut heard = Vec::new();
    let answered = session.answer(&questions, 1, None, &mut |done| {
        heard.push(done);
        heard.len() < 2
    })?;
    ensure!(heard.len() == 2 && answered.len() == heard[1], "{} answers, {heard:?}", answered.len());
    ensure!(heard[0] < heard[1] && answered.len() < questions.len(), "{heard:?} of {}", questions.len());
    Ok(())
}
