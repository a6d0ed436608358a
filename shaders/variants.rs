//! Equivalent launches, among which a device is tuned. Each kernel family defines its variants.

use crate::{Caps, Case, Check, Kernel, Launch, Workload, attention, matmul, norm, reduce, sample};

/// Launches that compute the same result from the same bindings, up to the order of sums.
#[derive(Clone, Debug)]
pub struct Variants {
    /// Operation and class of its shape: everything that decides which launch is fastest.
    pub class: String,
    /// The launches; the first suits most devices.
    pub launches: Vec<Launch>,
}

impl Variants {
    /// Collects a launch and its alternatives, without duplicates.
    #[must_use]
    pub fn new(class: String, first: Launch, others: impl IntoIterator<Item = Launch>) -> Self {
        let mut launches = vec![first];
        for other in others {
            if launches.iter().all(|launch| launch.name() != other.name()) {
                launches.push(other);
            }
        }
        Self { class, launches }
    }

    /// Finds a launch by its name: see [`Launch::name`].
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Launch> {
        self.launches.iter().find(|launch| launch.name() == name)
    }

    /// The launch that suits most devices.
    ///
    /// # Panics
    /// If there are no launches.
    #[must_use]
    pub fn into_first(self) -> Launch {
        self.launches.into_iter().next().expect("there is one launch at least")
    }
}

/// A tuning task: variants, and a case that each of them can run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The variants.
    pub variants: Variants,
    /// Data for the variants; its own launch is the first of them.
    pub case: Case,
}

impl Trial {
    /// One case per variant, all with the same data. Named after the class and the launch's constants, so that [`Case::id`] tells them apart.
    pub fn cases(&self) -> impl Iterator<Item = Case> + '_ {
        self.variants.launches.iter().map(|launch| {
            let constants = launch.kernel.overrides.iter().zip(&launch.overrides);
            let name = constants.fold(self.variants.class.clone(), |name, (of, value)| format!("{name} {of}={value}"));
            let rounds = launch.kernel.needs_f16(launch.choice);
            let check = |&check| if check == Check::F32 && rounds { Check::F16 } else { check };
            let checks = self.case.checks.iter().map(check).collect();
            Case { name, launch: launch.clone(), data: self.case.data.clone(), checks }
        })
    }
}

/// Everything that has variants for any model, at the shapes of the kernels' own cases.
#[must_use]
pub fn case_trials(caps: &Caps) -> Vec<Trial> {
    type Variation = fn(&Caps, Launch) -> Variants;
    let varied: [(&Kernel, Variation); 4] = [
        (&norm::RMS_NORM, norm::rms_norm_variants),
        (&norm::NORM_ADD, norm::norm_add_variants),
        (&sample::ARGMAX, sample::argmax_variants),
        (&sample::SAMPLE, sample::sample_variants),
    ];
    let trial = |(case, variation): (Case, Variation)| Trial { variants: variation(caps, case.launch.clone()), case };
    varied
        .into_iter()
        .flat_map(|(kernel, variation)| (kernel.cases)().into_iter().map(move |case| (case, variation)))
        .map(trial)
        .collect()
}

/// Everything that has variants at the shapes of a model, at one number of rows.
#[must_use]
pub fn trials(work: &Workload) -> Vec<Trial> {
    let mut all = matmul::trials(work);
    all.extend(norm::trials(work));
    all.extend(sample::trials(work));
    all.extend(attention::trials(work));
    all
}

/// Class of a number of rows: the next power of two, at most 256.
pub(crate) fn class_of_rows(rows: u32) -> u32 {
    rows.next_power_of_two().min(256)
}

/// Workgroup sizes that are tried, in lanes.
const LANES: [u32; 4] = [64, 128, 256, 512];

/// Variants of a launch whose workgroups share a reduction: other numbers of lanes, and the other way of reducing. `axis` is the index of [`reduce::REDUCE`];
/// the kernel's only override must be the number of lanes.
pub(crate) fn of_reduction(caps: &Caps, launch: &Launch, axis: usize) -> Vec<Launch> {
    let ways = if caps.subgroups.is_some() { 2 } else { 1 };
    let lanes = LANES
        .into_iter()
        .filter(|&lanes| lanes <= caps.max_invocations && reduce::memory(lanes) <= caps.max_workgroup_memory);
    lanes
        .flat_map(|lanes| {
            (0..ways).map(move |way| {
                let mut other = launch.clone();
                other.choice.0[axis] = way;
                other.overrides = vec![lanes];
                other
            })
        })
        .collect()
}
