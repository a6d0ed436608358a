//! AMD: compiles variants with Mesa's compiler on a machine without an AMD GPU.
//!
//! Mesa's RADV driver opens a null device of the family named by `RADV_FORCE_FAMILY`, and compiles for it with the compiler used for real hardware. The
//! device cannot run anything, and wgpu does not open it, so pipelines are created here with the features, flags and SPIR-V that wgpu would use. The
//! driver then reports registers, spills, scratch memory and occupancy.

use std::ffi::CStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, ensure};
use ash::{ext, khr, vk};
use naga::back::PipelineConstants;
use naga::valid::Capabilities;
use ruminate_shaders::Cooperative;
use serde::{Deserialize, Serialize};

use super::listing::{Loop, densest_loop, inner_loop, thinnest_loop};
use super::{Checked, ENTRY, Resource, Variant, spirv};

/// GPU families: GCN 5 (Vega, 64 lanes only), RDNA 2 (RX 6800 and up), RDNA 3 (RX 7900).
pub const FAMILIES: [&str; 3] = ["vega10", "navi21", "gfx1100"];

/// Subgroup sizes of a family.
#[must_use]
pub fn subgroups(family: &str) -> &'static [u32] {
    if family == "vega10" { &[64] } else { &[32, 64] }
}

/// Whether the installed driver supports a kind of cooperative matrices on a family.
#[must_use]
pub fn multiplies(family: &str, matrices: Cooperative) -> bool {
    family == "gfx1100" && matrices == Cooperative::F16Of16 && is_new()
}

/// Whether the driver is from Mesa 24.3 or newer, by the Vulkan version in its manifest. Such drivers support cooperative matrices, and name families
/// differently.
fn is_new() -> bool {
    let manifest = driver().and_then(|path| std::fs::read_to_string(path).ok());
    let manifest = manifest.and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
    let version = manifest.and_then(|all| Some(all["ICD"]["api_version"].as_str()?.to_owned()));
    version.is_some_and(|version| !["1.0.", "1.1.", "1.2.", "1.3."].iter().any(|old| version.starts_with(old)))
}

/// Name of a family in the driver.
#[must_use]
pub fn name_of(family: &str) -> &str {
    if family == "gfx1100" && is_new() { "navi31" } else { family }
}

/// Environment variable that selects RADV's family.
const FAMILY: &str = "RADV_FORCE_FAMILY";

/// RADV's manifest, if it is installed; `RUMINATE_RADV` overrides the path.
#[must_use]
pub fn driver() -> Option<PathBuf> {
    if let Some(given) = std::env::var_os("RUMINATE_RADV") {
        return Some(given.into());
    }
    let names = [format!("radeon_icd.{}.json", std::env::consts::ARCH), "radeon_icd.json".to_owned()];
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].map(Path::new);
    folders.iter().flat_map(|folder| names.iter().map(|name| folder.join(name))).find(|path| path.is_file())
}

/// Compiler statistics of a kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Lanes per subgroup.
    pub wave: u64,
    /// Vector registers.
    pub vgprs: u64,
    /// Scalar registers.
    pub sgprs: u64,
    /// Vector registers spilled to memory.
    pub spilled_vgprs: u64,
    /// Scalar registers spilled to vector registers.
    pub spilled_sgprs: u64,
    /// Private memory per subgroup in bytes: spills and arrays indexed at run time.
    pub scratch: u64,
    /// Workgroup memory in bytes.
    pub lds: u64,
    /// Subgroups per SIMD unit.
    pub occupancy: u64,
    /// Number of instructions.
    pub instructions: u64,
    /// Code size in bytes.
    pub code: u64,
    /// Estimated clocks per subgroup at full occupancy.
    pub inverse_throughput: u64,
}

