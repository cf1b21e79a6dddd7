//! Node pages (posting lists): heap pointers and sketches of near rows, in two arrays.
//!
//! The sketches of a page are contiguous, so that one pass scores all of them. An append writes one slot of
//! each array and the count; a removal moves the last node into the gap. Only one change rewrites the whole
//! page: an append of a pointer that needs more bytes than the slots of the page have.

use std::ops::Range;

use crate::bytes::{get, get_u16, put};
use crate::error::{PageError, damaged, unstorable};
use crate::header::{KIND_FIELDS, expect, generation_of, put_generation, start};
use crate::page_kind::PageKind;
use crate::pointer_form::PointerForm;
use crate::refs::{HeapPointer, HubRef, REF_BYTES};

/// Offsets of the fields, in bytes from the start of the body; `README.md` describes the fields.
mod offset {
    use super::{KIND_FIELDS, REF_BYTES};

    pub(super) const COUNT: usize = KIND_FIELDS;
    pub(super) const CAPACITY: usize = KIND_FIELDS + 2;
    pub(super) const SKETCH_BYTES: usize = KIND_FIELDS + 4;
    pub(super) const HUB: usize = KIND_FIELDS + 6;
    pub(super) const POINTER_BYTES: usize = HUB + REF_BYTES;
    pub(super) const OFFSET_BITS: usize = POINTER_BYTES + 1;
}

/// Length in bytes of what precedes the heap pointers.
const FIXED_BYTES: usize = offset::OFFSET_BITS + 1;

/// A view of a node page.
#[derive(Clone, Copy, Debug)]
pub struct NodePage<'a> {
    header: &'a [u8; FIXED_BYTES],
    geometry: Geometry,
    /// All bytes after the header.
    rest: &'a [u8],
}

impl<'a> NodePage<'a> {
    /// Returns how many nodes a body of `body_len` bytes holds if each has a sketch of `sketch_bytes` bytes
    /// and a heap pointer of this form. Returns 0 if not even one fits, and for sketches of 0 or more than
    /// 65,535 bytes.
    pub fn capacity_for(body_len: usize, sketch_bytes: usize, form: PointerForm) -> usize {
        if sketch_bytes == 0 || sketch_bytes > usize::from(u16::MAX) {
            return 0;
        }
        let room = body_len.saturating_sub(FIXED_BYTES);
        (room / (form.bytes() + sketch_bytes)).min(usize::from(u16::MAX))
    }

    /// Checks all of a body and returns a view of it.
    ///
    /// # Errors
    /// Those that [`PageError`] names for reading.
    pub fn parse(body: &'a [u8]) -> Result<NodePage<'a>, PageError> {
        let header: &[u8; FIXED_BYTES] = expect(body, PageKind::Node)?;
        let page =
            NodePage { header, geometry: Geometry::read(header, body.len())?, rest: &body[FIXED_BYTES..] };
        for i in 0..page.count() {
            match page.geometry.form.numbers(page.rest, i) {
                (_, 0) => return damaged("heap pointer offset", 0u16),
                (block, _) if block > u64::from(u32::MAX) => return damaged("heap pointer block", block),
                _ => {}
            }
        }
        Ok(page)
    }

    /// Returns the generation, which differs between uses of a block and changes when nodes move to or from
    /// another page.
    pub fn generation(&self) -> u32 {
        generation_of(self.header)
    }

    /// Returns the number of nodes on the page.
    pub fn count(&self) -> usize {
        self.geometry.count
    }

    /// Returns the number of nodes that fit on the page, those on it included, as long as no pointer needs a
    /// wider form.
    pub fn capacity(&self) -> usize {
        self.geometry.capacity
    }

    /// Returns the length of a sketch in bytes.
    pub fn sketch_bytes(&self) -> usize {
        self.geometry.sketch_bytes
    }

    /// Returns the place of the entry of this page's hub.
    pub fn hub(&self) -> HubRef {
        HubRef::from_bytes(&get(self.header, offset::HUB))
    }

    /// Returns whether [`NodePageMut::push`] would find room for a node with this pointer.
    pub fn has_room_for(&self, pointer: HeapPointer) -> bool {
        let Geometry { form, count, capacity, sketch_bytes } = self.geometry;
        if form.holds(pointer) {
            return count < capacity;
        }
        count < NodePage::capacity_for(FIXED_BYTES + self.rest.len(), sketch_bytes, self.form_with(pointer))
    }

    /// Returns the narrowest form that holds the pointers of the page and one more.
    fn form_with(&self, pointer: HeapPointer) -> PointerForm {
        PointerForm::holding_all(self.heap_pointers().chain([pointer]))
    }

    /// Returns the heap pointer of node `i`, or `None` if the page has no such node.
    pub fn heap_pointer(&self, i: usize) -> Option<HeapPointer> {
        (i < self.count()).then(|| self.geometry.form.read(self.rest, i))
    }

    /// Iterates over the heap pointers of all nodes, in page order.
    pub fn heap_pointers(&self) -> impl ExactSizeIterator<Item = HeapPointer> + use<'a> {
        let (form, rest) = (self.geometry.form, self.rest);
        (0..self.count()).map(move |i| form.read(rest, i))
    }

