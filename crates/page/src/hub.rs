//! Hub pages: one entry of fixed size per node page. A hub is the centroid of its node page with links to
//! near hubs.
//!
//! The center is stored as int8 with one scale per entry, symmetric about zero: value = code * scale, where
//! scale is the largest magnitude over 127. Links are hints: they may name any page and slot, and a reader
//! must be ready for links that lead nowhere.

use half::f16;

use crate::NO_PAGE;
use crate::bytes::{get, get_u16, get_u32, put};
use crate::error::{OutOfLimits, PageError, damaged, unstorable};
use crate::header::{KIND_FIELDS, expect, generation_of, put_generation, start};
use crate::page_kind::PageKind;
use crate::refs::{HubRef, REF_BYTES};

/// The most links that an entry can have room for: their number is stored in one byte.
pub const MAX_LINKS: usize = u8::MAX as usize;

/// Offsets of the fields, in bytes from the start of the body; `README.md` describes the fields.
mod offset {
    use super::KIND_FIELDS;

    pub(super) const NEXT: usize = KIND_FIELDS;
    pub(super) const CAPACITY: usize = KIND_FIELDS + 4;
    pub(super) const CENTER_LEN: usize = KIND_FIELDS + 6;
    pub(super) const MAX_LINKS: usize = KIND_FIELDS + 8;
    pub(super) const RESERVED: usize = KIND_FIELDS + 10;
}

/// Length in bytes of what precedes the entries.
const FIXED_BYTES: usize = KIND_FIELDS + 12;

/// Offsets of the fields of an entry, in bytes from the start of the entry.
mod entry_offset {
    pub(super) const USED: usize = 0;
    pub(super) const LINK_COUNT: usize = 1;
    pub(super) const SPREAD: usize = 2;
    pub(super) const NODE_BLOCK: usize = 4;
    pub(super) const NODE_GENERATION: usize = 8;
    pub(super) const SCALE: usize = 12;
}

/// Length in bytes of an entry before its center.
const ENTRY_FIXED_BYTES: usize = 16;

/// The largest scale at which every code decodes to a finite value, -128 included, which is never written
/// but may be read.
const MAX_SCALE: f32 = f32::MAX / 128.0;

/// A view of a hub page.
#[derive(Clone, Copy, Debug)]
pub struct HubPage<'a> {
    generation: u32,
    next: u32,
    shape: Shape,
    /// `capacity * shape.entry_bytes()` bytes.
    entries: &'a [u8],
}

impl<'a> HubPage<'a> {
    /// Returns how many entries a body of `body_len` bytes holds if each has `center_len` components and room
    /// for `max_links` links. Returns 0 if not even one fits, and for entries that cannot be stored: those of
    /// more than 65,535 components or more than [`MAX_LINKS`] links.
    pub fn capacity_for(body_len: usize, center_len: usize, max_links: usize) -> usize {
        match Shape::new(center_len, max_links) {
            Ok(shape) => shape.capacity(body_len),
            Err(_) => 0,
        }
    }

    /// Checks the header and every entry in use, and returns a view of the body.
    ///
    /// # Errors
    /// Those that [`PageError`] names for reading.
    pub fn parse(body: &'a [u8]) -> Result<HubPage<'a>, PageError> {
        let header: &[u8; FIXED_BYTES] = expect(body, PageKind::Hub)?;
        let (shape, len) = Shape::read(header, body.len())?;
        let page = HubPage {
            generation: generation_of(header),
            next: get_u32(header, offset::NEXT),
            shape,
            entries: &body[FIXED_BYTES..FIXED_BYTES + len],
        };
        page.entries.chunks_exact(shape.entry_bytes()).try_for_each(|entry| shape.check(entry))?;
        Ok(page)
    }

    /// Returns the generation. The access method counts freed node pages in that of the first hub page.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the block number of the next hub page, [`NO_PAGE`] at the end of the chain.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Returns the number of entries that fit on the page, those in use included: slots are `0..capacity`.
    pub fn capacity(&self) -> usize {
        self.entries.len() / self.shape.entry_bytes()
    }

    /// Returns the number of components of a center.
    pub fn center_len(&self) -> usize {
        self.shape.center_len
    }

    /// Returns the number of links that an entry has room for.
    pub fn max_links(&self) -> usize {
        self.shape.max_links
    }

    /// Returns the entry in a slot, or `None` if the slot is not in use or beyond the capacity.
    pub fn entry(&self, slot: u16) -> Option<HubEntry<'a>> {
        let at = usize::from(slot);
        (at < self.capacity())
            .then(|| &self.entries[at * self.shape.entry_bytes()..])
            .and_then(|bytes| self.shape.entry(bytes))
    }

