//! `ruminate devices`: lists the devices that a model can run on.

use std::io::Write;

use clap::Args;
use ruminate::{AdapterSummary, ManyRows, OpenOptions, Tuning, adapters};
use serde_json::json;

use crate::device::tunings;
use crate::exit_code::Done;
use crate::words::counted;

/// Flags of `ruminate devices`.
#[derive(Args)]
pub(crate) struct Devices {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lists the adapters.
pub(crate) fn devices(options: &Devices) -> anyhow::Result<Done> {
    let found = adapters(OpenOptions::default().backends);
    let mut out = std::io::stdout().lock();
    if options.json {
        let list: Vec<_> = found
            .iter()
            .map(|adapter| {
                json!({
                    "index": adapter.index,
                    "name": adapter.name,
                    "pci": adapter.pci.map(|address| address.to_string()),
                    "uuid": adapter.uuid.map(|uuid| uuid.to_string()),
                    "driver": adapter.driver,
                    "backend": adapter.backend,
                    "kind": format!("{:?}", adapter.kind).to_lowercase(),
                    "max_buffer_bytes": adapter.max_buffer,
                    "max_binding_bytes": adapter.caps.max_binding,
                    "subgroup_sizes": adapter.caps.subgroups.map(|(least, most)| [least, most]),
                    "f16": adapter.caps.f16,
                    "cooperative_matrices": adapter.caps.matrices().map(|matrices| format!("{matrices:?}")),
                    "prompts": ManyRows::report(&adapter.caps),
                    "timestamps": adapter.timestamps,
                    "tuned_classes": tuned(adapter),
                })
            })
            .collect();
        serde_json::to_writer_pretty(&mut out, &list)?;
        writeln!(out)?;
        return Ok(Done::Complete);
    }
    if found.is_empty() {
        remark!("note: no Vulkan, Metal or DX12 driver found; models run on the CPU reference (--cpu)");
    }
    for adapter in &found {
        let subgroups = match adapter.caps.subgroups {
            Some((least, most)) if least == most => format!("subgroups of {least}"),
            Some((least, most)) => format!("subgroups of {least} to {most}"),
            None => "no subgroups".to_owned(),
        };
        writeln!(out, "{}: {}", adapter.index, adapter.name)?;
        writeln!(
            out,
            "   {} ({:?}), {}; bindings of {} MiB, buffers of {} MiB, {subgroups}",
            adapter.backend,
            adapter.kind,
            adapter.driver,
            adapter.caps.max_binding >> 20,
            adapter.max_buffer >> 20,
        )?;
        let address = adapter.pci.map(|address| format!("PCI {address}"));
        let identity: Vec<String> =
            address.into_iter().chain(adapter.uuid.map(|uuid| format!("UUID {uuid}"))).collect();
        if !identity.is_empty() {
            writeln!(out, "   {}", identity.join(", "))?;
        }
        writeln!(out, "   prompts: {}", ManyRows::report(&adapter.caps))?;
        match tuned(adapter) {
            Some(classes) => writeln!(out, "   tuned: {} of work", counted(classes, "class"))?,
            None => writeln!(out, "   not tuned: `ruminate tune` finds the fastest kernels")?,
        }
    }
    Ok(Done::Complete)
}

/// Number of classes of work for which this version has tuned the device; `None` if it is not tuned.
fn tuned(adapter: &AdapterSummary) -> Option<usize> {
    let path = tunings()?.join(Tuning::file_name(adapter));
    Some(Tuning::read(&path, adapter).ok()?.choices().count())
}
