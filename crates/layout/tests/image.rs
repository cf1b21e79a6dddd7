//! An index built in memory: what its pages hold, page by page.

use std::collections::HashMap;

use half::f16;
use leann_graph::F16Vectors;
use leann_layout::{
    BuildOptions, Image, LayoutError, Node, Planned, SourceRows, divide, lay_out, planned_empty, train,
};
use leann_page::{
    HeapPointer, HubPage, HubRef, Meta, NO_PAGE, NodePage, PageError, PageKind, ParamsPage, SketchForm, kind,
};
use leann_sketch::Sketcher;
use leann_vector::{Rng, normalize};

const DIM: usize = 48;
const BODY_BYTES: usize = 8192 - 24;

/// Rows around some centers, as texts on some subjects are.
fn embeddings(rows: usize) -> Vec<f16> {
    let mut rng = Rng::new(17);
    let mut uniform = move || rng.below(2_000_001) as f32 / 1e6 - 1.0;
    let subjects: Vec<Vec<f32>> = (0..30).map(|_| (0..DIM).map(|_| uniform()).collect()).collect();
    let mut values = Vec::with_capacity(rows * DIM);
    for row in 0..rows {
        let mut vector: Vec<f32> = subjects[row % 30].iter().map(|x| x + 0.5 * uniform()).collect();
        assert!(normalize(&mut vector));
        values.extend(vector.into_iter().map(f16::from_f32));
    }
    values
}

fn pointers(rows: usize) -> Vec<HeapPointer> {
    (0..rows).map(|row| HeapPointer { block: row as u32 / 10, offset: 1 + row as u16 % 10 }).collect()
}

fn options() -> BuildOptions {
    BuildOptions {
        sketch_bytes: 16,
        fill_percent: 97,
        store_embeddings: false,
        body_bytes: BODY_BYTES,
        seed: 5,
    }
}

/// A built index: its sketcher and the bodies of its pages.
struct Built {
    sketcher: Sketcher,
    bodies: Vec<Vec<u8>>,
}

fn write(image: &Image<'_>) -> Result<Vec<Vec<u8>>, PageError> {
    let mut bodies = Vec::new();
    image.write(&mut |body| bodies.push(body.to_vec()))?;
    Ok(bodies)
}

fn image<'a>(
    sketcher: &'a Sketcher,
    planned: &'a Planned,
    embeddings: &'a F16Vectors<'a>,
    pointers: &'a [HeapPointer],
) -> Image<'a> {
    Image {
        model: "some-model",
        fingerprint: [7; 32],
        sketcher,
        seed: 5,
        index_id: 99,
        rows_trained: if sketcher.is_trained() { 1000 } else { 0 },
        truncated_rows: 3,
        embeddings,
        pointers,
        planned,
        body_bytes: BODY_BYTES,
    }
}

fn build(values: &[f16], pointers: &[HeapPointer], options: &BuildOptions) -> Built {
    let embeddings = F16Vectors::new(values, DIM);
    let rows = SourceRows { embeddings: &embeddings, dim: DIM, pointers };
    let sketcher = train(rows, options, &|| false).unwrap().sketcher;
    let planned = lay_out(rows, &sketcher, options, &|| false).unwrap();
    let bodies = write(&image(&sketcher, &planned, &embeddings, pointers)).unwrap();
    Built { sketcher, bodies }
}

impl Built {
    fn meta(&self) -> Meta {
        Meta::decode(&self.bodies[0]).unwrap()
    }

    fn of_kind(&self, wanted: PageKind) -> impl Iterator<Item = (u32, &[u8])> {
        (0..)
            .zip(&self.bodies)
            .filter(move |(_, body)| kind(body) == Ok(wanted))
            .map(|(at, body)| (at, &**body))
    }

    fn node_pages(&self) -> impl Iterator<Item = (u32, NodePage<'_>)> {
        self.of_kind(PageKind::Node).map(|(block, body)| (block, NodePage::parse(body).unwrap()))
    }
}