    /// Iterates over the entries in use with their slots, in slot order.
    pub fn entries(&self) -> impl Iterator<Item = (u16, HubEntry<'a>)> + use<'a> {
        let shape = self.shape;
        let slots = (0..=u16::MAX).zip(self.entries.chunks_exact(shape.entry_bytes()));
        slots.filter_map(move |(slot, bytes)| Some((slot, shape.entry(bytes)?)))
    }

    /// Returns the first slot that is not in use.
    pub fn free_slot(&self) -> Option<u16> {
        let mut slots = (0..=u16::MAX).zip(self.entries.chunks_exact(self.shape.entry_bytes()));
        slots.find(|(_, bytes)| bytes[entry_offset::USED] == 0).map(|(slot, _)| slot)
    }
}

/// A view of the entry of one hub.
#[derive(Clone, Copy, Debug)]
pub struct HubEntry<'a> {
    head: &'a [u8; ENTRY_FIXED_BYTES],
    center: &'a [u8],
    /// Only the links in use.
    links: &'a [[u8; REF_BYTES]],
}

impl<'a> HubEntry<'a> {
    /// Returns the block number of the hub's node page.
    pub fn node_block(&self) -> u32 {
        get_u32(self.head, entry_offset::NODE_BLOCK)
    }

    /// Returns the generation that the node page had when this entry was last written.
    pub fn node_generation(&self) -> u32 {
        get_u32(self.head, entry_offset::NODE_GENERATION)
    }

    /// Returns how far the nodes of the page lie from the center, in the writer's measure: finite, not
    /// negative, rounded to an f16.
    pub fn spread(&self) -> f32 {
        f16::from_le_bytes(get(self.head, entry_offset::SPREAD)).to_f32()
    }

    /// Returns the number of components of the center.
    pub fn center_len(&self) -> usize {
        self.center.len()
    }

    /// Writes the components of the center into `out`: finite, and each within half a scale of the stored
    /// one. A shorter `out` receives the leading components; the rest of a longer one is set to 0.
    pub fn decode_center(&self, out: &mut [f32]) {
        let scale = scale(self.head);
        let (values, rest) = out.split_at_mut(self.center.len().min(out.len()));
        for (value, &code) in values.iter_mut().zip(self.center) {
            *value = f32::from(code as i8) * scale;
        }
        rest.fill(0.0);
    }

    /// Iterates over the links, in the order in which they were written.
    pub fn links(&self) -> impl ExactSizeIterator<Item = HubRef> + use<'a> {
        self.links.iter().map(HubRef::from_bytes)
    }
}

/// The contents of an entry to be written.
#[derive(Clone, Copy, Debug)]
pub struct NewHub<'a> {
    /// Block number of the hub's node page.
    pub node_block: u32,
    /// Generation of the node page.
    pub node_generation: u32,
    /// Distance of the page's nodes from the center: finite, not negative, and at most 65,504, since it is
    /// rounded to an f16.
    pub spread: f32,
    /// Finite components. Those beyond the `center_len` of the page are dropped; missing ones are 0.
    pub center: &'a [f32],
    /// Links to near hubs. Those beyond the `max_links` of the page are dropped.
    pub links: &'a [HubRef],
}

/// A view of a hub page through which it can be changed.
#[derive(Debug)]
pub struct HubPageMut<'a> {
    header: &'a mut [u8; FIXED_BYTES],
    shape: Shape,
    /// `capacity * shape.entry_bytes()` bytes.
    entries: &'a mut [u8],
}

