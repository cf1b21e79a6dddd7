//! Sample data that several test files share.

use leann_page::{HubRef, Meta, SketchForm};

/// Returns a meta page with all fields in use. Its encoded form is a seed of the fuzz target `meta`.
pub fn sample_meta() -> Meta {
    Meta {
        index_id: 9,
        model: "modèle".to_owned(),
        fingerprint: [7; 32],
        dim: 384,
        sketch_bytes: 56,
        components: 192,
        center_len: 96,
        max_links: 24,
        sketch_form: SketchForm::Trained,
        seed: 1,
        rows_trained: 300,
        truncated_rows: 0,
        params_first: 1,
        params_len: 2000,
        params_checksum: 3,
        hub_first: 4,
        entry_hubs: vec![HubRef { page: 4, slot: 2 }; 7],
        rows_at_build: 1000,
        nodes: 1000,
        untrained_nodes: 20,
        untrained_at_build: 10,
        fit_at_build: 8_500,
        node_pages: 9,
        hub_pages: 1,
        free_pages: 0,
    }
}
