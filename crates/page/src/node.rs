//! Node pages: heap pointers and sketches of near rows, in two arrays at fixed offsets.
//!
//! The sketches of a page lie one after another, so that one pass scores them all. Appending a node
//! writes one slot of each array and the count; removing one moves the last node into the gap. Nothing
//! else on the page moves.

use crate::bytes::{get, get_u16, put};
use crate::error::{PageError, impossible};
use crate::header::{OWN, PageKind, expect, generation_of, put_generation, start};
use crate::refs::{HeapPointer, HubRef, REF_BYTES};

const COUNT: usize = OWN;
const CAPACITY: usize = OWN + 2;
const SKETCH_BYTES: usize = OWN + 4;
const HUB: usize = OWN + 6;
/// Bytes before the heap pointers.
const FIXED: usize = HUB + REF_BYTES;

/// A node page, read.
#[derive(Clone, Copy, Debug)]
pub struct NodePage<'a> {
    generation: u32,
    hub: HubRef,
    capacity: usize,
    sketch_bytes: usize,
    /// The pointers in use.
    pointers: &'a [[u8; REF_BYTES]],
    /// The sketches in use.
    sketches: &'a [u8],
}

impl<'a> NodePage<'a> {
    /// How many nodes a body of `body_len` bytes holds when each has a sketch of `sketch_bytes`; 0 when
    /// not even one fits, and for sketches of no bytes or more than 65,535.
    pub fn capacity_for(body_len: usize, sketch_bytes: usize) -> usize {
        if sketch_bytes == 0 || sketch_bytes > usize::from(u16::MAX) {
            return 0;
        }
        let room = body_len.saturating_sub(FIXED);
        (room / (REF_BYTES + sketch_bytes)).min(usize::from(u16::MAX))
    }

    /// Reads a body, checking all of it.
    ///
    /// # Errors
    /// Any but [`PageError::Full`] and [`PageError::NoEntry`].
    pub fn parse(body: &'a [u8]) -> Result<NodePage<'a>, PageError> {
        let header: &[u8; FIXED] = expect(body, PageKind::Node)?;
        let geometry = Geometry::read(header, body.len())?;
        let (pointers, sketches) = geometry.arrays(&body[FIXED..]);
        let pointers = &pointers[..geometry.count];
        if pointers.iter().any(|pointer| pointer[4..] == [0, 0]) {
            return impossible("heap pointer offset", 0u16);
        }
        Ok(NodePage {
            generation: generation_of(header),
            hub: HubRef::from_bytes(&get(header, HUB)),
            capacity: geometry.capacity,
            sketch_bytes: geometry.sketch_bytes,
            pointers,
            sketches: &sketches[..geometry.count * geometry.sketch_bytes],
        })
    }

    /// The generation that tells this use of the block from earlier ones, and from before a split.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Nodes on the page.
    pub fn count(&self) -> usize {
        self.pointers.len()
    }

    /// Nodes that the page has room for, those on it included.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes of one sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.sketch_bytes
    }

    /// Where this page's hub entry lies.
    pub fn hub(&self) -> HubRef {
        self.hub
    }

    /// The heap pointer of node `i`; none from `count` on.
    pub fn heap_pointer(&self, i: usize) -> Option<HeapPointer> {
        self.pointers.get(i).map(HeapPointer::from_bytes)
    }

    /// The heap pointers of all nodes, in page order.
    pub fn heap_pointers(&self) -> impl ExactSizeIterator<Item = HeapPointer> + use<'a> {
        self.pointers.iter().map(HeapPointer::from_bytes)
    }

    /// The sketches of all nodes, in page order: `count * sketch_bytes` bytes.
    pub fn sketches(&self) -> &'a [u8] {
        self.sketches
    }

    /// The sketch of node `i`; none from `count` on.
    pub fn sketch(&self, i: usize) -> Option<&'a [u8]> {
        (i < self.count()).then(|| &self.sketches[i * self.sketch_bytes..][..self.sketch_bytes])
    }
}

/// A node page, to be changed.
#[derive(Debug)]
pub struct NodePageMut<'a> {
    header: &'a mut [u8; FIXED],
    /// All slots, in use or not.
    pointers: &'a mut [[u8; REF_BYTES]],
    /// All slots, in use or not.
    sketches: &'a mut [u8],
    sketch_bytes: usize,
    count: usize,
}

