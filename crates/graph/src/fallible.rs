//! Lists that grow with the number of rows: memory is requested so that a refusal is an error of this crate
//! and not the end of the process.

use rayon::iter::IndexedParallelIterator;

use crate::Unfinished;

/// Returns an empty list with room for exactly `count` values.
pub fn with_capacity<T>(count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = Vec::new();
    list.try_reserve_exact(count).map_err(|_| Unfinished::NoMemory)?;
    Ok(list)
}

/// Returns a list of `count` times `value`.
pub fn filled<T: Clone>(value: T, count: usize) -> Result<Vec<T>, Unfinished> {
    let mut list = with_capacity(count)?;
    list.resize(count, value);
    Ok(list)
}

/// Appends a value; a full list doubles, as with `Vec::push`.
pub fn push<T>(list: &mut Vec<T>, value: T) -> Result<(), Unfinished> {
    if list.len() == list.capacity() {
        list.try_reserve(1).map_err(|_| Unfinished::NoMemory)?;
    }
    list.push(value);
    Ok(())
}

/// Collects a sequence of known length.
pub fn collect<T>(values: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>, Unfinished> {
    let mut list = with_capacity(values.len())?;
    list.extend(values);
    Ok(list)
}

/// Collects the results of `count` pieces of parallel work, in their order.
pub fn par_collect<T: Send>(
    values: impl IndexedParallelIterator<Item = T>,
    count: usize,
) -> Result<Vec<T>, Unfinished> {
    let mut list = with_capacity(count)?;
    // Rayon reserves what the iterator's length requires, and that much is reserved already.
    values.collect_into_vec(&mut list);
    Ok(list)
}

/// Concatenates lists.
pub fn concat<T>(lists: Vec<Vec<T>>) -> Result<Vec<T>, Unfinished> {
    let mut all = with_capacity(lists.iter().map(Vec::len).sum())?;
    for list in lists {
        all.extend(list);
    }
    Ok(all)
}