impl<'a> HubPageMut<'a> {
    /// Overwrites the body with an empty hub page without a next one, whose capacity is the most that the
    /// body allows.
    ///
    /// # Errors
    /// [`PageError::Unstorable`] if [`HubPage::capacity_for`] is 0; the body is then unchanged.
    pub fn init(
        body: &'a mut [u8],
        generation: u32,
        center_len: usize,
        max_links: usize,
    ) -> Result<HubPageMut<'a>, PageError> {
        let shape = Shape::new(center_len, max_links).map_err(OutOfLimits::unstorable)?;
        let capacity = shape.capacity(body.len());
        if capacity == 0 {
            return unstorable("hub entry bytes", shape.entry_bytes());
        }
        let header: &mut [u8; FIXED_BYTES] = start(body, PageKind::Hub, generation)?;
        // The checks above keep these three within a u16.
        put(header, offset::NEXT, NO_PAGE.to_le_bytes());
        put(header, offset::CAPACITY, (capacity as u16).to_le_bytes());
        put(header, offset::CENTER_LEN, (center_len as u16).to_le_bytes());
        put(header, offset::MAX_LINKS, (max_links as u16).to_le_bytes());
        HubPageMut::parse(body)
    }

    /// Checks a body as [`HubPage::parse`] does and returns a view that can change it.
    ///
    /// # Errors
    /// Those of [`HubPage::parse`].
    pub fn parse(body: &'a mut [u8]) -> Result<HubPageMut<'a>, PageError> {
        HubPage::parse(body)?;
        let body_len = body.len();
        let (header, rest) = body
            .split_first_chunk_mut::<FIXED_BYTES>()
            .ok_or(PageError::Short { len: body_len, needed: FIXED_BYTES })?;
        let (shape, len) = Shape::read(header, body_len)?;
        Ok(HubPageMut { header, shape, entries: &mut rest[..len] })
    }

    /// Returns a view of the page as it is now.
    pub fn view(&self) -> HubPage<'_> {
        HubPage {
            generation: generation_of(self.header),
            next: get_u32(self.header, offset::NEXT),
            shape: self.shape,
            entries: self.entries,
        }
    }

    /// Sets the generation.
    pub fn set_generation(&mut self, generation: u32) {
        put_generation(self.header, generation);
    }

    /// Sets the block number of the next hub page; [`NO_PAGE`] ends the chain.
    pub fn set_next(&mut self, next: u32) {
        put(self.header, offset::NEXT, next.to_le_bytes());
    }

    /// Writes a whole entry into a slot, whether it is in use or not.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity; [`PageError::Unstorable`] for a spread or a
    /// center that is not as [`NewHub`] asks.
    pub fn put(&mut self, slot: u16, hub: &NewHub<'_>) -> Result<(), PageError> {
        let quantized = Quantized::new(hub.center, hub.spread, self.shape.center_len)?;
        let mut entry = self.slot_mut(slot)?;
        entry.head[entry_offset::USED] = 1;
        entry.write_node(hub.node_block, hub.node_generation);
        entry.write_links(hub.links);
        quantized.write(entry.head, entry.center);
        Ok(())
    }

    /// Replaces the links of an entry. Those beyond the `max_links` of the page are dropped.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity or not in use.
    pub fn set_links(&mut self, slot: u16, links: &[HubRef]) -> Result<(), PageError> {
        self.used_mut(slot)?.write_links(links);
        Ok(())
    }

    /// Sets the block number and generation of the node page of an entry.
    ///
    /// # Errors
    /// Those of [`HubPageMut::set_links`].
    pub fn set_node(&mut self, slot: u16, block: u32, generation: u32) -> Result<(), PageError> {
        self.used_mut(slot)?.write_node(block, generation);
        Ok(())
    }

    /// Replaces the center and spread of an entry.
    ///
    /// # Errors
    /// Those of [`HubPageMut::put`], and [`PageError::NoEntry`] for a slot that is not in use.
    pub fn set_center(&mut self, slot: u16, center: &[f32], spread: f32) -> Result<(), PageError> {
        let quantized = Quantized::new(center, spread, self.shape.center_len)?;
        let entry = self.used_mut(slot)?;
        quantized.write(entry.head, entry.center);
        Ok(())
    }

    /// Frees a slot, whether it is in use or not, and zeroes it.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity.
    pub fn clear(&mut self, slot: u16) -> Result<(), PageError> {
        let entry = self.slot_mut(slot)?;
        entry.head.fill(0);
        entry.center.fill(0);
        entry.links.fill([0; REF_BYTES]);
        Ok(())
    }

    /// Returns a slot, whether it is in use or not.
    fn slot_mut(&mut self, slot: u16) -> Result<EntryMut<'_>, PageError> {
        let Shape { center_len, .. } = self.shape;
        self.entries
            .chunks_exact_mut(self.shape.entry_bytes())
            .nth(usize::from(slot))
            .and_then(|bytes| {
                let (head, rest) = bytes.split_first_chunk_mut()?;
                let (center, links) = rest.split_at_mut(center_len);
                Some(EntryMut { head, center, links: links.as_chunks_mut().0 })
            })
            .ok_or(PageError::NoEntry { slot })
    }

    /// Returns a slot that is in use.
    fn used_mut(&mut self, slot: u16) -> Result<EntryMut<'_>, PageError> {
        self.slot_mut(slot).and_then(|entry| match entry.head[entry_offset::USED] {
            0 => Err(PageError::NoEntry { slot }),
            _ => Ok(entry),
        })
    }
}

