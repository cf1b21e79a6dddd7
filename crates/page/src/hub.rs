//! Hub pages: one entry of fixed size per node page, with the hub's centre and its links.
//!
//! A centre is stored as int8 with one scale, symmetric about zero: value = code * scale, where scale is
//! the largest magnitude over 127. Links are hints: any page and slot may be named, and following them
//! is the reader's risk.

use half::f16;

use crate::NO_PAGE;
use crate::bytes::{get, get_u16, get_u32, put};
use crate::error::{PageError, impossible};
use crate::header::{OWN, PageKind, expect, generation_of, put_generation, start};
use crate::refs::{HubRef, REF_BYTES};

/// The most links that an entry can have room for.
pub const MAX_LINKS: usize = u8::MAX as usize;

const NEXT: usize = OWN;
const CAPACITY: usize = OWN + 4;
const CENTRE_LEN: usize = OWN + 6;
const MAX_LINKS_AT: usize = OWN + 8;
const RESERVED: usize = OWN + 10;
/// Bytes before the entries.
const FIXED: usize = OWN + 12;

const USED: usize = 0;
const LINK_COUNT: usize = 1;
const SPREAD: usize = 2;
const NODE_BLOCK: usize = 4;
const NODE_GENERATION: usize = 8;
const SCALE: usize = 12;
/// Bytes of an entry before its centre.
const ENTRY_FIXED: usize = 16;

/// The largest scale at which every code decodes to a finite value (-128 can stand on a damaged page).
const LARGEST_SCALE: f32 = f32::MAX / 128.0;

/// A hub page, read.
#[derive(Clone, Copy, Debug)]
pub struct HubPage<'a> {
    generation: u32,
    next: u32,
    shape: Shape,
    /// `capacity * shape.entry_bytes()` bytes.
    entries: &'a [u8],
}

impl<'a> HubPage<'a> {
    /// How many entries a body of `body_len` bytes holds; 0 when not even one fits, and for shapes that
    /// cannot be stored (a centre of more than 65,535 values, more than [`MAX_LINKS`] links).
    pub fn capacity_for(body_len: usize, centre_len: usize, max_links: usize) -> usize {
        match Shape::new(centre_len, max_links) {
            Ok(shape) => shape.capacity(body_len),
            Err(_) => 0,
        }
    }

    /// Reads a body, checking the header and every entry in use.
    ///
    /// # Errors
    /// Any but [`PageError::Full`] and [`PageError::NoEntry`].
    pub fn parse(body: &'a [u8]) -> Result<HubPage<'a>, PageError> {
        let header: &[u8; FIXED] = expect(body, PageKind::Hub)?;
        let (shape, len) = Shape::read(header, body.len())?;
        let page = HubPage {
            generation: generation_of(header),
            next: get_u32(header, NEXT),
            shape,
            entries: &body[FIXED..FIXED + len],
        };
        page.entries.chunks_exact(shape.entry_bytes()).try_for_each(|entry| shape.check(entry))?;
        Ok(page)
    }

    /// The page's generation.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Block number of the next hub page, [`NO_PAGE`] at the end of the chain.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Entries that the page has room for, those in use included: slots are `0..capacity`.
    pub fn capacity(&self) -> usize {
        self.entries.len() / self.shape.entry_bytes()
    }

    /// Values of one centre.
    pub fn centre_len(&self) -> usize {
        self.shape.centre_len
    }

    /// Links that one entry has room for.
    pub fn max_links(&self) -> usize {
        self.shape.max_links
    }

    /// The entry in a slot; none when the slot is not in use or beyond the capacity.
    pub fn entry(&self, slot: u16) -> Option<HubEntry<'a>> {
        let at = usize::from(slot);
        (at < self.capacity())
            .then(|| &self.entries[at * self.shape.entry_bytes()..])
            .and_then(|bytes| self.shape.entry(bytes))
    }

    /// All entries in use with their slots, in slot order.
    pub fn entries(&self) -> impl Iterator<Item = (u16, HubEntry<'a>)> + use<'a> {
        let shape = self.shape;
        let slots = (0..=u16::MAX).zip(self.entries.chunks_exact(shape.entry_bytes()));
        slots.filter_map(move |(slot, bytes)| Some((slot, shape.entry(bytes)?)))
    }

    /// The first slot not in use.
    pub fn free_slot(&self) -> Option<u16> {
        let mut slots = (0..=u16::MAX).zip(self.entries.chunks_exact(self.shape.entry_bytes()));
        slots.find(|(_, bytes)| bytes[USED] == 0).map(|(slot, _)| slot)
    }
}

/// One hub, read.
#[derive(Clone, Copy, Debug)]
pub struct HubEntry<'a> {
    head: &'a [u8; ENTRY_FIXED],
    centre: &'a [u8],
    /// The links in use.
    links: &'a [[u8; REF_BYTES]],
}

