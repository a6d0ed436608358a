//! What a kernel is: WGSL text with swappable parts, and everything about it that a host must know.

use std::fmt;

use crate::{Caps, Case, Const, Cooperative, Field, Slots, Struct, Workload};

/// How a kernel uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only read: `var<storage, read>`.
    Read,
    /// Written, perhaps read too: `var<storage, read_write>`.
    Write,
}

/// What memory a binding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A storage buffer.
    Buffer,
    /// A storage texture of four words per texel, [`TEXTURE_WIDTH`] texels wide, that is read as one long line of 16 bytes each. Some
    /// devices read textures faster than buffers.
    Texture,
}

impl Place {
    /// Bytes that a device sets aside for so many: textures have whole lines.
    #[must_use]
    pub const fn memory(self, bytes: u64) -> u64 {
        bytes.next_multiple_of(match self {
            Self::Buffer => 16,
            Self::Texture => TEXTURE_WIDTH as u64 * 16,
        })
    }
}

/// Texels from line to line of a texture.
pub const TEXTURE_WIDTH: u32 = 4096;

/// Name of the constant that holds the size of a subgroup, for kernels that must know it.
pub const LANES: &str = "LANES";

/// One resource of a kernel. Its `@binding` number is its place in [`Kernel::bindings`].
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// Name in the WGSL text.
    pub name: &'static str,
    /// Element type in WGSL: a buffer is declared as `array<element>`.
    pub element: &'static str,
    /// Whether the kernel writes it.
    pub access: Access,
    /// What memory it is.
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

    /// The same binding, as a texture. One that is written is not read.
    #[must_use]
    pub const fn in_texture(mut self) -> Self {
        self.element = "vec4<u32>";
        self.place = Place::Texture;
        self
    }
}

/// A piece of WGSL that fills a role of a kernel: how weights are unpacked, how a sum is reduced, what is stored.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// Name of the option, as it appears in labels and reports: `bf16`, `subgroup`, `residual`.
    pub name: &'static str,
    /// WGSL declarations. Module scope is order-independent, so parts are simply joined.
    pub wgsl: &'static str,
    /// Further declarations, which other parts may use too.
    pub uses: &'static [&'static str],
    /// Constants that are generated for modules that mention them.
    pub consts: &'static [Const],
    /// Structs that are generated for modules that mention them.
    pub structs: &'static [Struct],
    /// Bindings that the part adds behind those of the kernel.
    pub bindings: &'static [Binding],
    /// Whether the part calls subgroup operations.
    pub subgroups: bool,
    /// Whether the part computes in f16.
    pub f16: bool,
    /// Whether the part multiplies four bytes at once.
    pub bytes: bool,
    /// The matrices that the part has subgroups multiply, if it does that.
    pub cooperative: Option<Cooperative>,
    /// Whether kernels of this part stay within their memory without the checks that naga adds: see [`Part::trusted`].
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
            subgroups: false,
            f16: false,
            bytes: false,
            cooperative: None,
            trusted: false,
        }
    }

    /// A part of nothing but generated constants and structs.
    #[must_use]
    pub const fn shared(consts: &'static [Const], structs: &'static [Struct]) -> Self {
        Self { consts, structs, ..Self::new("shared", "") }
    }

    /// The same part, with generated constants.
    #[must_use]
    pub const fn with_consts(mut self, consts: &'static [Const]) -> Self {
        self.consts = consts;
        self
    }

    /// The same part, with generated structs.
    #[must_use]
    pub const fn with_structs(mut self, structs: &'static [Struct]) -> Self {
        self.structs = structs;
        self
    }

    /// The same part, with further declarations.
    #[must_use]
    pub const fn using(mut self, texts: &'static [&'static str]) -> Self {
        self.uses = texts;
        self
    }

    /// The same part, with bindings of its own.
    #[must_use]
    pub const fn with(mut self, bindings: &'static [Binding]) -> Self {
        self.bindings = bindings;
        self
    }

    /// The same part, marked as one that needs subgroup operations.
    #[must_use]
    pub const fn with_subgroups(mut self) -> Self {
        self.subgroups = true;
        self
    }

    /// The same part, marked as one that computes in f16.
    #[must_use]
    pub const fn with_f16(mut self) -> Self {
        self.f16 = true;
        self
    }

    /// The same part, marked as one that multiplies four bytes at once.
    #[must_use]
    pub const fn with_bytes(mut self) -> Self {
        self.bytes = true;
        self
    }

    /// The same part, marked as one of kernels that are compiled without checks: every index is in bounds, every loop ends and no divisor is zero by the launch
    /// arithmetic, given tables of valid rows, sequences and pages. In loops of tiles, checks are a quarter of the instructions.
    #[must_use]
    pub const fn trusted(mut self) -> Self {
        self.trusted = true;
        self
    }

    /// The same part, marked as one that has subgroups multiply matrices.
    #[must_use]
    pub const fn with_matrices(mut self, matrices: Cooperative) -> Self {
        self.subgroups = true;
        self.f16 = matrices.rounds();
        self.cooperative = Some(matrices);
        self
    }
}

