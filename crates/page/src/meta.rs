//! The meta page, block 0: the identity of the index, the starts of its chains, and counts as of the last
//! build or vacuum.

use leann_value::{MAX_DIM, MAX_MODEL_NAME_BYTES};

use crate::bytes::{get, get_u16, get_u32, get_u64, put};
use crate::error::{OutOfLimits, PageError, damaged, unstorable};
use crate::header::{KIND_FIELDS, expect, generation_of, start};
use crate::page_kind::PageKind;
use crate::refs::{HubRef, REF_BYTES};

/// The most entry hubs that the meta page has room for.
pub const MAX_ENTRY_HUBS: usize = 64;

/// Offsets of the fields, in bytes from the start of the body; `README.md` describes the fields.
mod offset {
    use super::{KIND_FIELDS, MAX_ENTRY_HUBS, MODEL_BYTES, REF_BYTES};

    pub(super) const INDEX_ID: usize = KIND_FIELDS;
    pub(super) const SEED: usize = 16;
    pub(super) const ROWS_AT_BUILD: usize = 24;
    pub(super) const NODES: usize = 32;
    pub(super) const FINGERPRINT: usize = 40;
    pub(super) const DIM: usize = 72;
    pub(super) const PARAMS_FIRST: usize = 76;
    pub(super) const PARAMS_LEN: usize = 80;
    pub(super) const PARAMS_CHECKSUM: usize = 84;
    pub(super) const HUB_FIRST: usize = 88;
    pub(super) const NODE_PAGES: usize = 92;
    pub(super) const HUB_PAGES: usize = 96;
    pub(super) const FREE_PAGES: usize = 100;
    pub(super) const ROWS_TRAINED: usize = 104;
    pub(super) const SKETCH_BYTES: usize = 108;
    pub(super) const COMPONENTS: usize = 110;
    pub(super) const CENTER_LEN: usize = 112;
    pub(super) const MAX_LINKS: usize = 114;
    pub(super) const SKETCH_FORM: usize = 116;
    pub(super) const MODEL_LEN: usize = 117;
    pub(super) const ENTRY_HUB_COUNT: usize = 118;
    pub(super) const MODEL: usize = 120;
    pub(super) const ENTRY_HUBS: usize = MODEL + MODEL_BYTES;
    pub(super) const TRUNCATED_ROWS: usize = ENTRY_HUBS + MAX_ENTRY_HUBS * REF_BYTES;
    pub(super) const UNTRAINED_NODES: usize = TRUNCATED_ROWS + 8;
    pub(super) const UNTRAINED_AT_BUILD: usize = UNTRAINED_NODES + 8;
    pub(super) const FIT_AT_BUILD: usize = UNTRAINED_AT_BUILD + 8;
}

/// Bytes reserved for the name of the model: the longest name, and one byte that is always zero.
const MODEL_BYTES: usize = MAX_MODEL_NAME_BYTES + 1;

// Format version 1 has 128 bytes for the name and one for its length.
const _: () = assert!(MODEL_BYTES == 128);

/// Length in bytes of what precedes the reserved tail, which extends to the end of the body.
const FIXED_BYTES: usize = offset::FIT_AT_BUILD + 4;

/// The form of the sketches (quantized codes) of an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SketchForm {
    /// Codes without training: the build had no rows, or not enough of them to train on.
    Untrained = 0,
    /// Codes trained on rows of the index, with parameters on params pages.
    Trained = 1,
    /// The embeddings themselves, as 16-bit floats.
    Float16 = 2,
    /// Codes without training, and since a VACUUM codes trained on these, with parameters on params pages.
    TrainedInPlace = 3,
}

impl SketchForm {
    /// Returns whether there are parameters that codes were trained with.
    pub fn is_trained(self) -> bool {
        matches!(self, SketchForm::Trained | SketchForm::TrainedInPlace)
    }
}

