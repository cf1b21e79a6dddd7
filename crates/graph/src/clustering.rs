//! Clustering rows into node pages: balanced k-means, that is, k-means with a limit on cluster size.
//!
//! After some rounds of plain k-means, an auction assigns rows to pages (Bertsekas, "The auction algorithm: a
//! distributed relaxation method for the assignment problem", 1988, in its form for places with a capacity):
//! every row bids for the page it likes best, as much as that page is better for it than its second choice,
//! and a full page turns out its lowest bidder. Pages in crowded regions rise in price and their marginal
//! rows move on, which keeps far more neighbors together than filling pages greedily does. Centers and
//! auction alternate a few times. If there are many pages, coarse k-means first divides the rows into groups.
//! Equal rows that fill whole pages are set apart before.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use leann_vector::Rng;

use crate::kmeans::{self, Subset};
use crate::order::Score;
use crate::vectors::Vectors;
use crate::{Stop, Unfinished, equal, fallible};

/// Rounds of plain k-means before the first auction.
const PLAIN_ROUNDS: usize = 8;
/// Rounds of auction and new centers.
const BALANCED_ROUNDS: usize = 5;
/// Pages that a row may bid for.
const CHOICES: usize = 24;
/// What a bid adds to the worth of a page (in cosine). The total worth ends within this much per row of the
/// optimum.
const BID_STEP: f32 = 0.002;
/// Bids per row after which the remaining rows are placed greedily: nearly equal rows would raise prices
/// forever. With pages of 137 rows SciFact, FiQA and wiki50k take 1.4 to 4.9. With pages of ten rows they
/// take more than this, and the mean squared distance to the center of the page is within .1 % of what 300
/// give.
const MAX_BIDS_PER_ROW: usize = 50;
/// Bids between two polls of `stop`.
const BIDS_PER_POLL: usize = 4096;
/// Pages that one auction assigns; more are clustered group by group.
const MAX_AUCTION_PAGES: usize = 1024;
/// Pages per group, on average.
const GROUP_PAGES: usize = 512;
/// Share of the rows in one group beyond which k-means is taken to have failed to divide them.
const MAX_GROUP_SHARE: f32 = 0.75;
/// Rows per group that train the coarse k-means.
const COARSE_SAMPLE: usize = 2048;
/// Rounds of the coarse k-means.
const COARSE_ROUNDS: usize = 10;

/// How full pages get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// Rows per page, on average: there are `rows / fill` pages, rounded up.
    pub fill: usize,
    /// Rows of the fullest page; at least `fill`. Some slack makes for better pages.
    pub capacity: usize,
}

/// Returns the page of each row. Page numbers are dense and carry no spatial order; no page is empty.
///
/// `progress` is called with (steps done, steps in all) and `stop` is polled on threads of the current rayon
/// pool. The same input and seed give the same pages, whatever the number of threads.
pub fn balanced_pages(
    vectors: &dyn Vectors,
    size: PageSize,
    seed: u64,
    stop: Stop<'_>,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<u32>, Unfinished> {
    let rows = vectors.len();
    let fill = size.fill.max(1);
    let steps = rows * (PLAIN_ROUNDS + 2 * BALANCED_ROUNDS);
    let clustering = Clustering {
        vectors,
        fill,
        capacity: size.capacity.max(fill),
        stop,
        progress: &|done| progress(done.min(steps), steps),
        done: AtomicUsize::new(0),
    };
    let mut pages = fallible::filled(0, rows)?;
    let apart = equal::set_apart(vectors, fill, stop)?;
    let mut next_page = 0;
    for page in &apart.pages {
        page.iter().for_each(|&row| pages[row as usize] = next_page);
        next_page += 1;
    }
    clustering.place(&apart.rest, seed, &mut next_page, &mut pages)?;
    progress(steps, steps);
    Ok(pages)
}

/// One clustering at work.
struct Clustering<'a> {
    vectors: &'a dyn Vectors,
    fill: usize,
    capacity: usize,
    stop: Stop<'a>,
    /// Called with the steps done.
    progress: &'a (dyn Fn(usize) + Sync),
    done: AtomicUsize,
}

