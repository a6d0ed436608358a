//! Bad input, called as a user calls it: a clear message on stderr, the right exit code, nothing on stdout, nothing written.
//!
//! Every kind of bad input has its home here; the tests of the single modules look at errors as data. Calls use the CPU twins,
//! so they need no driver; what is about a device is reported as ignored where there is none.

mod call;
mod checkpoints;
mod environment;
mod files;
mod outputs;
mod texts;