/// The contents of the meta page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Random number, drawn by each build: it keeps cached data of one index from being taken for that of
    /// another.
    pub index_id: u64,
    /// Name of the model: at most [`MAX_MODEL_NAME_BYTES`] bytes, none of them NUL.
    pub model: String,
    /// Fingerprint of the model: a hash of its weights, tokenizer and settings.
    pub fingerprint: [u8; 32],
    /// Dimensions of an embedding, at most [`MAX_DIM`].
    pub dim: u32,
    /// Length of a sketch in bytes.
    pub sketch_bytes: u16,
    /// Number of components of a decoded sketch. Those of a trained sketch are principal components.
    pub components: u16,
    /// Number of components of the center of a hub: the leading ones of a decoded sketch.
    pub center_len: u16,
    /// Number of links that a hub entry has room for.
    pub max_links: u16,
    /// Form of the sketches.
    pub sketch_form: SketchForm,
    /// Seed of the random choices of the sketches.
    pub seed: u64,
    /// Number of rows on which the sketches were trained.
    pub rows_trained: u32,
    /// Number of rows whose text is longer than the model reads: rows of the build, and inserts since.
    pub truncated_rows: u64,
    /// Block number of the first params page, or [`crate::NO_PAGE`].
    pub params_first: u32,
    /// Length in bytes of the parameters on all params pages together.
    pub params_len: u32,
    /// Checksum of the parameters. The caller computes and verifies it.
    pub params_checksum: u32,
    /// Block number of the first hub page, or [`crate::NO_PAGE`].
    pub hub_first: u32,
    /// Hubs at which walks start: at most [`MAX_ENTRY_HUBS`].
    pub entry_hubs: Vec<HubRef>,
    /// Number of rows in the index when it was built.
    pub rows_at_build: u64,
    /// Number of nodes as of the last build or vacuum.
    pub nodes: u64,
    /// Number of nodes whose sketches are in the untrained form, as of the last build or vacuum.
    pub untrained_nodes: u64,
    /// The same as of the last build.
    pub untrained_at_build: u64,
    /// Share of the rows' squared length that their sketches kept in the last build, 0 to 10,000.
    pub fit_at_build: u32,
    /// Number of node pages as of the last build or vacuum.
    pub node_pages: u32,
    /// Number of hub pages as of the last build or vacuum.
    pub hub_pages: u32,
    /// Number of free pages as of the last build or vacuum.
    pub free_pages: u32,
}

impl Meta {
    /// Overwrites the body with a meta page.
    ///
    /// # Errors
    /// [`PageError::Short`], or [`PageError::Unstorable`] if the number of dimensions, the name or the number
    /// of entry hubs exceeds its limit, or the name contains NUL; the body is then unchanged.
    pub fn encode(&self, body: &mut [u8]) -> Result<(), PageError> {
        check_dim(self.dim).and_then(|()| check_name(&self.model)).map_err(OutOfLimits::unstorable)?;
        if self.entry_hubs.len() > MAX_ENTRY_HUBS {
            return unstorable("entry hub count", self.entry_hubs.len());
        }
        let page: &mut [u8; FIXED_BYTES] = start(body, PageKind::Meta, 0)?;
        self.put_numbers(page);
        put(page, offset::FINGERPRINT, self.fingerprint);
        // Both lengths were checked above.
        page[offset::MODEL_LEN] = self.model.len() as u8;
        page[offset::MODEL..offset::MODEL + self.model.len()].copy_from_slice(self.model.as_bytes());
        put(page, offset::ENTRY_HUB_COUNT, (self.entry_hubs.len() as u16).to_le_bytes());
        for (i, hub) in self.entry_hubs.iter().enumerate() {
            put(page, offset::ENTRY_HUBS + i * REF_BYTES, hub.to_bytes());
        }
        Ok(())
    }

    /// Writes the fields that are plain numbers.
    fn put_numbers(&self, page: &mut [u8; FIXED_BYTES]) {
        put(page, offset::INDEX_ID, self.index_id.to_le_bytes());
        put(page, offset::SEED, self.seed.to_le_bytes());
        put(page, offset::ROWS_AT_BUILD, self.rows_at_build.to_le_bytes());
        put(page, offset::NODES, self.nodes.to_le_bytes());
        put(page, offset::TRUNCATED_ROWS, self.truncated_rows.to_le_bytes());
        put(page, offset::UNTRAINED_NODES, self.untrained_nodes.to_le_bytes());
        put(page, offset::UNTRAINED_AT_BUILD, self.untrained_at_build.to_le_bytes());
        put(page, offset::FIT_AT_BUILD, self.fit_at_build.to_le_bytes());
        put(page, offset::DIM, self.dim.to_le_bytes());
        put(page, offset::PARAMS_FIRST, self.params_first.to_le_bytes());
        put(page, offset::PARAMS_LEN, self.params_len.to_le_bytes());
        put(page, offset::PARAMS_CHECKSUM, self.params_checksum.to_le_bytes());
        put(page, offset::HUB_FIRST, self.hub_first.to_le_bytes());
        put(page, offset::NODE_PAGES, self.node_pages.to_le_bytes());
        put(page, offset::HUB_PAGES, self.hub_pages.to_le_bytes());
        put(page, offset::FREE_PAGES, self.free_pages.to_le_bytes());
        put(page, offset::ROWS_TRAINED, self.rows_trained.to_le_bytes());
        put(page, offset::SKETCH_BYTES, self.sketch_bytes.to_le_bytes());
        put(page, offset::COMPONENTS, self.components.to_le_bytes());
        put(page, offset::CENTER_LEN, self.center_len.to_le_bytes());
        put(page, offset::MAX_LINKS, self.max_links.to_le_bytes());
        page[offset::SKETCH_FORM] = self.sketch_form as u8;
    }

