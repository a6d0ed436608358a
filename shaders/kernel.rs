//! Description of a kernel: WGSL text with swappable parts, and everything about it that a host must know.

use std::fmt;

use crate::{Caps, Case, Const, Cooperative, Field, Slots, Struct, Workload};

/// Access of a kernel to a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read: `var<storage, read>`.
    Read,
    /// Written, perhaps read too: `var<storage, read_write>`.
    Write,
}

/// Kind of memory that a binding uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A storage buffer.
    Buffer,
    /// A storage texture of four words per texel, [`TEXTURE_WIDTH`] texels wide, read as one array of 16-byte units. Some devices read textures faster than
    /// buffers.
    Texture,
    /// A uniform buffer of [`UNIFORM_BYTES`] bytes, which kernels only read. lavapipe gathers a lane's part of it, where it reads storage buffers one lane at a
    /// time.
    Uniform,
}

impl Place {
    /// Bytes that a device allocates for `bytes` of content: textures have whole lines, and uniform buffers one size.
    #[must_use]
    pub const fn memory(self, bytes: u64) -> u64 {
        match self {
            Self::Buffer => bytes.next_multiple_of(16),
            Self::Texture => bytes.next_multiple_of(TEXTURE_WIDTH as u64 * 16),
            Self::Uniform if bytes < UNIFORM_BYTES => UNIFORM_BYTES,
            Self::Uniform => bytes.next_multiple_of(16),
        }
    }
}

/// Bytes of every uniform buffer that a kernel reads, other than its parameters: the most that WebGPU guarantees. WGSL needs a fixed size.
pub const UNIFORM_BYTES: u64 = 64 << 10;

/// Texels per line of a texture.
pub const TEXTURE_WIDTH: u32 = 4096;

/// Name of the `override` constant for the subgroup size, in kernels that depend on it.
pub const LANES: &str = "LANES";

/// One resource of a kernel. Its `@binding` number is its index in [`Kernel::bindings`].
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Name in the WGSL text.
    pub name: &'static str,
    /// Element type in WGSL: a buffer is declared as `array<element>`.
    pub element: &'static str,
    /// Whether the kernel writes it.
    pub access: Access,
    /// Kind of memory.
    pub place: Place,
}

impl Binding {
    /// A buffer that the kernel only reads.
    #[must_use]
    pub const fn read(name: &'static str, element: &'static str) -> Self {
        Self { name, element, access: Access::Read, place: Place::Buffer }
    }

    /// A buffer that the kernel writes, and may read.
    #[must_use]
    pub const fn write(name: &'static str, element: &'static str) -> Self {
        Self { name, element, access: Access::Write, place: Place::Buffer }
    }

    /// Makes the binding a texture. A texture that is written is not read.
    #[must_use]
    pub const fn in_texture(mut self) -> Self {
        self.element = "vec4<u32>";
        self.place = Place::Texture;
        self
    }
}

/// A piece of WGSL that fills a role of a kernel: unpacking weights, reducing a sum, storing a result.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Name of the option, as it appears in labels and reports: `bf16`, `subgroup`, `residual`.
    pub name: &'static str,
    /// WGSL declarations. Module scope is order-independent, so parts are concatenated.
    pub wgsl: &'static str,
    /// Further declarations, which other parts may share.
    pub uses: &'static [&'static str],
    /// Constants that are generated for modules that mention them.
    pub consts: &'static [Const],
    /// Structs that are generated for modules that mention them.
    pub structs: &'static [Struct],
    /// Bindings that the part adds after those of the kernel.
    pub bindings: &'static [Binding],
    /// Names of bindings that are read from uniform buffers, unless they are in textures.
    pub uniforms: &'static [&'static str],
    /// Whether the part calls subgroup operations.
    pub subgroups: bool,
    /// Whether the part computes in f16.
    pub f16: bool,
    /// Whether the part multiplies four bytes at once.
    pub bytes: bool,
    /// Kind of matrices that subgroups multiply, if the part multiplies any.
    pub cooperative: Option<Cooperative>,
    /// Whether kernels with this part stay within their memory without naga's checks: see [`Part::trusted`].
    pub trusted: bool,
}

