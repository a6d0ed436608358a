//! Selection of one device among several pretended adapters.

use ruminate_engine::{AdapterSummary, Error, Kind, PciAddress, Select, Uuid, adapters, backend};
use ruminate_tests::trial;

const VENDOR: &str = "4070123e-5b7c-9a11-22aa-0123456789ab";

fn adapter(index: usize, name: &str, backend: &str, driver: &str, pci: Option<&str>) -> AdapterSummary {
    let mut summary = AdapterSummary::default();
    summary.index = index;
    summary.name = name.to_owned();
    summary.backend = backend.to_owned();
    summary.driver = driver.to_owned();
    summary.pci = pci.map(|address| address.parse().expect("an address"));
    summary.kind = Kind::Discrete;
    summary
}

/// Adapters of a machine with two GPUs of one model, through Vulkan and DX12, an integrated GPU and a software driver. The second DX12 address is wrong, as in
/// wgpu, which reports the address of the first GPU for both.
fn machine() -> Vec<AdapterSummary> {
    let nvidia = |index, backend, driver, pci| adapter(index, "NVIDIA GeForce RTX 4090", backend, driver, pci);
    let mut all = vec![
        adapter(0, "AMD Radeon Graphics (RADV RAPHAEL)", "vulkan", "radv Mesa 25.2", Some("0000:0f:00.0")),
        nvidia(1, "vulkan", "NVIDIA 580.95", Some("0000:01:00.0")),
        nvidia(2, "vulkan", "NVIDIA 580.95", Some("0000:41:00.0")),
        adapter(3, "llvmpipe (LLVM 20.1, 256 bits)", "vulkan", "llvmpipe Mesa 25.2", None),
        nvidia(4, "dx12", "32.0.15", Some("0000:01:00.0")),
        nvidia(5, "dx12", "32.0.15", Some("0000:01:00.0")),
    ];
    all[0].kind = Kind::Integrated;
    all[3].kind = Kind::Cpu;
    all[2].uuid = Some(VENDOR.parse().expect("a UUID"));
    all
}

fn chosen(text: &str, all: &[AdapterSummary]) -> Result<usize, Error> {
    Select::from(text).choose(all).map(|it| it.index)
}

#[trial]
fn text_is_read_as_index_address_uuid_or_name() {
    let address = PciAddress { domain: 0, bus: 0x41, device: 0, function: 1 };
    for text in ["0000:41:00.1", "41:00.1", "00000000:41:00.1", " 41:00.1 "] {
        assert_eq!(Select::from(text), Select::Pci(address), "{text}");
    }
    assert_eq!(address.to_string(), "0000:41:00.1");
    let far: PciAddress = "10000:E1:1F.7".parse().expect("a domain of five digits");
    assert_eq!((far.domain, far.bus, far.device, far.function), (0x10000, 0xe1, 0x1f, 7));
    let uuid = VENDOR.parse::<Uuid>().expect("a UUID");
    for text in [VENDOR.to_owned(), VENDOR.to_uppercase(), VENDOR.replace('-', ""), format!("GPU-{VENDOR}")] {
        assert_eq!(Select::from(text.as_str()), Select::Uuid(uuid), "{text}");
    }
    assert_eq!(Select::from("12"), Select::Index(12));
    for name in ["-1", "4090 Ti", "NVIDIA", "1:2", "01:00", "zz:00.0", "111:00.0", "GPU-", "gpü", "01:00.g"] {
        assert_eq!(Select::from(name), Select::Name(name.to_owned()));
    }
}

#[trial]
fn device_is_chosen_by_index_address_uuid_and_name() -> Result<(), Error> {
    let all = machine();
    for index in 0..all.len() {
        assert_eq!(chosen(&index.to_string(), &all)?, index);
    }
    assert_eq!(chosen("01:00.0", &all)?, 1, "the same device through DX12 is not another one");
    assert_eq!(chosen("0000:41:00.0", &all)?, 2);
    assert_eq!(chosen(VENDOR, &all)?, 2);
    assert_eq!(chosen("radeon", &all)?, 0);
    assert_eq!(chosen("MESA", &all[..1])?, 0, "by its driver, since no adapter's name contains it");
    assert_eq!(Select::Best.choose(&all)?.index, 1);
    Ok(())
}