impl<'a> HubEntry<'a> {
    /// Block number of the hub's node page.
    pub fn node_block(&self) -> u32 {
        get_u32(self.head, NODE_BLOCK)
    }

    /// Generation of the node page when this entry was last written.
    pub fn node_generation(&self) -> u32 {
        get_u32(self.head, NODE_GENERATION)
    }

    /// How far the page's nodes lie from the centre, as the writer measures it; finite, not negative,
    /// rounded to an f16.
    pub fn spread(&self) -> f32 {
        f16::from_le_bytes(get(self.head, SPREAD)).to_f32()
    }

    /// Values of the centre.
    pub fn centre_len(&self) -> usize {
        self.centre.len()
    }

    /// Writes the centre's values, all finite, each within half a scale of what was stored. Of a shorter
    /// `out` all is written, of a longer one the rest is set to 0.
    pub fn decode_centre(&self, out: &mut [f32]) {
        let scale = scale(self.head);
        let (values, rest) = out.split_at_mut(self.centre.len().min(out.len()));
        for (value, &code) in values.iter_mut().zip(self.centre) {
            *value = f32::from(code as i8) * scale;
        }
        rest.fill(0.0);
    }

    /// The links, in the order in which they were given.
    pub fn links(&self) -> impl ExactSizeIterator<Item = HubRef> + use<'a> {
        self.links.iter().map(HubRef::from_bytes)
    }
}

/// What an entry is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewHub<'a> {
    /// Block number of the hub's node page.
    pub node_block: u32,
    /// Generation of the node page.
    pub node_generation: u32,
    /// Finite and not negative; rounded to an f16, so at most 65,504.
    pub spread: f32,
    /// Finite values. What is beyond the page's `centre_len` is cut, what is missing is 0.
    pub centre: &'a [f32],
    /// What is beyond the page's `max_links` is cut.
    pub links: &'a [HubRef],
}

/// A hub page, to be changed.
#[derive(Debug)]
pub struct HubPageMut<'a> {
    header: &'a mut [u8; FIXED],
    shape: Shape,
    /// `capacity * shape.entry_bytes()` bytes.
    entries: &'a mut [u8],
}

