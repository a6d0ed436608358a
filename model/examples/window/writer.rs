//! The generating side: a session on the application's device, and its text.

use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use ruminate::{
    Device, Error, GenerateOptions, LoadOptions, Model, Progress, Sampling, Session, SessionOptions, Source, wgpu,
};

/// Session if loading succeeded, and the error of loading or starting.
type Back = (Option<Session>, Option<String>);

/// The session and its text.
pub(crate) struct Writer {
    session: Option<Session>,
    /// Receives the session back while another thread has it.
    away: Option<Receiver<Back>>,
    /// Whether a generation is running or about to start.
    running: bool,
    pub(crate) text: String,
    pub(crate) tokens: u32,
    /// Tokens per second of the last generation.
    pub(crate) rate: f64,
    pub(crate) error: Option<String>,
}

impl Writer {
    /// Passes the application's device to the engine, and loads a model there without blocking the window.
    pub(crate) fn load(device: wgpu::Device, queue: wgpu::Queue, source: Source) -> Self {
        let mut writer =
            Self { session: None, away: None, running: false, text: String::new(), tokens: 0, rate: 0.0, error: None };
        writer.send_away(move || {
            let load = || -> Result<Session, Error> {
                let device = Device::from_wgpu(device, queue)?;
                let model = Model::open(&source, &device, LoadOptions::default())?;
                model.session(SessionOptions::default())
            };
            match load() {
                Ok(session) => (Some(session), None),
                Err(error) => (None, Some(error.to_string())),
            }
        });
        writer
    }

    fn send_away(&mut self, job: impl FnOnce() -> Back + Send + 'static) {
        let (sender, receiver) = channel();
        self.away = Some(receiver);
        std::thread::spawn(move || {
            // Sending fails if the window was closed meanwhile.
            let _ = sender.send(job());
        });
    }

    /// Takes the session back if its thread is done.
    pub(crate) fn look(&mut self) {
        match self.away.as_ref().map(Receiver::try_recv) {
            None | Some(Err(TryRecvError::Empty)) => return,
            Some(Ok((session, error))) => (self.session, self.error) = (session, error),
            Some(Err(TryRecvError::Disconnected)) => self.error = Some("loading failed".to_owned()),
        }
        self.away = None;
        self.running &= self.error.is_none();
    }

    /// Whether a prompt can be started.
    pub(crate) fn ready(&self) -> bool {
        self.session.is_some() && !self.running
    }

    /// Whether text is being generated, or is about to be.
    pub(crate) fn generating(&self) -> bool {
        self.running
    }

    /// Starts a generation on another thread, because kernels may have to be compiled.
    pub(crate) fn start(&mut self, prompt: String, steps: u32) {
        let Some(mut session) = self.session.take() else { return };
        self.text.push_str(&prompt);
        self.running = true;
        self.send_away(move || {
            let options = GenerateOptions {
                steps: Some(steps),
                max_tokens: Some(128),
                sampling: Sampling::GREEDY,
                ..GenerateOptions::default()
            };
            let outcome = session.rewind(0).and_then(|()| session.start(&prompt, &options));
            (Some(session), outcome.err().map(|error| error.to_string()))
        });
    }

    /// Ends the generation.
    pub(crate) fn stop(&mut self) {
        if let Some(session) = &mut self.session {
            session.stop();
            self.running = false;
            self.text.push_str("\n\n");
        }
    }

    /// Does one bounded piece of work, if there is any.
    pub(crate) fn step(&mut self, budget: Duration) {
        let Some(session) = self.session.as_mut().filter(|_| self.running) else { return };
        match session.step(budget) {
            Ok(Progress::Working) => {}
            Ok(Progress::Token(piece)) => {
                self.text.push_str(&piece.text);
                self.tokens += 1;
            }
            Ok(Progress::Done(_)) => {
                self.rate = session.statistics().map_or(0.0, |statistics| {
                    let seconds = (statistics.prompt_time + statistics.decode_time).as_secs_f64();
                    f64::from(statistics.tokens) / seconds
                });
                self.stop();
            }
            // Other kinds of progress need no action.
            Ok(_) => {}
            Err(error) => {
                self.error = Some(error.to_string());
                self.stop();
            }
        }
    }
}
