//! `ruminate pull` against a hub in this process, and models by name in the cache: what is downloaded, what is not, and what happens when
//! something goes wrong.

mod bed;
mod broken;
mod mirrors;
mod refused;
mod server;
mod whole;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let arguments = Arguments::from_args();
    let mut trials = Vec::new();
    for (name, test) in [whole::TESTS, broken::TESTS, refused::TESTS, mirrors::TESTS].concat() {
        trials.push(Trial::test(name, move || {
            test();
            Ok(())
        }));
    }
    // Needs a file system of its own, that can be filled; only root may mount one.
    let name = "a_full_disk_is_named_and_what_has_come_is_kept";
    let full = Trial::test(name, || {
        broken::a_full_disk_is_named_and_what_has_come_is_kept();
        Ok(())
    });
    trials.push(full.with_ignored_flag(broken::small_disk().is_none()));
    libtest_mimic::run(&arguments, trials).exit();
}