    /// Returns the sketches of all nodes, in page order: `count * sketch_bytes` bytes.
    pub fn sketches(&self) -> &'a [u8] {
        &self.rest[self.geometry.sketches()..][..self.count() * self.sketch_bytes()]
    }
}

/// A view of a node page through which it can be changed.
#[derive(Debug)]
pub struct NodePageMut<'a> {
    header: &'a mut [u8; FIXED_BYTES],
    geometry: Geometry,
    /// All bytes after the header: `capacity` slots for heap pointers, then `capacity` slots for sketches.
    rest: &'a mut [u8],
}

impl<'a> NodePageMut<'a> {
    /// Overwrites the body with an empty node page whose capacity is the most that the body allows.
    ///
    /// # Errors
    /// [`PageError::Unstorable`] if [`NodePage::capacity_for`] is 0 for the widest pointers; the body is then
    /// unchanged.
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
            return unstorable("sketch bytes for a node page", sketch_bytes);
        };
        let geometry = Geometry::new(body.len(), sketch_bytes, PointerForm::holding_all([]));
        let header: &mut [u8; FIXED_BYTES] = start(body, PageKind::Node, generation)?;
        put(header, offset::SKETCH_BYTES, stored_bytes.to_le_bytes());
        put(header, offset::HUB, hub.to_bytes());
        geometry.write(header);
        NodePageMut::parse(body)
    }

    /// Checks all of a body and returns a view that can change it.
    ///
    /// # Errors
    /// Those of [`NodePage::parse`].
    pub fn parse(body: &'a mut [u8]) -> Result<NodePageMut<'a>, PageError> {
        let geometry = NodePage::parse(body)?.geometry;
        let len = body.len();
        let (header, rest) = body
            .split_first_chunk_mut::<FIXED_BYTES>()
            .ok_or(PageError::Short { len, needed: FIXED_BYTES })?;
        Ok(NodePageMut { header, geometry, rest })
    }

    /// Returns a view of the page as it is now.
    pub fn view(&self) -> NodePage<'_> {
        NodePage { header: self.header, geometry: self.geometry, rest: self.rest }
    }

    /// Appends a node, and rewrites the page if its slots are too narrow for the pointer.
    ///
    /// # Errors
    /// [`PageError::Full`] if [`NodePage::has_room_for`] returns false; [`PageError::Unstorable`] for a
    /// pointer with offset 0 or a sketch that does not have `sketch_bytes` bytes.
    pub fn push(&mut self, pointer: HeapPointer, sketch: &[u8]) -> Result<(), PageError> {
        pointer.check()?;
        if sketch.len() != self.geometry.sketch_bytes {
            return unstorable("sketch length", sketch.len());
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

    /// Removes node `i` and returns its pointer, or `None` if the page has no such node. The last node moves
    /// into the gap, and its former slot is zeroed.
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

    /// Removes the nodes for whose pointer `dead` returns true, and returns how many they were. Calls `dead`
    /// once per node.
    pub fn remove_where(&mut self, mut dead: impl FnMut(HeapPointer) -> bool) -> usize {
        let before = self.geometry.count;
        let mut i = 0;
        while let Some(pointer) = self.view().heap_pointer(i) {
            if dead(pointer) {
                // Slot i now holds another node, which is the next one to ask about.
                self.swap_remove(i);
            } else {
                i += 1;
            }
        }
        before - self.geometry.count
    }

    /// Sets the generation.
    pub fn set_generation(&mut self, generation: u32) {
        put_generation(self.header, generation);
    }

    /// Rewrites all nodes with their pointers in another form, which must hold them and leave room for all.
    fn lay_out(&mut self, form: PointerForm) {
        let nodes: Vec<HeapPointer> = self.view().heap_pointers().collect();
        let sketches = self.view().sketches().to_vec();
        let count = self.geometry.count;
        let body_len = FIXED_BYTES + self.rest.len();
        self.geometry = Geometry { count, ..Geometry::new(body_len, self.geometry.sketch_bytes, form) };
        self.geometry.write(self.header);
        self.rest.fill(0);
        for (i, (pointer, sketch)) in
            nodes.into_iter().zip(sketches.chunks_exact(self.geometry.sketch_bytes)).enumerate()
        {
            self.put(i, pointer, sketch);
        }
    }

    /// Writes node `i` into its slots.
    fn put(&mut self, i: usize, pointer: HeapPointer, sketch: &[u8]) {
        self.geometry.form.write(pointer, &mut self.rest[self.geometry.slot(i)]);
        self.rest[self.geometry.sketch(i)].copy_from_slice(sketch);
    }

    /// Writes the number of nodes.
    fn set_count(&mut self, count: usize) {
        self.geometry.count = count;
        self.geometry.write(self.header);
    }
}

/// The numbers of the header, checked against the body: both arrays of `capacity` slots lie within it.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    count: usize,
    capacity: usize,
    sketch_bytes: usize,
    form: PointerForm,
}

