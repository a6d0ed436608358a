//! Listing, selecting and opening devices.

use ruminate_engine::{Device, Error, OpenOptions, Select, Tier, adapters};
use ruminate_shaders::Caps;
use ruminate_tests::{Host, trial};

use crate::Outcome;
use crate::execution::adder;

/// Asserts that a device runs a plan.
fn works(device: &Device) -> Outcome {
    let (plan, y) = adder(device)?;
    let results = device.execute(&plan, &[2], &[&y])?.expect("results were asked for").wait()?;
    assert_eq!(bytemuck::pod_read_unaligned::<f32>(&results[0][..4]), 2.0);
    Ok(())
}

#[trial(adapters, cpu)]
fn missing_adapter_is_reported_with_available_ones(_: &Device) -> Outcome {
    let options = OpenOptions { select: Select::Name("no such adapter".to_owned()), ..OpenOptions::default() };
    let names: Vec<String> = adapters(options.backends).iter().map(ToString::to_string).collect();
    match Device::open(&options) {
        Err(Error::NoAdapter { asked, found }) => {
            assert!(asked.contains("no such adapter"), "{asked}");
            assert_eq!(found, names);
        }
        other => panic!("{other:?}"),
    }
    let outcome = Device::open(&OpenOptions { select: Select::Index(99), ..OpenOptions::default() });
    assert!(matches!(outcome, Err(Error::NoAdapter { .. })));
    Ok(())
}

#[trial(adapters)]
fn adapters_are_selected_by_index_and_name(device: &Device) -> Outcome {
    let summary = device.summary().expect("a GPU has a summary");
    let listed = &adapters(OpenOptions::default().backends)[summary.index];
    assert_eq!((&summary.name, &summary.driver, summary.caps), (&listed.name, &listed.driver, listed.caps));
    assert_eq!((summary.pci, summary.uuid), (listed.pci, listed.uuid));
    let uuid = summary.uuid.map(|uuid| uuid.to_string());
    let identity = summary.pci.map(|address| address.to_string()).into_iter().chain(uuid);
    for text in [summary.name.to_uppercase(), summary.driver.to_lowercase()].into_iter().chain(identity) {
        let found = Device::open(&OpenOptions { select: text.as_str().into(), ..OpenOptions::default() })?;
        assert_eq!(found.name(), device.name());
    }
    works(&Device::open(&OpenOptions::default())?)
}

#[trial(adapters)]
fn webgpu_tier_opens_and_runs(device: &Device) -> Outcome {
    let index = device.summary().expect("a GPU has a summary").index;
    let options = OpenOptions { select: Select::Index(index), limits: Tier::WebGpuDefaults, ..OpenOptions::default() };
    let low = Device::open(&options)?;
    assert_eq!(low.caps(), Caps { software: low.caps().software, ..Caps::WEBGPU });
    let summary = low.summary().expect("a GPU has a summary");
    assert!(!summary.timestamps && !summary.caps.f16);
    assert!(matches!(low.buffer("large", 257 << 20), Err(Error::TooLarge { .. })));
    works(&low)?;
    // Without timestamps, a profile waits for each launch.
    let (plan, _) = adder(&low)?;
    let profile = low.profile(&plan, &[3])?;
    assert_eq!((profile.entries.len(), profile.entries[0].launches), (1, 3));
    assert!(!profile.total.is_zero());
    Ok(())
}

#[trial(adapters)]
fn device_of_a_host_app_works(device: &Device) -> Outcome {
    let index = device.summary().expect("a GPU has a summary").index;
    let options = OpenOptions { select: Select::Index(index), ..OpenOptions::default() };
    let host = Host::open(&options)?;
    let hosted = host.engine()?;
    assert_eq!((hosted.caps(), hosted.name()), (device.caps(), device.name()));
    works(&hosted)?;

    // The engine does not replace the host's callbacks, and still detects a loss when results are read.
    let (plan, y) = adder(&hosted)?;
    host.device.destroy();
    let outcome = hosted.execute(&plan, &[1], &[&y]).and_then(|ticket| ticket.expect("results were asked for").wait());
    assert!(outcome.is_err(), "{outcome:?}");
    Ok(())
}
