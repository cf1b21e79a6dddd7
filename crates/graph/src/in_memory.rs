//! Hubs in memory: a [`HubReader`] without a storage engine, for tests, benches and examples.

use leann_page::HubRef;

use crate::walk::{Hub, HubReader};

/// Hubs in the order of their chain, `per_page` to a hub page.
#[derive(Clone, Default, Debug)]
pub struct InMemoryHubs {
    /// The chain; `None` is a free slot.
    pub slots: Vec<Option<Hub>>,
    /// Slots of one hub page, at least 1.
    pub per_page: u16,
    /// Where walks start.
    pub entries: Vec<HubRef>,
    /// How often a hub was read, whichever way.
    pub hubs_read: usize,
}

impl InMemoryHubs {
    /// Returns an empty chain of hub pages with `per_page` slots each (at least 1).
    pub fn new(per_page: u16) -> InMemoryHubs {
        InMemoryHubs { per_page: per_page.max(1), ..InMemoryHubs::default() }
    }

    /// Returns the reference to the slot with this number in the chain.
    pub fn place(&self, index: usize) -> HubRef {
        let per_page = usize::from(self.per_page);
        HubRef { page: (index / per_page) as u32, slot: (index % per_page) as u16 }
    }

    /// Returns the number in the chain of the slot at `at`; None if there is no such slot.
    pub fn index(&self, at: HubRef) -> Option<usize> {
        let index = at.page as usize * usize::from(self.per_page) + usize::from(at.slot);
        (at.slot < self.per_page && index < self.slots.len()).then_some(index)
    }

    /// Appends a hub to the chain, sets its `at` and returns it.
    pub fn push(&mut self, mut hub: Hub) -> HubRef {
        hub.at = self.place(self.slots.len());
        let at = hub.at;
        self.slots.push(Some(hub));
        at
    }
}

impl HubReader for InMemoryHubs {
    fn entry_hubs(&mut self) -> Vec<HubRef> {
        self.entries.clone()
    }

    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub)) {
        for &at in at {
            if let Some(hub) = self.index(at).and_then(|index| self.slots[index].as_ref()) {
                self.hubs_read += 1;
                visit(hub);
            }
        }
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub)) {
        for hub in self.slots.iter().flatten() {
            self.hubs_read += 1;
            visit(hub);
        }
    }
}
