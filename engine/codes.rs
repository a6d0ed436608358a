//! Stable codes of errors, for programs and bindings that cannot match on Rust enums.

/// Declares `Error::code` and the list of codes from one table. The match is exhaustive: a variant without a code does not compile.
#[doc(hidden)]
#[macro_export]
macro_rules! error_codes {
    ($error:ident $([$inner:ident])?: $($variant:ident => $code:literal, $meaning:literal;)*) => {
        impl $error {
            /// Stable name of this kind of error in kebab-case, such as `device-lost`. Messages may change; codes do not. `docs/embedding.md` lists them.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                    $(Self::$inner(inner) => inner.code(),)?
                }
            }
        }

        /// Codes of errors and their meanings, in the order of the variants.
        pub const ERROR_CODES: &[(&str, &str)] = &[$(($code, $meaning)),*];
    };
}

use crate::error::Error;

error_codes! { Error:
    NoAdapter => "no-adapter", "no graphics adapter fits the selection";
    Ambiguous => "ambiguous-adapter", "several graphics adapters fit the selection";
    Open => "device-open", "the driver cannot open a device on the adapter";
    Limits => "device-limits", "limits of the app's own device are too low";
    Lost => "device-lost", "the device was reset or removed; open another";
    OutOfMemory => "out-of-device-memory", "the device has no memory left";
    Validation => "device-validation", "wgpu or the driver refused a call: a bug";
    Tuning => "tuning-file", "a tuning file cannot be used";
    PipelineCache => "pipeline-cache", "the file of compiled pipelines cannot be written";
    Shape => "launch-shape", "a tensor is smaller than a launch needs";
    Bindings => "launch-bindings", "a launch was given a wrong number of tensors";
    Aliased => "launch-aliased", "a launch would write a tensor that it also reads";
    Launch => "launch", "a launch does not fit its kernel or the device";
    TooLarge => "buffer-too-large", "a buffer or binding exceeds what the device allows";
    Range => "buffer-range", "a byte range is outside its buffer or unaligned";
    Counts => "plan-counts", "a plan was executed with a wrong number of counts";
    Busy => "plan-busy", "a plan is being executed in pieces";
    Foreign => "foreign-object", "a tensor, buffer or plan belongs to another graph or device";
    Timeout => "device-timeout", "the device did not answer in time: its driver hangs";
    ReadBack => "read-back", "results could not be read back";
}
