//! Bulk layout: which node page each row goes to. Balanced k-means, that is k-means with a limit on cluster size.
//!
//! After some rounds of plain k-means, rows are given to pages by an auction (Bertsekas, "The auction algorithm", 1988,
//! in its form for places with a capacity): every row bids for the page it likes best, as much as that page is better
//! for it than its second choice; a full page turns out its lowest bidder. Pages in crowded regions become dear and
//! their marginal rows move on, which keeps far more neighbours together than filling pages greedily does.
//! Centres and auction alternate a few times. Many pages are first divided into groups by coarse k-means.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::Unfinished;
use crate::kmeans;
use crate::order::Score;
use crate::rng::Rng;
use crate::room;
use crate::rows::Rows;

/// Rounds of plain k-means before the first auction.
const PLAIN_ROUNDS: usize = 8;
/// Rounds of auction and new centres.
const BALANCED_ROUNDS: usize = 5;
/// Pages that a row may bid for.
const CHOICES: usize = 24;
/// What a bid exceeds the worth by (in cosine). Total worth ends within this much per row of the best possible.
const BID_STEP: f32 = 0.002;
/// Bids per row after which the rest is placed greedily: identical rows would bid each other up for ever.
const BIDS_PER_ROW: usize = 300;
/// More pages than this are laid out group by group.
const PAGES_AT_ONCE: usize = 1024;
/// Pages aimed at per group.
const GROUP_PAGES: usize = 512;
/// Rows per coarse centre that train the groups.
const COARSE_SAMPLE: usize = 2048;
const COARSE_ROUNDS: usize = 10;

/// How full pages get.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSize {
    /// Rows per page on average: there are `rows / fill` pages, rounded up.
    pub fill: usize,
    /// Rows of the fullest page; at least `fill`. Some slack makes for a better layout.
    pub capacity: usize,
}

/// The page of each row. Pages are numbered from 0 without gaps, near pages near each other only by chance; none is
/// empty. `progress` is called with (steps done, steps in all), and `stop` is polled, on threads of the current rayon
/// pool. The same input and seed give the same layout, whatever the number of threads.
pub fn balanced_pages(
    vectors: &dyn Rows,
    size: PageSize,
    seed: u64,
    stop: &(dyn Fn() -> bool + Sync),
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<u32>, Unfinished> {
    let rows = vectors.len();
    let fill = size.fill.max(1);
    let steps = rows * (PLAIN_ROUNDS + 2 * BALANCED_ROUNDS);
    let layout = Layout {
        vectors,
        fill,
        capacity: size.capacity.max(fill),
        stop,
        progress: &|done| progress(done.min(steps), steps),
        done: AtomicUsize::new(0),
    };
    let mut pages = room::filled(0, rows)?;
    let mut next_page = 0;
    let ids: Vec<u32> = room::listed(0..rows as u32)?;
    layout.place(&ids, seed, &mut next_page, &mut pages)?;
    progress(steps, steps);
    Ok(pages)
}

struct Layout<'a> {
    vectors: &'a dyn Rows,
    fill: usize,
    capacity: usize,
    stop: &'a (dyn Fn() -> bool + Sync),
    progress: &'a (dyn Fn(usize) + Sync),
    done: AtomicUsize,
}

