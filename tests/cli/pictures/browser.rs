//! Headless browser, if one is installed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};

/// Names of Chromium's binary.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// Records every text that does not fit its canvas.
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

/// Writes the records into the parent page.
const REPORT: &str = "<script>
const outside = parent.document.documentElement.dataset;
outside.cut = [...window.cut].join('|');
outside.wide = Math.max(...[...document.body.querySelectorAll('canvas, button, p, h1, h2')].map((it) => Math.ceil(it.getBoundingClientRect().right)));
</script>";

/// Path of the browser.
#[derive(Clone)]
pub(crate) struct Browser(PathBuf);

/// Rendered page.
pub(crate) struct Drawn {
    /// DOM after the scripts have run.
    pub(crate) dom: String,
    /// Screenshot, as PNG.
    pub(crate) picture: Vec<u8>,
}

impl Browser {
    /// Finds the browser named by `RUMINATE_TEST_BROWSER`, or the first of the usual ones.
    pub(crate) fn find() -> Option<Self> {
        let named = std::env::var_os("RUMINATE_TEST_BROWSER").map(PathBuf::from);
        let path = std::env::var_os("PATH")?;
        let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        let usual = NAMES.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
        named.into_iter().chain(usual).find(|path| path.is_file()).map(Self)
    }

    /// Reason why no page can be rendered, if any.
    pub(crate) fn missing() -> Option<String> {
        Self::find().is_none().then(|| "no Chromium; `apt-get install chromium` gets one".to_owned())
    }

    /// Renders a page, and fails if it writes to the console.
    pub(crate) fn draw(&self, page: &Path, folder: &Path, dark: bool) -> Result<Drawn> {
        let picture = folder.join("page.png");
        let shot = format!("--screenshot={}", picture.display());
        let done = self.run(page, folder, dark, &[&shot, "--window-size=1280,2200"])?;
        let said = String::from_utf8_lossy(&done.stderr);
        let errors: Vec<&str> = said.lines().filter(|line| line.contains("CONSOLE")).collect();
        ensure!(errors.is_empty(), "the page writes to the console: {errors:?}");
        let picture =
            std::fs::read(&picture).with_context(|| format!("no screenshot; output of the browser: {said}"))?;
        let dom = self.run(page, folder, dark, &["--dump-dom"])?.stdout;
        Ok(Drawn { dom: String::from_utf8_lossy(&dom).into_owned(), picture })
    }

    /// Renders a page at the width of a phone; returns the texts that are cut off on its canvases, and the page's width.
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
