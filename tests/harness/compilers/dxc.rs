//! Microsoft's shader compiler, DXC, as a library on Linux: hand-written bindings for the few calls needed.
//!
//! The library uses COM: an object is a pointer to a table of functions, which take the object as their first argument. Crates for it expect releases from
//! December 2022 or later; the library available from a package registry is older, and its tables have two more entries (see [`FIRST`]).

use std::ffi::{CStr, c_void};
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::slice;

use anyhow::{Context, Result, bail, ensure};
use libloading::Library;

/// COM identifier, built by [`id`].
#[repr(C)]
struct Id([u8; 16]);

/// Identifier written as `73e22d93-e6ce-47f3-b5bf-f0664f39c1b0`: three little-endian numbers, then bytes.
const fn id(first: u32, second: u16, third: u16, rest: u64) -> Id {
    let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = rest.to_be_bytes();
    Id([a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p])
}

// From dxcapi.h.
const CLSID_COMPILER: Id = id(0x73e2_2d93, 0xe6ce, 0x47f3, 0xb5bf_f066_4f39_c1b0);
const CLSID_VALIDATOR: Id = id(0x8ca3_e215, 0xf728, 0x4cf3, 0x8cdd_88af_9175_87a1);
const IID_COMPILER3: Id = id(0x228b_4687, 0x5a6a, 0x4730, 0x900c_9702_b220_3f54);
const IID_RESULT: Id = id(0x5834_6cda, 0xdde7, 0x4497, 0x9461_6f87_af5e_0659);
const IID_VALIDATOR: Id = id(0xa6e8_2bd2, 0x1fd7, 0x4826, 0x9811_2857_e797_f49a);

/// Index of `Release` in every table, after `QueryInterface` and `AddRef`.
const RELEASE: usize = 2;
/// Index of an interface's first own function. Before December 2022, two destructors preceded it on Linux (commit 47f31378 of `DirectXShaderCompiler`
/// removed them).
const FIRST: usize = 5;
/// Warning that the compiler always prints without the signing validator. Any other output is an error.
const UNSIGNED: &str =
    "warning: DXIL.dll not found.  Resulting DXIL will not be signed for use in release environments.";
/// `DXC_CP_UTF8`.
const UTF8: u32 = 65001;

/// Type of `DxcCreateInstance`.
type Create = unsafe extern "C" fn(*const Id, *const Id, *mut *mut c_void) -> i32;

/// `DxcBuffer`.
#[repr(C)]
struct Source {
    text: *const c_void,
    bytes: usize,
    encoding: u32,
}

/// COM object, released on drop.
struct Object(NonNull<c_void>);

impl Object {
    /// Converts the result of a call that returned a code and wrote a pointer.
    fn from(what: &str, code: i32, pointer: *mut c_void) -> Result<Self> {
        ensure!(code >= 0, "{what} failed with {code:#x}");
        NonNull::new(pointer).map(Self).with_context(|| format!("{what} returned nothing"))
    }

    /// Function at an index of the table.
    ///
    /// # Safety
    /// `F` must be the type of that function.
    unsafe fn function<F: Copy>(&self, place: usize) -> F {
        // SAFETY: an object begins with a pointer to its table; the caller guarantees index and type.
        unsafe { self.0.cast::<*const F>().as_ref().add(place).read() }
    }

    /// Calls a function without arguments that returns an object: `GetResult`, `GetErrorBuffer`.
    ///
    /// # Safety
    /// The function at that index must have this type.
    unsafe fn get(&self, what: &str, place: usize) -> Result<Self> {
        let mut found = null_mut();
        // SAFETY: guaranteed by the caller.
        let code = unsafe {
            let get: unsafe extern "C" fn(*mut c_void, *mut *mut c_void) -> i32 = self.function(place);
            get(self.0.as_ptr(), &raw mut found)
        };
        Self::from(what, code, found)
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: every COM object has `Release` there, and this reference is released only here.
        unsafe {
            let release: unsafe extern "C" fn(*mut c_void) -> std::ffi::c_ulong = self.function(RELEASE);
            release(self.0.as_ptr());
        }
    }
}

/// `IDxcBlob`: bytes.
struct Blob(Object);

impl Blob {
    fn bytes(&self) -> &[u8] {
        let object = self.0.0.as_ptr();
        // SAFETY: these are the two functions of `IDxcBlob`; the bytes live as long as the blob and do not change.
        unsafe {
            let pointer: unsafe extern "C" fn(*mut c_void) -> *const u8 = self.0.function(FIRST);
            let size: unsafe extern "C" fn(*mut c_void) -> usize = self.0.function(FIRST + 1);
            let (pointer, size) = (pointer(object), size(object));
            if pointer.is_null() { &[] } else { slice::from_raw_parts(pointer, size) }
        }
    }
}