/// A role in a kernel with the parts that can fill it. A variant of the kernel takes one part per axis.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// What is chosen here: `weight`, `reduce`, `output`.
    pub name: &'static str,
    /// The parts to choose from.
    pub options: &'static [Part],
}

/// Most axes that a kernel may have.
pub const MAX_AXES: usize = 6;

/// One option index per axis of a kernel; unused places are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Choice(pub [u8; MAX_AXES]);

/// Parameters of a kernel: a plain struct that is copied into the uniform buffer as it stands.
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
    /// Parts that are always joined.
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
    /// The same computation in plain Rust with f64 sums.
    pub reference: fn(&Launch, Slots<'_>),
    /// Cases that tests, benchmarks and the doctor run.
    pub cases: fn() -> Vec<Case>,
    /// A case of a random shape, made from a seed, for property tests.
    pub random: fn(u64) -> Case,
    /// The cases that the kernel meets in a model, if it meets any at that number of rows.
    pub at: fn(&Workload) -> Vec<Case>,
}

impl Kernel {
    /// Bindings of a variant: the kernel's own, then those of its parts.
    pub fn bindings_of(&self, choice: Choice) -> impl Iterator<Item = Binding> + '_ {
        let parts = self.chosen(choice).flat_map(|part| part.bindings);
        self.bindings.iter().chain(self.parts.iter().flat_map(|part| part.bindings)).chain(parts).copied()
    }

    /// The parts that a choice picks, in the order of the axes.
    ///
    /// # Panics
    /// If the choice names an option that an axis does not have.
    pub fn chosen(&self, choice: Choice) -> impl Iterator<Item = &'static Part> + '_ {
        let pick = move |(axis, options): (usize, &'static Axis)| &options.options[usize::from(choice.0[axis])];
        self.axes.iter().enumerate().map(pick)
    }

    /// Every variant: the product of all axes.
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

    /// The name of a variant: `matvec.bf16.concat.store.subgroup`.
    #[must_use]
    pub fn label(&self, choice: Choice) -> String {
        self.chosen(choice).fold(self.name.to_owned(), |label, part| label + "." + part.name)
    }

    /// Whether a variant binds textures.
    #[must_use]
    pub fn needs_textures(&self, choice: Choice) -> bool {
        self.bindings_of(choice).any(|binding| binding.place == Place::Texture)
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

    /// Whether a variant is compiled without the checks that naga adds: see [`Part::trusted`].
    #[must_use]
    pub fn is_trusted(&self, choice: Choice) -> bool {
        self.parts.iter().chain(self.chosen(choice)).any(|part| part.trusted)
    }

    /// The matrices that a variant has subgroups multiply, if it does that.
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

/// Work that a launch stands for: what the executor splits submissions by and what rates are quoted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes that must be read or written at least once.
    pub bytes: u64,
    /// Floating-point operations; a multiply-add counts as two.
    pub flops: u64,
}

/// One dispatch of one variant, ready but for its buffers: made by the launch function beside each kernel, the only place
/// with dispatch arithmetic.
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
    /// Bytes that each binding must hold at least.
    pub sizes: Vec<u64>,
    /// Work done.
    pub cost: Cost,
}

impl Launch {
    /// Why a device cannot run it, if it cannot: the kernel asks for what the device lacks, or is made for subgroups of another size.
    #[must_use]
    pub fn lacks(&self, caps: &Caps) -> Option<String> {
        if self.kernel.needs_subgroups(self.choice) && caps.subgroups.is_none() {
            return Some("it needs subgroup operations, the device has none".to_owned());
        }
        if self.kernel.needs_f16(self.choice) && !caps.f16 {
            return Some("it computes in f16, the device does not".to_owned());
        }
        if self.kernel.needs_bytes(self.choice) && !caps.bytes {
            return Some("it multiplies four bytes at once, which the device's compiler gets wrong".to_owned());
        }
        let named = |name: &str| self.kernel.overrides.iter().zip(&self.overrides).find(|(known, _)| **known == name);
        if let Some(matrices) = self.kernel.needs_matrices(self.choice) {
            if !caps.cooperative[matrices as usize] {
                return Some(format!(
                    "it multiplies cooperative matrices ({matrices:?}), the device has none of that kind"
                ));
            }
            let whole = |((_, lanes), (_, most)): ((_, &u32), _)| lanes.is_multiple_of(most);
            if !named("WG").zip(caps.subgroups).is_some_and(whole) {
                return Some("its workgroups are no whole subgroups of the device".to_owned());
            }
        }
        if let Some((_, &lanes)) = named(LANES).filter(|(_, lanes)| caps.lanes != Some(**lanes)) {
            let has = caps.lanes.map_or("no known size".to_owned(), |lanes| lanes.to_string());
            return Some(format!("it is made for subgroups of {lanes} and textures, the device's are of {has}"));
        }
        (self.kernel.needs_textures(self.choice) && caps.lanes.is_none())
            .then(|| "it needs weights in textures, the device does not read them".to_owned())
    }

    /// What tells it from other launches that compute the same: its variant and its constants.
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
