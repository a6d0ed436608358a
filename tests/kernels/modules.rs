//! All kernel variants through naga: valid WGSL that matches its Rust description and translates to SPIR-V, MSL and HLSL.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, ImageClass, Module, StorageAccess, TypeInner};
use ruminate_shaders::{Access, Choice, KERNELS, Kernel, Place, assemble};
use ruminate_tests::compilers::{Variant, all_variants, dxil, msl, spirv};
use ruminate_tests::trial;

fn each_variant(check: impl Fn(&'static Kernel, Choice, &str, &Module, &ModuleInfo)) {
    let mut count = 0;
    for kernel in KERNELS {
        for choice in kernel.variants() {
            let text = assemble(kernel, choice);
            let label = kernel.label(choice);
            let module = naga::front::wgsl::parse_str(&text)
                .unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(&text)));
            let mut validator = Validator::new(
                ValidationFlags::all(),
                Capabilities::SUBGROUP
                    | Capabilities::SHADER_FLOAT16
                    | Capabilities::SHADER_FLOAT16_IN_FLOAT32
                    | Capabilities::COOPERATIVE_MATRIX,
            );
            validator.subgroup_operations(SubgroupOperationSet::all()).subgroup_stages(ShaderStages::COMPUTE);
            let info =
                validator.validate(&module).unwrap_or_else(|error| panic!("{label}: {}", error.emit_to_string(&text)));
            check(kernel, choice, &label, &module, &info);
            count += 1;
        }
    }
    assert!(count > 100, "only {count} variants were checked");
}

#[trial]
fn bindings_overrides_and_params_match_rust() {
    each_variant(|kernel, choice, label, module, _| {
        let mut found: BTreeMap<u32, (String, Option<StorageAccess>)> = BTreeMap::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            let access = match variable.space {
                AddressSpace::Storage { access } => Some(access),
                AddressSpace::Uniform => None,
                AddressSpace::Handle => match module.types[variable.ty].inner {
                    TypeInner::Image { class: ImageClass::Storage { access, .. }, .. } => Some(access),
                    ref other => panic!("{label}: a binding of {other:?}"),
                },
                other => panic!("{label}: a binding in {other:?}"),
            };
            found.insert(binding.binding, (variable.name.clone().unwrap_or_default(), access));
        }
        let mut expected: BTreeMap<u32, (String, Option<StorageAccess>)> = BTreeMap::new();
        for (place, binding) in (0..).zip(kernel.bindings_of(choice)) {
            let access = match (binding.access, binding.place) {
                (_, Place::Uniform) => {
                    expected.insert(place, (binding.name.to_owned(), None));
                    continue;
                }
                (Access::Read, _) => StorageAccess::LOAD,
                (Access::Write, Place::Texture) => StorageAccess::STORE,
                (Access::Write, Place::Buffer) => StorageAccess::LOAD | StorageAccess::STORE,
            };
            expected.insert(place, (binding.name.to_owned(), Some(access)));
        }
        let params = expected.len() as u32;
        expected.insert(params, ("params".to_owned(), None));
        assert_eq!(found, expected, "{label}: bindings");
        assert!(params <= 8, "{label}: WebGPU guarantees 8 storage buffers, this variant takes {params}");

        let overrides: Vec<&str> = module.overrides.iter().filter_map(|(_, o)| o.name.as_deref()).collect();
        assert_eq!(overrides, kernel.overrides, "{label}: overrides");

        let structs = module.types.iter().filter(|(_, t)| t.name.as_deref() == Some("Params"));
        for (_, params) in structs {
            let TypeInner::Struct { members, span } = &params.inner else { panic!("{label}: Params is not a struct") };
            let found: Vec<(&str, usize)> =
                members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset as usize)).collect();
            let expected: Vec<(&str, usize)> = kernel.params.iter().map(|f| (f.name, f.offset)).collect();
            assert_eq!(found, expected, "{label}: members of Params");
            assert_eq!(*span as usize, kernel.params_size, "{label}: size of Params");
        }
    });
}

#[trial]
fn struct_layouts_match_rust() {
    let seen = RefCell::new(BTreeSet::new());
    each_variant(|kernel, choice, label, module, _| {
        for known in kernel.parts.iter().chain(kernel.chosen(choice)).flat_map(|part| part.structs) {
            for (_, found) in module.types.iter().filter(|(_, t)| t.name.as_deref() == Some(known.name)) {
                let TypeInner::Struct { members, span } = &found.inner else { panic!("{label}: not a struct") };
                let offsets: Vec<usize> = members.iter().map(|member| member.offset as usize).collect();
                let expected: Vec<usize> = known.fields.iter().map(|field| field.offset).collect();
                assert_eq!(offsets, expected, "{label}: members of {}", known.name);
                assert_eq!(*span as usize, known.size, "{label}: size of {}", known.name);
                seen.borrow_mut().insert(known.name);
            }
        }
    });
    let tables = [
        "RowResult",
        "Front",
        "Mark",
        "Memo",
        "Penalties",
        "Row",
        "Sampler",
        "Sequence",
        "SequenceNoise",
        "ExitParams",
        "Wavefront",
    ];
    assert_eq!(seen.into_inner(), BTreeSet::from(tables));
}

// tests/platform/compilers.rs checks the results with the tools of each platform.
#[trial]
fn every_variant_translates_to_spirv_msl_and_hlsl() {
    let translate = |variant: &Variant| -> anyhow::Result<()> {
        let checked = variant.module()?;
        for target in spirv::Target::all(&checked) {
            spirv::translate(&checked, target)?;
        }
        for &model in dxil::models(&checked) {
            dxil::translate(&checked, model)?;
        }
        if msl::has(&checked) { msl::translate(&checked).map(drop) } else { Ok(()) }
    };
    for variant in all_variants() {
        if let Err(error) = translate(&variant) {
            panic!("{} {}: {error:#}", variant.label(), variant.constants());
        }
    }
}