/// The three parts of one slot.
struct EntryMut<'a> {
    head: &'a mut [u8; ENTRY_FIXED_BYTES],
    center: &'a mut [u8],
    /// All links that there is room for, in use or not: at most [`MAX_LINKS`].
    links: &'a mut [[u8; REF_BYTES]],
}

impl EntryMut<'_> {
    fn write_node(&mut self, block: u32, generation: u32) {
        put(self.head, entry_offset::NODE_BLOCK, block.to_le_bytes());
        put(self.head, entry_offset::NODE_GENERATION, generation.to_le_bytes());
    }

    fn write_links(&mut self, links: &[HubRef]) {
        let count = links.len().min(self.links.len());
        self.head[entry_offset::LINK_COUNT] = count as u8;
        let (used, rest) = self.links.split_at_mut(count);
        for (bytes, link) in used.iter_mut().zip(links) {
            *bytes = link.to_bytes();
        }
        rest.fill([0; REF_BYTES]);
    }
}

/// A center and its spread, checked and with the scale at which the center is written.
struct Quantized<'a> {
    center: &'a [f32],
    scale: f32,
    spread: f16,
}

impl<'a> Quantized<'a> {
    /// Checks a center, cut to `center_len` components, and a spread.
    fn new(center: &'a [f32], spread: f32, center_len: usize) -> Result<Quantized<'a>, PageError> {
        let center = &center[..center.len().min(center_len)];
        if let Some(value) = center.iter().find(|value| !value.is_finite()) {
            return unstorable("hub center value", value.to_bits());
        }
        let scale = center.iter().fold(0.0, |most: f32, value| most.max(value.abs())) / 127.0;
        check_scale(scale).map_err(OutOfLimits::unstorable)?;
        let spread = f16::from_f32(spread);
        check_spread(spread).map_err(OutOfLimits::unstorable)?;
        Ok(Quantized { center, scale, spread })
    }

    /// Writes scale and spread into `head` and the codes into `out`, which has at least one byte per
    /// component.
    fn write(&self, head: &mut [u8; ENTRY_FIXED_BYTES], out: &mut [u8]) {
        put(head, entry_offset::SPREAD, self.spread.to_le_bytes());
        put(head, entry_offset::SCALE, self.scale.to_le_bytes());
        out.fill(0);
        if self.scale > 0.0 {
            for (code, value) in out.iter_mut().zip(self.center) {
                // Without -128, the code of -x is minus the code of x.
                *code = (value / self.scale).round().clamp(-127.0, 127.0) as i8 as u8;
            }
        }
    }
}

/// The geometry of an entry, within what can be stored.
#[derive(Clone, Copy, Debug)]
struct Shape {
    center_len: usize,
    max_links: usize,
}

impl Shape {
    /// Checks a geometry.
    fn new(center_len: usize, max_links: usize) -> Result<Shape, OutOfLimits> {
        OutOfLimits::unless(center_len <= usize::from(u16::MAX), "hub center length", center_len)?;
        OutOfLimits::unless(max_links <= MAX_LINKS, "hub link limit", max_links)?;
        Ok(Shape { center_len, max_links })
    }