impl Clustering<'_> {
    /// Places the rows `ids` on pages from `next_page` on.
    fn place(&self, ids: &[u32], seed: u64, next_page: &mut u32, out: &mut [u32]) -> Result<(), Unfinished> {
        let pages = ids.len().div_ceil(self.fill);
        if pages > MAX_AUCTION_PAGES {
            for (number, group) in self.groups(ids, pages.div_ceil(GROUP_PAGES), seed)?.iter().enumerate() {
                self.place(group, seed.wrapping_add(number as u64 + 1), next_page, out)?;
            }
            return Ok(());
        }
        for (&id, page) in ids.iter().zip(self.balance(ids, pages, seed)?) {
            out[id as usize] = *next_page + page;
        }
        *next_page += pages as u32;
        Ok(())
    }

    /// Divides rows into groups by coarse k-means. A group of nearly all rows, which are then nearly alike,
    /// is divided by position instead: k-means would go on to take few rows off at a time.
    fn groups(&self, ids: &[u32], count: usize, seed: u64) -> Result<Vec<Vec<u32>>, Unfinished> {
        let mut rng = Rng::new(seed);
        let chosen = kmeans::distinct(&mut rng, ids.len(), count * COARSE_SAMPLE)?;
        let mut sample: Vec<u32> = fallible::collect(chosen.into_iter().map(|index| ids[index]))?;
        sample.sort_unstable();
        let centers = self.subset(&sample).kmeans(count, COARSE_ROUNDS, seed)?;
        let group_of = self.subset(ids).assign(&centers)?;
        let mut groups = kmeans::members_of(&group_of, count)?;
        groups.retain(|group| !group.is_empty());
        for member in groups.iter_mut().flatten() {
            *member = ids[*member as usize];
        }
        let is_whole = |group: &Vec<u32>| group.len() as f32 > MAX_GROUP_SHARE * ids.len() as f32;
        if let Some(whole) = groups.iter().position(is_whole) {
            let whole = groups.swap_remove(whole);
            for part in whole.chunks(GROUP_PAGES * self.fill) {
                fallible::push(&mut groups, fallible::collect(part.iter().copied())?)?;
            }
        }
        Ok(groups)
    }

    /// Runs balanced k-means over one group. Returns a page below `pages` for each row.
    fn balance(&self, ids: &[u32], pages: usize, seed: u64) -> Result<Vec<u32>, Unfinished> {
        if pages <= 1 {
            return fallible::filled(0, ids.len());
        }
        let mut rng = Rng::new(seed);
        let mut centers = self.subset(ids).kmeans(pages, PLAIN_ROUNDS, seed)?;
        self.step(PLAIN_ROUNDS * ids.len());
        let mut page_of = Vec::new();
        for round in 0..BALANCED_ROUNDS {
            if round > 0 {
                centers = self.subset(ids).centers_of(&page_of, pages, &mut rng)?;
            }
            page_of = self.auction(ids, &centers)?;
            self.step(2 * ids.len());
        }
        fill_empty(&mut page_of, pages)?;
        Ok(page_of)
    }

    fn subset<'b>(&'b self, ids: &'b [u32]) -> Subset<'b> {
        Subset { vectors: self.vectors, ids, stop: self.stop }
    }

    /// Reports progress.
    fn step(&self, steps: usize) {
        (self.progress)(self.done.fetch_add(steps, Relaxed) + steps);
    }

    /// Assigns rows to the pages of these centers, of which none gets more than its capacity.
    fn auction(&self, ids: &[u32], centers: &[f32]) -> Result<Vec<u32>, Unfinished> {
        let pages = centers.len() / self.vectors.dim();
        let choices = CHOICES.min(pages);
        let lists = self.subset(ids).map_blocks(centers, |_, scores| {
            let mut lists = fallible::with_capacity(scores.len() / pages * choices)?;
            scores.chunks_exact(pages).for_each(|scores| best_choices(scores, choices, &mut lists));
            Ok(lists)
        })?;
        let mut auction = Auction::new(fallible::concat(lists)?, choices, pages, self.capacity)?;
        auction.run(self.stop)?;
        self.place_leftovers(ids, centers, auction)
    }

    /// Puts each row that no page of its choice would take on the best page with room.
    fn place_leftovers(
        &self,
        ids: &[u32],
        centers: &[f32],
        auction: Auction,
    ) -> Result<Vec<u32>, Unfinished> {
        let pages = centers.len() / self.vectors.dim();
        let mut free: Vec<usize> =
            fallible::collect(auction.bids.iter().map(|bids| self.capacity - bids.len()))?;
        let (mut page_of, leftovers) = auction.result(ids.len())?;
        for block in leftovers.chunks(kmeans::ROWS_PER_BLOCK) {
            let block_ids: Vec<u32> = block.iter().map(|&row| ids[row as usize]).collect();
            let scores = self
                .subset(&block_ids)
                .map_blocks(centers, |_, scores| fallible::collect(scores.iter().copied()))?;
            for (&row, scores) in block.iter().zip(fallible::concat(scores)?.chunks_exact(pages)) {
                let with_room = (0..pages).filter(|&page| free[page] > 0);
                let best = with_room.max_by(|&a, &b| scores[a].total_cmp(&scores[b]).then(b.cmp(&a)));
                // Capacity is at least rows / pages, so there is always room for one more.
                let page = best.unwrap_or(0);
                free[page] = free[page].saturating_sub(1);
                page_of[row as usize] = page as u32;
            }
        }
        Ok(page_of)
    }
}

