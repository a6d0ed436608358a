//! Invalid graphs: errors are reported while recording, with names.

use ruminate_engine::{Device, Error, Graph};

use crate::Outcome;
use crate::execution::{adder, filled};
use crate::kernels::{hash, saxpy, sum};
use ruminate_tests::trial;

#[trial(adapters, cpu)]
fn invalid_shapes_and_bindings_are_refused(device: &Device) -> Outcome {
    let mut graph = Graph::new("shapes");
    let (small, large) = (graph.scratch("small", 396), graph.scratch("large", 401));
    let outcome = graph.launch(saxpy(101, 1.0), &[large, small]);
    let expected = Error::Shape { launch: "test_saxpy".to_owned(), binding: "y", need: 404, have: 400 };
    assert_eq!(outcome, Err(expected.clone()));
    assert_eq!(expected.to_string(), "test_saxpy: binding `y` needs 404 bytes, the tensor has 400");

    let outcome = graph.launch(saxpy(1, 1.0), &[large]);
    assert_eq!(outcome, Err(Error::Bindings { launch: "test_saxpy".to_owned(), need: 2, have: 1 }));

    let outcome = graph.launch(saxpy(1, 1.0), &[large, large]);
    assert_eq!(outcome, Err(Error::Aliased { launch: "test_saxpy".to_owned(), first: "x", second: "y" }));
    let outcome = graph.launch(sum(1), &[large, small, small, large]);
    assert_eq!(outcome, Err(Error::Aliased { launch: "test_mix.sum".to_owned(), first: "y", second: "out" }));
    // A buffer imported twice is still the same buffer.
    let buffer = filled(device, "x", 1.0)?;
    let (x, again) = (graph.import(&buffer), graph.import(&buffer));
    assert!(matches!(graph.launch(saxpy(1, 1.0), &[x, again]), Err(Error::Aliased { .. })));
    // Reading a buffer twice is allowed.
    graph.launch(hash(1), &[x, again, large])?;

    // An error inside a loop is returned from it, and the graph can be continued.
    let n = graph.count("n");
    assert!(graph.repeat(n, |graph| graph.launch(saxpy(1, 1.0), &[x, x])).is_err());
    graph.launch(saxpy(1, 1.0), &[x, large])?;
    assert_eq!(device.plan(graph)?.launches(&[5]), 2);

    let (plan, _) = adder(device)?;
    let outcome = device.execute(&plan, &[], &[]).map(drop);
    assert_eq!(outcome, Err(Error::Counts { plan: "adder".to_owned(), need: 1, have: 0 }));
    Ok(())
}

#[trial(adapters, cpu)]
fn launches_that_do_not_match_their_kernel_are_refused(_: &Device) -> Outcome {
    let mut graph = Graph::new("launches");
    let (x, y) = (graph.scratch("x", 16), graph.scratch("y", 16));
    let good = saxpy(1, 1.0);
    let mut params = good.clone();
    params.params.pop();
    let mut overrides = good.clone();
    overrides.overrides.push(1);
    let mut sizes = good.clone();
    sizes.sizes.clear();
    let mut choice = hash(1);
    choice.choice.0[0] = 2;
    for (wrong, part) in [(params, "parameters"), (overrides, "constants"), (sizes, "sizes"), (choice, "axis `op`")] {
        let outcome = graph.launch(wrong, &[x, y]);
        assert!(matches!(&outcome, Err(Error::Launch { problem, .. }) if problem.contains(part)), "{outcome:?}");
    }
    graph.launch(good, &[x, y])?;
    Ok(())
}

#[trial(adapters, cpu)]
fn tensors_and_buffers_of_another_owner_are_refused(device: &Device) -> Outcome {
    let (mut graph, mut other) = (Graph::new("one"), Graph::new("other"));
    let (x, y) = (graph.scratch("x", 16), other.scratch("y", 16));
    let outcome = graph.launch(saxpy(1, 1.0), &[x, y]);
    assert!(matches!(outcome, Err(Error::Foreign { owner: "graph", .. })), "{outcome:?}");

    let elsewhere = Device::cpu();
    let far = elsewhere.buffer("far", 16)?;
    let is_foreign = |outcome: Result<(), Error>| matches!(outcome, Err(Error::Foreign { owner: "device", .. }));
    assert!(is_foreign(device.write(&far, 0, &[0; 4])));
    assert!(is_foreign(device.read(&far, 0..4).map(drop)));
    graph.import(&far);
    assert!(is_foreign(device.plan(graph).map(drop)));
    let (plan, _) = adder(device)?;
    assert!(is_foreign(device.execute(&plan, &[1], &[&far]).map(drop)));
    assert!(is_foreign(elsewhere.execute(&plan, &[1], &[]).map(drop)));
    Ok(())
}

#[trial(adapters)]
fn too_many_workgroups_are_refused(device: &Device) -> Outcome {
    let mut graph = Graph::new("workgroups");
    let (x, y) = (graph.scratch("x", 16), graph.scratch("y", 16));
    let mut wide = saxpy(1, 1.0);
    wide.workgroups[1] = device.caps().max_workgroups + 1;
    graph.launch(wide, &[x, y])?;
    assert!(matches!(device.plan(graph), Err(Error::Launch { .. })));
    Ok(())
}
