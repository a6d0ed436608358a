//! In which numbers the matrices of a model are held: one dtype for all of them, or another one for some groups; and in which numbers they are multiplied.

use std::fmt;
use std::str::FromStr;

use ruminate_shaders::matmul::{Arithmetic, ManyRows};
use ruminate_shaders::weight::Form;
use ruminate_shaders::{Caps, Dtype};

use crate::arch::Spec;
use crate::checkpoint::Checkpoint;
use crate::error::Error;

/// Matrices that have something in common: how often they are used, and what follows from their errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Group {
    /// The embedding, which is the head too where they are tied.
    Embedding,
    /// The head of a model whose head is not the embedding.
    Head,
    /// What mixes the embedding into the state at every step.
    Adapter,
    /// The blocks before the recurrence.
    Prelude,
    /// The blocks that are applied again and again.
    Core,
    /// The blocks after the recurrence.
    Coda,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Embedding, Self::Head, Self::Adapter, Self::Prelude, Self::Core, Self::Coda];

    /// Name as users write it.
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

/// What is asked for: `q8`, or `q4,adapter=bf16,embedding=q8`, or `q8,products=int8`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(default, deny_unknown_fields))]
pub struct Precision {
    /// The dtype of every group that is not named; by default as in the files, f32 rounded to bf16.
    pub dtype: Option<Dtype>,
    /// Groups that are held otherwise. The last one that names a group counts.
    pub keep: Vec<(Group, Dtype)>,
    /// What products are made of.
    pub products: Arithmetic,
}

/// What stands for [`Precision::products`] in text.
const PRODUCTS: &str = "products";

impl From<Dtype> for Precision {
    fn from(dtype: Dtype) -> Self {
        Self { dtype: Some(dtype), ..Self::default() }
    }
}

impl FromStr for Precision {
    type Err = String;

    /// Says which word is wrong and what it may be.
    fn from_str(text: &str) -> Result<Self, String> {
        let names = |all: &mut dyn Iterator<Item = &'static str>| all.collect::<Vec<_>>().join(", ");
        let dtype_of = |word: &str| {
            let known = Dtype::ALL.into_iter().find(|dtype| dtype.name() == word);
            known.ok_or_else(|| {
                if let Some(products) = Arithmetic::ALL.into_iter().find(|known| known.name() == word) {
                    return format!("`{word}` is no dtype; for products of it write {PRODUCTS}={}", products.name());
                }
                format!("`{word}` is no dtype; there are {}", names(&mut Dtype::ALL.iter().map(|dtype| dtype.name())))
            })
        };
        let mut found = Self::default();
        let mut products = None;
        for word in text.split(',').map(str::trim) {
            let Some((group, dtype)) = word.split_once('=') else {
                if let Some(before) = found.dtype.replace(dtype_of(word)?) {
                    return Err(format!(
                        "{} and `{word}` are two dtypes for the same; write GROUP={word} for one of the groups {}",
                        before.name(),
                        names(&mut Group::ALL.iter().map(|group| group.name())),
                    ));
                }
                continue;
            };
            if group.trim() == PRODUCTS {
                let known = Arithmetic::ALL.into_iter().find(|known| known.name() == dtype.trim());
                let known = known.ok_or_else(|| {
                    let all = names(&mut Arithmetic::ALL.iter().map(|known| known.name()));
                    format!("products are not made of `{dtype}`; there are {all}")
                })?;
                if products.replace(known).is_some() {
                    return Err(format!("`{PRODUCTS}` is named twice"));
                }
                continue;
            }
            let known = Group::ALL.into_iter().find(|known| known.name() == group.trim());
            let Some(known) = known else {
                return Err(format!(
                    "`{group}` is no group of matrices; there are {}, and {PRODUCTS}",
                    names(&mut Group::ALL.iter().map(|group| group.name()))
                ));
            };
            if found.keep.iter().any(|(group, _)| *group == known) {
                return Err(format!("`{group}` is named twice"));
            }
            found.keep.push((known, dtype_of(dtype.trim())?));
        }
        found.products = products.unwrap_or_default();
        Ok(found)
    }
}

