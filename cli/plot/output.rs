//! Output files of charts.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use ruminate::OutputFile;

use super::Theme;
use crate::exit_code::Usage;

/// Flags for the output files of a chart. Existing files are overwritten.
#[derive(Args)]
pub(crate) struct ChartOutput {
    /// Write a self-contained page
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
    /// Write a picture as SVG
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) svg: Option<PathBuf>,
    /// Write the picture as PNG
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) png: Option<PathBuf>,
    /// Colors of the pictures: light or dark
    ///
    /// A page follows the browser's color scheme.
    #[arg(
        long,
        value_enum,
        default_value = "light",
        value_name = "THEME",
        help_heading = "Output",
        hide_possible_values = true
    )]
    pub(crate) theme: Theme,
}

/// Checks that no file is written twice.
pub(crate) fn distinct(files: &[&Path]) -> Result<()> {
    let place = |file: &Path| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        folder
            .canonicalize()
            .map_or_else(|_| file.to_owned(), |folder| folder.join(file.file_name().unwrap_or_default()))
    };
    for (at, file) in files.iter().enumerate() {
        if files[..at].iter().any(|other| place(other) == place(file)) {
            return Err(Usage(format!("{} is named for two outputs; give each its own file", file.display())).into());
        }
    }
    Ok(())
}

impl ChartOutput {
    /// Requested output files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.html, &self.svg, &self.png].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Writes the requested files and reports each one.
    pub(crate) fn write(
        &self,
        page: impl FnOnce() -> Result<String>,
        picture: impl FnOnce(Theme) -> Result<String>,
        quiet: bool,
    ) -> Result<()> {
        if let Some(path) = &self.html {
            write(path, page()?.as_bytes(), quiet)?;
        }
        if self.svg.is_none() && self.png.is_none() {
            return Ok(());
        }
        let svg = picture(self.theme)?;
        if let Some(path) = &self.svg {
            write(path, svg.as_bytes(), quiet)?;
        }
        if let Some(path) = &self.png {
            write(path, &super::png(&svg)?, quiet)?;
        }
        Ok(())
    }
}

fn write(path: &Path, bytes: &[u8], quiet: bool) -> Result<()> {
    let mut file = OutputFile::create(path)?;
    file.write_all(bytes).with_context(|| format!("cannot write {}", path.display()))?;
    file.finish()?;
    if !quiet {
        say_written(path);
    }
    Ok(())
}

/// Reports a written file.
pub(crate) fn say_written(path: &Path) {
    let bytes = fs::metadata(path).map_or(0, |about| about.len());
    remark!("wrote {} ({:.1} kB)", path.display(), bytes as f64 / 1e3);
}

/// Checks that a file can be written, before time is spent on its content. Creates its folder.
pub(crate) fn writable(path: &Path) -> Result<()> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        fs::create_dir_all(folder).with_context(|| format!("cannot write {}", path.display()))?;
    }
    OutputFile::check(path)?;
    Ok(())
}