    /// Reads the shape of a page, and the length in bytes of its entries, which lie within the body.
    fn read(header: &[u8; FIXED_BYTES], body_len: usize) -> Result<(Shape, usize), PageError> {
        let center_len = usize::from(get_u16(header, offset::CENTER_LEN));
        let max_links = usize::from(get_u16(header, offset::MAX_LINKS));
        let shape = Shape::new(center_len, max_links).map_err(OutOfLimits::damaged)?;
        let capacity = usize::from(get_u16(header, offset::CAPACITY));
        if capacity == 0 || capacity > shape.capacity(body_len) {
            return damaged("hub page capacity", capacity);
        }
        match get_u16(header, offset::RESERVED) {
            0 => Ok((shape, capacity * shape.entry_bytes())),
            other => damaged("reserved bytes of a hub page", other),
        }
    }

    /// Returns the length of an entry in bytes.
    fn entry_bytes(self) -> usize {
        ENTRY_FIXED_BYTES + self.center_len + self.max_links * REF_BYTES
    }

    /// Returns how many entries a body of `body_len` bytes holds.
    fn capacity(self, body_len: usize) -> usize {
        (body_len.saturating_sub(FIXED_BYTES) / self.entry_bytes()).min(usize::from(u16::MAX))
    }

    /// Checks one slot, whether it is in use or not.
    fn check(self, bytes: &[u8]) -> Result<(), PageError> {
        if bytes[entry_offset::USED] > 1 {
            return damaged("use of a hub slot", bytes[entry_offset::USED]);
        }
        if bytes[entry_offset::USED] == 1 && usize::from(bytes[entry_offset::LINK_COUNT]) > self.max_links {
            return damaged("hub link count", bytes[entry_offset::LINK_COUNT]);
        }
        let Some(entry) = self.entry(bytes) else { return Ok(()) };
        check_spread(f16::from_le_bytes(get(entry.head, entry_offset::SPREAD)))
            .and_then(|()| check_scale(scale(entry.head)))
            .map_err(OutOfLimits::damaged)
    }

    /// Returns the entry at the start of these bytes, which were checked, or `None` if it is not in use.
    fn entry(self, bytes: &[u8]) -> Option<HubEntry<'_>> {
        let (head, rest) = bytes.split_first_chunk::<ENTRY_FIXED_BYTES>()?;
        let (center, rest) = rest.split_at_checked(self.center_len)?;
        let links = rest.as_chunks().0.get(..usize::from(head[entry_offset::LINK_COUNT]))?;
        (head[entry_offset::USED] != 0).then_some(HubEntry { head, center, links })
    }
}

/// Reads the scale of an entry.
fn scale(head: &[u8; ENTRY_FIXED_BYTES]) -> f32 {
    f32::from_le_bytes(get(head, entry_offset::SCALE))
}

/// Checks that every code decodes to a finite value.
fn check_scale(scale: f32) -> Result<(), OutOfLimits> {
    // The range does not contain NaN.
    OutOfLimits::unless((0.0..=MAX_SCALE).contains(&scale), "hub scale", scale.to_bits())
}

/// Checks that a spread is finite and not negative.
fn check_spread(spread: f16) -> Result<(), OutOfLimits> {
    OutOfLimits::unless((f16::ZERO..=f16::MAX).contains(&spread), "hub spread", spread.to_bits())
}
