//! Small kernels for testing the engine, and broken ones.

use bytemuck::{Pod, Zeroable};
use ruminate_shaders::{Axis, Binding, Case, Choice, Cost, Field, Kernel, Launch, Params, Part, Slots};

/// Parameters of all kernels here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub(crate) struct Scale {
    /// Elements.
    pub(crate) n: u32,
    /// Factor.
    pub(crate) a: f32,
}

impl Params for Scale {
    const FIELDS: &'static [Field] =
        &[Field { name: "n", wgsl: "u32", offset: 0 }, Field { name: "a", wgsl: "f32", offset: 4 }];
}

const HEAD: Part = Part::new("head", "override WG: u32;\n");

const fn kernel(name: &'static str, wgsl: &'static str, reference: fn(&Launch, Slots<'_>)) -> Kernel {
    Kernel {
        name,
        wgsl,
        parts: &[HEAD],
        bindings: &[],
        axes: &[],
        overrides: &["WG"],
        params: Scale::FIELDS,
        params_size: size_of::<Scale>(),
        reference,
        cases: Vec::new,
        random: no_case,
        at: |_| Vec::new(),
    }
}

fn no_case(_: u64) -> Case {
    Case { name: String::new(), launch: saxpy(1, 1.0), data: Vec::new().into(), checks: Vec::new() }
}

/// y = a·x + y.
static SAXPY: Kernel = Kernel {
    bindings: &[Binding::read("x", "f32"), Binding::write("y", "f32")],
    ..kernel(
        "test_saxpy",
        "@compute @workgroup_size(WG) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < params.n { y[id.x] = params.a * x[id.x] + y[id.x]; }
        }",
        |launch, mut slots| {
            let (params, x, y) = (launch.params::<Scale>(), slots.read::<f32>(), slots.write::<f32>());
            for at in 0..params.n as usize {
                y[at] += params.a * x[at];
            }
        },
    )
};

/// out = x ∘ y, where an axis selects ∘, and its second option adds a binding.
static MIX: Kernel = Kernel {
    bindings: &[Binding::read("x", "u32"), Binding::read("y", "u32"), Binding::write("out", "u32")],
    axes: &[Axis {
        name: "op",
        options: &[
            Part::new("hash", "fn op(i: u32) -> u32 { return (x[i] * 747796405u) ^ (y[i] + 2891336453u); }\n"),
            Part::new("sum", "fn op(i: u32) -> u32 { return x[i] + y[i] + z[i]; }\n")
                .with(&[Binding::read("z", "u32")]),
        ],
    }],
    ..kernel(
        "test_mix",
        "@compute @workgroup_size(WG) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
            if id.x < params.n { out[id.x] = op(id.x); }
        }",
        |launch, mut slots| {
            let (x, y, out) = (slots.read::<u32>(), slots.read::<u32>(), slots.write::<u32>());
            let z = if launch.option(0) == 1 { slots.read::<u32>() } else { &[] };
            for at in 0..launch.params::<Scale>().n as usize {
                out[at] = match launch.option(0) {
                    0 => x[at].wrapping_mul(747_796_405) ^ y[at].wrapping_add(2_891_336_453),
                    _ => x[at].wrapping_add(y[at]).wrapping_add(z[at]),
                };
            }
        },
    )
};

static BROKEN: Kernel = kernel("test_broken", "fn main( { this is not WGSL }", |_, _| ());

static TOO_WIDE: Kernel =
    kernel("test_too_wide", "@compute @workgroup_size(WG) fn main() { _ = params.n; }", |_, _| ());

fn launch(kernel: &'static Kernel, params: Scale, option: u8, wg: u32) -> Launch {
    let bytes = u64::from(params.n) * 4;
    let mut choice = Choice::default();
    choice.0[0] = option;
    let sizes = vec![bytes; kernel.bindings_of(choice).count()];
    Launch {
        kernel,
        choice,
        overrides: vec![wg],
        params: bytemuck::bytes_of(&params).to_vec(),
        workgroups: [params.n.div_ceil(wg), 1, 1],
        cost: Cost { bytes: bytes * sizes.len() as u64, flops: u64::from(params.n) * 2 },
        sizes,
    }
}

/// y = a·x + y over `n` f32: bindings x, y.
pub(crate) fn saxpy(n: u32, a: f32) -> Launch {
    launch(&SAXPY, Scale { n, a }, 0, 64)
}

/// [`saxpy`] with another workgroup size.
pub(crate) fn saxpy_of(n: u32, a: f32, wg: u32) -> Launch {
    launch(&SAXPY, Scale { n, a }, 0, wg)
}

/// out = a hash of x and y over `n` u32: bindings x, y, out.
pub(crate) fn hash(n: u32) -> Launch {
    launch(&MIX, Scale { n, a: 0.0 }, 0, 64)
}

/// out = x + y + z over `n` u32: bindings x, y, out, z.
pub(crate) fn sum(n: u32) -> Launch {
    launch(&MIX, Scale { n, a: 0.0 }, 1, 64)
}

/// Launch of a kernel that is not valid WGSL.
pub(crate) fn broken() -> Launch {
    launch(&BROKEN, Scale { n: 1, a: 0.0 }, 0, 1)
}

/// Launch with a workgroup size that no device supports.
pub(crate) fn too_wide() -> Launch {
    launch(&TOO_WIDE, Scale { n: 1, a: 0.0 }, 0, 1 << 20)
}
