//! Precision of a model's matrices: the dtype of each group, and the arithmetic mode of the products.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::matmul::{Arithmetic, ManyRows};
use ruminate_shaders::weight::Form;
use ruminate_shaders::{Caps, Dtype};

use crate::arch::Spec;
use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// Group of matrices that are used equally often and whose errors have similar effects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Group {
    /// The embedding, also the head if they are tied.
    Embedding,
    /// The head, if it is not the embedding.
    Head,
    /// The matrix that mixes the embedding into the state at every step.
    Adapter,
    /// The blocks before the recurrence.
    Prelude,
    /// The blocks of the recurrence.
    Core,
    /// The blocks after the recurrence.
    Coda,
}

impl Group {
    /// All groups.
    pub const ALL: [Self; 6] = [Self::Embedding, Self::Head, Self::Adapter, Self::Prelude, Self::Core, Self::Coda];

    /// Name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Head => "head",
            Self::Adapter => "adapter",
            Self::Prelude => "prelude",
            Self::Core => "core",
            Self::Coda => "coda",
        }
    }
}

/// Requested precision: `q8`, or `q4,adapter=bf16,embedding=q8`, or `q8,products=int8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Precision {
    /// Dtype of the groups that `keep` does not list; by default the stored dtype, with f32 rounded to bf16.
    pub dtype: Option<Dtype>,
    /// Groups with other dtypes; the last entry for a group wins.
    pub keep: Vec<(Group, Dtype)>,
    /// Arithmetic mode.
    pub products: Arithmetic,
}

/// Key of [`Precision::products`] in text.
const PRODUCTS: &str = "products";

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        Self { dtype: Some(dtype), ..Self::default() }
    }
}

impl FromStr for Precision {
    type Err = String;

    /// Parses a precision; the error names the wrong word and the allowed ones.
    fn from_str(text: &str) -> Result<Self, String> {
        let dtypes = one_of(Dtype::ALL.into_iter().map(|dtype| dtype.name()));
        let groups = || Group::ALL.into_iter().map(Group::name);
        let dtype_of = |word: &str| {
            let known = Dtype::ALL.into_iter().find(|dtype| dtype.name() == word);
            known.ok_or_else(|| {
                if let Some(products) = Arithmetic::ALL.into_iter().find(|known| known.name() == word) {
                    return format!(
                        "`{word}` is an arithmetic mode, not a dtype; write {PRODUCTS}={}",
                        products.name()
                    );
                }
                format!("unknown dtype `{word}` (expected {dtypes})")
            })
        };
        let mut found = Self::default();
        let mut products = None;
        for word in text.split(',').map(str::trim) {
            let Some((group, dtype)) = word.split_once('=') else {
                if let Some(before) = found.dtype.replace(dtype_of(word)?) {
                    return Err(format!(
                        "two dtypes, {} and `{word}`, for the same groups; write GROUP={word} for one group: {}",
                        before.name(),
                        one_of(groups()),
                    ));
                }
                continue;
            };
            if group.trim() == PRODUCTS {
                let known = Arithmetic::ALL.into_iter().find(|known| known.name() == dtype.trim());
                let known = known.ok_or_else(|| {
                    let all = one_of(Arithmetic::ALL.into_iter().map(|known| known.name()));
                    format!("unknown arithmetic mode `{dtype}` (expected {all})")
                })?;
                if products.replace(known).is_some() {
                    return Err(format!("`{PRODUCTS}` is given twice"));
                }
                continue;
            }
            let known = Group::ALL.into_iter().find(|known| known.name() == group.trim());
            let Some(known) = known else {
                return Err(format!(
                    "unknown group of matrices `{group}` (expected {})",
                    one_of(groups().chain([PRODUCTS]))
                ));
            };
            if found.keep.iter().any(|(group, _)| *group == known) {
                return Err(format!("`{group}` is given twice"));
            }
            found.keep.push((known, dtype_of(dtype.trim())?));
        }
        found.products = products.unwrap_or_default();
        Ok(found)
    }
}

/// Joins names for a message: `a, b or c`.
fn one_of(names: impl Iterator<Item = &'static str>) -> String {
    let all = names.collect::<Vec<_>>().join(", ");
    match all.rsplit_once(", ") {
        Some((most, last)) => format!("{most} or {last}"),
        None => all,
    }
}

impl Precision {
    /// Whether no precision is requested.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.dtype.is_none() && self.keep.is_empty() && self.products == Arithmetic::F32
    }

    /// Dtype of every group of a model with random weights; bf16 by default.
    ///
    /// # Errors
    /// [`Error::Option`] for a group that the model does not have, or for int8 arithmetic without a dtype in blocks.
    pub fn dtypes(&self, spec: &Spec) -> Result<Dtypes, Error> {
        self.over(Dtype::Bf16.into(), spec)
    }

    /// Dtype of every group, if `stored` are the defaults.
    ///
    /// # Errors
    /// See [`Self::dtypes`].
    pub(crate) fn over(&self, stored: Dtypes, spec: &Spec) -> Result<Dtypes, Error> {
        let mut all = self.dtype.map_or(stored, Dtypes::from);
        let groups = spec.groups();
        for &(group, dtype) in &self.keep {
            if group == Group::Head && spec.tied_head {
                return Err(Error::Option {
                    name: "dtype",
                    value: format!("head={}", dtype.name()),
                    allowed: "given for `embedding`, because this model's head is its embedding",
                });
            }
            if !groups.contains(&group) {
                let known: Vec<_> = groups.iter().map(|group| group.name()).collect();
                let value = format!("{}={}; this model has {}", group.name(), dtype.name(), known.join(", "));
                let allowed = "given for a group of matrices that the model has";
                return Err(Error::Option { name: "dtype", value, allowed });
            }
            all.set(group, dtype);
        }
        all.products = self.products;
        if all.products == Arithmetic::Int8 && !all.groups.iter().any(|dtype| dtype.in_blocks()) {
            let allowed = "a dtype in blocks, such as q8,products=int8, because others have no integer weights";
            return Err(Error::Option { name: "dtype", value: all.to_string(), allowed });
        }
        Ok(all.tied(spec))
    }
}