/// `IDxcOperationResult`, or `IDxcResult`, which begins with the same functions.
struct Outcome(Object);

impl Outcome {
    /// Fails if the operation failed, or printed anything but [`UNSIGNED`].
    fn check(&self, what: &str) -> Result<()> {
        let mut status = 0;
        // SAFETY: `GetStatus` is the first function.
        let code = unsafe {
            let get: unsafe extern "C" fn(*mut c_void, *mut i32) -> i32 = self.0.function(FIRST);
            get(self.0.0.as_ptr(), &raw mut status)
        };
        ensure!(code >= 0, "{what}: no status, {code:#x}");
        // SAFETY: `GetErrorBuffer` is the third.
        let said = unsafe { self.0.get("GetErrorBuffer", FIRST + 2) }.map(Blob);
        let said = said.as_ref().map(|blob| text(blob.bytes())).unwrap_or_default();
        let said = said.trim();
        if status < 0 || !(said.is_empty() || said == UNSIGNED) {
            bail!("{what}: {said} ({status:#x})");
        }
        Ok(())
    }

    /// Result of the operation.
    fn blob(&self) -> Result<Blob> {
        // SAFETY: `GetResult` is the second.
        unsafe { self.0.get("GetResult", FIRST + 1) }.map(Blob)
    }
}

/// Text of a blob, which may end with a zero byte.
fn text(bytes: &[u8]) -> String {
    let text = CStr::from_bytes_until_nul(bytes).map_or(bytes, CStr::to_bytes);
    String::from_utf8_lossy(text).into_owned()
}

/// Loaded library.
pub struct Dxc {
    library: Library,
}

impl Dxc {
    /// Loads the library installed by `tests/get-compilers`. Other releases are not compatible.
    ///
    /// # Errors
    /// If it cannot be loaded.
    pub fn load(path: &Path) -> Result<Self> {
        // SAFETY: DXC's constructors only register its passes.
        let library = unsafe { Library::new(path) }.with_context(|| format!("loading {}", path.display()))?;
        Ok(Self { library })
    }

    fn create(&self, class: &Id, interface: &Id) -> Result<Object> {
        let mut found = null_mut();
        // SAFETY: the library exports the function with this type; the pointers are valid.
        let code = unsafe {
            let create = self.library.get::<Create>(b"DxcCreateInstance\0").context("not a DXC library")?;
            create(class, interface, &raw mut found)
        };
        Object::from("DxcCreateInstance", code, found)
    }

    /// Compiles a text with arguments as on `dxc`'s command line, and validates the result. The validator that also signs is a separate library for Windows
    /// only; this one performs the same checks.
    ///
    /// # Errors
    /// Messages of the compiler or the validator.
    pub fn compile(&self, source: &str, arguments: &[&str]) -> Result<Vec<u8>> {
        // On Linux, `wchar_t` has four bytes.
        let wide: Vec<Vec<u32>> =
            arguments.iter().map(|text| text.chars().map(u32::from).chain([0]).collect()).collect();
        let pointers: Vec<_> = wide.iter().map(|text| text.as_ptr()).collect();
        let buffer = Source { text: source.as_ptr().cast(), bytes: source.len(), encoding: UTF8 };
        let compiler = self.create(&CLSID_COMPILER, &IID_COMPILER3)?;
        let mut found = null_mut();
        // SAFETY: `IDxcCompiler3::Compile(source, arguments, count, include handler, interface, result)`; all pointers
        // outlive the call.
        let code = unsafe {
            type Compile = unsafe extern "C" fn(
                *mut c_void,
                *const Source,
                *const *const u32,
                u32,
                *mut c_void,
                *const Id,
                *mut *mut c_void,
            ) -> i32;
            let compile: Compile = compiler.function(FIRST);
            let count = u32::try_from(pointers.len())?;
            compile(
                compiler.0.as_ptr(),
                &raw const buffer,
                pointers.as_ptr(),
                count,
                null_mut(),
                &IID_RESULT,
                &raw mut found,
            )
        };
        let outcome = Outcome(Object::from("Compile", code, found)?);
        outcome.check("DXC")?;
        let compiled = outcome.blob()?;

        let validator = self.create(&CLSID_VALIDATOR, &IID_VALIDATOR)?;
        let mut found = null_mut();
        // SAFETY: `IDxcValidator::Validate(blob, flags, result)`; without flags, the blob is not modified.
        let code = unsafe {
            let validate: unsafe extern "C" fn(*mut c_void, *mut c_void, u32, *mut *mut c_void) -> i32 =
                validator.function(FIRST);
            validate(validator.0.as_ptr(), compiled.0.0.as_ptr(), 0, &raw mut found)
        };
        Outcome(Object::from("Validate", code, found)?).check("the validator of DXIL")?;
        Ok(compiled.bytes().to_vec())
    }
}
