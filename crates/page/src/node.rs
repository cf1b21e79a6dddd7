//! Node pages: heap pointers and sketches of near rows, in two arrays.
//!
//! The sketches of a page lie one after another, so that one pass scores them all. Appending a node
//! writes one slot of each array and the count; removing one moves the last node into the gap. Nothing
//! else on the page moves, but for a pointer that needs more bytes than the page's slots have: then the
//! page is laid out anew.

use std::ops::Range;

use crate::bytes::{get, get_u16, put};
use crate::error::{PageError, impossible};
use crate::header::{OWN, PageKind, expect, generation_of, put_generation, start};
use crate::pointer_form::PointerForm;
use crate::refs::{HeapPointer, HubRef, REF_BYTES};

const COUNT: usize = OWN;
const CAPACITY: usize = OWN + 2;
const SKETCH_BYTES: usize = OWN + 4;
const HUB: usize = OWN + 6;
const SLOT_BYTES: usize = HUB + REF_BYTES;
const OFFSET_BITS: usize = SLOT_BYTES + 1;
/// Bytes before the heap pointers.
const FIXED: usize = OFFSET_BITS + 1;

/// A node page, read.
#[derive(Clone, Copy, Debug)]
pub struct NodePage<'a> {
    header: &'a [u8; FIXED],
    geometry: Geometry,
    /// What follows the header.
    rest: &'a [u8],
}

impl<'a> NodePage<'a> {
    /// How many nodes a body of `body_len` bytes holds when each has a sketch of `sketch_bytes` and a heap pointer of
    /// this form; 0 when not even one fits, and for sketches of no bytes or more than 65,535.
    pub fn capacity_for(body_len: usize, sketch_bytes: usize, form: PointerForm) -> usize {
        if sketch_bytes == 0 || sketch_bytes > usize::from(u16::MAX) {
            return 0;
        }
        let room = body_len.saturating_sub(FIXED);
        (room / (form.bytes() + sketch_bytes)).min(usize::from(u16::MAX))
    }

    /// Reads a body, checking all of it.
    ///
    /// # Errors
    /// Any but [`PageError::Full`] and [`PageError::NoEntry`].
    pub fn parse(body: &'a [u8]) -> Result<NodePage<'a>, PageError> {
        let header: &[u8; FIXED] = expect(body, PageKind::Node)?;
        let page = NodePage { header, geometry: Geometry::read(header, body.len())?, rest: &body[FIXED..] };
        for i in 0..page.count() {
            match page.geometry.form.numbers(page.rest, i) {
                (_, 0) => return impossible("heap pointer offset", 0u16),
                (block, _) if block > u64::from(u32::MAX) => return impossible("heap pointer block", block),
                _ => {}
            }
        }
        Ok(page)
    }

    /// The generation that tells this use of the block from earlier ones, and from before a split.
    pub fn generation(&self) -> u32 {
        generation_of(self.header)
    }

    /// Nodes on the page.
    pub fn count(&self) -> usize {
        self.geometry.count
    }

    /// Nodes that the page has room for, those on it included, while their pointers need no wider form.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// Bytes of one sketch.
    pub fn sketch_bytes(&self) -> usize {
        self.geometry.sketch_bytes
    }

    /// Where this page's hub entry lies.
    pub fn hub(&self) -> HubRef {
        HubRef::from_bytes(&get(self.header, HUB))
    }

    /// Whether [`NodePageMut::push`] would find room for a node with this pointer.
    pub fn has_room_for(&self, pointer: HeapPointer) -> bool {
        let Geometry { form, count, capacity, sketch_bytes } = self.geometry;
        if form.holds(pointer) {
            return count < capacity;
        }
        count < NodePage::capacity_for(FIXED + self.rest.len(), sketch_bytes, self.form_with(pointer))
    }

    /// The form that holds the page's pointers and one more.
    fn form_with(&self, pointer: HeapPointer) -> PointerForm {
        PointerForm::holding_all(self.heap_pointers().chain([pointer]))
    }

    /// The heap pointer of node `i`; none from `count` on.
    pub fn heap_pointer(&self, i: usize) -> Option<HeapPointer> {
        (i < self.count()).then(|| self.geometry.form.read(self.rest, i))
    }

    /// The heap pointers of all nodes, in page order.
    pub fn heap_pointers(&self) -> impl ExactSizeIterator<Item = HeapPointer> + use<'a> {
        let (form, rest) = (self.geometry.form, self.rest);
        (0..self.count()).map(move |i| form.read(rest, i))
    }

