//! Bad input on the command line: a clear message on stderr, the right exit code, no output on stdout, no files written.
//!
//! Every kind of bad input is tested here; the tests of single modules check errors as data. Calls use the CPU reference, so they need no driver; tests of
//! devices are counted as ignored if there is none.

mod call;
mod checkpoints;
mod environment;
mod files;
mod outputs;
mod texts;