/// A page that a row may bid for, after the row's score there.
type Choice = (f32, u32);

/// Appends the `count` best pages of a row to `lists`, best first.
fn best_choices(scores: &[f32], count: usize, lists: &mut Vec<Choice>) {
    let start = lists.len();
    let mut worst = f32::NEG_INFINITY;
    for (page, &score) in scores.iter().enumerate() {
        let kept = lists.len() - start;
        if kept == count && score <= worst {
            continue;
        }
        if kept == count {
            lists.pop();
        }
        let at = start + lists[start..].partition_point(|choice| choice.0 >= score);
        lists.insert(at, (score, page as u32));
        worst = lists[lists.len() - 1].0;
    }
}

/// The state of one auction.
struct Auction {
    /// `choices` per row, best first.
    lists: Vec<Choice>,
    choices: usize,
    /// Rows that a page takes.
    capacity: usize,
    /// Accepted bids of each page, lowest on top.
    bids: Vec<BinaryHeap<(Reverse<Score>, u32)>>,
    /// What a bid for each page has to exceed: the lowest accepted one of a full page, else 0.
    prices: Vec<f32>,
    /// Rows without a page.
    waiting: Vec<u32>,
}

impl Auction {
    fn new(lists: Vec<Choice>, choices: usize, pages: usize, capacity: usize) -> Result<Auction, Unfinished> {
        let rows = lists.len() / choices;
        Ok(Auction {
            lists,
            choices,
            capacity,
            // Each grows to its capacity at most, which is small.
            bids: fallible::collect((0..pages).map(|_| BinaryHeap::new()))?,
            prices: fallible::filled(0.0, pages)?,
            waiting: fallible::collect((0..rows as u32).rev())?,
        })
    }

    /// Takes bids until every row has a page or the bids are used up.
    fn run(&mut self, stop: Stop<'_>) -> Result<(), Unfinished> {
        let limit = self.waiting.len() * MAX_BIDS_PER_ROW;
        for count in 0..limit {
            if count % BIDS_PER_POLL == 0 && stop() {
                return Err(Unfinished::Stopped);
            }
            let Some(row) = self.waiting.pop() else { break };
            self.bid(row);
        }
        Ok(())
    }

    /// Places a row's bid on the page that is worth most to it, and turns out the lowest bidder of a full
    /// page.
    fn bid(&mut self, row: u32) {
        let list = &self.lists[row as usize * self.choices..(row as usize + 1) * self.choices];
        let (mut best, mut best_page, mut second) = (f32::NEG_INFINITY, 0, f32::NEG_INFINITY);
        for &(score, page) in list {
            if score <= second {
                // Prices are not negative and the list is sorted: nothing better comes.
                break;
            }
            let worth = score - self.prices[page as usize];
            if worth > best {
                (second, best, best_page) = (best, worth, page);
            } else if worth > second {
                second = worth;
            }
        }
        let page = best_page as usize;
        let margin = if second.is_finite() { best - second } else { 1.0 };
        let bids = &mut self.bids[page];
        bids.push((Reverse(Score::new(self.prices[page] + margin + BID_STEP)), row));
        if bids.len() > self.capacity
            && let Some((_, outbid)) = bids.pop()
        {
            self.waiting.push(outbid);
        }
        if bids.len() == self.capacity
            && let Some((lowest, _)) = bids.peek()
        {
            self.prices[page] = lowest.0.get();
        }
    }

    /// Returns the page of each row, and the rows that have none.
    fn result(self, rows: usize) -> Result<(Vec<u32>, Vec<u32>), Unfinished> {
        let mut page_of = fallible::filled(0, rows)?;
        for (page, bids) in self.bids.iter().enumerate() {
            for &(_, row) in bids {
                page_of[row as usize] = page as u32;
            }
        }
        let mut leftovers = self.waiting;
        leftovers.sort_unstable();
        Ok((page_of, leftovers))
    }
}

/// Moves a row of the fullest page to every empty one. There are at least as many rows as pages.
fn fill_empty(page_of: &mut [u32], pages: usize) -> Result<(), Unfinished> {
    let mut members = kmeans::members_of(page_of, pages)?;
    for page in 0..pages {
        if !members[page].is_empty() {
            continue;
        }
        let fullest = (0..pages).max_by_key(|&other| members[other].len()).unwrap_or(0);
        if let Some(row) = members[fullest].pop() {
            members[page].push(row);
            page_of[row as usize] = page as u32;
        }
    }
    Ok(())
}