    /// The sketches of all nodes, in page order: `count * sketch_bytes` bytes.
    pub fn sketches(&self) -> &'a [u8] {
        &self.rest[self.geometry.sketches()..][..self.count() * self.sketch_bytes()]
    }

    /// The sketch of node `i`; none from `count` on.
    pub fn sketch(&self, i: usize) -> Option<&'a [u8]> {
        self.sketches().chunks_exact(self.sketch_bytes()).nth(i)
    }
}

/// A node page, to be changed.
#[derive(Debug)]
pub struct NodePageMut<'a> {
    header: &'a mut [u8; FIXED],
    geometry: Geometry,
    /// What follows the header: all slots, in use or not, and then room for the sketch of each.
    rest: &'a mut [u8],
}

impl<'a> NodePageMut<'a> {
    /// Makes an empty node page of these bytes, whatever they were, with all the capacity they allow.
    ///
    /// # Errors
    /// [`PageError::Impossible`] when [`NodePage::capacity_for`] is 0 for the widest pointers; the body is
    /// then as it was.
    pub fn init(
        body: &'a mut [u8],
        generation: u32,
        sketch_bytes: usize,
        hub: HubRef,
    ) -> Result<NodePageMut<'a>, PageError> {
        let (1.., Ok(stored_bytes)) = (
            NodePage::capacity_for(body.len(), sketch_bytes, PointerForm::WIDEST),
            u16::try_from(sketch_bytes),
        ) else {
            return impossible("sketch bytes for a node page", sketch_bytes);
        };
        let geometry = Geometry::new(body.len(), sketch_bytes, PointerForm::holding_all([]));
        let header: &mut [u8; FIXED] = start(body, PageKind::Node, generation)?;
        put(header, SKETCH_BYTES, stored_bytes.to_le_bytes());
        put(header, HUB, hub.to_bytes());
        geometry.write(header);
        NodePageMut::parse(body)
    }

    /// Takes a body to change it, checking all of it.
    ///
    /// # Errors
    /// As [`NodePage::parse`].
    pub fn parse(body: &'a mut [u8]) -> Result<NodePageMut<'a>, PageError> {
        let geometry = NodePage::parse(body)?.geometry;
        let len = body.len();
        let (header, rest) =
            body.split_first_chunk_mut::<FIXED>().ok_or(PageError::Short { len, needed: FIXED })?;
        Ok(NodePageMut { header, geometry, rest })
    }

    /// The page as it stands, for reading.
    pub fn view(&self) -> NodePage<'_> {
        NodePage { header: self.header, geometry: self.geometry, rest: self.rest }
    }

    /// Appends a node.
    ///
    /// # Errors
    /// [`PageError::Full`]; [`PageError::Impossible`] for a pointer with offset 0 or a sketch that is not
    /// `sketch_bytes` long.
    pub fn push(&mut self, pointer: HeapPointer, sketch: &[u8]) -> Result<(), PageError> {
        pointer.check()?;
        if sketch.len() != self.geometry.sketch_bytes {
            return impossible("sketch length", sketch.len());
        }
        if !self.view().has_room_for(pointer) {
            return Err(PageError::Full);
        }
        if !self.geometry.form.holds(pointer) {
            self.lay_out(self.view().form_with(pointer));
        }
        let at = self.geometry.count;
        self.put(at, pointer, sketch);
        self.set_count(at + 1);
        Ok(())
    }

    /// Removes node `i` and gives its pointer; none from `count` on. The last node moves into the gap,
    /// and the slot it leaves is zeroed.
    pub fn swap_remove(&mut self, i: usize) -> Option<HeapPointer> {
        let removed = self.view().heap_pointer(i)?;
        let last = self.geometry.count - 1;
        for array in [Geometry::slot, Geometry::sketch] {
            let (from, to) = (array(&self.geometry, last), array(&self.geometry, i));
            self.rest.copy_within(from.clone(), to.start);
            self.rest[from].fill(0);
        }
        self.set_count(last);
        Some(removed)
    }

    /// Removes the nodes whose pointer `dead` says true of, asking once for each, and gives their number.
    pub fn remove_where(&mut self, mut dead: impl FnMut(HeapPointer) -> bool) -> usize {
        let before = self.geometry.count;
        let mut i = 0;
        while let Some(pointer) = self.view().heap_pointer(i) {
            if dead(pointer) {
                // Another node is in slot i now: ask again before going on.
                self.swap_remove(i);
            } else {
                i += 1;
            }
        }
        before - self.geometry.count
    }

    /// Removes every node.
    pub fn clear(&mut self) {
        self.rest.fill(0);
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

    /// Writes all nodes anew, their pointers in another form that holds them, with room for all.
    fn lay_out(&mut self, form: PointerForm) {
        let nodes: Vec<HeapPointer> = self.view().heap_pointers().collect();
        let sketches = self.view().sketches().to_vec();
        let count = self.geometry.count;
        let body_len = FIXED + self.rest.len();
        self.geometry = Geometry { count, ..Geometry::new(body_len, self.geometry.sketch_bytes, form) };
        self.geometry.write(self.header);
        self.rest.fill(0);
        for (i, (pointer, sketch)) in
            nodes.into_iter().zip(sketches.chunks_exact(self.geometry.sketch_bytes)).enumerate()
        {
            self.put(i, pointer, sketch);
        }
    }

    fn put(&mut self, i: usize, pointer: HeapPointer, sketch: &[u8]) {
        self.geometry.form.write(pointer, &mut self.rest[self.geometry.slot(i)]);
        self.rest[self.geometry.sketch(i)].copy_from_slice(sketch);
    }

    fn set_count(&mut self, count: usize) {
        self.geometry.count = count;
        self.geometry.write(self.header);
    }
}

