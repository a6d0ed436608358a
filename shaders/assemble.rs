//! Joins a kernel and its parts into one WGSL module.
//!
//! WGSL's module scope does not care about order, so joining texts is all that an import system needs. The only generated
//! text is the binding declarations, which therefore stand in one place: the kernel's Rust description.

use std::fmt::Write;

use crate::{Access, Choice, Kernel};

/// The WGSL module of one variant: generated bindings, the kernel, its parts.
///
/// # Panics
/// If the choice names an option that the kernel does not have.
#[must_use]
pub fn assemble(kernel: &Kernel, choice: Choice) -> String {
    let mut text = format!("// {}\n", kernel.label(choice));
    let mut count = 0;
    for binding in kernel.bindings_of(choice) {
        let access = match binding.access {
            Access::Read => "read",
            Access::Write => "read_write",
        };
        let (name, element) = (binding.name, binding.element);
        writeln!(text, "@group(0) @binding({count}) var<storage, {access}> {name}: array<{element}>;")
            .expect("writing to a String never fails");
        count += 1;
    }
    writeln!(text, "@group(0) @binding({count}) var<uniform> params: Params;")
        .expect("writing to a String never fails");
    for part in kernel.parts.iter().chain(kernel.chosen(choice)) {
        text.push_str(part.wgsl);
    }
    text.push_str(kernel.wgsl);
    text
}