#[test]
fn every_row_lies_on_one_page_with_its_sketch() {
    let (values, pointers) = (embeddings(3000), pointers(3000));
    let built = build(&values, &pointers, &options());
    let rows: HashMap<HeapPointer, usize> = pointers.iter().enumerate().map(|(row, at)| (*at, row)).collect();
    let mut seen = vec![false; 3000];
    for (_, page) in built.node_pages() {
        assert!(page.count() > 0, "no page is empty");
        for (pointer, sketch) in page.heap_pointers().zip(page.sketches().chunks_exact(page.sketch_bytes())) {
            let row = rows[&pointer];
            assert!(!std::mem::replace(&mut seen[row], true), "{pointer:?} lies on two pages");
            let embedding: Vec<f32> = values[row * DIM..][..DIM].iter().map(|x| x.to_f32()).collect();
            let mut expected = vec![0; built.sketcher.sketch_bytes()];
            built.sketcher.encode(&embedding, &mut expected);
            assert_eq!(sketch, expected);
        }
    }
    assert!(seen.into_iter().all(|seen| seen));
}

#[test]
fn hubs_and_node_pages_name_each_other() {
    let built = build(&embeddings(3000), &pointers(3000), &options());
    let meta = built.meta();
    let node_pages: HashMap<u32, HubRef> =
        built.node_pages().map(|(block, page)| (block, page.hub())).collect();
    let mut hubs = HashMap::new();
    let mut next = meta.hub_first;
    while next != NO_PAGE {
        let page = HubPage::parse(&built.bodies[next as usize]).unwrap();
        for (slot, entry) in page.entries() {
            assert_eq!(entry.node_generation(), 1);
            let at = HubRef { page: next, slot };
            hubs.insert(at, (entry.node_block(), entry.links().collect::<Vec<_>>()));
        }
        next = page.next();
    }
    assert_eq!(hubs.len(), node_pages.len());
    assert_eq!((meta.node_pages as usize, meta.nodes), (node_pages.len(), 3000));
    assert_eq!(meta.hub_pages as usize, built.of_kind(PageKind::Hub).count());
    for (at, (block, links)) in &hubs {
        assert_eq!(node_pages[block], *at);
        assert!(!links.is_empty() && links.len() <= meta.max_links as usize);
        assert!(links.iter().all(|link| link != at && hubs.contains_key(link)));
    }
    assert!(!meta.entry_hubs.is_empty() && meta.entry_hubs.iter().all(|hub| hubs.contains_key(hub)));
}

#[test]
fn the_parameters_read_back() {
    let built = build(&embeddings(3000), &pointers(3000), &options());
    let meta = built.meta();
    assert_eq!(meta.sketch_form, SketchForm::Trained);
    let (mut bytes, mut next) = (Vec::new(), meta.params_first);
    while next != NO_PAGE {
        let page = ParamsPage::parse(&built.bodies[next as usize]).unwrap();
        bytes.extend_from_slice(page.chunk());
        next = page.next();
    }
    assert_eq!(bytes, built.sketcher.to_bytes());
    assert_eq!((bytes.len(), crc32fast::hash(&bytes)), (meta.params_len as usize, meta.params_checksum));
    assert_eq!((meta.model.as_str(), meta.fingerprint, meta.truncated_rows), ("some-model", [7; 32], 3));
}

#[test]
fn pages_are_as_full_as_the_options_say() {
    let (values, pointers) = (embeddings(3000), pointers(3000));
    let mean_fill = |fill_percent| {
        let built = build(&values, &pointers, &BuildOptions { fill_percent, ..options() });
        let (nodes, slots) = built
            .node_pages()
            .fold((0, 0), |(nodes, slots), (_, page)| (nodes + page.count(), slots + page.capacity()));
        nodes as f64 / slots as f64
    };
    assert!(mean_fill(97) > 0.8);
    assert!((0.4..0.6).contains(&mean_fill(50)));
}