impl Part {
    /// A part without bindings of its own.
    #[must_use]
    pub const fn new(name: &'static str, wgsl: &'static str) -> Self {
        Self {
            name,
            wgsl,
            uses: &[],
            consts: &[],
            structs: &[],
            bindings: &[],
            uniforms: &[],
            subgroups: false,
            f16: false,
            bytes: false,
            cooperative: None,
            trusted: false,
        }
    }

    /// A part that consists of generated constants and structs only.
    #[must_use]
    pub const fn shared(consts: &'static [Const], structs: &'static [Struct]) -> Self {
        Self { consts, structs, ..Self::new("shared", "") }
    }

    /// Adds generated constants.
    #[must_use]
    pub const fn with_consts(mut self, consts: &'static [Const]) -> Self {
        self.consts = consts;
        self
    }

    /// Adds generated structs.
    #[must_use]
    pub const fn with_structs(mut self, structs: &'static [Struct]) -> Self {
        self.structs = structs;
        self
    }

    /// Adds further declarations.
    #[must_use]
    pub const fn using(mut self, texts: &'static [&'static str]) -> Self {
        self.uses = texts;
        self
    }

    /// Adds bindings.
    #[must_use]
    pub const fn with(mut self, bindings: &'static [Binding]) -> Self {
        self.bindings = bindings;
        self
    }

    /// Moves bindings in storage buffers, of elements of 16 bytes, to uniform buffers.
    #[must_use]
    pub const fn in_uniforms(mut self, names: &'static [&'static str]) -> Self {
        self.uniforms = names;
        self
    }

    /// Marks the part as one that needs subgroup operations.
    #[must_use]
    pub const fn with_subgroups(mut self) -> Self {
        self.subgroups = true;
        self
    }

    /// Marks the part as one that computes in f16.
    #[must_use]
    pub const fn with_f16(mut self) -> Self {
        self.f16 = true;
        self
    }

    /// Marks the part as one that multiplies four bytes at once.
    #[must_use]
    pub const fn with_bytes(mut self) -> Self {
        self.bytes = true;
        self
    }

    /// Marks kernels with this part to be compiled without naga's checks.
    ///
    /// By the launch arithmetic, every index is in bounds, every loop ends and no divisor is zero, given tables of valid rows, sequences and pages. In loops
    /// over tiles, the checks are a quarter of the instructions.
    #[must_use]
    pub const fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// Marks the part as one in which subgroups multiply matrices.
    #[must_use]
    pub const fn with_matrices(mut self, matrices: Cooperative) -> Self {
        self.subgroups = true;
        self.f16 = matrices.rounds();
        self.cooperative = Some(matrices);
        self
    }
}

/// A role in a kernel and the parts that can fill it. A variant of the kernel takes one part per axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// Name of the role: `weight`, `reduce`, `output`.
    pub name: &'static str,
    /// The parts to choose from.
    pub options: &'static [Part],
}

/// Maximum number of axes of a kernel.
pub const MAX_AXES: usize = 6;

/// One option index per axis of a kernel; unused entries are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Choice(pub [u8; MAX_AXES]);

/// Parameters of a kernel: a plain struct whose bytes are copied into the uniform buffer.
pub trait Params: bytemuck::Pod {
    /// The members in order.
    const FIELDS: &'static [Field];
}

/// A hand-written compute kernel.
pub struct Kernel {
    /// Name of the file, the Rust item, the trace label and the bench.
    pub name: &'static str,
    /// The kernel's own WGSL: `main` (or the `run` that a part's `main` calls), calling what the parts provide.
    pub wgsl: &'static str,
    /// Parts that every variant includes.
    pub parts: &'static [Part],
    /// Bindings of the kernel itself; those of the chosen parts follow in the order of the axes, then `params`.
    pub bindings: &'static [Binding],
    /// Roles that a variant fills.
    pub axes: &'static [Axis],
    /// Names of the `override` constants, all `u32`. A launch gives each a value.
    pub overrides: &'static [&'static str],
    /// Members of `Params`.
    pub params: &'static [Field],
    /// Size of `Params` in bytes.
    pub params_size: usize,
    /// CPU reference: plain Rust with f64 sums.
    pub reference: fn(&Launch, Slots<'_>),
    /// Cases that tests, benchmarks and the doctor run.
    pub cases: fn() -> Vec<Case>,
    /// Generates a case of random shape from a seed, for property tests.
    pub random: fn(u64) -> Case,
    /// Cases at the shapes that a model has; empty if the model does not use the kernel at that number of rows.
    pub at: fn(&Workload) -> Vec<Case>,
}