impl Layout<'_> {
    /// Places the rows `ids` on pages from `next_page` on.
    fn place(&self, ids: &[u32], seed: u64, next_page: &mut u32, out: &mut [u32]) -> Result<(), Unfinished> {
        let pages = ids.len().div_ceil(self.fill);
        if pages > PAGES_AT_ONCE {
            let groups = self.groups(ids, pages.div_ceil(GROUP_PAGES), seed)?;
            if groups.len() > 1 {
                for (number, group) in groups.into_iter().enumerate() {
                    self.place(&group, seed.wrapping_add(number as u64 + 1), next_page, out)?;
                }
                return Ok(());
            }
        }
        for (&id, page) in ids.iter().zip(self.balance(ids, pages, seed)?) {
            out[id as usize] = *next_page + page;
        }
        *next_page += pages as u32;
        Ok(())
    }

    /// Divides rows by coarse k-means. Only one group comes back if all rows are alike.
    fn groups(&self, ids: &[u32], count: usize, seed: u64) -> Result<Vec<Vec<u32>>, Unfinished> {
        let mut rng = Rng::new(seed);
        let chosen = rng.distinct(ids.len(), count * COARSE_SAMPLE)?;
        let mut sample: Vec<u32> = room::listed(chosen.into_iter().map(|index| ids[index]))?;
        sample.sort_unstable();
        let centres = kmeans::kmeans(self.vectors, &sample, count, COARSE_ROUNDS, seed, self.stop)?;
        let group_of = kmeans::assign(self.vectors, ids, &centres, self.stop)?;
        let mut groups = kmeans::members_of(&group_of, count)?;
        groups.retain(|group| !group.is_empty());
        for member in groups.iter_mut().flatten() {
            *member = ids[*member as usize];
        }
        Ok(groups)
    }

    /// Balanced k-means of one group: a page below `pages` for each row.
    fn balance(&self, ids: &[u32], pages: usize, seed: u64) -> Result<Vec<u32>, Unfinished> {
        if pages <= 1 {
            return room::filled(0, ids.len());
        }
        let mut rng = Rng::new(seed);
        let mut centres = kmeans::kmeans(self.vectors, ids, pages, PLAIN_ROUNDS, seed, self.stop)?;
        self.step(PLAIN_ROUNDS * ids.len());
        let mut page_of = Vec::new();
        for round in 0..BALANCED_ROUNDS {
            if round > 0 {
                centres = kmeans::centres_of(self.vectors, ids, &page_of, pages, &mut rng, self.stop)?;
            }
            page_of = self.auction(ids, &centres)?;
            self.step(2 * ids.len());
        }
        fill_empty(&mut page_of, pages)?;
        Ok(page_of)
    }

    fn step(&self, steps: usize) {
        (self.progress)(self.done.fetch_add(steps, Relaxed) + steps);
    }

    fn auction(&self, ids: &[u32], centres: &[f32]) -> Result<Vec<u32>, Unfinished> {
        let pages = centres.len() / self.vectors.dim();
        let choices = CHOICES.min(pages);
        let lists = kmeans::map_blocks(self.vectors, ids, centres, self.stop, |_, scores| {
            let mut lists = room::with_room(scores.len() / pages * choices)?;
            scores.chunks_exact(pages).for_each(|scores| best_choices(scores, choices, &mut lists));
            Ok(lists)
        })?;
        let mut auction = Auction::new(room::joined(lists)?, choices, pages, self.capacity)?;
        auction.run(self.stop)?;
        self.place_leftovers(ids, centres, auction)
    }

    /// Rows that no page of their choice would take: to the best page with room.
    fn place_leftovers(
        &self,
        ids: &[u32],
        centres: &[f32],
        auction: Auction,
    ) -> Result<Vec<u32>, Unfinished> {
        let pages = centres.len() / self.vectors.dim();
        let mut free: Vec<usize> = room::listed(auction.bids.iter().map(|bids| self.capacity - bids.len()))?;
        let (mut page_of, leftovers) = auction.result(ids.len())?;
        for block in leftovers.chunks(kmeans::ROWS_PER_BLOCK) {
            let block_ids: Vec<u32> = block.iter().map(|&row| ids[row as usize]).collect();
            let scores = kmeans::map_blocks(self.vectors, &block_ids, centres, self.stop, |_, scores| {
                room::listed(scores.iter().copied())
            })?;
            for (&row, scores) in block.iter().zip(room::joined(scores)?.chunks_exact(pages)) {
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

/// One row's best pages.
type Choice = (f32, u32);

/// Appends the `count` best pages of a row.
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

struct Auction {
    /// `choices` per row.
    lists: Vec<Choice>,
    choices: usize,
    capacity: usize,
    /// Accepted bids of each page, lowest on top.
    bids: Vec<BinaryHeap<(Reverse<Score>, u32)>>,
    prices: Vec<f32>,
    waiting: Vec<u32>,
}

impl Auction {
    fn new(lists: Vec<Choice>, choices: usize, pages: usize, capacity: usize) -> Result<Auction, Unfinished> {
        let rows = lists.len() / choices;
        Ok(Auction {
            lists,
            choices,
            capacity,
            // Each grows to its capacity at most: a page's worth of rows.
            bids: room::listed((0..pages).map(|_| BinaryHeap::new()))?,
            prices: room::filled(0.0, pages)?,
            waiting: room::listed((0..rows as u32).rev())?,
        })
    }

    /// Until every row has a page, or the bids are used up.
    fn run(&mut self, stop: &(dyn Fn() -> bool + Sync)) -> Result<(), Unfinished> {
        let limit = self.waiting.len() * BIDS_PER_ROW;
        for count in 0..limit {
            if count % 4096 == 0 && stop() {
                return Err(Unfinished::Stopped);
            }
            let Some(row) = self.waiting.pop() else { break };
            self.bid(row);
        }
        Ok(())
    }

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

    /// The page of each row, and the rows that have none.
    fn result(self, rows: usize) -> Result<(Vec<u32>, Vec<u32>), Unfinished> {
        let mut page_of = room::filled(0, rows)?;
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

/// Gives every empty page a row of the fullest one. There are at least as many rows as pages.
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