impl Statistics {
    /// Checks that all values fit in registers.
    ///
    /// # Errors
    /// If registers are spilled or scratch memory is used.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.spilled_vgprs == 0 && self.spilled_sgprs == 0 && self.scratch == 0,
            "{} VGPRs and {} SGPRs spilled, {} bytes of scratch memory ({} VGPRs, {} SGPRs in use)",
            self.spilled_vgprs,
            self.spilled_sgprs,
            self.scratch,
            self.vgprs,
            self.sgprs
        );
        Ok(())
    }

    /// Combines two statistics, taking the worse of each figure.
    #[must_use]
    pub fn worse(&self, other: &Self) -> Self {
        Self {
            wave: self.wave.max(other.wave),
            vgprs: self.vgprs.max(other.vgprs),
            sgprs: self.sgprs.max(other.sgprs),
            spilled_vgprs: self.spilled_vgprs.max(other.spilled_vgprs),
            spilled_sgprs: self.spilled_sgprs.max(other.spilled_sgprs),
            scratch: self.scratch.max(other.scratch),
            lds: self.lds.max(other.lds),
            occupancy: self.occupancy.min(other.occupancy),
            instructions: self.instructions.max(other.instructions),
            code: self.code.max(other.code),
            inverse_throughput: self.inverse_throughput.max(other.inverse_throughput),
        }
    }
}

/// Compiler report on a variant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// Device name from the driver.
    pub device: String,
    /// Label of the variant.
    pub label: String,
    /// Constants of the variant.
    pub constants: String,
    /// Statistics.
    pub statistics: Statistics,
    /// Inner loop, if any.
    pub inner: Option<Loop>,
    /// Loop with the largest fraction of multiply-adds, if any.
    pub densest: Option<Loop>,
    /// Inner loop with the smallest fraction of multiply-adds among those that have many, if any.
    pub thinnest: Option<Loop>,
    /// Instructions.
    #[serde(skip)]
    pub listing: String,
}

impl Report {
    fn new(device: &str, (label, constants): (String, String), (statistics, listing): (Statistics, String)) -> Self {
        Self {
            device: device.to_owned(),
            label,
            constants,
            statistics,
            inner: inner_loop(&listing),
            densest: densest_loop(&listing),
            thinnest: thinnest_loop(&listing),
            listing,
        }
    }
}

/// Reports on kernels, variants or WGSL files, by default on all kernels. They come from a child process, because the family must be set before the
/// Vulkan loader starts. `program` is the binary `compilers`.
///
/// # Errors
/// If RADV is missing or rejects a variant, with the child's message.
pub fn reports(program: &Path, family: &str, names: &[&str]) -> Result<Vec<Report>> {
    let text = said(program, family, names)?;
    let report = |line| serde_json::from_str(line).with_context(|| format!("{family}: not a report: {line}"));
    text.lines().map(report).collect()
}

