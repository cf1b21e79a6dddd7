//! Turns rows into pages: the steps of a build and of a split that need no lock, no log and no storage
//! engine.
//!
//! A build goes through [`train`], [`lay_out`] and [`Image::write`]. It trains a sketcher on a sample of the
//! rows, divides the rows among balanced pages, links the pages' hubs, and fills the bodies of all pages in
//! the order of their blocks. A split goes through [`divide()`], which distributes the nodes of a full page
//! and a new one over two pages. [`Locations`] find nodes by the heap pointers of their rows.

#![forbid(unsafe_code)]

mod build;
mod divide;
mod error;
mod image;
mod locations;
mod sample;
mod sizes;

pub use build::{
    BuildOptions, PageFit, Planned, PlannedPage, SourceRows, Training, lay_out, max_training_rows, train,
};
pub use divide::{Half, Node, divide};
pub use error::LayoutError;
pub use image::{Image, planned_empty};
pub use locations::Locations;
pub use sample::DistinctSample;
pub use sizes::{any_page_capacity, center_len};
