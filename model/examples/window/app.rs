//! Event loop: draws frames on time and generates between them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use winit::application::ApplicationHandler;
use winit::dpi::LogicalSize;
use winit::event::WindowEvent;
use winit::event_loop::{ActiveEventLoop, ControlFlow, OwnedDisplayHandle};
use winit::window::{Window, WindowId};

use crate::canvas::{Canvas, Picture};
use crate::frames::Frames;
use crate::panels::{self, Settings};
use crate::writer::Writer;
use crate::{Failure, Options};

/// Interval at which the device is polled between frames.
const LOOK: Duration = Duration::from_millis(1);
/// Time that a demo run waits before it measures, because windows take a moment to settle.
const SETTLE: Duration = Duration::from_secs(1);

/// The application.
pub(crate) struct App {
    options: Options,
    display: OwnedDisplayHandle,
    live: Option<Live>,
    outcome: Result<(), Failure>,
}

/// State that exists while there is a window.
struct Live {
    window: Arc<Window>,
    canvas: Canvas,
    input: egui_winit::State,
    settings: Settings,
    writer: Writer,
    frames: Frames,
    /// Start of the last frame, and due time of the next.
    last: Option<Instant>,
    next: Instant,
    /// Whether something was generated since the last frame.
    busy: bool,
    /// Time at which the model was ready.
    ready: Option<Instant>,
    /// Number of generations that a demo run has started.
    started: usize,
}

impl App {
    pub(crate) fn new(options: Options, display: OwnedDisplayHandle) -> Self {
        Self { options, display, live: None, outcome: Ok(()) }
    }

    /// Prints the frame times after the event loop has ended.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        self.outcome?;
        let Some(Live { canvas, writer, frames, .. }) = self.live else { return Ok(()) };
        print!("{frames}");
        println!("{} tokens generated on {}", writer.tokens, canvas.name);
        if let Some(error) = writer.error {
            return Err(error.into());
        }
        if self.options.demo_run.is_some() && (writer.tokens == 0 || frames.generating.len() == 0) {
            return Err("the demo run ended before it had tokens and frames".into());
        }
        Ok(())
    }

    fn open(&mut self, events: &ActiveEventLoop) -> Result<Live, Failure> {
        let attributes = Window::default_attributes()
            .with_title("Ruminate: text between frames")
            .with_inner_size(LogicalSize::new(800.0, 520.0));
        let window = Arc::new(events.create_window(attributes)?);
        let canvas = Canvas::new(&window, self.display.clone())?;
        let context = egui::Context::default();
        context.set_theme(egui::Theme::Dark);
        let scale = Some(window.scale_factor() as f32);
        let input = egui_winit::State::new(context, egui::ViewportId::ROOT, &window, scale, None, None);
        let writer = Writer::load(canvas.device.clone(), canvas.queue.clone(), self.options.model.clone());
        let settings = Settings {
            prompt: ruminate::demo::PROMPTS[1].0.to_owned(),
            steps: 16,
            budget_ms: self.options.budget.as_secs_f32() * 1e3,
        };
        let (frames, next) = (Frames::default(), Instant::now());
        Ok(Live {
            window,
            canvas,
            input,
            settings,
            writer,
            frames,
            last: None,
            next,
            busy: false,
            ready: None,
            started: 0,
        })
    }

    /// Runs `work` on the window; an error ends the program.
    fn with(&mut self, events: &ActiveEventLoop, work: impl FnOnce(&mut Live, &Options) -> Result<bool, Failure>) {
        let outcome = self.live.as_mut().map_or(Ok(true), |live| work(live, &self.options));
        if !matches!(outcome, Ok(true)) {
            events.exit();
        }
        self.outcome = std::mem::replace(&mut self.outcome, Ok(())).and(outcome.map(drop));
    }
}