impl Kernel {
    /// Bindings of a variant: the kernel's own, then those of its parts.
    pub fn bindings_of(&self, choice: Choice) -> impl Iterator<Item = Binding> + '_ {
        let parts = self.chosen(choice).flat_map(|part| part.bindings);
        let all = self.bindings.iter().chain(self.parts.iter().flat_map(|part| part.bindings)).chain(parts).copied();
        all.map(move |binding| {
            let moved = self.chosen(choice).any(|part| part.uniforms.contains(&binding.name));
            let place = if moved && binding.place == Place::Buffer { Place::Uniform } else { binding.place };
            Binding { place, ..binding }
        })
    }

    /// The parts that a choice picks, in the order of the axes.
    ///
    /// # Panics
    /// If the choice names an option that an axis does not have.
    pub fn chosen(&self, choice: Choice) -> impl Iterator<Item = &'static Part> + '_ {
        let pick = move |(axis, options): (usize, &'static Axis)| &options.options[usize::from(choice.0[axis])];
        self.axes.iter().enumerate().map(pick)
    }

    /// Every variant: the Cartesian product of the axes.
    #[must_use]
    pub fn variants(&self) -> Vec<Choice> {
        let mut all = vec![Choice::default()];
        for (axis, options) in self.axes.iter().enumerate() {
            all = (0..options.options.len())
                .flat_map(|option| {
                    all.iter().map(move |&choice| {
                        let mut choice = choice;
                        choice.0[axis] = u8::try_from(option).expect("an axis has a handful of options");
                        choice
                    })
                })
                .collect();
        }
        all
    }

    /// Label of a variant: `matvec.bf16.concat.store.subgroup`.
    #[must_use]
    pub fn label(&self, choice: Choice) -> String {
        self.chosen(choice).fold(self.name.to_owned(), |label, part| label + "." + part.name)
    }

    /// Whether a variant binds textures.
    #[must_use]
    pub fn needs_textures(&self, choice: Choice) -> bool {
        self.bindings_of(choice).any(|binding| binding.place == Place::Texture)
    }

    /// Whether a variant binds uniform buffers other than its parameters.
    #[must_use]
    pub fn needs_uniforms(&self, choice: Choice) -> bool {
        self.bindings_of(choice).any(|binding| binding.place == Place::Uniform)
    }

    /// Whether a variant calls subgroup operations.
    #[must_use]
    pub fn needs_subgroups(&self, choice: Choice) -> bool {
        self.parts.iter().chain(self.chosen(choice)).any(|part| part.subgroups)
    }

    /// Whether a variant computes in f16.
    #[must_use]
    pub fn needs_f16(&self, choice: Choice) -> bool {
        self.parts.iter().chain(self.chosen(choice)).any(|part| part.f16)
    }

    /// Whether a variant multiplies four bytes at once.
    #[must_use]
    pub fn needs_bytes(&self, choice: Choice) -> bool {
        self.parts.iter().chain(self.chosen(choice)).any(|part| part.bytes)
    }

    /// Whether a variant is compiled without naga's checks: see [`Part::trusted`].
    #[must_use]
    pub fn is_trusted(&self, choice: Choice) -> bool {
        self.parts.iter().chain(self.chosen(choice)).any(|part| part.trusted)
    }

    /// Kind of matrices that subgroups multiply in a variant, if any.
    #[must_use]
    pub fn needs_matrices(&self, choice: Choice) -> Option<Cooperative> {
        self.parts.iter().chain(self.chosen(choice)).find_map(|part| part.cooperative)
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Work of a launch. The executor splits submissions by it, and rates are computed from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that must be read or written at least once.
    pub bytes: u64,
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
}

/// One dispatch of one variant, complete except for its buffers.
///
/// Only the launch function next to each kernel creates it: no dispatch arithmetic is anywhere else.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its variant.
    pub choice: Choice,
    /// Values of the kernel's `override` constants, in the order of [`Kernel::overrides`].
    pub overrides: Vec<u32>,
    /// `Params`, as bytes.
    pub params: Vec<u8>,
    /// Workgroups in x, y, z; at most 65,535 each.
    pub workgroups: [u32; 3],
    /// Minimum size of each binding, in bytes.
    pub sizes: Vec<u64>,
    /// Work of the dispatch.
    pub cost: Cost,
}