#[trial]
fn list_of_some_backends_keeps_the_indices() {
    let all = machine();
    let dx12: Vec<_> = all.iter().filter(|it| it.backend == "dx12").cloned().collect();
    assert_eq!(chosen("5", &dx12).ok(), Some(5));
    assert!(matches!(chosen("1", &dx12), Err(Error::NoAdapter { .. })), "1 is a device of Vulkan");
}

#[trial]
fn name_of_two_devices_is_an_error_that_lists_them() {
    let all = machine();
    let message = |text: &str, all: &[AdapterSummary]| match chosen(text, all) {
        Err(error @ Error::Ambiguous { .. }) => error.to_string(),
        other => panic!("{text}: {other:?}"),
    };
    assert_eq!(
        message("rtx 4090", &all),
        "name `rtx 4090` fits several devices: 1: NVIDIA GeForce RTX 4090 (vulkan, 0000:01:00.0); 2: NVIDIA GeForce RTX 4090 (vulkan, 0000:41:00.0); choose one \
         by its index, PCI address or UUID"
    );
    // A whole name that two devices have.
    assert!(message("NVIDIA GeForce RTX 4090", &all).contains("0000:41:00.0"));
    // Different devices whose drivers' names share a word.
    assert!(message("mesa", &all).contains("0: AMD") && message("mesa", &all).contains("3: llvmpipe"));
    // On DX12, wgpu reports the same address for both.
    assert!(message("01:00.0", &all[4..]).contains("5: NVIDIA"));
}

#[trial]
fn whole_name_wins_over_longer_names_that_contain_it() -> Result<(), Error> {
    let all = [
        adapter(0, "NVIDIA GeForce RTX 4080 SUPER", "vulkan", "NVIDIA", Some("01:00.0")),
        adapter(1, "NVIDIA GeForce RTX 4080", "vulkan", "NVIDIA", Some("02:00.0")),
    ];
    assert_eq!(chosen("nvidia geforce rtx 4080", &all)?, 1);
    assert!(matches!(chosen("rtx 4080", &all), Err(Error::Ambiguous { .. })));
    Ok(())
}

#[trial]
fn device_that_two_drivers_offer_counts_once() -> Result<(), Error> {
    let all = [
        adapter(0, "AMD Radeon RX 7900 XTX (RADV NAVI31)", "vulkan", "radv Mesa 25.2", Some("03:00.0")),
        adapter(1, "AMD Radeon RX 7900 XTX", "vulkan", "AMD open-source driver 2025", Some("03:00.0")),
        adapter(2, "AMD Radeon RX 7900 XTX", "dx12", "32.0.1", None),
    ];
    assert_eq!(chosen("radeon", &all)?, 0);
    assert_eq!(chosen("03:00.0", &all)?, 0);
    assert_eq!(chosen("AMD Radeon RX 7900 XTX", &all)?, 1, "through Vulkan and DX12");
    Ok(())
}

#[trial]
fn absent_device_is_named_with_those_that_there_are() {
    let all = machine();
    for (text, asked) in
        [("Arc", "name `Arc`"), ("7", "index 7"), ("02:00.0", "PCI address 0000:02:00.0"), ("", "name ``")]
    {
        let none: &[AdapterSummary] = if text.is_empty() { &[] } else { &all };
        match chosen(text, none) {
            Err(Error::NoAdapter { asked: said, found }) => {
                assert_eq!(said, asked);
                assert!(
                    text.is_empty() || found[2] == "2: NVIDIA GeForce RTX 4090 (vulkan, 0000:41:00.0)",
                    "{found:?}"
                );
            }
            other => panic!("{text}: {other:?}"),
        }
    }
}

/// Uses the machine's real adapters. The list of each backend must be a part of the whole list.
#[trial]
fn indices_are_the_same_whatever_backends_are_listed() {
    let backends = ["vulkan", "metal", "dx12"].map(|name| backend(name).expect("a backend"));
    let whole = adapters(backends.into_iter().fold(backends[0], |all, one| all | one));
    let single: Vec<_> = backends.into_iter().flat_map(adapters).collect();
    assert_eq!(whole.len(), single.len());
    for (position, summary) in whole.iter().enumerate() {
        assert_eq!(summary.index, position);
        assert!(single.iter().any(|it| (it.index, &it.name) == (summary.index, &summary.name)), "{summary}");
    }
}
