//! Every variant of every kernel, through naga: valid WGSL, as its Rust description says, translatable to SPIR-V, MSL and HLSL.

use std::collections::BTreeMap;

use naga::back::{hlsl, msl, spv};
use naga::proc::BoundsCheckPolicy;
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{AddressSpace, Module, ShaderStage, StorageAccess, TypeInner};
use ruminate_shaders::{Access, Choice, KERNELS, Kernel, assemble};

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
                Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16_IN_FLOAT32,
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

#[test]
fn bindings_overrides_and_parameters_are_as_described() {
    each_variant(|kernel, choice, label, module, _| {
        let mut found: BTreeMap<u32, (String, Option<StorageAccess>)> = BTreeMap::new();
        for (_, variable) in module.global_variables.iter() {
            let Some(binding) = variable.binding else { continue };
            let access = match variable.space {
                AddressSpace::Storage { access } => Some(access),
                AddressSpace::Uniform => None,
                other => panic!("{label}: a binding in {other:?}"),
            };
            found.insert(binding.binding, (variable.name.clone().unwrap_or_default(), access));
        }
        let mut expected: BTreeMap<u32, (String, Option<StorageAccess>)> = BTreeMap::new();
        for (place, binding) in (0..).zip(kernel.bindings_of(choice)) {
            let access = match binding.access {
                Access::Read => StorageAccess::LOAD,
                Access::Write => StorageAccess::LOAD | StorageAccess::STORE,
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
            let TypeInner::Struct { members, span } = &params.inner else { panic!("{label}: Params is no struct") };
            let found: Vec<(&str, usize)> =
                members.iter().map(|m| (m.name.as_deref().unwrap_or_default(), m.offset as usize)).collect();
            let expected: Vec<(&str, usize)> = kernel.params.iter().map(|f| (f.name, f.offset)).collect();
            assert_eq!(found, expected, "{label}: members of Params");
            assert_eq!(*span as usize, kernel.params_size, "{label}: size of Params");
        }
    });
}

#[test]
fn table_entries_have_the_same_layout_on_both_sides() {
    let mut seen = 0;
    each_variant(|_, _, label, module, _| {
        for (_, found) in module.types.iter() {
            let expected = match found.name.as_deref() {
                Some("Row") => size_of::<ruminate_shaders::Row>(),
                Some("Sequence") => size_of::<ruminate_shaders::Sequence>(),
                Some("Sampler") => size_of::<ruminate_shaders::sample::Sampler>(),
                _ => continue,
            };
            let TypeInner::Struct { span, .. } = found.inner else { panic!("{label}: no struct") };
            assert_eq!(span as usize, expected, "{label}: size of {:?}", found.name);
        }
    });
    for kernel in KERNELS {
        seen += usize::from(kernel.bindings.iter().any(|b| ["Row", "Sequence", "Sampler"].contains(&b.element)));
    }
    assert!(seen >= 10, "only {seen} kernels use a table");
}

#[test]
fn every_variant_translates_to_spirv_msl_and_hlsl() {
    each_variant(|kernel, _, label, module, info| {
        let constants = kernel.overrides.iter().map(|&name| (name.to_owned(), 64.0)).collect();
        let entry = Some((ShaderStage::Compute, "main"));
        let (module, info) = naga::back::pipeline_constants::process_overrides(module, info, entry, &constants)
            .unwrap_or_else(|error| panic!("{label}: overrides: {error}"));

        let mut options = spv::Options { lang_version: (1, 3), ..spv::Options::default() };
        options.bounds_check_policies.buffer = BoundsCheckPolicy::Restrict;
        let words = spv::write_vec(&module, &info, &options, None).unwrap_or_else(|e| panic!("{label}: SPIR-V: {e}"));
        assert!(words.len() > 100, "{label}: SPIR-V of {} words", words.len());

        let options = msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..msl::Options::default() };
        let (text, _) = msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{label}: MSL: {error}"));
        assert!(text.contains("kernel void"), "{label}: MSL has no kernel");

        let options = hlsl::Options {
            shader_model: hlsl::ShaderModel::V6_0,
            fake_missing_bindings: true,
            ..hlsl::Options::default()
        };
        let mut text = String::new();
        hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
            .write(&module, &info, None)
            .unwrap_or_else(|error| panic!("{label}: HLSL: {error}"));
        assert!(text.contains("numthreads"), "{label}: HLSL has no entry point");
    });
}
