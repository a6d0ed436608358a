//! [`Device::verify`] detects kernels that write out of bounds, even if all their outputs are right.

use anyhow::{Result, ensure};
use bytemuck::{Pod, Zeroable};
use ruminate_engine::Device;
use ruminate_shaders::{Binding, Case, Check, Choice, Cost, Field, Kernel, Launch, Params, Slots, TEXTURE_WIDTH};
use ruminate_tests::{device, trial};

/// Parameters of the kernels here.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
struct Extent {
    /// Elements of x and y.
    n: u32,
    /// Unit of y for an additional, stray write of 1.
    stray: u32,
}

impl Params for Extent {
    const FIELDS: &'static [Field] =
        &[Field { name: "n", wgsl: "u32", offset: 0 }, Field { name: "stray", wgsl: "u32", offset: 4 }];
}

/// Value of `stray` for no stray write.
const NOWHERE: u32 = u32::MAX;

/// Workgroup size.
const LANES: u32 = 64;

const fn kernel(name: &'static str, wgsl: &'static str, bindings: &'static [Binding], reference: Reference) -> Kernel {
    Kernel {
        name,
        wgsl,
        parts: &[],
        bindings,
        axes: &[],
        overrides: &[],
        params: Extent::FIELDS,
        params_size: size_of::<Extent>(),
        reference,
        cases: Vec::new,
        random: no_case,
        at: |_| Vec::new(),
    }
}

fn no_case(_: u64) -> Case {
    case(&COPY, 1, NOWHERE)
}

type Reference = fn(&Launch, Slots<'_>);

/// y = x in units of four words, and one stray write.
static COPY: Kernel = kernel(
    "test_copy",
    "@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < params.n { y[id.x] = x[id.x]; }
        if id.x == 0u && params.stray != 0xffffffffu { y[params.stray] = vec4(1u); }
    }",
    &[Binding::read("x", "vec4<u32>"), Binding::write("y", "vec4<u32>")],
    copied,
);

/// [`COPY`] into a texture.
static COPY_TO_TEXTURE: Kernel = kernel(
    "test_copy_to_texture",
    "fn put(i: u32, v: vec4<u32>) { textureStore(y, vec2(i % TEXTURE_WIDTH, i / TEXTURE_WIDTH), v); }
    @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        if id.x < params.n { put(id.x, x[id.x]); }
        if id.x == 0u && params.stray != 0xffffffffu { put(params.stray, vec4(1u)); }
    }",
    &[Binding::read("x", "vec4<u32>"), Binding::write("y", "vec4<u32>").in_texture()],
    copied,
);

fn copied(launch: &Launch, mut slots: Slots<'_>) {
    let words = 4 * launch.params::<Extent>().n as usize;
    let (x, y) = (slots.read::<u32>(), slots.write::<u32>());
    y[..words].copy_from_slice(&x[..words]);
}

fn case(kernel: &'static Kernel, n: u32, stray: u32) -> Case {
    let bytes = u64::from(n) * 16;
    Case {
        name: format!("{n} units, stray at {stray}"),
        launch: Launch {
            kernel,
            choice: Choice::default(),
            overrides: Vec::new(),
            params: bytemuck::bytes_of(&Extent { n, stray }).to_vec(),
            workgroups: [n.div_ceil(LANES), 1, 1],
            sizes: vec![bytes; 2],
            cost: Cost { bytes: 2 * bytes, flops: 0 },
        },
        data: vec![(1..=4 * n).collect(), vec![0; 4 * n as usize]].into(),
        checks: vec![Check::Skip, Check::Exact],
    }
}

/// Word at which a stray write is detected, if any.
fn found(device: &Device, kernel: &'static Kernel, n: u32, stray: u32) -> Result<Option<usize>> {
    let verdict = device.verify(&case(kernel, n, stray))?;
    ensure!(verdict.outputs.iter().all(|output| output.passed()), "the copy itself must be right: {verdict}");
    ensure!(verdict.passed() == verdict.overruns.is_empty());
    let [overrun] = &verdict.overruns[..] else { return Ok(None) };
    ensure!((overrun.binding, overrun.length, overrun.count) == ("y", 4 * n as usize, 4), "{overrun}");
    ensure!(verdict.to_string().contains("`y` has"), "{verdict}");
    Ok(Some(overrun.word))
}

// The CPU reference has no guard words after its buffers.
#[trial(device)]
fn writes_past_a_buffer_are_detected(device: &Device) -> Result<()> {
    for n in [1, 4, 5, 100] {
        ensure!(found(device, &COPY, n, NOWHERE)?.is_none(), "{n} units");
        for stray in [n, n + 1, n + 200] {
            let word = found(device, &COPY, n, stray)?;
            ensure!(word == Some(4 * stray as usize), "{n} units, stray at {stray}: found at {word:?}");
        }
    }
    Ok(())
}

/// The engine uses textures only if the subgroup size is known.
fn no_textures() -> Option<String> {
    let without = device().is_none_or(|device| device.caps().lanes.is_none());
    without.then(|| "the device holds no weights in textures".to_owned())
}

#[trial(device, needs(no_textures))]
fn writes_past_a_texture_are_detected(device: &Device) -> Result<()> {
    for n in [1, 100, TEXTURE_WIDTH - 1, TEXTURE_WIDTH, TEXTURE_WIDTH + 1] {
        ensure!(found(device, &COPY_TO_TEXTURE, n, NOWHERE)?.is_none(), "{n} texels");
        for stray in [n, n + 1, n + 200] {
            let word = found(device, &COPY_TO_TEXTURE, n, stray)?;
            ensure!(word == Some(4 * stray as usize), "{n} texels, stray at {stray}: found at {word:?}");
        }
    }
    Ok(())
}