#[test]
fn an_index_over_no_rows_has_one_empty_page() {
    let sketcher = options().first_sketcher(DIM);
    let planned = planned_empty(&sketcher);
    let bodies = write(&image(&sketcher, &planned, &F16Vectors::new(&[], DIM), &[])).unwrap();
    let built = Built { sketcher, bodies };
    assert_eq!(built.bodies.len(), 3);
    assert_eq!(built.node_pages().map(|(_, page)| page.count()).collect::<Vec<_>>(), [0]);
    assert_eq!(built.meta().sketch_form, SketchForm::Untrained);
}

#[test]
fn stored_embeddings_come_from_the_rows() {
    let (values, pointers) = (embeddings(200), pointers(200));
    let built = build(&values, &pointers, &BuildOptions { store_embeddings: true, ..options() });
    assert_eq!(built.meta().sketch_form, SketchForm::Float16);
    let (_, page) = built.node_pages().next().unwrap();
    let first = page.heap_pointers().next().unwrap();
    let row = pointers.iter().position(|at| *at == first).unwrap();
    let mut decoded = vec![0.0; built.sketcher.components()];
    built.sketcher.decode(&page.sketches()[..page.sketch_bytes()], &mut decoded);
    let stored: Vec<f32> = values[row * DIM..][..DIM].iter().map(|x| x.to_f32()).collect();
    assert_eq!(decoded, stored);
}

#[test]
fn a_name_that_no_page_holds_is_an_error() {
    let sketcher = options().first_sketcher(DIM);
    let planned = planned_empty(&sketcher);
    let embeddings = F16Vectors::new(&[], DIM);
    let model = "m".repeat(10_000);
    let image = Image { model: &model, ..image(&sketcher, &planned, &embeddings, &[]) };
    assert!(write(&image).is_err());
}

#[test]
fn work_ends_when_it_is_stopped() {
    let (values, pointers) = (embeddings(3000), pointers(3000));
    let embeddings = F16Vectors::new(&values, DIM);
    let rows = SourceRows { embeddings: &embeddings, dim: DIM, pointers: &pointers };
    assert!(matches!(train(rows, &options(), &|| true), Err(LayoutError::Stopped)));
    let sketcher = options().first_sketcher(DIM);
    assert!(matches!(lay_out(rows, &sketcher, &options(), &|| true), Err(LayoutError::Stopped)));
}

#[test]
fn a_divided_page_loses_no_node() {
    let (values, pointers) = (embeddings(3000), pointers(3000));
    let built = build(&values, &pointers, &options());
    let (_, page) = built.node_pages().max_by_key(|(_, page)| page.count()).unwrap();
    let sketches = page.sketches().chunks_exact(page.sketch_bytes());
    let nodes: Vec<Node> = page
        .heap_pointers()
        .zip(sketches)
        .map(|(pointer, sketch)| Node { pointer, sketch: sketch.to_vec() })
        .collect();
    let halves = divide(nodes.clone(), &built.sketcher, built.meta().center_len as usize);
    let mut together: Vec<Node> = halves.iter().flat_map(|half| half.nodes.clone()).collect();
    let by_pointer = |a: &Node, b: &Node| a.pointer.cmp(&b.pointer);
    together.sort_by(by_pointer);
    let mut expected = nodes.clone();
    expected.sort_by(by_pointer);
    assert_eq!(together, expected);
    for half in &halves {
        assert!(half.nodes.len() * 10 >= nodes.len() * 3, "{} of {}", half.nodes.len(), nodes.len());
        let mut body = vec![0; BODY_BYTES];
        half.write(&mut body, 4, page.sketch_bytes(), HubRef { page: 1, slot: 2 }).unwrap();
        let written = NodePage::parse(&body).unwrap();
        assert_eq!((written.count(), written.generation()), (half.nodes.len(), 4));
    }
}
