//! Bindings of a module, from naga's reflection, for pipeline layouts.

use anyhow::{Result, bail, ensure};
use naga::{AddressSpace, ImageClass, Module, ResourceBinding, StorageAccess, TypeInner};

/// Kind of a bound resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resource {
    /// Uniform buffer.
    Uniform,
    /// Storage buffer.
    Storage {
        /// Whether the kernel may write it.
        writable: bool,
    },
    /// Storage texture.
    StorageTexture {
        /// Whether the kernel may write it.
        writable: bool,
    },
    /// Texture read by texel.
    Texture,
}

/// Bound resource and its binding number.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// `@group` and `@binding`.
    pub place: ResourceBinding,
    /// Kind of resource.
    pub resource: Resource,
}

/// Bindings of a module, in the order of their numbers.
pub(super) fn of(module: &Module) -> Result<Vec<Bound>> {
    let mut found = Vec::new();
    for (_, variable) in module.global_variables.iter() {
        let Some(place) = variable.binding else { continue };
        let resource = match (variable.space, &module.types[variable.ty].inner) {
            (AddressSpace::Uniform, _) => Resource::Uniform,
            (AddressSpace::Storage { access }, _) => {
                Resource::Storage { writable: access.contains(StorageAccess::STORE) }
            }
            (AddressSpace::Handle, TypeInner::Image { class: ImageClass::Storage { access, .. }, .. }) => {
                Resource::StorageTexture { writable: access.contains(StorageAccess::STORE) }
            }
            (AddressSpace::Handle, TypeInner::Image { class: ImageClass::Sampled { .. }, .. }) => Resource::Texture,
            (space, ty) => {
                bail!("`{:?}` at {place:?} is bound in {space:?} as {ty:?}, which is not supported here", variable.name)
            }
        };
        found.push(Bound { place, resource });
    }
    found.sort_by_key(|bound| bound.place);
    // Backends number resources by counting, so gaps would shift them.
    for (expected, bound) in (0..).zip(&found) {
        ensure!(
            bound.place == ResourceBinding { group: 0, binding: expected },
            "{:?} instead of binding {expected}",
            bound.place
        );
    }
    Ok(found)
}