impl Geometry {
    /// Returns the geometry of an empty page.
    fn new(body_len: usize, sketch_bytes: usize, form: PointerForm) -> Geometry {
        let capacity = NodePage::capacity_for(body_len, sketch_bytes, form);
        Geometry { count: 0, capacity, sketch_bytes, form }
    }

    /// Reads the geometry from a header and checks it.
    fn read(header: &[u8; FIXED_BYTES], body_len: usize) -> Result<Geometry, PageError> {
        let count = usize::from(get_u16(header, offset::COUNT));
        let capacity = usize::from(get_u16(header, offset::CAPACITY));
        let sketch_bytes = usize::from(get_u16(header, offset::SKETCH_BYTES));
        let form = PointerForm::from_header(header[offset::POINTER_BYTES], header[offset::OFFSET_BITS])?;
        if sketch_bytes == 0 {
            return damaged("sketch bytes", sketch_bytes);
        }
        if capacity == 0 || capacity > NodePage::capacity_for(body_len, sketch_bytes, form) {
            return damaged("node page capacity", capacity);
        }
        if count > capacity {
            return damaged("node count", count);
        }
        Ok(Geometry { count, capacity, sketch_bytes, form })
    }

    /// Writes the geometry, except the length of a sketch, which never changes. Count and capacity are at
    /// most [`NodePage::capacity_for`], which fits a u16.
    fn write(&self, header: &mut [u8; FIXED_BYTES]) {
        put(header, offset::COUNT, (self.count as u16).to_le_bytes());
        put(header, offset::CAPACITY, (self.capacity as u16).to_le_bytes());
        put(header, offset::POINTER_BYTES, [self.form.bytes() as u8]);
        put(header, offset::OFFSET_BITS, [self.form.offset_bits()]);
    }

    /// Returns the range of heap pointer `i` in the bytes after the header.
    fn slot(&self, i: usize) -> Range<usize> {
        let bytes = self.form.bytes();
        i * bytes..(i + 1) * bytes
    }

    /// Returns the offset of the first sketch in the bytes after the header.
    fn sketches(&self) -> usize {
        self.capacity * self.form.bytes()
    }

    /// Returns the range of sketch `i` in the bytes after the header.
    fn sketch(&self, i: usize) -> Range<usize> {
        let start = self.sketches() + i * self.sketch_bytes;
        start..start + self.sketch_bytes
    }
}