/// Output of such a child process. The arguments may include `--listing`.
///
/// # Errors
/// See [`reports`].
pub fn said(program: &Path, family: &str, arguments: &[&str]) -> Result<String> {
    let driver = driver().context("RADV is not installed; run tests/get-compilers")?;
    let output = Command::new(program)
        .args(["--amd", family])
        .args(arguments)
        .env(FAMILY, name_of(family))
        .env("VK_ICD_FILENAMES", driver)
        // The newer variable would override this one; layers would interfere.
        .env_remove("VK_DRIVER_FILES")
        .env_remove("VK_INSTANCE_LAYERS")
        .output()
        .with_context(|| program.display().to_string())?;
    let problem = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{family}: {}", problem.trim());
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether this process was started by [`reports`] for a family.
#[must_use]
pub fn started_for(family: &str) -> bool {
    std::env::var_os(FAMILY).is_some_and(|value| value == name_of(family))
}

/// RADV's null device.
pub struct NullGpu {
    name: String,
    device: ash::Device,
    executables: khr::pipeline_executable_properties::Device,
    instance: ash::Instance,
    // The loader's library, which must outlive all fields above.
    _entry: ash::Entry,
}

impl NullGpu {
    /// Opens the family named by the environment. `VK_ICD_FILENAMES` must name only RADV's manifest.
    ///
    /// # Errors
    /// If the Vulkan loader or RADV is missing, or RADV lacks a feature that wgpu would use.
    pub fn open() -> Result<Self> {
        // SAFETY: loading the Vulkan loader has no further conditions.
        let entry = unsafe { ash::Entry::load() }.context("the Vulkan loader")?;
        let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
        let info = vk::InstanceCreateInfo::default().application_info(&application);
        // SAFETY: `info` is valid, and the instance is destroyed before `entry` is dropped.
        let instance = unsafe { entry.create_instance(&info, None) }.context("a Vulkan instance")?;
        match open_device(&instance) {
            Ok((name, device)) => {
                let executables = khr::pipeline_executable_properties::Device::new(&instance, &device);
                Ok(Self { name, device, executables, instance, _entry: entry })
            }
            Err(error) => {
                // SAFETY: no object of the instance is left.
                unsafe { instance.destroy_instance(None) };
                Err(error)
            }
        }
    }

    /// Reports on a variant.
    ///
    /// # Errors
    /// See [`NullGpu::compile`]; the error names the variant.
    pub fn report(&self, variant: &Variant) -> Result<Report> {
        let (label, constants) = (variant.label(), variant.constants());
        let compiled = variant.module().and_then(|checked| self.compile(&checked));
        let compiled = compiled.with_context(|| format!("{label} {constants}"))?;
        Ok(Report::new(&self.name, (label, constants), compiled))
    }

    /// Reports on a WGSL file without override constants, for kernels under development. `trusted` omits naga's checks.
    ///
    /// # Errors
    /// See [`NullGpu::compile`]; the error names the file.
    pub fn report_file(&self, path: &Path, trusted: bool) -> Result<Report> {
        let label = path.display().to_string();
        let read = std::fs::read_to_string(path).map_err(anyhow::Error::from);
        let compiled = read.and_then(|text| {
            let features = Capabilities::SUBGROUP | Capabilities::SHADER_FLOAT16;
            let checked = Checked::new(&text, &PipelineConstants::default(), features)?;
            self.compile(&Checked { trusted, ..checked })
        });
        let compiled = compiled.with_context(|| label.clone())?;
        Ok(Report::new(&self.name, (label, String::new()), compiled))
    }

    /// Creates a pipeline from a module and returns the compiler's statistics and listing.
    ///
    /// # Errors
    /// If the module cannot be translated or the driver rejects it.
    pub fn compile(&self, checked: &Checked) -> Result<(Statistics, String)> {
        let words = spirv::translate(checked, spirv::NEWEST)?;
        let entries: Vec<_> = checked
            .bindings
            .iter()
            .map(|bound| {
                vk::DescriptorSetLayoutBinding::default()
                    .binding(bound.place.binding)
                    .descriptor_type(match bound.resource {
                        Resource::Uniform => vk::DescriptorType::UNIFORM_BUFFER,
                        Resource::Storage { .. } => vk::DescriptorType::STORAGE_BUFFER,
                        Resource::StorageTexture { .. } => vk::DescriptorType::STORAGE_IMAGE,
                        Resource::Texture => vk::DescriptorType::SAMPLED_IMAGE,
                    })
                    .descriptor_count(1)
                    .stage_flags(vk::ShaderStageFlags::COMPUTE)
            })
            .collect();
        let device = &self.device;
        // SAFETY: every object is created from valid descriptions that outlive the calls, used only on this thread, and destroyed once, after the objects
        // created from it.
        unsafe {
            let group = device
                .create_descriptor_set_layout(&vk::DescriptorSetLayoutCreateInfo::default().bindings(&entries), None)?;
            let groups = [group];
            let layout =
                device.create_pipeline_layout(&vk::PipelineLayoutCreateInfo::default().set_layouts(&groups), None)?;
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(&words), None)?;
            let told = self.pipeline(layout, module);
            device.destroy_shader_module(module, None);
            device.destroy_pipeline_layout(layout, None);
            device.destroy_descriptor_set_layout(group, None);
            told
        }
    }

    /// # Safety
    /// Both handles must be valid, and the module must fit the layout.
    unsafe fn pipeline(&self, layout: vk::PipelineLayout, module: vk::ShaderModule) -> Result<(Statistics, String)> {
        let entry = std::ffi::CString::new(ENTRY)?;
        // wgpu sets the flag on devices with subgroup operations, whether the shader has some or not.
        let stage = vk::PipelineShaderStageCreateInfo::default()
            .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE)
            .stage(vk::ShaderStageFlags::COMPUTE)
            .module(module)
            .name(&entry);
        let capture = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
            | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
        let info = vk::ComputePipelineCreateInfo::default().stage(stage).layout(layout).flags(capture);
        // SAFETY: the caller's handles are valid, the rest is created here; the pipeline is destroyed once, after its last use.
        unsafe {
            let pipelines = self
                .device
                .create_compute_pipelines(vk::PipelineCache::null(), &[info], None)
                .map_err(|(_, error)| anyhow!("RADV cannot create a pipeline: {error}"))?;
            let pipeline = *pipelines.first().context("RADV returned no pipeline")?;
            let told = self.statistics(pipeline).and_then(|it| Ok((it, self.listing(pipeline)?)));
            self.device.destroy_pipeline(pipeline, None);
            told
        }
    }

    /// # Safety
    /// The pipeline must be valid and created with statistics.
    unsafe fn statistics(&self, pipeline: vk::Pipeline) -> Result<Statistics> {
        // SAFETY: the caller's handle is valid and has one executable, like all compute pipelines.
        let (properties, values) = unsafe {
            let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            (
                self.executables.get_pipeline_executable_properties(&of)?,
                self.executables.get_pipeline_executable_statistics(&executable)?,
            )
        };
        ensure!(properties.len() == 1, "{} executables in a compute pipeline", properties.len());
        let value = |wanted: &str| {
            let found = values.iter().find(|value| text(&value.name) == wanted);
            let found = found.with_context(|| format!("RADV does not report `{wanted}`"))?;
            ensure!(found.format == vk::PipelineExecutableStatisticFormatKHR::UINT64, "`{wanted}` is not an integer");
            // SAFETY: the format determines which member of the union is set.
            Ok(unsafe { found.value.u64 })
        };
        Ok(Statistics {
            wave: u64::from(properties[0].subgroup_size),
            vgprs: value("VGPRs")?,
            sgprs: value("SGPRs")?,
            spilled_vgprs: value("Spilled VGPRs")?,
            spilled_sgprs: value("Spilled SGPRs")?,
            scratch: value("Scratch size")?,
            lds: value("LDS size")?,
            occupancy: value("Subgroups per SIMD")?,
            instructions: value("Instructions")?,
            code: value("Code size")?,
            inverse_throughput: value("Inverse Throughput")?,
        })
    }
}

