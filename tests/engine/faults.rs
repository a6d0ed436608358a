//! Device failures: they must end as errors, never as panics or hangs.

use ruminate_engine::{Device, Error, Graph, Result};

use crate::Outcome;
use crate::execution::adder;
use crate::kernels::{broken, saxpy, too_wide};
use ruminate_tests::trial;

/// Asserts that every call reports a lost device.
fn all_lost(device: &Device, calls: impl FnOnce() -> Vec<(&'static str, Result<()>)>) {
    for (call, outcome) in calls() {
        assert!(matches!(outcome, Err(Error::Lost(_))), "{call} on {}: {outcome:?}", device.name());
    }
}

#[trial(adapters)]
fn every_call_on_a_lost_device_fails(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let ticket = device.execute(&plan, &[3], &[&y])?.expect("results were asked for");
    let dropped = device.execute(&plan, &[3], &[&y])?;
    device.lose_for_test();
    all_lost(device, || {
        assert!(ticket.ready(), "an error does not block");
        let mut graph = Graph::new("after");
        let (x, z) = (graph.scratch("x", 16), graph.scratch("z", 16));
        let recorded = graph.launch(saxpy(1, 1.0), &[x, z]);
        assert!(recorded.is_ok(), "recording needs no device");
        vec![
            ("wait", ticket.wait().map(drop)),
            ("execute", device.execute(&plan, &[3], &[]).map(drop)),
            ("execute and read", device.execute(&plan, &[3], &[&y]).map(drop)),
            ("read", device.read(&y, 0..16).map(drop)),
            ("write", device.write(&y, 0, &[0; 16])),
            ("buffer", device.buffer("after", 16).map(drop)),
            ("plan", device.plan(graph).map(drop)),
            ("profile", device.profile(&plan, &[3]).map(drop)),
            ("compile", device.compile(&[saxpy(1, 1.0)])),
        ]
    });
    drop((dropped, plan, y));
    // A new device works.
    let again = Device::open(&ruminate_engine::OpenOptions::default())?;
    let (plan, y) = adder(&again)?;
    again.execute(&plan, &[1], &[&y])?.expect("results were asked for").wait()?;
    Ok(())
}

#[trial(adapters)]
fn loss_reported_by_host_fails_execution(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    device.report_lost("the host was told");
    all_lost(device, || vec![("execute", device.execute(&plan, &[3], &[&y]).map(drop))]);
    Ok(())
}

#[trial(adapters)]
fn invalid_kernels_are_refused(device: &Device) -> Outcome {
    for (launch, name) in [(broken(), "test_broken"), (too_wide(), "test_too_wide")] {
        let mut graph = Graph::new("refused");
        graph.launch(launch, &[])?;
        let outcome = device.plan(graph).map(drop);
        let named = matches!(&outcome, Err(Error::Validation { what, .. }) if what.contains(name));
        assert!(named, "{name}: {outcome:?}");
    }
    // The device still works.
    let (plan, y) = adder(device)?;
    let results = device.execute(&plan, &[2], &[&y])?.expect("results were asked for").wait()?;
    assert_eq!(bytemuck::pod_read_unaligned::<f32>(&results[0][..4]), 2.0);
    Ok(())
}
