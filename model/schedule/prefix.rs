//! The prefix cache: keys and values of texts that sequences began with, for those that begin alike.
//!
//! Its unit is a group of positions that fill their pages, which nobody writes again; so sequences share pages without copying one. A group follows its
//! parent: what is computed of a position depends on every token before it. What is left over of a prompt after its last full group is computed again, and
//! so is at least its last token, after which the next one is chosen.

use std::collections::HashMap;

use ruminate_shaders::attention::cache::PAGE;

use crate::early_exit::{Exit, PrefillExit};
use crate::kv::KvCache;

/// What keys and values depend on beside the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Computed {
    steps: u32,
    /// Seed of the initial states, where they are drawn.
    seed: Option<u64>,
    /// When rows leave early: criterion, bits of the threshold, first and every how many steps.
    exit: Option<(&'static str, u32, u32, u32)>,
}

impl Computed {
    /// How the rows of a prompt are computed.
    pub(super) fn new(steps: u32, seed: Option<u64>, exit: Option<&Exit>) -> Self {
        let exit = exit.filter(|exit| exit.prefill != PrefillExit::Never);
        let exit_key = |exit: &Exit| (exit.criterion.name(), exit.threshold.to_bits(), exit.min_steps, exit.every);
        Self { steps, seed, exit: exit.map(exit_key) }
    }
}

/// What finds a group: those before it, or how it was computed, and its tokens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    parent: Parent,
    tokens: Box<[u32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Parent {
    Start(Computed),
    Group(u64),
}

/// A group of positions.
struct Group {
    key: Key,
    pages: Vec<(u32, u32)>,
    /// Steps that each position has stored.
    depth: Vec<u32>,
    /// Groups that follow it.
    children: u32,
    /// When it was used last.
    used: u64,
    bytes: u64,
}

/// The beginning that a sequence shares.
#[derive(Default)]
pub(super) struct Shared {
    /// Pages of each group, with their slots.
    pub(super) groups: Vec<Vec<(u32, u32)>>,
    /// Steps that each position has stored.
    pub(super) depth: Vec<u32>,
}

/// Groups of positions, by what they hold.
pub(super) struct PrefixCache {
    ids: HashMap<Key, u64>,
    groups: HashMap<u64, Group>,
    budget: u64,
    bytes: u64,
    clock: u64,
}

impl PrefixCache {
    /// A cache of so many bytes; 0 keeps nothing.
    pub(super) fn new(budget: u64) -> Self {
        Self { ids: HashMap::new(), groups: HashMap::new(), budget, bytes: 0, clock: 0 }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The longest beginning that is there, but for the last token.
    pub(super) fn find(&mut self, computed: Computed, tokens: &[u32]) -> Shared {
        let mut shared = Shared::default();
        let mut parent = Parent::Start(computed);
        let before = &tokens[..tokens.len().saturating_sub(1)];
        for chunk in before.chunks_exact(PAGE as usize) {
            let Some(&id) = self.ids.get(&Key { parent, tokens: chunk.into() }) else { break };
            let Some(group) = self.groups.get_mut(&id) else { break };
            self.clock += 1;
            group.used = self.clock;
            shared.groups.push(group.pages.clone());
            shared.depth.extend(&group.depth);
            parent = Parent::Group(id);
        }
        shared
    }

    /// Keeps the full groups of a sequence whose first positions have stored `depth` steps each.
    pub(super) fn keep(&mut self, kv: &mut KvCache, slot: u32, computed: Computed, tokens: &[u32], depth: &[u32]) {
        let mut parent = Parent::Start(computed);
        let chunks = tokens.chunks_exact(PAGE as usize).zip(depth.chunks_exact(PAGE as usize));
        for (index, (chunk, depth)) in (0..).zip(chunks) {
            let key = Key { parent, tokens: chunk.into() };
            self.clock += 1;
            if let Some(&id) = self.ids.get(&key) {
                if let Some(group) = self.groups.get_mut(&id) {
                    group.used = self.clock;
                }
                parent = Parent::Group(id);
                continue;
            }
            // All pages that were reserved, also those of steps that no row has reached.
            let pages = kv.pages_of(slot, index);
            let bytes = kv.bytes_of(&pages);
            // What it follows was used just now, so it is thrown out last of all.
            if bytes > self.budget || !self.make_room(kv, self.budget - bytes, parent) {
                return;
            }
            let id = self.clock;
            kv.hold(&pages);
            if let Parent::Group(parent) = parent
                && let Some(group) = self.groups.get_mut(&parent)
            {
                group.children += 1;
            }
            self.ids.insert(key.clone(), id);
            self.groups.insert(id, Group { key, pages, depth: depth.to_vec(), children: 0, used: self.clock, bytes });
            self.bytes += bytes;
            parent = Parent::Group(id);
        }
    }

    /// Throws out groups until no more than so many bytes are kept, those that nobody has used for longest first; not `spared`. False if that was not enough.
    fn make_room(&mut self, kv: &mut KvCache, bytes: u64, spared: Parent) -> bool {
        while self.bytes > bytes {
            if !self.throw_out(kv, spared) {
                return false;
            }
        }
        true
    }

    /// Throws out a group that nobody has used for longest.
    pub(super) fn throw_out_oldest(&mut self, kv: &mut KvCache) -> bool {
        self.throw_out(kv, Parent::Group(0))
    }

    fn throw_out(&mut self, kv: &mut KvCache, spared: Parent) -> bool {
        let leaves = self.groups.iter().filter(|(id, group)| group.children == 0 && spared != Parent::Group(**id));
        let Some((&id, _)) = leaves.min_by_key(|(_, group)| group.used) else { return false };
        let Some(group) = self.groups.remove(&id) else { return false };
        self.ids.remove(&group.key);
        self.bytes -= group.bytes;
        kv.let_go(&group.pages);
        if let Parent::Group(parent) = group.key.parent
            && let Some(parent) = self.groups.get_mut(&parent)
        {
            parent.children -= 1;
        }
        true
    }
}
