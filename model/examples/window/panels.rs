//! Contents of the window: the prompt and its settings, the text, and the frame times.

use egui::{Align2, Color32, FontId, RichText, Sense, Stroke, StrokeKind, Ui, pos2, vec2};

use crate::frames::{Frames, SHOWN};
use crate::writer::Writer;

/// Settings that the user can change.
pub(crate) struct Settings {
    pub(crate) prompt: String,
    pub(crate) steps: u32,
    pub(crate) budget_ms: f32,
}

const IDLE: Color32 = Color32::from_rgb(92, 122, 158);
const GENERATING: Color32 = Color32::from_rgb(232, 156, 72);
/// Height of the plot in milliseconds of frame time.
const PLOT_MS: f32 = 50.0;

/// Lays out the whole window.
pub(crate) fn show(ui: &mut Ui, settings: &mut Settings, writer: &mut Writer, frames: &Frames, device: &str) {
    // Not filled, because the canvas has been cleared in this color and software drivers take time for every pixel.
    let frame = egui::Frame::new().inner_margin(10.0);
    let controls = |ui: &mut Ui| controls(ui, settings, writer, device);
    egui::Panel::left("settings").frame(frame).exact_size(280.0).show(ui, controls);
    egui::Panel::bottom("frames").frame(frame).exact_size(220.0).show(ui, |ui| times(ui, frames));
    egui::CentralPanel::default().frame(frame).show(ui, |ui| text(ui, writer));
}

fn controls(ui: &mut Ui, settings: &mut Settings, writer: &mut Writer, device: &str) {
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        ring(ui, writer.generating());
        ui.vertical(|ui| {
            ui.heading("One device, two jobs");
            ui.label(RichText::new(device).weak());
        });
    });
    ui.add_space(12.0);
    ui.label("Prompt");
    ui.add(egui::TextEdit::multiline(&mut settings.prompt).desired_rows(5).desired_width(f32::INFINITY));
    ui.add_space(8.0);
    ui.add(egui::Slider::new(&mut settings.steps, 1..=64).text("steps per token"));
    ui.add(egui::Slider::new(&mut settings.budget_ms, 0.5..=14.0).step_by(0.5).text("ms per piece"));
    ui.add_space(8.0);
    ui.horizontal(|ui| {
        if ui.add_enabled(writer.ready(), egui::Button::new("Generate")).clicked() {
            writer.start(settings.prompt.clone(), settings.steps);
        }
        if ui.add_enabled(writer.generating(), egui::Button::new("Stop")).clicked() {
            writer.stop();
        }
        if ui.button("Clear").clicked() {
            writer.text.clear();
        }
    });
    ui.add_space(8.0);
    let state = match (&writer.error, writer.ready(), writer.generating()) {
        (Some(error), ..) => error.clone(),
        (None, true, _) => format!("{} tokens, the last answer at {:.1} tokens/s", writer.tokens, writer.rate),
        (None, _, true) => format!("generating … {} tokens", writer.tokens),
        _ => "loading the model …".to_owned(),
    };
    ui.label(RichText::new(state).weak());
}

fn text(ui: &mut Ui, writer: &Writer) {
    egui::ScrollArea::vertical().stick_to_bottom(true).auto_shrink(false).show(ui, |ui| {
        let shown = if writer.text.is_empty() { "Press Generate." } else { writer.text.trim_end() };
        ui.label(RichText::new(shown).size(15.0));
    });
}

/// Draws dots that rotate at a steady speed; a late frame makes them jump.
fn ring(ui: &mut Ui, generating: bool) {
    let (area, _) = ui.allocate_exact_size(vec2(56.0, 56.0), Sense::hover());
    let time = ui.input(|input| input.time);
    for dot in 0..12_u8 {
        let part = f32::from(dot) / 12.0;
        let angle = std::f32::consts::TAU * (part + (time * 0.5).fract() as f32);
        let at = area.center() + 22.0 * vec2(angle.cos(), angle.sin());
        let color = if generating { GENERATING } else { IDLE };
        ui.painter().circle_filled(at, 1.5 + 3.0 * part, color.gamma_multiply(0.3 + 0.7 * part));
    }
}

fn times(ui: &mut Ui, frames: &Frames) {
    ui.add_space(6.0);
    egui::Grid::new("times").num_columns(5).spacing(vec2(28.0, 2.0)).show(ui, |ui| {
        for title in ["frame times", "frames", "median", "99 %", "worst"] {
            ui.label(RichText::new(title).weak());
        }
        ui.end_row();
        for (name, color, times) in [("idle", IDLE, &frames.idle), ("generating", GENERATING, &frames.generating)] {
            ui.label(RichText::new(name).color(color).strong());
            ui.monospace(times.len().to_string());
            times.summary().into_iter().for_each(|ms| {
                ui.monospace(format!("{ms:5.1} ms"));
            });
            ui.end_row();
        }
    });
    ui.add_space(6.0);
    plot(ui, frames);
}

fn plot(ui: &mut Ui, frames: &Frames) {
    let (area, _) = ui.allocate_exact_size(ui.available_size() - vec2(0.0, 6.0), Sense::hover());
    let painter = ui.painter_at(area);
    painter.rect_stroke(area, 0.0, ui.visuals().widgets.noninteractive.bg_stroke, StrokeKind::Inside);
    let height = |ms: f32| area.bottom() - area.height() * (ms / PLOT_MS).min(1.0);
    let width = area.width() / SHOWN as f32;
    for (place, &(ms, generating)) in frames.recent.iter().enumerate() {
        let left = area.left() + width * place as f32;
        let bar = egui::Rect::from_min_max(pos2(left, height(ms)), pos2(left + width * 0.8, area.bottom()));
        painter.rect_filled(bar, 0.0, if generating { GENERATING } else { IDLE });
    }
    for (ms, name) in [(1000.0 / 60.0, "60 frames/s"), (1000.0 / 30.0, "30 frames/s")] {
        let y = height(ms);
        painter.hline(area.x_range(), y, Stroke::new(1.0, Color32::from_white_alpha(70)));
        let color = Color32::from_white_alpha(150);
        painter.text(pos2(area.left() + 6.0, y - 2.0), Align2::LEFT_BOTTOM, name, FontId::proportional(11.0), color);
    }
}