impl<'a> HubPageMut<'a> {
    /// Makes an empty hub page of these bytes, whatever they were, with all the capacity they allow and no
    /// next page.
    ///
    /// # Errors
    /// [`PageError::Impossible`] when [`HubPage::capacity_for`] is 0; the body is then as it was.
    pub fn init(
        body: &'a mut [u8],
        generation: u32,
        centre_len: usize,
        max_links: usize,
    ) -> Result<HubPageMut<'a>, PageError> {
        let shape = Shape::new(centre_len, max_links)?;
        let capacity = shape.capacity(body.len());
        if capacity == 0 {
            return impossible("hub entry bytes", shape.entry_bytes());
        }
        let header: &mut [u8; FIXED] = start(body, PageKind::Hub, generation)?;
        // Shape and capacity see to it that these three fit.
        put(header, NEXT, NO_PAGE.to_le_bytes());
        put(header, CAPACITY, (capacity as u16).to_le_bytes());
        put(header, CENTRE_LEN, (centre_len as u16).to_le_bytes());
        put(header, MAX_LINKS_AT, (max_links as u16).to_le_bytes());
        HubPageMut::parse(body)
    }

    /// Takes a body to change it, checking all of it.
    ///
    /// # Errors
    /// As [`HubPage::parse`].
    pub fn parse(body: &'a mut [u8]) -> Result<HubPageMut<'a>, PageError> {
        HubPage::parse(body)?;
        let body_len = body.len();
        let (header, rest) =
            body.split_first_chunk_mut::<FIXED>().ok_or(PageError::Short { len: body_len, needed: FIXED })?;
        let (shape, len) = Shape::read(header, body_len)?;
        Ok(HubPageMut { header, shape, entries: &mut rest[..len] })
    }

    /// The page as it stands, for reading.
    pub fn view(&self) -> HubPage<'_> {
        HubPage {
            generation: generation_of(self.header),
            next: get_u32(self.header, NEXT),
            shape: self.shape,
            entries: self.entries,
        }
    }

    /// Changes the generation.
    pub fn set_generation(&mut self, generation: u32) {
        put_generation(self.header, generation);
    }

    /// Changes the next hub page; [`NO_PAGE`] for none.
    pub fn set_next(&mut self, next: u32) {
        put(self.header, NEXT, next.to_le_bytes());
    }

    /// The first slot not in use.
    pub fn free_slot(&self) -> Option<u16> {
        self.view().free_slot()
    }

    /// Writes a whole entry, in use before or not.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity; [`PageError::Impossible`] for a spread or a
    /// centre that cannot be stored.
    pub fn put(&mut self, slot: u16, hub: &NewHub<'_>) -> Result<(), PageError> {
        let quantised = Quantised::new(hub.centre, hub.spread, self.shape.centre_len)?;
        let mut entry = self.slot_mut(slot)?;
        entry.head[USED] = 1;
        entry.write_node(hub.node_block, hub.node_generation);
        entry.write_links(hub.links);
        quantised.write(entry.head, entry.centre);
        Ok(())
    }

    /// Changes an entry's links; what is beyond the page's `max_links` is cut.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity or not in use.
    pub fn set_links(&mut self, slot: u16, links: &[HubRef]) -> Result<(), PageError> {
        self.used_mut(slot)?.write_links(links);
        Ok(())
    }

    /// Changes an entry's node page.
    ///
    /// # Errors
    /// As [`HubPageMut::set_links`].
    pub fn set_node(&mut self, slot: u16, block: u32, generation: u32) -> Result<(), PageError> {
        self.used_mut(slot)?.write_node(block, generation);
        Ok(())
    }

    /// Changes an entry's centre and spread.
    ///
    /// # Errors
    /// As [`HubPageMut::put`], and [`PageError::NoEntry`] for a slot not in use.
    pub fn set_centre(&mut self, slot: u16, centre: &[f32], spread: f32) -> Result<(), PageError> {
        let quantised = Quantised::new(centre, spread, self.shape.centre_len)?;
        let entry = self.used_mut(slot)?;
        quantised.write(entry.head, entry.centre);
        Ok(())
    }

    /// Zeroes a slot, in use or not, which is then free.
    ///
    /// # Errors
    /// [`PageError::NoEntry`] for a slot beyond the capacity.
    pub fn clear(&mut self, slot: u16) -> Result<(), PageError> {
        let entry = self.slot_mut(slot)?;
        entry.head.fill(0);
        entry.centre.fill(0);
        entry.links.fill([0; REF_BYTES]);
        Ok(())
    }

    fn slot_mut(&mut self, slot: u16) -> Result<EntryMut<'_>, PageError> {
        let Shape { centre_len, .. } = self.shape;
        self.entries
            .chunks_exact_mut(self.shape.entry_bytes())
            .nth(usize::from(slot))
            .and_then(|bytes| {
                let (head, rest) = bytes.split_first_chunk_mut()?;
                let (centre, links) = rest.split_at_mut(centre_len);
                Some(EntryMut { head, centre, links: links.as_chunks_mut().0 })
            })
            .ok_or(PageError::NoEntry { slot })
    }

    fn used_mut(&mut self, slot: u16) -> Result<EntryMut<'_>, PageError> {
        self.slot_mut(slot).and_then(|entry| match entry.head[USED] {
            0 => Err(PageError::NoEntry { slot }),
            _ => Ok(entry),
        })
    }
}

/// The three parts of one slot.
struct EntryMut<'a> {
    head: &'a mut [u8; ENTRY_FIXED],
    centre: &'a mut [u8],
    /// All there is room for, in use or not: at most [`MAX_LINKS`].
    links: &'a mut [[u8; REF_BYTES]],
}

impl EntryMut<'_> {
    fn write_node(&mut self, block: u32, generation: u32) {
        put(self.head, NODE_BLOCK, block.to_le_bytes());
        put(self.head, NODE_GENERATION, generation.to_le_bytes());
    }

    fn write_links(&mut self, links: &[HubRef]) {
        let count = links.len().min(self.links.len());
        self.head[LINK_COUNT] = count as u8;
        let (used, rest) = self.links.split_at_mut(count);
        for (bytes, link) in used.iter_mut().zip(links) {
            *bytes = link.to_bytes();
        }
        rest.fill([0; REF_BYTES]);
    }
}

/// A centre and its spread, checked and ready to be written.
struct Quantised<'a> {
    centre: &'a [f32],
    scale: f32,
    spread: f16,
}

