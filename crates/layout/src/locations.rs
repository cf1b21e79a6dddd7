//! Finds where nodes lie by the heap pointers of their rows, which an index does not order. Node pages are
//! read in the order of their blocks, each once for many rows, and no further than the row that is asked for.
//!
//! Reading pages must cost less than what it saves. So each question earns a number of pages that may be
//! read, and reading begins once the rest of the index is affordable: at once in a small index, and after
//! some questions in a large one.

use leann_page::HeapPointer;
use std::collections::HashMap;
use std::ops::RangeInclusive;

/// The blocks of nodes, as far as pages were read. A location may be out of date by the time it is used.
pub struct Locations {
    blocks: HashMap<HeapPointer, u32>,
    /// Maximum rows that are kept.
    capacity: usize,
    /// Blocks of the table whose rows are kept: all, unless there were too many rows.
    window: RangeInclusive<u32>,
    /// The first block of the index that was not read.
    next: u32,
    /// The number of pages that may be read.
    affordable: u64,
    /// The number of questions so far.
    questions: u64,
}

impl Locations {
    /// Returns locations that keep at most `capacity` rows, of which none is known.
    pub fn new(capacity: usize) -> Locations {
        Locations {
            blocks: HashMap::new(),
            capacity: capacity.max(1),
            window: 0..=u32::MAX,
            next: 0,
            affordable: 0,
            questions: 0,
        }
    }

    /// Begins a question, which allows that so many pages more are read.
    pub fn earn(&mut self, pages: u64) {
        self.affordable = self.affordable.saturating_add(pages);
        self.questions += 1;
    }

    /// Returns whether this is the first question, in an index of so many blocks that may be read now. Most
    /// statements have no other, and keep nothing then: the pages are read, and paid for, without it.
    pub fn is_single(&mut self, blocks: u32) -> bool {
        let single = self.questions <= 1 && u64::from(blocks) <= self.affordable;
        if single {
            self.affordable -= u64::from(blocks);
        }
        single
    }

    /// Returns the block that a row's node was seen on last.
    pub fn block_of(&self, row: HeapPointer) -> Option<u32> {
        self.blocks.get(&row).copied()
    }

    /// Returns the next block to read in an index of so many blocks; None if all were read, or if the rest
    /// costs too much for now.
    pub fn next_block(&mut self, blocks: u32) -> Option<u32> {
        let rest = blocks.saturating_sub(self.next);
        if rest == 0 || u64::from(rest) > self.affordable {
            return None;
        }
        self.affordable -= 1;
        self.next += 1;
        Some(self.next - 1)
    }

    /// Returns whether the row is among those that are kept once their page was read.
    pub fn keeps(&self, row: HeapPointer) -> bool {
        self.window.contains(&row.block)
    }

    /// Forgets all locations, because one was out of date or because rows of other blocks are asked for. The
    /// index, of so many blocks, is then read again from its first one. Returns false, and forgets nothing,
    /// if that costs too much for now.
    pub fn start_over(&mut self, wanted: HeapPointer, blocks: u32) -> bool {
        if u64::from(blocks) > self.affordable {
            return false;
        }
        if !self.keeps(wanted) {
            self.window = wanted.block..=u32::MAX;
        }
        self.blocks.clear();
        self.next = 0;
        true
    }

    /// Notes the rows whose nodes are on a block, while `wanted` is looked for. If there are too many, it
    /// keeps those of the table's blocks from that of `wanted` on: most statements take rows in the order of
    /// their blocks. Returns false if there is no memory.
    pub fn note(
        &mut self,
        block: u32,
        rows: impl ExactSizeIterator<Item = HeapPointer>,
        wanted: HeapPointer,
    ) -> bool {
        if self.blocks.try_reserve(rows.len()).is_err() {
            return false;
        }
        let window = &self.window;
        self.blocks.extend(rows.filter(|row| window.contains(&row.block)).map(|row| (row, block)));
        if self.blocks.len() > self.capacity {
            self.narrow(wanted.block);
        }
        true
    }

    /// Notes the rows whose nodes were moved to a block. Of rows on blocks that were not read yet, it notes
    /// those only that will not be met later.
    pub fn note_moved(&mut self, block: u32, rows: impl Iterator<Item = HeapPointer>) {
        let was_read = block < self.next;
        for row in rows {
            if let Some(known) = self.blocks.get_mut(&row) {
                *known = block;
            } else if was_read && self.keeps(row) && self.blocks.try_reserve(1).is_ok() {
                self.blocks.insert(row, block);
            }
        }
    }

    /// Keeps at most half of the capacity, or the rows of one block of the table.
    fn narrow(&mut self, first: u32) {
        let rows = self.blocks.keys().map(|row| row.block);
        let mut kept: Vec<u32> = rows.filter(|block| (first..=*self.window.end()).contains(block)).collect();
        let last = if kept.len() > self.capacity / 2 {
            let (_, middle, _) = kept.select_nth_unstable(self.capacity / 2);
            middle.saturating_sub(1).max(first)
        } else {
            *self.window.end()
        };
        self.window = first..=last;
        let window = &self.window;
        self.blocks.retain(|row, _| window.contains(&row.block));
    }
}