impl Launch {
    /// Reason why a device cannot run the launch: it lacks a feature, or its subgroups have another size. `None` if it can.
    #[must_use]
    pub fn lacks(&self, caps: &Caps) -> Option<String> {
        if self.kernel.needs_subgroups(self.choice) && caps.subgroups.is_none() {
            return Some("needs subgroup operations, which this device does not support".to_owned());
        }
        if self.kernel.needs_f16(self.choice) && !caps.f16 {
            return Some("computes in f16, which this device does not support".to_owned());
        }
        if self.kernel.needs_bytes(self.choice) && !caps.bytes {
            return Some("multiplies four bytes at once, which this device's compiler gets wrong".to_owned());
        }
        if self.kernel.needs_uniforms(self.choice) && caps.max_uniform < UNIFORM_BYTES {
            return Some(format!(
                "needs uniform buffers of {UNIFORM_BYTES} bytes, this device allows {}",
                caps.max_uniform
            ));
        }
        let named = |name: &str| self.kernel.overrides.iter().zip(&self.overrides).find(|(known, _)| **known == name);
        if let Some(matrices) = self.kernel.needs_matrices(self.choice) {
            if !caps.cooperative[matrices as usize] {
                return Some(format!(
                    "multiplies cooperative matrices ({matrices:?}), which this device does not support"
                ));
            }
            let whole = |((_, lanes), (_, most)): ((_, &u32), _)| lanes.is_multiple_of(most);
            if !named("WG").zip(caps.subgroups).is_some_and(whole) {
                return Some("workgroup size is not a multiple of this device's subgroup size".to_owned());
            }
        }
        if let Some((_, &lanes)) = named(LANES).filter(|(_, lanes)| caps.lanes != Some(**lanes)) {
            let has = caps.lanes.map_or("no fixed subgroup size".to_owned(), |lanes| format!("subgroups of {lanes}"));
            return Some(format!("needs textures and subgroups of {lanes}, this device has {has}"));
        }
        (self.kernel.needs_textures(self.choice) && caps.lanes.is_none())
            .then(|| "needs tensors in textures, which are not used on this device".to_owned())
    }

    /// Reason why a device cannot bind the launch's buffers: one of them is larger than its largest binding. `None` if it can.
    #[must_use]
    pub fn exceeds(&self, caps: &Caps) -> Option<String> {
        let bindings = self.kernel.bindings_of(self.choice).zip(&self.sizes);
        let mut buffers = bindings.filter(|(binding, _)| binding.place == Place::Buffer);
        let (binding, bytes) = buffers.find(|(_, bytes)| **bytes > caps.max_binding)?;
        Some(format!("binds {bytes} bytes as `{}`, this device allows {}", binding.name, caps.max_binding))
    }

    /// Name that distinguishes the launch from others that compute the same result: its variant and its constants.
    #[must_use]
    pub fn name(&self) -> String {
        let label = self.kernel.label(self.choice);
        self.kernel
            .overrides
            .iter()
            .zip(&self.overrides)
            .fold(label, |name, (of, value)| format!("{name} {of}={value}"))
    }

    /// Copies the parameters out.
    ///
    /// # Panics
    /// If `T` is not the kernel's `Params`.
    #[must_use]
    pub fn params<T: Params>(&self) -> T {
        bytemuck::pod_read_unaligned(&self.params)
    }

    /// The option chosen on an axis.
    #[must_use]
    pub fn option(&self, axis: usize) -> usize {
        usize::from(self.choice.0[axis])
    }
}
