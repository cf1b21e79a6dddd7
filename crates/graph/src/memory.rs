//! Hubs in memory: the [`HubReader`] of tests, examples and benches.

use std::convert::Infallible;

use crate::walk::{Hub, HubReader, HubRef};

/// Hubs in chain order, `per_page` to a hub page; `None` is a free slot.
#[derive(Clone, Default, Debug)]
pub struct MemoryHubs {
    pub slots: Vec<Option<Hub>>,
    pub per_page: u16,
    pub entries: Vec<HubRef>,
    /// How many `read` calls there were.
    pub reads: usize,
}

impl MemoryHubs {
    pub fn new(per_page: u16) -> MemoryHubs {
        MemoryHubs { slots: Vec::new(), per_page: per_page.max(1), entries: Vec::new(), reads: 0 }
    }

    /// The place of the slot with this number in the chain.
    pub fn place(&self, index: usize) -> HubRef {
        let per_page = usize::from(self.per_page);
        HubRef { page: (index / per_page) as u32, slot: (index % per_page) as u16 }
    }

    /// The slot number of a place; None if the place is impossible.
    pub fn index(&self, at: HubRef) -> Option<usize> {
        let index = at.page as usize * usize::from(self.per_page) + usize::from(at.slot);
        (at.slot < self.per_page && index < self.slots.len()).then_some(index)
    }

    /// Appends a hub to the chain, at the place that its `at` then says.
    pub fn push(&mut self, mut hub: Hub) -> HubRef {
        hub.at = self.place(self.slots.len());
        let at = hub.at;
        self.slots.push(Some(hub));
        at
    }
}

impl HubReader for MemoryHubs {
    type Error = Infallible;

    fn entry_hubs(&mut self) -> Result<Vec<HubRef>, Infallible> {
        Ok(self.entries.clone())
    }

    fn read(&mut self, at: &[HubRef], visit: &mut dyn FnMut(&Hub)) -> Result<(), Infallible> {
        self.reads += 1;
        for &at in at {
            if let Some(hub) = self.index(at).and_then(|index| self.slots[index].as_ref()) {
                visit(hub);
            }
        }
        Ok(())
    }

    fn read_all(&mut self, visit: &mut dyn FnMut(&Hub)) -> Result<(), Infallible> {
        self.slots.iter().flatten().for_each(visit);
        Ok(())
    }
}
