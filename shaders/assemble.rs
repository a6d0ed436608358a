//! Joins a kernel and its parts into one WGSL module.
//!
//! WGSL's module scope is order-independent, so concatenating texts is all the import system that is needed. Bindings, `Params`, table entries and constants,
//! on which both languages must agree, are declared once, in the kernel's Rust description, and generated from there.

use std::fmt::Write;

use crate::shared::declaration;
use crate::{Access, Choice, Const, Kernel, Place, TEXTURE_WIDTH, UNIFORM_BYTES};

/// WGSL module of one variant: generated declarations, the kernel and its parts. Shared constants and structs are included only if the module mentions them.
///
/// # Panics
/// If the choice names an option that the kernel does not have.
#[must_use]
pub fn assemble(kernel: &Kernel, choice: Choice) -> String {
    let body = body(kernel, choice);
    let mut text = format!("// {}\n", kernel.label(choice));
    if kernel.needs_f16(choice) {
        text.push_str("enable f16;\n");
    }
    if kernel.needs_matrices(choice).is_some() {
        // Matrices are multiplied in uniform control flow, but naga never considers a variable uniform and would reject the module.
        text.push_str("enable wgpu_cooperative_matrix;\ndiagnostic(off, derivative_uniformity);\n");
    }
    let parts = || kernel.parts.iter().chain(kernel.chosen(choice));
    let width = Const::u32("TEXTURE_WIDTH", TEXTURE_WIDTH);
    let mut declared: Vec<&str> = Vec::new();
    let mut declare = |name: &'static str, declaration: &dyn Fn() -> String| {
        if !declared.contains(&name) && mentions(&body, name) {
            declared.push(name);
            text.push_str(&declaration());
        }
    };
    for part in parts() {
        part.consts.iter().for_each(|it| declare(it.name, &|| it.declaration()));
        part.structs.iter().for_each(|it| declare(it.name, &|| declaration(it.name, it.fields)));
    }
    declare(width.name, &|| width.declaration());
    text.push_str(&declaration("Params", kernel.params));
    text.push_str(&body);
    text
}

/// Bindings, followed by the texts of the parts and of the kernel.
fn body(kernel: &Kernel, choice: Choice) -> String {
    let mut text = String::new();
    let mut count = 0;
    for binding in kernel.bindings_of(choice) {
        let (name, element) = (binding.name, binding.element);
        let declared = match (binding.place, binding.access) {
            (Place::Buffer, Access::Read) => format!("var<storage, read> {name}: array<{element}>"),
            (Place::Buffer, Access::Write) => format!("var<storage, read_write> {name}: array<{element}>"),
            (Place::Uniform, _) => format!("var<uniform> {name}: array<{element}, {}>", UNIFORM_BYTES / 16),
            (Place::Texture, Access::Read) => format!("var {name}: texture_storage_2d<rgba32uint, read>"),
            (Place::Texture, Access::Write) => format!("var {name}: texture_storage_2d<rgba32uint, write>"),
        };
        writeln!(text, "@group(0) @binding({count}) {declared};").expect("writing to a String never fails");
        count += 1;
    }
    writeln!(text, "@group(0) @binding({count}) var<uniform> params: Params;")
        .expect("writing to a String never fails");
    for part in kernel.parts.iter().chain(kernel.chosen(choice)) {
        part.uses.iter().for_each(|used| text.push_str(used));
        text.push_str(part.wgsl);
    }
    text.push_str(kernel.wgsl);
    text
}

/// Whether an identifier occurs in a text.
fn mentions(text: &str, name: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(start, _)| {
        !text[..start].ends_with(part_of_name) && !text[start + name.len()..].starts_with(part_of_name)
    })
}