/// The header's numbers, checked against the body: the arrays of `capacity` slots lie within it.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    count: usize,
    capacity: usize,
    sketch_bytes: usize,
    form: PointerForm,
}

impl Geometry {
    /// Of an empty page.
    fn new(body_len: usize, sketch_bytes: usize, form: PointerForm) -> Geometry {
        let capacity = NodePage::capacity_for(body_len, sketch_bytes, form);
        Geometry { count: 0, capacity, sketch_bytes, form }
    }

    fn read(header: &[u8; FIXED], body_len: usize) -> Result<Geometry, PageError> {
        let count = usize::from(get_u16(header, COUNT));
        let capacity = usize::from(get_u16(header, CAPACITY));
        let sketch_bytes = usize::from(get_u16(header, SKETCH_BYTES));
        let form = PointerForm::from_header(header[SLOT_BYTES], header[OFFSET_BITS])?;
        if sketch_bytes == 0 {
            return impossible("sketch bytes", sketch_bytes);
        }
        if capacity == 0 || capacity > NodePage::capacity_for(body_len, sketch_bytes, form) {
            return impossible("node page capacity", capacity);
        }
        if count > capacity {
            return impossible("node count", count);
        }
        Ok(Geometry { count, capacity, sketch_bytes, form })
    }

    /// Both counts are at most what [`NodePage::capacity_for`] gives, which fits a u16.
    fn write(&self, header: &mut [u8; FIXED]) {
        put(header, COUNT, (self.count as u16).to_le_bytes());
        put(header, CAPACITY, (self.capacity as u16).to_le_bytes());
        put(header, SLOT_BYTES, [self.form.bytes() as u8]);
        put(header, OFFSET_BITS, [self.form.offset_bits()]);
    }

    /// Where heap pointer `i` lies in what follows the header.
    fn slot(&self, i: usize) -> Range<usize> {
        let bytes = self.form.bytes();
        i * bytes..(i + 1) * bytes
    }

    /// Where the sketches begin.
    fn sketches(&self) -> usize {
        self.capacity * self.form.bytes()
    }

    /// Where sketch `i` lies.
    fn sketch(&self, i: usize) -> Range<usize> {
        let start = self.sketches() + i * self.sketch_bytes;
        start..start + self.sketch_bytes
    }
}
