//! Joins a kernel and its parts into one WGSL module.
//!
//! WGSL's module scope does not care about order, so joining texts is all that an import system needs. The only generated
//! text is the binding declarations, which therefore stand in one place: the kernel's Rust description; and the width of textures.

use std::fmt::Write;

use crate::{Access, Choice, Kernel, Place, TEXTURE_WIDTH};

/// The WGSL module of one variant: generated bindings, the kernel, its parts.
///
/// # Panics
/// If the choice names an option that the kernel does not have.
#[must_use]
pub fn assemble(kernel: &Kernel, choice: Choice) -> String {
    let mut text = format!("// {}\n", kernel.label(choice));
    if kernel.needs_f16(choice) {
        text.push_str("enable f16;\n");
    }
    if kernel.needs_matrices(choice).is_some() {
        // Subgroups multiply matrices where all of their lanes go. naga takes no value of a variable for the same in all lanes, and would refuse that.
        text.push_str("enable wgpu_cooperative_matrix;\ndiagnostic(off, derivative_uniformity);\n");
    }
    let mut count = 0;
    for binding in kernel.bindings_of(choice) {
        let (name, element) = (binding.name, binding.element);
        let declared = match (binding.place, binding.access) {
            (Place::Buffer, Access::Read) => format!("var<storage, read> {name}: array<{element}>"),
            (Place::Buffer, Access::Write) => format!("var<storage, read_write> {name}: array<{element}>"),
            (Place::Texture, Access::Read) => format!("var {name}: texture_storage_2d<rgba32uint, read>"),
            (Place::Texture, Access::Write) => format!("var {name}: texture_storage_2d<rgba32uint, write>"),
        };
        writeln!(text, "@group(0) @binding({count}) {declared};").expect("writing to a String never fails");
        count += 1;
    }
    writeln!(text, "@group(0) @binding({count}) var<uniform> params: Params;")
        .expect("writing to a String never fails");
    if kernel.needs_textures(choice) {
        writeln!(text, "const TEXTURE_WIDTH: u32 = {TEXTURE_WIDTH}u;").expect("writing to a String never fails");
    }
    for part in kernel.parts.iter().chain(kernel.chosen(choice)) {
        part.uses.iter().for_each(|used| text.push_str(used));
        text.push_str(part.wgsl);
    }
    text.push_str(kernel.wgsl);
    text
}
