//! Selects an adapter: the best one, or one by index, PCI address, UUID or name.

use std::fmt;

use crate::adapter::AdapterSummary;
use crate::error::{Error, Result};
use crate::identity::{PciAddress, Uuid};

/// Selection of an adapter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Select {
    /// The first of the best kind: discrete, then integrated, then virtual, then CPU.
    #[default]
    Best,
    /// By [`AdapterSummary::index`].
    Index(usize),
    /// By [`AdapterSummary::pci`].
    Pci(PciAddress),
    /// By [`AdapterSummary::uuid`].
    Uuid(Uuid),
    /// By its name, or a part of it, ignoring case. If no adapter's name contains the text, the drivers' names are searched.
    Name(String),
}

impl From<&str> for Select {
    /// Parses an index (`1`), a PCI address (`0000:01:00.0`, `01:00.0`) or a UUID (also as NVIDIA's tools print it, `GPU-…`). Any other text is a name.
    fn from(text: &str) -> Self {
        let text = text.trim();
        let uuid = text.get(..4).filter(|prefix| prefix.eq_ignore_ascii_case("GPU-")).map_or(text, |_| &text[4..]);
        if let Ok(index) = text.parse() {
            Self::Index(index)
        } else if let Ok(address) = text.parse() {
            Self::Pci(address)
        } else if let Ok(uuid) = Uuid::try_parse(uuid) {
            Self::Uuid(uuid)
        } else {
            Self::Name(text.to_owned())
        }
    }
}

impl fmt::Display for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Best => f.write_str("any device"),
            Self::Index(index) => write!(f, "index {index}"),
            Self::Pci(address) => write!(f, "PCI address {address}"),
            Self::Uuid(uuid) => write!(f, "UUID {uuid}"),
            Self::Name(name) => write!(f, "name `{name}`"),
        }
    }
}

impl Select {
    /// Returns the selected adapter from a list in the order of [`adapters`](crate::adapters). A device that several drivers or interfaces offer counts once,
    /// as the first of its adapters.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter matches, [`Error::Ambiguous`] if several devices do. Both list adapters with their indices.
    pub fn choose<'a>(&self, adapters: &'a [AdapterSummary]) -> Result<&'a AdapterSummary> {
        let all = || adapters.iter();
        let fitting: Vec<&AdapterSummary> = match self {
            Self::Best => all().min_by_key(|it| it.kind.rank()).into_iter().collect(),
            Self::Index(index) => all().filter(|it| it.index == *index).collect(),
            Self::Pci(address) => all().filter(|it| it.pci == Some(*address)).collect(),
            Self::Uuid(uuid) => all().filter(|it| it.uuid == Some(*uuid)).collect(),
            Self::Name(name) => {
                let needle = name.to_lowercase();
                let containing = |of: fn(&AdapterSummary) -> &str| -> Vec<&AdapterSummary> {
                    all().filter(|it| of(it).to_lowercase().contains(&needle)).collect()
                };
                // A text that is one adapter's whole name selects that adapter, even if longer names contain it.
                let whole: Vec<_> = all().filter(|it| it.name.to_lowercase() == needle).collect();
                let parts = || containing(|it| &it.name);
                [whole, parts(), containing(|it| &it.driver)]
                    .into_iter()
                    .find(|some| !some.is_empty())
                    .unwrap_or_default()
            }
        };
        let is_first =
            |&(at, adapter): &(usize, &AdapterSummary)| !fitting[..at].iter().any(|it| it.is_same_device(adapter));
        let devices: Vec<&AdapterSummary> =
            fitting.iter().copied().enumerate().filter(is_first).map(|(_, it)| it).collect();
        let found = |some: &[&AdapterSummary]| some.iter().map(ToString::to_string).collect();
        match devices[..] {
            [one] => Ok(one),
            [] => Err(Error::NoAdapter { asked: self.to_string(), found: found(&all().collect::<Vec<_>>()) }),
            [..] => Err(Error::Ambiguous { asked: self.to_string(), found: found(&devices) }),
        }
    }
}

impl AdapterSummary {
    /// Whether another adapter is the same physical device, offered by another driver or interface.
    fn is_same_device(&self, other: &Self) -> bool {
        // A driver lists each device once, so two of its adapters are two devices, even if their addresses are equal.
        if self.backend == other.backend && self.driver == other.driver {
            return self.index == other.index;
        }
        match ((self.pci, other.pci), (self.uuid, other.uuid)) {
            ((Some(one), Some(another)), _) => one == another,
            (_, (Some(one), Some(another))) => one == another,
            _ => self.backend != other.backend && self.name == other.name,
        }
    }
}

impl fmt::Display for AdapterSummary {
    /// Formats as `0: NVIDIA GeForce RTX 4090 (vulkan, 0000:01:00.0)`. Without a PCI address, the UUID of a GPU takes its place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({}", self.index, self.name, self.backend)?;
        match (self.pci, self.uuid) {
            (Some(address), _) => write!(f, ", {address}")?,
            (None, Some(uuid)) if self.kind != crate::adapter::Kind::Cpu => write!(f, ", {uuid}")?,
            _ => {}
        }
        f.write_str(")")
    }
}
