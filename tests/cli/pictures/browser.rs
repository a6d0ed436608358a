//! A browser without a screen, if this machine has one.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Names that Chromium goes by.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Notes every text that does not fit its canvas.
const WATCH: &str = "<script>
window.cut = new Set();
const fill = CanvasRenderingContext2D.prototype.fillText;
CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
  const size = this.measureText(text);
  const turn = this.getTransform();
  for (const across of [x - size.actualBoundingBoxLeft, x + size.actualBoundingBoxRight]) {
    for (const down of [y - size.actualBoundingBoxAscent, y + size.actualBoundingBoxDescent]) {
      const place = turn.transformPoint(new DOMPoint(across, down));
      const inside = place.x > -1.5 && place.y > -1.5 && place.x < this.canvas.width + 1.5 && place.y < this.canvas.height + 1.5;
      if (!inside) window.cut.add(text);
    }
  }
  fill.call(this, text, x, y);
};
</script>";

/// Writes what was noted into the page around this one.
const REPORT: &str = "<script>
const outside = parent.document.documentElement.dataset;
outside.cut = [...window.cut].join('|');
outside.wide = Math.max(...[...document.body.querySelectorAll('canvas, button, p, h1, h2')].map((it) => Math.ceil(it.getBoundingClientRect().right)));
</script>";

/// A browser that can be told to draw a page.
#[derive(Clone)]
pub(crate) struct Browser(PathBuf);

/// What came of a page.
pub(crate) struct Drawn {
    /// The page after its scripts have run.
    pub(crate) dom: String,
    /// What it looks like, as PNG.
    pub(crate) picture: Vec<u8>,
}

impl Browser {
    /// The browser that `RUMINATE_TEST_BROWSER` names, or the first of the usual ones.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os("RUMINATE_TEST_BROWSER").map(PathBuf::from);
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let usual = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        named.into_iter().chain(usual).find(|path| path.is_file()).map(Self)
    }

    /// Why no page can be drawn, if none can.
    pub(crate) fn missing() -> Option<String> {
        Self::find().is_none().then(|| "no Chromium; `apt-get install chromium` gets one".to_owned())
    }

    /// Draws a page, which must not say anything in the console.
    pub(crate) fn draw(&self, page: &Path, folder: &Path, dark: bool) -> Result<Drawn> {
        let picture = folder.join("page.png");
        let shot = format!("--screenshot={}", picture.display());
        let done = self.run(page, folder, dark, &[&shot, "--window-size=1280,2200"])?;
        let said = String::from_utf8_lossy(&done.stderr);
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
        ensure!(errors.is_empty(), "the page says in the console: {errors:?}");
        let picture = std::fs::read(&picture).with_context(|| format!("no screenshot; the browser says: {said}"))?;
        let dom = self.run(page, folder, dark, &["--dump-dom"])?.stdout;
        Ok(Drawn { dom: String::from_utf8_lossy(&dom).into_owned(), picture })
    }

    /// Draws a page as wide as a telephone is; gives the texts on its canvases that are cut off, and the page's width.
    pub(crate) fn narrow(&self, page: &Path, folder: &Path) -> Result<(String, u32)> {
        let narrow = folder.join("narrow.html");
        let html = std::fs::read_to_string(page)?;
        let watched = html.replacen("<script type", &format!("{WATCH}<script type"), 1);
        ensure!(watched != html, "the page has no data");
        let inner =
            watched.replace("</body>", &format!("{REPORT}</body>")).replace('&', "&amp;").replace('"', "&quot;");
        let frame = format!("<iframe width=400 height=4000 style=\"border: 0\" srcdoc=\"{inner}\"></iframe>");
        std::fs::write(&narrow, format!("<!DOCTYPE html>\n<html><meta charset=utf-8><body>{frame}</body></html>"))?;
        let dom = String::from_utf8(self.run(&narrow, folder, false, &["--dump-dom"])?.stdout)?;
        let value = |name: &str| {
            let found = dom.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next());
            found.with_context(|| format!("the page has no {name}"))
        };
        Ok((value("data-cut")?.to_owned(), value("data-wide")?.parse()?))
    }

    fn run(&self, page: &Path, folder: &Path, dark: bool, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.0);
        command.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=3000",
        ]);
        command.args(["--enable-logging=stderr", "--v=0"]).arg(format!("--user-data-dir={}", folder.display()));
        if dark {
            command.arg("--blink-settings=preferredColorScheme=0");
        }
        let done = command.args(arguments).arg(format!("file://{}", page.display())).output()?;
        ensure!(done.status.success(), "the browser fails: {}", String::from_utf8_lossy(&done.stderr));
        Ok(done)
    }
}