impl<'a> NodePageMut<'a> {
    /// Makes an empty node page of these bytes, whatever they were, with all the capacity they allow.
    ///
    /// # Errors
    /// [`PageError::Impossible`] when [`NodePage::capacity_for`] is 0; the body is then as it was.
    pub fn init(
        body: &'a mut [u8],
        generation: u32,
        sketch_bytes: usize,
        hub: HubRef,
    ) -> Result<NodePageMut<'a>, PageError> {
        let capacity = NodePage::capacity_for(body.len(), sketch_bytes);
        let (Ok(stored_capacity @ 1..), Ok(stored_bytes)) =
            (u16::try_from(capacity), u16::try_from(sketch_bytes))
        else {
            return impossible("sketch bytes for a node page", sketch_bytes);
        };
        let header: &mut [u8; FIXED] = start(body, PageKind::Node, generation)?;
        put(header, CAPACITY, stored_capacity.to_le_bytes());
        put(header, SKETCH_BYTES, stored_bytes.to_le_bytes());
        put(header, HUB, hub.to_bytes());
        NodePageMut::parse(body)
    }

    /// Takes a body to change it, checking all of it.
    ///
    /// # Errors
    /// As [`NodePage::parse`].
    pub fn parse(body: &'a mut [u8]) -> Result<NodePageMut<'a>, PageError> {
        NodePage::parse(body)?;
        let len = body.len();
        let (header, rest) =
            body.split_first_chunk_mut::<FIXED>().ok_or(PageError::Short { len, needed: FIXED })?;
        let Geometry { count, capacity, sketch_bytes } = Geometry::read(header, len)?;
        let (pointers, sketches) = rest.split_at_mut(capacity * REF_BYTES);
        let pointers = pointers.as_chunks_mut().0;
        let sketches = &mut sketches[..capacity * sketch_bytes];
        Ok(NodePageMut { header, pointers, sketches, sketch_bytes, count })
    }

    /// The page as it stands, for reading.
    pub fn view(&self) -> NodePage<'_> {
        NodePage {
            generation: generation_of(self.header),
            hub: HubRef::from_bytes(&get(self.header, HUB)),
            capacity: self.pointers.len(),
            sketch_bytes: self.sketch_bytes,
            pointers: &self.pointers[..self.count],
            sketches: &self.sketches[..self.count * self.sketch_bytes],
        }
    }

    /// Appends a node.
    ///
    /// # Errors
    /// [`PageError::Full`]; [`PageError::Impossible`] for a pointer with offset 0 or a sketch that is not
    /// `sketch_bytes` long.
    pub fn push(&mut self, pointer: HeapPointer, sketch: &[u8]) -> Result<(), PageError> {
        pointer.check()?;
        if sketch.len() != self.sketch_bytes {
            return impossible("sketch length", sketch.len());
        }
        let Some(slot) = self.pointers.get_mut(self.count) else {
            return Err(PageError::Full);
        };
        *slot = pointer.to_bytes();
        self.sketch_mut(self.count).copy_from_slice(sketch);
        self.set_count(self.count + 1);
        Ok(())
    }

    /// Removes node `i` and gives its pointer; none from `count` on. The last node moves into the gap,
    /// and the slot it leaves is zeroed.
    pub fn swap_remove(&mut self, i: usize) -> Option<HeapPointer> {
        if i >= self.count {
            return None;
        }
        let removed = HeapPointer::from_bytes(&self.pointers[i]);
        let last = self.count - 1;
        self.pointers[i] = self.pointers[last];
        self.pointers[last] = [0; REF_BYTES];
        let from = last * self.sketch_bytes;
        self.sketches.copy_within(from..from + self.sketch_bytes, i * self.sketch_bytes);
        self.sketch_mut(last).fill(0);
        self.set_count(last);
        Some(removed)
    }

    /// Removes the nodes whose pointer `dead` says true of, asking once for each, and gives their number.
    pub fn remove_where(&mut self, mut dead: impl FnMut(HeapPointer) -> bool) -> usize {
        let before = self.count;
        let mut i = 0;
        while i < self.count {
            if dead(HeapPointer::from_bytes(&self.pointers[i])) {
                // Another node is in slot i now: ask again before going on.
                self.swap_remove(i);
            } else {
                i += 1;
            }
        }
        before - self.count
    }

    /// Removes every node.
    pub fn clear(&mut self) {
        self.pointers[..self.count].fill([0; REF_BYTES]);
        self.sketches[..self.count * self.sketch_bytes].fill(0);
        self.set_count(0);
    }

    /// Changes the generation.
    pub fn set_generation(&mut self, generation: u32) {
        put_generation(self.header, generation);
    }

    /// Changes where this page's hub entry lies.
    pub fn set_hub(&mut self, hub: HubRef) {
        put(self.header, HUB, hub.to_bytes());
    }

    fn sketch_mut(&mut self, i: usize) -> &mut [u8] {
        &mut self.sketches[i * self.sketch_bytes..][..self.sketch_bytes]
    }

    /// `count` is at most the capacity, which came from a u16.
    fn set_count(&mut self, count: usize) {
        self.count = count;
        put(self.header, COUNT, (count as u16).to_le_bytes());
    }
}

/// The header's numbers, checked against the body: the arrays of `capacity` slots lie within it.
struct Geometry {
    count: usize,
    capacity: usize,
    sketch_bytes: usize,
}

impl Geometry {
    fn read(header: &[u8; FIXED], body_len: usize) -> Result<Geometry, PageError> {
        let count = usize::from(get_u16(header, COUNT));
        let capacity = usize::from(get_u16(header, CAPACITY));
        let sketch_bytes = usize::from(get_u16(header, SKETCH_BYTES));
        if sketch_bytes == 0 {
            return impossible("sketch bytes", sketch_bytes);
        }
        if capacity == 0 || capacity > NodePage::capacity_for(body_len, sketch_bytes) {
            return impossible("node page capacity", capacity);
        }
        if count > capacity {
            return impossible("node count", count);
        }
        Ok(Geometry { count, capacity, sketch_bytes })
    }

    /// The two arrays, all slots, from what follows the header.
    fn arrays<'a>(&self, rest: &'a [u8]) -> (&'a [[u8; REF_BYTES]], &'a [u8]) {
        let (pointers, sketches) = rest.split_at(self.capacity * REF_BYTES);
        (pointers.as_chunks().0, &sketches[..self.capacity * self.sketch_bytes])
    }
}
