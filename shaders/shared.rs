//! Declarations shared by WGSL and Rust. They are written in Rust; [`assemble`](fn@crate::assemble) generates the WGSL.

/// A constant of a module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Const {
    /// Name in the WGSL text.
    pub name: &'static str,
    /// Value, which also determines the type.
    pub value: Value,
}

/// Value of a [`Const`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A `u32`.
    U32(u32),
    /// An `f32`, finite.
    F32(f32),
}

impl Const {
    /// A `u32`.
    #[must_use]
    pub const fn u32(name: &'static str, value: u32) -> Self {
        Self { name, value: Value::U32(value) }
    }

    /// An `f32`.
    #[must_use]
    pub const fn f32(name: &'static str, value: f32) -> Self {
        Self { name, value: Value::F32(value) }
    }

    /// Its declaration in WGSL.
    #[must_use]
    pub fn declaration(&self) -> String {
        let name = self.name;
        match self.value {
            Value::U32(value) => format!("const {name}: u32 = {value}u;\n"),
            // The shortest decimal number that rounds to the value.
            Value::F32(value) => format!("const {name}: f32 = {value:?};\n"),
        }
    }
}

/// A struct of a module: an entry of a table, or `Params`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Struct {
    /// Name in both languages.
    pub name: &'static str,
    /// Members in order.
    pub fields: &'static [Field],
    /// Size in bytes.
    pub size: usize,
}

/// A member of a struct.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name in both languages.
    pub name: &'static str,
    /// Type in WGSL.
    pub wgsl: &'static str,
    /// Offset in bytes.
    pub offset: usize,
}

/// Declares a struct in WGSL.
pub(crate) fn declaration(name: &str, fields: &[Field]) -> String {
    let members = fields.iter().map(|Field { name, wgsl, .. }| format!("    {name}: {wgsl},\n"));
    format!("struct {name} {{\n{}}}\n", members.collect::<String>())
}

/// A Rust type that a member of a shared struct can have. Tests compare offsets and sizes with those that naga computes.
pub(crate) trait Member {
    /// The type in WGSL.
    const WGSL: &'static str;
}

impl Member for u32 {
    const WGSL: &'static str = "u32";
}

impl Member for f32 {
    const WGSL: &'static str = "f32";
}

impl Member for [u32; 2] {
    const WGSL: &'static str = "vec2<u32>";
}

impl Member for [u32; 3] {
    const WGSL: &'static str = "array<u32, 3>";
}

/// Members of a struct, given their names and types.
macro_rules! fields {
    ($name:ident { $($field:ident : $ty:ty),* $(,)? }) => {
        &[$($crate::shared::Field {
            name: stringify!($field),
            wgsl: <$ty as $crate::shared::Member>::WGSL,
            offset: std::mem::offset_of!($name, $field),
        }),*]
    };
}
pub(crate) use fields;

/// Declares a table entry for both languages: the Rust struct, and `TABLE`, from which the WGSL struct of the same name is generated.
macro_rules! table {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        impl $name {
            /// The struct's declaration for WGSL.
            pub const TABLE: $crate::Struct = $crate::Struct {
                name: stringify!($name),
                fields: $crate::shared::fields!($name { $($field: $ty),* }),
                size: size_of::<$name>(),
            };
        }
    };
}
pub(crate) use table;

/// Declares a `Params` struct once: the Rust struct with its layout, and the list of its members.
macro_rules! params {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }
        impl $crate::kernel::Params for $name {
            const FIELDS: &'static [$crate::Field] = $crate::shared::fields!($name { $($field: $ty),* });
        }
    };
}
pub(crate) use params;
