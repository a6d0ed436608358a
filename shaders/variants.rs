//! Ways of computing the same: what a device is tuned by. Each family says what its variants are.

use crate::{Caps, Case, Check, Kernel, Launch, Workload, attention, matmul, norm, reduce, sample};

/// Launches that compute the same from the same bindings, up to the order of sums.
#[derive(Clone, Debug)]
pub struct Variants {
    /// What is computed, as far as it decides which launch is fastest: the operation, and the class of its shape.
    pub class: String,
    /// The launches; the first is what suits most devices.
    pub launches: Vec<Launch>,
}

impl Variants {
    /// A launch and others that may be as good.
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

    /// The launch of that name, if there is one: see [`Launch::name`].
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Launch> {
        self.launches.iter().find(|launch| launch.name() == name)
    }

    /// The launch that suits most devices.
    ///
    /// # Panics
    /// If there is none at all.
    #[must_use]
    pub fn into_first(self) -> Launch {
        self.launches.into_iter().next().expect("there is one launch at least")
    }
}

/// Something to tune: variants, and a case that each of them can run.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The variants.
    pub variants: Variants,
    /// Data for them; its own launch is the first of the variants.
    pub case: Case,
}

impl Trial {
    /// A case for each of the variants, all with the same data. Named by the class and the constants of the launch, so that [`Case::id`] tells them apart.
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

/// Everything that has variants whatever model runs it, at the shapes of the kernels' own cases.
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

/// The class of a number of rows: powers of two, up to what is surely many.
pub(crate) fn class_of_rows(rows: u32) -> u32 {
    rows.next_power_of_two().min(256)
}

/// Lanes per workgroup that are tried.
const LANES: [u32; 4] = [64, 128, 256, 512];

/// A launch whose workgroups share a reduction, however many lanes they have: with other lanes, and with the other way of reducing. `axis` is that
/// of [`reduce::REDUCE`]; the kernel's only override is the number of lanes.
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