    /// Reads a body. This is the exact inverse of [`Meta::encode`].
    ///
    /// # Errors
    /// Those that [`PageError`] names for reading. A byte that this version does not use is damage unless it
    /// is zero.
    pub fn decode(body: &[u8]) -> Result<Meta, PageError> {
        let page: &[u8; FIXED_BYTES] = expect(body, PageKind::Meta)?;
        if generation_of(page) != 0 {
            return damaged("meta page generation", generation_of(page));
        }
        expect_zero("reserved bytes of the meta page", &body[FIXED_BYTES..])?;
        let sketch_form = match page[offset::SKETCH_FORM] {
            0 => SketchForm::Untrained,
            1 => SketchForm::Trained,
            2 => SketchForm::Float16,
            3 => SketchForm::TrainedInPlace,
            other => return damaged("form of sketches", other),
        };
        check_dim(get_u32(page, offset::DIM)).map_err(OutOfLimits::damaged)?;
        Ok(Meta {
            index_id: get_u64(page, offset::INDEX_ID),
            model: read_model(page)?,
            fingerprint: get(page, offset::FINGERPRINT),
            dim: get_u32(page, offset::DIM),
            sketch_bytes: get_u16(page, offset::SKETCH_BYTES),
            components: get_u16(page, offset::COMPONENTS),
            center_len: get_u16(page, offset::CENTER_LEN),
            max_links: get_u16(page, offset::MAX_LINKS),
            sketch_form,
            seed: get_u64(page, offset::SEED),
            rows_trained: get_u32(page, offset::ROWS_TRAINED),
            truncated_rows: get_u64(page, offset::TRUNCATED_ROWS),
            params_first: get_u32(page, offset::PARAMS_FIRST),
            params_len: get_u32(page, offset::PARAMS_LEN),
            params_checksum: get_u32(page, offset::PARAMS_CHECKSUM),
            hub_first: get_u32(page, offset::HUB_FIRST),
            entry_hubs: read_entry_hubs(page)?,
            rows_at_build: get_u64(page, offset::ROWS_AT_BUILD),
            nodes: get_u64(page, offset::NODES),
            untrained_nodes: get_u64(page, offset::UNTRAINED_NODES),
            untrained_at_build: get_u64(page, offset::UNTRAINED_AT_BUILD),
            fit_at_build: get_u32(page, offset::FIT_AT_BUILD),
            node_pages: get_u32(page, offset::NODE_PAGES),
            hub_pages: get_u32(page, offset::HUB_PAGES),
            free_pages: get_u32(page, offset::FREE_PAGES),
        })
    }
}

/// Reads the name of the model.
fn read_model(page: &[u8; FIXED_BYTES]) -> Result<String, PageError> {
    let len = usize::from(page[offset::MODEL_LEN]);
    if len > MAX_MODEL_NAME_BYTES {
        return damaged("model name length", len);
    }
    let (name, rest) = page[offset::MODEL..offset::ENTRY_HUBS].split_at(len);
    expect_zero("bytes after the model name", rest)?;
    match std::str::from_utf8(name) {
        Ok(name) => check_name(name).map(|()| name.to_owned()).map_err(OutOfLimits::damaged),
        Err(error) => damaged("byte in the model name, at", error.valid_up_to()),
    }
}

/// Reads the references to the entry hubs.
fn read_entry_hubs(page: &[u8; FIXED_BYTES]) -> Result<Vec<HubRef>, PageError> {
    let hubs = page[offset::ENTRY_HUBS..offset::TRUNCATED_ROWS].as_chunks().0;
    let count = get_u16(page, offset::ENTRY_HUB_COUNT);
    let Some((hubs, rest)) = hubs.split_at_checked(usize::from(count)) else {
        return damaged("entry hub count", count);
    };
    expect_zero("bytes after the entry hubs", rest.as_flattened())?;
    Ok(hubs.iter().map(HubRef::from_bytes).collect())
}

/// Checks the length of a name, and that it has no NUL: the name is later passed to C.
fn check_name(name: &str) -> Result<(), OutOfLimits> {
    OutOfLimits::unless(name.len() <= MAX_MODEL_NAME_BYTES, "model name length", name.len())?;
    match name.find('\0') {
        Some(at) => Err(OutOfLimits::new("byte in the model name, at", at)),
        None => Ok(()),
    }
}

/// Checks a number of dimensions before a caller allocates by it.
fn check_dim(dim: u32) -> Result<(), OutOfLimits> {
    OutOfLimits::unless(dim as usize <= MAX_DIM, "number of dimensions", dim)
}

/// Reports the first byte that is not zero as damage.
fn expect_zero(what: &'static str, bytes: &[u8]) -> Result<(), PageError> {
    match bytes.iter().find(|&&byte| byte != 0) {
        Some(&byte) => damaged(what, byte),
        None => Ok(()),
    }
}
