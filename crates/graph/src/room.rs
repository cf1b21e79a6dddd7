//! Memory that grows with rows: asked for in a way that may be refused, which is then a result and not the end of the process.

use rayon::iter::IndexedParallelIterator;

use crate::Unfinished;

/// An empty list with room for exactly `count` values.
pub fn with_room<T>(count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Unfinished::NoMemory)?;
    Ok(list)
}

/// `count` times `value`.
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = with_room(count)?;
    list.resize(count, value);
    Ok(list)
}

/// Room for one more, as `Vec::push` makes it.
pub fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), Unfinished> {
    if list.len() == list.capacity() {
        list.try_reserve(1).map_err(|_| Unfinished::NoMemory)?;
    }
    list.push(value);
    Ok(())
}

/// What a sequence of known length gives.
pub fn listed<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, Unfinished> {
    let mut list = with_room(values.len())?;
    list.extend(values);
    Ok(list)
}

/// What `count` pieces of parallel work give, in their order.
pub fn collected<T: Send>(
    values: impl IndexedParallelIterator<Item = T>,
    count: usize,
) -> Result<Vec<T>, Unfinished> {
    let mut list = with_room(count)?;
    // Into the room that is there: rayon reserves what the iterator's length asks for, and that is no more.
    values.collect_into_vec(&mut list);
    Ok(list)
}

/// Lists one after the other.
pub fn joined<T>(lists: Vec<Vec<T>>) -> Result<Vec<T>, Unfinished> {
    let mut all = with_room(lists.iter().map(Vec::len).sum())?;
    for list in lists {
        all.extend(list);
    }
    Ok(all)
}
