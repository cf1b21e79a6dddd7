//! The meta page, block 0: what the index is, where its chains start, and counts as of the last build or
//! vacuum.

use crate::bytes::{get, get_u16, get_u32, get_u64, put};
use crate::error::{PageError, impossible};
use crate::header::{OWN, PageKind, expect, generation_of, start};
use crate::refs::{HubRef, REF_BYTES};

/// The longest model name, in bytes of UTF-8.
pub const MAX_MODEL_NAME: usize = leann_value::MAX_NAME;

/// The most entry hubs.
pub const MAX_ENTRY_HUBS: usize = 64;

/// The most dimensions an embedding may have; more is taken for damage, before anyone allocates for it.
pub const MAX_DIM: u32 = leann_value::MAX_DIM as u32;

const INDEX_ID: usize = OWN;
const SEED: usize = 16;
const ROWS_AT_BUILD: usize = 24;
const NODES: usize = 32;
const FINGERPRINT: usize = 40;
const DIM: usize = 72;
const PARAMS_FIRST: usize = 76;
const PARAMS_LEN: usize = 80;
const PARAMS_CHECKSUM: usize = 84;
const HUB_FIRST: usize = 88;
const NODE_PAGES: usize = 92;
const HUB_PAGES: usize = 96;
const FREE_PAGES: usize = 100;
const ROWS_TRAINED: usize = 104;
const SKETCH_BYTES: usize = 108;
const DIRECTIONS: usize = 110;
const CENTRE_LEN: usize = 112;
const MAX_LINKS: usize = 114;
const SKETCH_FORM: usize = 116;
const MODEL_LEN: usize = 117;
const ENTRY_HUB_COUNT: usize = 118;
const MODEL: usize = 120;
/// The name's 127 bytes and one that is always zero.
const MODEL_ROOM: usize = MAX_MODEL_NAME + 1;
const ENTRY_HUBS: usize = MODEL + MODEL_ROOM;
const TRUNCATED_ROWS: usize = ENTRY_HUBS + MAX_ENTRY_HUBS * REF_BYTES;
/// Bytes before the reserved tail, which goes on to the end of the body.
const FIXED: usize = TRUNCATED_ROWS + 8;

/// What the sketches of an index are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SketchForm {
    /// Codes that know nothing of the index's rows: it was made without any.
    Untrained = 0,
    /// Codes trained on the index's own rows, with parameters of their own.
    Trained = 1,
    /// The embeddings themselves, in 16-bit floats.
    Float16 = 2,
}

/// What the meta page says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Drawn at random for each build, so that what is cached of one index is never taken for another's.
    pub index_id: u64,
    /// The model's name: at most [`MAX_MODEL_NAME`] bytes, none of them NUL.
    pub model: String,
    /// The model's fingerprint: hash of its weights, tokenizer and settings.
    pub fingerprint: [u8; 32],
    /// Dimensions of an embedding, at most [`MAX_DIM`].
    pub dim: u32,
    /// Bytes of a sketch.
    pub sketch_bytes: u16,
    /// Values of a decoded sketch (m).
    pub directions: u16,
    /// Values of a hub's centre.
    pub centre_len: u16,
    /// Links that a hub entry has room for.
    pub max_links: u16,
    /// What sketches are.
    pub sketch_form: SketchForm,
    /// Seed of the sketch's random choices.
    pub seed: u64,
    /// Rows that the sketch was trained on.
    pub rows_trained: u32,
    /// Rows whose text was longer than the model reads: of the build, and of inserts since.
    pub truncated_rows: u64,
    /// Block number of the first params page, or [`crate::NO_PAGE`].
    pub params_first: u32,
    /// Bytes of the parameters, over all params pages.
    pub params_len: u32,
    /// Checksum of the parameters, as the writer reckons it.
    pub params_checksum: u32,
    /// Block number of the first hub page, or [`crate::NO_PAGE`].
    pub hub_first: u32,
    /// Hubs at which a walk starts: at most [`MAX_ENTRY_HUBS`].
    pub entry_hubs: Vec<HubRef>,
    /// Rows in the index when it was built.
    pub rows_at_build: u64,
    /// Nodes as of the last build or vacuum.
    pub nodes: u64,
    /// Node pages as of the last build or vacuum.
    pub node_pages: u32,
    /// Hub pages as of the last build or vacuum.
    pub hub_pages: u32,
    /// Free pages as of the last build or vacuum.
    pub free_pages: u32,
}

impl Meta {
    /// Makes a meta page of these bytes, whatever they were.
    ///
    /// # Errors
    /// [`PageError::Short`], or [`PageError::Impossible`] for a name, a dimension or a list of entry hubs
    /// beyond its limit; the body is then as it was.
    pub fn encode(&self, body: &mut [u8]) -> Result<(), PageError> {
        check_dim(self.dim)?;
        check_name(&self.model)?;
        if self.entry_hubs.len() > MAX_ENTRY_HUBS {
            return impossible("entry hub count", self.entry_hubs.len());
        }
        let page: &mut [u8; FIXED] = start(body, PageKind::Meta, 0)?;
        self.put_numbers(page);
        put(page, FINGERPRINT, self.fingerprint);
        // Both lengths were checked above.
        page[MODEL_LEN] = self.model.len() as u8;
        page[MODEL..MODEL + self.model.len()].copy_from_slice(self.model.as_bytes());
        put(page, ENTRY_HUB_COUNT, (self.entry_hubs.len() as u16).to_le_bytes());
        for (i, hub) in self.entry_hubs.iter().enumerate() {
            put(page, ENTRY_HUBS + i * REF_BYTES, hub.to_bytes());
        }
        Ok(())
    }