/// Dtype of every group of matrices, and the arithmetic mode. Displayed as the text that requests it: `q4,adapter=bf16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Dtypes {
    groups: [Dtype; 6],
    products: Arithmetic,
}

impl From<Dtype> for Dtypes {
    fn from(dtype: Dtype) -> Self {
        Self { groups: [dtype; 6], products: Arithmetic::F32 }
    }
}

impl Dtypes {
    /// The dtype of a group.
    #[must_use]
    pub const fn of(&self, group: Group) -> Dtype {
        self.groups[group as usize]
    }

    /// Arithmetic mode.
    #[must_use]
    pub const fn products(&self) -> Arithmetic {
        self.products
    }

    /// Checks that a device supports the arithmetic mode.
    ///
    /// # Errors
    /// [`Error::Option`] names what the device lacks.
    pub fn check(&self, caps: &Caps) -> Result<(), Error> {
        let error = |allowed| Error::Option { name: "dtype", value: self.to_string(), allowed };
        ManyRows::lacks(caps, self.products).map_or(Ok(()), |allowed| Err(error(allowed)))
    }

    /// Form of a group's matrix on a device.
    pub(crate) fn form_of(&self, caps: &Caps, group: Option<Group>) -> Form {
        self.products.form(caps, self.of_matrix(group))
    }

    /// The most frequent dtype of the groups; on a tie, the core's.
    #[must_use]
    pub fn most(&self) -> Dtype {
        let frequency = |dtype: Dtype| self.groups.iter().filter(|&&other| other == dtype).count();
        let core = self.of(Group::Core);
        self.groups.into_iter().fold(core, |most, dtype| if frequency(dtype) > frequency(most) { dtype } else { most })
    }

    /// Dtype of a group's matrices; without a group, the most frequent dtype.
    pub(crate) fn of_matrix(&self, group: Option<Group>) -> Dtype {
        group.map_or_else(|| self.most(), |group| self.of(group))
    }

    pub(crate) const fn set(&mut self, group: Group, dtype: Dtype) {
        self.groups[group as usize] = dtype;
    }

    /// Sets groups that the model does not have, such as a head that is the embedding, to the most frequent dtype of the others.
    pub(crate) fn tied(mut self, spec: &Spec) -> Self {
        let groups = spec.groups();
        let missing = || Group::ALL.into_iter().filter(|group| !groups.contains(group));
        missing().for_each(|group| self.set(group, self.of(Group::Core)));
        let most = self.most();
        missing().for_each(|group| self.set(group, most));
        self
    }
}

impl fmt::Display for Dtypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.most();
        f.write_str(most.name())?;
        let others = Group::ALL.into_iter().filter(|&group| self.of(group) != most);
        others.into_iter().try_for_each(|group| write!(f, ",{}={}", group.name(), self.of(group).name()))?;
        if self.products == Arithmetic::F32 { Ok(()) } else { write!(f, ",{PRODUCTS}={}", self.products.name()) }
    }
}

impl Checkpoint {
    /// Dtype of every group on a device if `asked` is requested. Default: f16 if the first layer of the loop is stored so, else bf16. A quantized file keeps
    /// its dtypes and accepts no others.
    ///
    /// # Errors
    /// [`Error::Requantize`] for other dtypes than a quantized file's, [`Error::Unlike`] if a group has several, [`Error::Option`] for a group that the model
    /// does not have.
    pub fn dtypes(&self, spec: &Spec, asked: &Precision) -> Result<Dtypes, Error> {
        let manifest = spec.manifest();
        if !self.is_quantized() {
            let mut core = manifest.matrices().filter(|(_, group, _)| *group == Group::Core);
            let stored = core.next().and_then(|(entry, ..)| self.tensor(entry.name())).map(|tensor| tensor.dtype);
            let usual = if stored == Some(Dtype::F16) { Dtype::F16 } else { Dtype::Bf16 };
            return asked.over(usual.into(), spec);
        }
        let mut found: [Option<(Dtype, &str)>; 6] = [None; 6];
        for info in self.tensors() {
            let Some(group) = manifest.of_tensor(&info.name).and_then(|(entry, ..)| entry.group()) else { continue };
            let (dtype, first) = *found[group as usize].get_or_insert((info.dtype, &info.name));
            if dtype != info.dtype {
                let (first, second) =
                    (format!("{first} in {}", dtype.name()), format!("{} in {}", info.name, info.dtype.name()));
                return Err(Error::Unlike { file: info.file.clone(), first, second });
            }
        }
        let core = found[Group::Core as usize].map_or(Dtype::Bf16, |(dtype, _)| dtype);
        let mut stored = Dtypes::from(core);
        for group in Group::ALL {
            stored.set(group, found[group as usize].map_or(core, |(dtype, _)| dtype));
        }
        let stored = stored.tied(spec);
        let held = asked.over(stored, spec)?;
        if held.groups == stored.groups { Ok(held) } else { Err(Error::Requantize { asked: held, stored }) }
    }
}