impl NullGpu {
    /// Instructions of a pipeline.
    ///
    /// # Safety
    /// The pipeline must be valid and created with its internal representations.
    unsafe fn listing(&self, pipeline: vk::Pipeline) -> Result<String> {
        let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
        let get = self.executables.fp().get_pipeline_executable_internal_representations_khr;
        let device = self.executables.device();
        let mut count = 0;
        // SAFETY: the caller's handle is valid; the first call returns the count, the second the length of each, the third fills the buffers.
        unsafe {
            get(device, &raw const executable, &raw mut count, std::ptr::null_mut()).result()?;
            let mut found = vec![vk::PipelineExecutableInternalRepresentationKHR::default(); count as usize];
            get(device, &raw const executable, &raw mut count, found.as_mut_ptr()).result()?;
            let mut texts: Vec<Vec<u8>> = found.iter().map(|it| vec![0; it.data_size]).collect();
            for (it, text) in found.iter_mut().zip(&mut texts) {
                it.p_data = text.as_mut_ptr().cast();
            }
            get(device, &raw const executable, &raw mut count, found.as_mut_ptr()).result()?;
            let assembly = found.iter().position(|it| text(&it.name) == "Assembly");
            let assembly = assembly.context("RADV does not return `Assembly`")?;
            let bytes = texts.swap_remove(assembly);
            let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
            Ok(String::from_utf8_lossy(&bytes[..end]).into_owned())
        }
    }
}

