//! Identities of kernel cases: unique, and sufficient to reproduce the case.

use std::collections::BTreeSet;

use ruminate_shaders::{Case, KERNELS, case_ids, find_case};
use ruminate_tests::trial;

#[trial]
fn ids_are_unique() {
    let mut seen = BTreeSet::new();
    let twice: Vec<String> = case_ids().filter(|id| !seen.insert(id.clone())).collect();
    assert!(twice.is_empty(), "{} identities are used twice: {twice:#?}", twice.len());
    assert!(seen.len() > 1000, "only {} cases", seen.len());
}

#[trial]
fn id_reproduces_its_case() {
    let same = |case: &Case| {
        let id = case.id();
        let found = find_case(&id).unwrap_or_else(|| panic!("no case {id}"));
        assert_eq!(found.id(), id);
        assert_eq!(
            (&found.launch.params, &found.launch.overrides),
            (&case.launch.params, &case.launch.overrides),
            "{id}"
        );
        assert!(*found.data == *case.data, "{id}: data");
    };
    for kernel in KERNELS {
        kernel.all_cases().first().into_iter().for_each(same);
        kernel.random_cases(17).iter().for_each(same);
    }
}

#[trial]
fn case_ids_name_the_reduction() {
    let ids: BTreeSet<String> = case_ids().collect();
    for (workgroup, subgroup) in [(".workgroup/", ".subgroup/"), (".subgroup/", ".workgroup/")] {
        for id in ids.iter().filter(|id| id.contains(workgroup)) {
            let other = id.replace(workgroup, subgroup);
            assert!(ids.contains(&other), "{id} without {other}");
        }
    }
    assert!(ids.contains("rms_norm.subgroup/17 rows of 5280, 3 resting"));
    assert!(find_case("rms_norm.subgroup/random 17").is_some());
}

#[trial]
fn unknown_ids_find_nothing() {
    for id in ["", "rms_norm", "nothing/1 row", "rms_norm.subgroup/no such rows", "rms_norm.subgroup/random x"] {
        assert!(find_case(id).is_none(), "{id}");
    }
}
