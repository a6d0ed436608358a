//! A matmul of a block: the width of the model, the matrix, and the rows of x.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Error, Result, bail};

/// Widths of the model and of its MLP.
pub const WIDTHS: [(u32, u32); 2] = [(1536, 5120), (5280, 17_920)];

/// A matrix of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Queries, keys and values: n_embd → 3 n_embd.
    Qkv,
    /// Gate and up: n_embd → 2 mlp.
    Fc,
    /// Down: mlp → n_embd.
    Proj,
}

/// Every matrix that is measured.
pub const SITES: [Site; 3] = [Site::Qkv, Site::Fc, Site::Proj];

/// `y[rows, n] = x[rows, k] · W[n, k]ᵀ`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Width of the model.
    pub n_embd: u32,
    /// Matrix.
    pub site: Site,
    /// Rows of x.
    pub rows: u32,
}

impl Cell {
    /// Rows and columns of the matrix, n and k.
    pub fn shape(self) -> Result<[u32; 2]> {
        let width = WIDTHS.iter().find(|(n_embd, _)| *n_embd == self.n_embd);
        let &(n_embd, mlp) = width.with_context(|| format!("unknown n_embd {} (expected 1536 or 5280)", self.n_embd))?;
        Ok(match self.site {
            Site::Qkv => [3 * n_embd, n_embd],
            Site::Fc => [2 * mlp, n_embd],
            Site::Proj => [n_embd, mlp],
        })
    }

    /// Multiplications and additions.
    pub fn flops(self) -> Result<f64> {
        let [n, k] = self.shape()?;
        Ok(2.0 * f64::from(n) * f64::from(k) * f64::from(self.rows))
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let site = match self.site {
            Site::Qkv => "qkv",
            Site::Fc => "fc",
            Site::Proj => "proj",
        };
        write!(f, "{}/{site}/{}", self.n_embd, self.rows)
    }
}

impl FromStr for Cell {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.split('/').collect();
        let [n_embd, site, rows] = parts[..] else { bail!("invalid matmul `{text}` (expected a name such as 1536/qkv/8)") };
        let site = match site {
            "qkv" => Site::Qkv,
            "fc" => Site::Fc,
            "proj" => Site::Proj,
            _ => bail!("unknown matrix `{site}` (expected qkv, fc or proj)"),
        };
        Ok(Self { n_embd: n_embd.parse()?, site, rows: rows.parse()? })
    }
}