impl Drop for NullGpu {
    fn drop(&mut self) {
        // SAFETY: all other objects were destroyed where they were created.
        unsafe {
            self.device.destroy_device(None);
            self.instance.destroy_instance(None);
        }
    }
}

/// Opens the only device, with those features of wgpu that affect the compiler.
fn open_device(instance: &ash::Instance) -> Result<(String, ash::Device)> {
    let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
    let mut extensions = vec![khr::pipeline_executable_properties::NAME.as_ptr(), ext::robustness2::NAME.as_ptr()];
    let core = vk::PhysicalDeviceFeatures::default().robust_buffer_access(true);
    let mut v12 = vk::PhysicalDeviceVulkan12Features::default().shader_int8(true).shader_float16(true);
    let mut v13 = vk::PhysicalDeviceVulkan13Features::default()
        .robust_image_access(true)
        .subgroup_size_control(true)
        .shader_integer_dot_product(true);
    let mut robust = vk::PhysicalDeviceRobustness2FeaturesEXT::default().robust_buffer_access2(true);
    let mut executables =
        vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
    let mut matrices = vk::PhysicalDeviceCooperativeMatrixFeaturesKHR::default().cooperative_matrix(true);
    // SAFETY: the instance is valid, and the description outlives the calls.
    unsafe {
        let devices = instance.enumerate_physical_devices().context("Vulkan devices")?;
        let [physical] = devices[..] else {
            return Err(anyhow!(
                "{} Vulkan devices where RADV's one was expected: see VK_ICD_FILENAMES",
                devices.len()
            ));
        };
        let mut driver = vk::PhysicalDeviceDriverProperties::default();
        let mut properties = vk::PhysicalDeviceProperties2::default().push_next(&mut driver);
        instance.get_physical_device_properties2(physical, &mut properties);
        let name = text(&properties.properties.device_name);
        // "Null hardware (RADV NAVI21)": the name is in parentheses.
        let name = name.trim_start_matches("Null hardware (").trim_end_matches(')');
        let name = format!("{name} of {}", text(&driver.driver_info));
        let offered = instance.enumerate_device_extension_properties(physical).context("extensions")?;
        let has_matrices = offered.iter().any(|it| it.extension_name_as_c_str() == Ok(khr::cooperative_matrix::NAME));
        if has_matrices {
            extensions.push(khr::cooperative_matrix::NAME.as_ptr());
            v12 = v12.vulkan_memory_model(true).vulkan_memory_model_device_scope(true);
        }
        let mut info = vk::DeviceCreateInfo::default()
            .queue_create_infos(&queues)
            .enabled_extension_names(&extensions)
            .enabled_features(&core)
            .push_next(&mut v12)
            .push_next(&mut v13)
            .push_next(&mut robust)
            .push_next(&mut executables);
        if has_matrices {
            info = info.push_next(&mut matrices);
        }
        let device = instance.create_device(physical, &info, None).with_context(|| format!("a device on {name}"))?;
        Ok((name, device))
    }
}

/// Text in a fixed array of C characters.
fn text(characters: &[std::ffi::c_char]) -> String {
    let bytes: Vec<u8> = characters.iter().map(|&c| c.cast_unsigned()).collect();
    CStr::from_bytes_until_nul(&bytes).map_or_else(|_| String::new(), |text| text.to_string_lossy().into_owned())
}