impl ApplicationHandler for App {
    fn resumed(&mut self, events: &ActiveEventLoop) {
        if self.live.is_none() {
            match self.open(events) {
                Ok(live) => self.live = Some(live),
                Err(error) => {
                    self.outcome = Err(error);
                    events.exit();
                }
            }
        }
    }

    fn window_event(&mut self, events: &ActiveEventLoop, _: WindowId, event: WindowEvent) {
        self.with(events, |live, options| {
            let _ = live.input.on_window_event(&live.window, &event);
            match event {
                WindowEvent::CloseRequested => return Ok(false),
                WindowEvent::Resized(size) => live.canvas.resize(size.width, size.height),
                WindowEvent::RedrawRequested => return live.frame(options),
                _ => {}
            }
            Ok(true)
        });
    }

    /// Called when no events are left: draws if a frame is due, else generates.
    fn about_to_wait(&mut self, events: &ActiveEventLoop) {
        let Some(live) = &mut self.live else { return };
        let now = Instant::now();
        let left = live.next.saturating_duration_since(now);
        if left.is_zero() {
            // A late frame does not make the next ones early.
            live.next = (live.next + self.options.frame).max(now);
            live.window.request_redraw();
        } else if left > LOOK {
            live.generate();
        }
        let wake = if live.writer.generating() { live.next.min(Instant::now() + LOOK) } else { live.next };
        events.set_control_flow(ControlFlow::WaitUntil(wake));
    }
}

impl Live {
    /// Continues generating. The submitted work should be done when the next frame is due, but even late frames leave it a minimum of time.
    fn generate(&mut self) {
        self.busy |= self.writer.generating();
        let budget = Duration::from_secs_f32(self.settings.budget_ms / 1e3);
        let left = self.next.saturating_duration_since(Instant::now());
        self.writer.step(left.clamp(budget / 4, budget));
    }

    /// Draws a frame. Returns false when a demo run is over.
    fn frame(&mut self, options: &Options) -> Result<bool, Failure> {
        let now = Instant::now();
        let since = self.last.replace(now).map(|last| now - last);
        let was_busy = std::mem::take(&mut self.busy);
        self.writer.look();
        if self.writer.ready() || self.writer.generating() {
            let settled = now - *self.ready.get_or_insert(now) > SETTLE;
            if let Some(since) = since.filter(|_| settled) {
                self.frames.add(since, was_busy);
            }
        }

        let Self { settings, writer, frames, canvas, .. } = self;
        let context = self.input.egui_ctx().clone();
        let output = context.run_ui(self.input.take_egui_input(&self.window), |ui| {
            panels::show(ui, settings, writer, frames, &canvas.name);
        });
        self.input.handle_platform_output(&self.window, output.platform_output);
        let picture = Picture {
            textures: output.textures_delta,
            shapes: context.tessellate(output.shapes, output.pixels_per_point),
            pixels_per_point: output.pixels_per_point,
        };
        self.canvas.show(&self.window, &picture)?;
        self.generate();

        let over = options.demo_run.is_some_and(|part| self.demo_run(now, part));
        if let Some(path) = options.screenshot.as_ref().filter(|_| over) {
            self.canvas.save(&picture, path)?;
        }
        Ok(!over)
    }

    /// Simulates a user: does nothing for a while, then enters one prompt after another. Returns true when the time is over and a token was generated.
    fn demo_run(&mut self, now: Instant, part: Duration) -> bool {
        if self.writer.error.is_some() {
            return true;
        }
        let Some(ready) = self.ready else { return false };
        let elapsed = now - ready;
        if elapsed > SETTLE + part && self.writer.ready() {
            // Shortest prompt first.
            let mut prompts = ruminate::demo::PROMPTS.iter().rev().cycle();
            let (prompt, _) = prompts.nth(self.started).copied().unwrap_or_default();
            prompt.clone_into(&mut self.settings.prompt);
            self.writer.start(self.settings.prompt.clone(), self.settings.steps);
            self.started += 1;
        }
        elapsed > SETTLE + 2 * part && self.writer.tokens > 0
    }
}
