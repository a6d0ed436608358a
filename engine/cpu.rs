//! The CPU as a device: each launch calls its kernel's reference on buffers in host memory.

use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use ruminate_shaders::{Access, Slot, Slots};

use crate::buffer::{Buffer, Words};
use crate::counters::{Tally, add};
use crate::error::{Error, Result};
use crate::plan::Call;

/// The CPU device's state.
#[derive(Debug, Default)]
pub(crate) struct Cpu {
    /// Held during a launch, which locks several buffers, so that no two launches wait for each other.
    running: Mutex<()>,
}

/// Zeroed memory for a buffer of `size` bytes.
pub(crate) fn words(label: &str, size: u64) -> Result<Words> {
    let exhausted = || Error::OutOfMemory { what: format!("buffer {label} ({size} bytes)") };
    let count = usize::try_from(size / 4).map_err(|_| exhausted())?;
    let mut words = Vec::new();
    words.try_reserve_exact(count).map_err(|_| exhausted())?;
    words.resize(count, 0);
    Ok(RwLock::new(words.into_boxed_slice()))
}

/// A buffer locked for one launch.
enum Guard<'a> {
    Read(RwLockReadGuard<'a, Box<[u32]>>),
    Write(RwLockWriteGuard<'a, Box<[u32]>>),
}

/// Remaining access to a locked buffer.
enum View<'a> {
    Shared(&'a [u32]),
    Unique(&'a mut [u32]),
    Gone,
}

impl Cpu {
    /// Runs the reference of a launch.
    pub(crate) fn call(&self, tally: &Tally, call: &Call) -> Result<()> {
        let _running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let accesses: Vec<Access> = call.launch.kernel.bindings_of(call.launch.choice).map(|it| it.access).collect();
        // A buffer that is bound twice for reading is locked once.
        let mut buffers: Vec<&Buffer> = Vec::new();
        let mut guards = Vec::new();
        let mut place = Vec::new();
        for ((buffer, _), access) in call.bound.iter().zip(&accesses) {
            let known = buffers.iter().position(|it| it.same(buffer));
            place.push(known.unwrap_or(buffers.len()));
            if known.is_none()
                && let Some(words) = buffer.words()
            {
                buffers.push(buffer);
                guards.push(match access {
                    Access::Read => Guard::Read(words.read().unwrap_or_else(PoisonError::into_inner)),
                    Access::Write => Guard::Write(words.write().unwrap_or_else(PoisonError::into_inner)),
                });
            }
        }
        let mut views: Vec<View<'_>> = guards
            .iter_mut()
            .map(|guard| match guard {
                Guard::Read(words) => View::Shared(words),
                Guard::Write(words) => View::Unique(words),
            })
            .collect();
        let mut slots = Vec::with_capacity(place.len());
        for (&place, (buffer, bytes)) in place.iter().zip(&call.bound) {
            let count = usize::try_from(bytes / 4).unwrap_or(usize::MAX);
            let view = views.get_mut(place).map(|view| match view {
                View::Shared(words) => View::Shared(words),
                unique => std::mem::replace(unique, View::Gone),
            });
            slots.push(match view {
                Some(View::Shared(words)) => Slot::Read(&words[..count.min(words.len())]),
                Some(View::Unique(words)) => {
                    let count = count.min(words.len());
                    Slot::Write(&mut words[..count])
                }
                // Recording rejects both; two tensors never share a slot while both are alive.
                Some(View::Gone) | None => {
                    let problem = format!("buffer {} is bound twice and written", buffer.label());
                    return Err(Error::Launch { launch: call.label.clone(), problem });
                }
            });
        }
        (call.launch.kernel.reference)(&call.launch, Slots::new(slots));
        add(&tally.launches, 1);
        Ok(())
    }
}