    fn put_numbers(&self, page: &mut [u8; FIXED]) {
        put(page, INDEX_ID, self.index_id.to_le_bytes());
        put(page, SEED, self.seed.to_le_bytes());
        put(page, ROWS_AT_BUILD, self.rows_at_build.to_le_bytes());
        put(page, NODES, self.nodes.to_le_bytes());
        put(page, TRUNCATED_ROWS, self.truncated_rows.to_le_bytes());
        put(page, DIM, self.dim.to_le_bytes());
        put(page, PARAMS_FIRST, self.params_first.to_le_bytes());
        put(page, PARAMS_LEN, self.params_len.to_le_bytes());
        put(page, PARAMS_CHECKSUM, self.params_checksum.to_le_bytes());
        put(page, HUB_FIRST, self.hub_first.to_le_bytes());
        put(page, NODE_PAGES, self.node_pages.to_le_bytes());
        put(page, HUB_PAGES, self.hub_pages.to_le_bytes());
        put(page, FREE_PAGES, self.free_pages.to_le_bytes());
        put(page, ROWS_TRAINED, self.rows_trained.to_le_bytes());
        put(page, SKETCH_BYTES, self.sketch_bytes.to_le_bytes());
        put(page, DIRECTIONS, self.directions.to_le_bytes());
        put(page, CENTRE_LEN, self.centre_len.to_le_bytes());
        put(page, MAX_LINKS, self.max_links.to_le_bytes());
        page[SKETCH_FORM] = self.sketch_form as u8;
    }

    /// Reads a body, the exact inverse of [`Meta::encode`].
    ///
    /// # Errors
    /// Any but [`PageError::Full`] and [`PageError::NoEntry`]. Bytes that this version has no use for
    /// must be zero.
    pub fn decode(body: &[u8]) -> Result<Meta, PageError> {
        let page: &[u8; FIXED] = expect(body, PageKind::Meta)?;
        if generation_of(page) != 0 {
            return impossible("meta page generation", generation_of(page));
        }
        expect_zero("reserved bytes of the meta page", &body[FIXED..])?;
        let sketch_form = match page[SKETCH_FORM] {
            0 => SketchForm::Untrained,
            1 => SketchForm::Trained,
            2 => SketchForm::Float16,
            other => return impossible("form of sketches", other),
        };
        check_dim(get_u32(page, DIM))?;
        Ok(Meta {
            index_id: get_u64(page, INDEX_ID),
            model: read_model(page)?,
            fingerprint: get(page, FINGERPRINT),
            dim: get_u32(page, DIM),
            sketch_bytes: get_u16(page, SKETCH_BYTES),
            directions: get_u16(page, DIRECTIONS),
            centre_len: get_u16(page, CENTRE_LEN),
            max_links: get_u16(page, MAX_LINKS),
            sketch_form,
            seed: get_u64(page, SEED),
            rows_trained: get_u32(page, ROWS_TRAINED),
            truncated_rows: get_u64(page, TRUNCATED_ROWS),
            params_first: get_u32(page, PARAMS_FIRST),
            params_len: get_u32(page, PARAMS_LEN),
            params_checksum: get_u32(page, PARAMS_CHECKSUM),
            hub_first: get_u32(page, HUB_FIRST),
            entry_hubs: read_entry_hubs(page)?,
            rows_at_build: get_u64(page, ROWS_AT_BUILD),
            nodes: get_u64(page, NODES),
            node_pages: get_u32(page, NODE_PAGES),
            hub_pages: get_u32(page, HUB_PAGES),
            free_pages: get_u32(page, FREE_PAGES),
        })
    }
}

fn read_model(page: &[u8; FIXED]) -> Result<String, PageError> {
    let len = usize::from(page[MODEL_LEN]);
    if len > MAX_MODEL_NAME {
        return impossible("model name length", len);
    }
    let (name, rest) = page[MODEL..ENTRY_HUBS].split_at(len);
    expect_zero("bytes after the model name", rest)?;
    match std::str::from_utf8(name) {
        Ok(name) => check_name(name).map(|()| name.to_owned()),
        Err(error) => impossible("byte in the model name, at", error.valid_up_to()),
    }
}

fn read_entry_hubs(page: &[u8; FIXED]) -> Result<Vec<HubRef>, PageError> {
    let hubs = page[ENTRY_HUBS..TRUNCATED_ROWS].as_chunks().0;
    let count = get_u16(page, ENTRY_HUB_COUNT);
    let Some((hubs, rest)) = hubs.split_at_checked(usize::from(count)) else {
        return impossible("entry hub count", count);
    };
    expect_zero("bytes after the entry hubs", rest.as_flattened())?;
    Ok(hubs.iter().map(HubRef::from_bytes).collect())
}

/// A name that could not be handed to C would be found out too late.
fn check_name(name: &str) -> Result<(), PageError> {
    if name.len() > MAX_MODEL_NAME {
        return impossible("model name length", name.len());
    }
    match name.find('\0') {
        Some(at) => impossible("byte in the model name, at", at),
        None => Ok(()),
    }
}

fn check_dim(dim: u32) -> Result<(), PageError> {
    if dim > MAX_DIM { impossible("number of dimensions", dim) } else { Ok(()) }
}

fn expect_zero(what: &'static str, bytes: &[u8]) -> Result<(), PageError> {
    match bytes.iter().find(|&&byte| byte != 0) {
        Some(&byte) => impossible(what, byte),
        None => Ok(()),
    }
}