impl<'a> Quantised<'a> {
    fn new(centre: &'a [f32], spread: f32, centre_len: usize) -> Result<Quantised<'a>, PageError> {
        let centre = &centre[..centre.len().min(centre_len)];
        if let Some(value) = centre.iter().find(|value| !value.is_finite()) {
            return impossible("hub centre value", value.to_bits());
        }
        let scale = centre.iter().fold(0.0, |most: f32, value| most.max(value.abs())) / 127.0;
        check_scale(scale)?;
        let spread = f16::from_f32(spread);
        check_spread(spread)?;
        Ok(Quantised { centre, scale, spread })
    }

    /// `out` has at least as many bytes as the centre has values.
    fn write(&self, head: &mut [u8; ENTRY_FIXED], out: &mut [u8]) {
        put(head, SPREAD, self.spread.to_le_bytes());
        put(head, SCALE, self.scale.to_le_bytes());
        out.fill(0);
        if self.scale > 0.0 {
            for (code, value) in out.iter_mut().zip(self.centre) {
                // -127..=127: -128 is left out, so that the code of -x is minus that of x.
                *code = (value / self.scale).round().clamp(-127.0, 127.0) as i8 as u8;
            }
        }
    }
}

/// The geometry of an entry: within what can be stored.
#[derive(Clone, Copy, Debug)]
struct Shape {
    centre_len: usize,
    max_links: usize,
}

impl Shape {
    fn new(centre_len: usize, max_links: usize) -> Result<Shape, PageError> {
        if centre_len > usize::from(u16::MAX) {
            return impossible("hub centre length", centre_len);
        }
        if max_links > MAX_LINKS {
            return impossible("hub link limit", max_links);
        }
        Ok(Shape { centre_len, max_links })
    }

    /// The page's shape and the bytes that its entries take, which lie within the body.
    fn read(header: &[u8; FIXED], body_len: usize) -> Result<(Shape, usize), PageError> {
        let centre_len = usize::from(get_u16(header, CENTRE_LEN));
        let shape = Shape::new(centre_len, usize::from(get_u16(header, MAX_LINKS_AT)))?;
        let capacity = usize::from(get_u16(header, CAPACITY));
        if capacity == 0 || capacity > shape.capacity(body_len) {
            return impossible("hub page capacity", capacity);
        }
        match get_u16(header, RESERVED) {
            0 => Ok((shape, capacity * shape.entry_bytes())),
            other => impossible("reserved bytes of a hub page", other),
        }
    }

    fn entry_bytes(self) -> usize {
        ENTRY_FIXED + self.centre_len + self.max_links * REF_BYTES
    }

    fn capacity(self, body_len: usize) -> usize {
        (body_len.saturating_sub(FIXED) / self.entry_bytes()).min(usize::from(u16::MAX))
    }

    /// Checks one slot, in use or not.
    fn check(self, bytes: &[u8]) -> Result<(), PageError> {
        if bytes[USED] > 1 {
            return impossible("use of a hub slot", bytes[USED]);
        }
        if bytes[USED] == 1 && usize::from(bytes[LINK_COUNT]) > self.max_links {
            return impossible("hub link count", bytes[LINK_COUNT]);
        }
        let Some(entry) = self.entry(bytes) else { return Ok(()) };
        check_spread(f16::from_le_bytes(get(entry.head, SPREAD)))?;
        check_scale(scale(entry.head))
    }

    /// The entry at the start of these bytes, which were checked; none when it is not in use.
    fn entry(self, bytes: &[u8]) -> Option<HubEntry<'_>> {
        let (head, rest) = bytes.split_first_chunk::<ENTRY_FIXED>()?;
        let (centre, rest) = rest.split_at_checked(self.centre_len)?;
        let links = rest.as_chunks().0.get(..usize::from(head[LINK_COUNT]))?;
        (head[USED] != 0).then_some(HubEntry { head, centre, links })
    }
}

fn scale(head: &[u8; ENTRY_FIXED]) -> f32 {
    f32::from_le_bytes(get(head, SCALE))
}

fn check_scale(scale: f32) -> Result<(), PageError> {
    // Written so that NaN fails.
    if (0.0..=LARGEST_SCALE).contains(&scale) { Ok(()) } else { impossible("hub scale", scale.to_bits()) }
}

fn check_spread(spread: f16) -> Result<(), PageError> {
    if (f16::ZERO..=f16::MAX).contains(&spread) { Ok(()) } else { impossible("hub spread", spread.to_bits()) }
}
