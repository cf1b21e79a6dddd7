//! Locations of nodes: what is read, what is kept, and what is found.

use leann_layout::Locations;
use leann_page::HeapPointer;

const ROWS_PER_PAGE: u32 = 100;

fn row(block: u32, offset: u16) -> HeapPointer {
    HeapPointer { block, offset }
}

/// An index of a table with ten rows on each of its blocks. Its rows lie in an order unlike the table's.
struct Pages(Vec<Vec<HeapPointer>>);

impl Pages {
    fn of_table(table_blocks: u32) -> Pages {
        let rows = table_blocks * 10;
        let pages = rows.div_ceil(ROWS_PER_PAGE);
        let mut all = vec![Vec::new(); pages as usize];
        for number in 0..rows {
            let place = (u64::from(number) * 7919 % u64::from(rows)) as u32;
            all[(place / ROWS_PER_PAGE) as usize].push(row(number / 10, (number % 10 + 1) as u16));
        }
        Pages(all)
    }

    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    /// Looks for a row as an insert does. Returns its block and the number of pages read.
    fn find(&self, locations: &mut Locations, wanted: HeapPointer) -> (Option<u32>, u32) {
        let mut read = 0;
        if !locations.keeps(wanted) && !locations.start_over(wanted, self.len()) {
            return (None, 0);
        }
        loop {
            if let Some(block) = locations.block_of(wanted) {
                assert!(self.0[block as usize].contains(&wanted), "the block holds the row");
                return (Some(block), read);
            }
            let Some(block) = locations.next_block(self.len()) else { return (None, read) };
            read += 1;
            assert!(locations.note(block, self.0[block as usize].iter().copied(), wanted));
        }
    }
}

#[test]
fn each_page_is_read_once_and_not_before_it_is_needed() {
    let pages = Pages::of_table(100);
    let mut locations = Locations::new(10_000);
    locations.earn(1_000);
    let (found, first) = pages.find(&mut locations, row(0, 1));
    assert_eq!(found, Some(0));
    assert_eq!(first, 1, "the row is on the first page");
    let mut all = first;
    for block in 0..100 {
        for offset in 1..=10 {
            let (found, read) = pages.find(&mut locations, row(block, offset));
            assert!(found.is_some());
            all += read;
        }
    }
    assert_eq!(all, pages.len());
    assert_eq!(pages.find(&mut locations, row(100, 1)), (None, 0), "a row that is not there costs nothing");
}

#[test]
fn a_large_index_is_read_after_enough_questions() {
    let pages = Pages::of_table(100);
    let mut locations = Locations::new(10_000);
    for question in 1..=4 {
        locations.earn(3);
        let (found, read) = pages.find(&mut locations, row(50, 5));
        assert_eq!(found.is_some(), question == 4, "4 * 3 pages are at least {}", pages.len());
        assert_eq!(read > 0, question == 4, "nothing is read in vain");
    }
}

#[test]
fn few_rows_are_kept_and_all_are_found() {
    let pages = Pages::of_table(200);
    let mut locations = Locations::new(500);
    let (mut read, mut missed) = (0, 0);
    for block in 0..200 {
        for offset in 1..=10 {
            locations.earn(u64::from(pages.len()));
            let (found, pages) = pages.find(&mut locations, row(block, offset));
            read += pages;
            missed += u32::from(found.is_none());
        }
    }
    assert_eq!(missed, 0);
    let passes = read.div_ceil(pages.len());
    assert!((4..=16).contains(&passes), "{passes} passes for 2,000 rows of which 250 to 500 are kept");
}

#[test]
fn a_single_question_keeps_nothing() {
    let mut locations = Locations::new(10);
    locations.earn(50);
    assert!(!locations.is_single(51), "too many pages");
    assert!(locations.is_single(50));
    assert!(!locations.is_single(50), "they were paid for");
    locations.earn(50);
    assert!(!locations.is_single(50), "the second question notes what it reads");
    assert_eq!(locations.next_block(50), Some(0));
}

#[test]
fn what_moved_is_found_by_starting_over() {
    let mut pages = Pages::of_table(20);
    let mut locations = Locations::new(1_000);
    locations.earn(100);
    let wanted = row(3, 3);
    let Some(block) = pages.find(&mut locations, wanted).0 else { panic!("not found") };
    pages.0[block as usize].retain(|row| *row != wanted);
    pages.0.push(vec![wanted]);
    assert!(locations.start_over(wanted, pages.len()));
    assert_eq!(pages.find(&mut locations, wanted).0, Some(2));
    // Or by noting the page that it was moved to.
    locations.note_moved(7, [wanted, row(30, 1)].into_iter());
    assert_eq!(locations.block_of(wanted), Some(7));
    assert_eq!(locations.block_of(row(30, 1)), None, "its page was not read, and will be");
    locations.note_moved(1, [row(30, 1)].into_iter());
    assert_eq!(locations.block_of(row(30, 1)), Some(1), "it moved to a page that was read");
}

#[test]
fn a_block_with_more_rows_than_are_kept_is_kept_whole() {
    let mut locations = Locations::new(4);
    let rows: Vec<_> = (1..=9).map(|offset| row(6, offset)).chain([row(5, 1), row(7, 1)]).collect();
    assert!(locations.note(0, rows.into_iter(), row(6, 2)));
    assert!((1..=9).all(|offset| locations.block_of(row(6, offset)) == Some(0)));
    assert!(!locations.keeps(row(5, 1)) && !locations.keeps(row(7, 1)));
}
