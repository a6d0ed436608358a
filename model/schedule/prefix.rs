//! The prefix cache: keys and values of prompts, shared by sequences that start with the same tokens.
//!
//! Its unit is a group of positions that fill whole pages. Full pages are never written again, so sequences share them without copying. Each group is found
//! through its parent group, because keys and values depend on every token before them. The rest of a prompt after its last full group is computed again. At
//! least the last token always is, because the next one is chosen from its row.

use std::collections::HashMap;

use ruminate_shaders::attention::cache::PAGE;

use crate::early_exit::{Exit, PrefillExit};
use crate::kv::KvCache;

/// Settings other than the tokens that keys and values depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Computed {
    steps: u32,
    /// Seed of the initial states, if they are drawn.
    seed: Option<u64>,
    /// Early exit: criterion, bits of the threshold, first step and interval of checks.
    exit: Option<(&'static str, u32, u32, u32)>,
}

impl Computed {
    /// Settings that the rows of a prompt are computed with.
    pub(super) fn new(steps: u32, seed: Option<u64>, exit: Option<&Exit>) -> Self {
        let exit = exit.filter(|exit| exit.prefill != PrefillExit::Never);
        let exit_key = |exit: &Exit| (exit.criterion.name(), exit.threshold.to_bits(), exit.min_steps, exit.every);
        Self { steps, seed, exit: exit.map(exit_key) }
    }
}

/// Key of a group: its parent group, or the settings if it is the first, and its tokens.
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
    /// Steps stored at each position.
    depth: Vec<u32>,
    /// Number of groups that follow it.
    children: u32,
    /// Clock value of the last use.
    used: u64,
    bytes: u64,
}

/// Prefix that a sequence shares.
#[derive(Default)]
pub(super) struct Shared {
    /// Pages of each group, with the step slots they belong to.
    pub(super) groups: Vec<Vec<(u32, u32)>>,
    /// Steps stored at each position.
    pub(super) depth: Vec<u32>,
}

/// Cached groups of positions.
pub(super) struct PrefixCache {
    ids: HashMap<Key, u64>,
    groups: HashMap<u64, Group>,
    budget: u64,
    bytes: u64,
    clock: u64,
}

impl PrefixCache {
    /// Creates a cache of at most `budget` bytes; 0 keeps nothing.
    pub(super) fn new(budget: u64) -> Self {
        Self { ids: HashMap::new(), groups: HashMap::new(), budget, bytes: 0, clock: 0 }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the cache may hold as many bytes.
    pub(super) const fn holds(&self, bytes: u64) -> bool {
        bytes <= self.budget
    }

    /// The longest cached prefix of `tokens`, without the last token.
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

    /// Caches the full groups of a sequence. `depth` holds the steps stored at each of the first positions.
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
            // All reserved pages, including those of steps that no row has reached.
            let pages = kv.pages_of(slot, index);
            let bytes = kv.bytes_of(&pages);
            // The parent was used just now, so it must not be evicted for its child.
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

    /// Evicts groups, least recently used first and never `spared`, until at most `bytes` are kept. Returns false if that was not possible.
    fn make_room(&mut self, kv: &mut KvCache, bytes: u64, spared: Parent) -> bool {
        while self.bytes > bytes {
            if !self.throw_out(kv, spared) {
                return false;
            }
        }
        true
    }

    /// Evicts the least recently used group.
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
