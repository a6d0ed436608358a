//! Identities of cases: lists them, and finds a case by the identity that a failure prints.
//!
//! A case is identified by the label of its variant and its name within the kernel: `matvec.bf16.plain.store.rows1.workgroup/1 row of 33`. Random cases are
//! named by their seed: `rms_norm.subgroup/random 17`. A test checks that identities are unique.

use crate::{Caps, Case, KERNELS, Kernel, reduce};

/// Prefix of the names of random cases; the seed follows.
const RANDOM: &str = "random ";

impl Case {
    /// Identity of the case among those of all kernels: variant label, `/`, case name.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.launch.kernel.label(self.launch.choice), self.name)
    }
}

impl Kernel {
    /// Every case of [`Kernel::cases`], once per way of reducing if the kernel has that axis.
    #[must_use]
    pub fn all_cases(&self) -> Vec<Case> {
        (self.cases)().into_iter().flat_map(|case| self.reduced(case)).collect()
    }

    /// Every case of [`Kernel::cases`], with the way of reducing that the engine prefers on a device.
    #[must_use]
    pub fn cases_for(&self, caps: &Caps) -> Vec<Case> {
        let mut cases = (self.cases)();
        if let Some(axis) = self.reduce_axis() {
            cases.iter_mut().for_each(|case| case.launch.choice.0[axis] = reduce::preferred(caps));
        }
        cases
    }

    /// The random case that a seed generates, once per way of reducing. Named after the seed.
    #[must_use]
    pub fn random_cases(&self, seed: u64) -> Vec<Case> {
        self.reduced(Case { name: format!("{RANDOM}{seed}"), ..(self.random)(seed) })
    }

    /// Index of the axis of ways to reduce, if the kernel has that axis.
    fn reduce_axis(&self) -> Option<usize> {
        self.axes.iter().position(|axis| axis.name == reduce::REDUCE.name)
    }

    /// A case with each way of reducing; the case alone if the kernel does not reduce.
    fn reduced(&self, case: Case) -> Vec<Case> {
        let Some(axis) = self.reduce_axis() else { return vec![case] };
        let options = (0_u8..).zip(self.axes[axis].options);
        options
            .map(|(option, _)| {
                let mut case = case.clone();
                case.launch.choice.0[axis] = option;
                case
            })
            .collect()
    }
}

/// Identities of the cases of [`Kernel::all_cases`], kernel by kernel.
pub fn case_ids() -> impl Iterator<Item = String> {
    KERNELS.iter().flat_map(|kernel| kernel.all_cases()).map(|case| case.id())
}

/// Finds a case by its identity. Random cases are found too.
#[must_use]
pub fn find_case(id: &str) -> Option<Case> {
    let (label, name) = id.split_once('/')?;
    let kernel = KERNELS.iter().find(|kernel| label.split('.').next() == Some(kernel.name))?;
    let cases = match name.strip_prefix(RANDOM).map(str::parse) {
        Some(seed) => kernel.random_cases(seed.ok()?),
        None => kernel.all_cases(),
    };
    cases.into_iter().find(|case| case.id() == id)
}