impl Precision {
    /// Whether nothing is asked for.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.dtype.is_none() && self.keep.is_empty() && self.products == Arithmetic::F32
    }

    /// The dtype of every group of a model with random weights, which come in bf16 without asking.
    ///
    /// # Errors
    /// [`Error::Option`] if a group is named that the model does not have, or products of whole numbers are asked for where no weights are.
    pub fn dtypes(&self, spec: &Spec) -> Result<Dtypes, Error> {
        self.over(Dtype::Bf16.into(), spec)
    }

    /// The dtype of every group, where `stored` is what comes without asking.
    ///
    /// # Errors
    /// As [`Self::dtypes`].
    pub(crate) fn over(&self, stored: Dtypes, spec: &Spec) -> Result<Dtypes, Error> {
        let mut all = self.dtype.map_or(stored, Dtypes::from);
        let groups = spec.groups();
        for &(group, dtype) in &self.keep {
            if group == Group::Head && spec.tied_head {
                return Err(Error::Option {
                    name: "dtype",
                    value: format!("head={}", dtype.name()),
                    allowed: "given for `embedding` here: the head of this model is its embedding",
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
            let allowed = "a dtype with weights in blocks, as q8,products=int8: others are no whole numbers";
            return Err(Error::Option { name: "dtype", value: all.to_string(), allowed });
        }
        Ok(all.tied(spec))
    }
}

/// The dtype of every group of matrices, and what products with them are made of. As text, what would ask for it: `q4,adapter=bf16`.
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

    /// What products are made of.
    #[must_use]
    pub const fn products(&self) -> Arithmetic {
        self.products
    }

    /// Whether a device can compute such products.
    ///
    /// # Errors
    /// [`Error::Option`] says what it lacks.
    pub fn check(&self, caps: &Caps) -> Result<(), Error> {
        let error = |allowed| Error::Option { name: "dtype", value: self.to_string(), allowed };
        ManyRows::lacks(caps, self.products).map_or(Ok(()), |allowed| Err(error(allowed)))
    }

    /// How a matrix of a group is held on a device.
    pub(crate) fn form_of(&self, caps: &Caps, group: Option<Group>) -> Form {
        self.products.form(caps, self.of_matrix(group))
    }

    /// The dtype that most groups have; the core's, if several are as frequent.
    #[must_use]
    pub fn most(&self) -> Dtype {
        let frequency = |dtype: Dtype| self.groups.iter().filter(|&&other| other == dtype).count();
        let core = self.of(Group::Core);
        self.groups.into_iter().fold(core, |most, dtype| if frequency(dtype) > frequency(most) { dtype } else { most })
    }

    /// The dtype of a matrix of a group; of one without, that of most.
    pub(crate) fn of_matrix(&self, group: Option<Group>) -> Dtype {
        group.map_or_else(|| self.most(), |group| self.of(group))
    }

    pub(crate) const fn set(&mut self, group: Group, dtype: Dtype) {
        self.groups[group as usize] = dtype;
    }

    /// The same for a model: a group that it does not have, such as a head that is the embedding, counts as what most groups are.
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
    /// The dtype that every group has on a device if `asked` is asked for. What comes without asking: bf16, or f16 if the first layer of the loop is stored
    /// so; of a quantised file, what is in it, and nothing else can be asked for.
    ///
    /// # Errors
    /// [`Error::Requantise`], [`Error::Unlike`], or [`Error::Option`] for a group that the model does not have.
    pub fn dtypes(&self, spec: &Spec, asked: &Precision) -> Result<Dtypes, Error> {
        let manifest = spec.manifest();
        if !self.is_quantised() {
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
        if held.groups == stored.groups { Ok(held) } else { Err(Error::Requantise { asked: held, stored }) }
    }
}
