//! What the planner charges for functions that may run a model: `leann.recompute_cost`.

use crate::guc;
use pgrx::datum::Internal;
use pgrx::prelude::*;

/// Answers the planner's requests about a function that may embed a row's text: its planner support function.
/// Returns the request as an `internal` if it was answered, and a null pointer (not NULL) otherwise.
#[pg_extern(sql = false)]
fn recompute_support(request: Internal) -> i64 {
    let Some(datum) = request.unwrap() else { return 0 };
    let node: *mut pg_sys::Node = datum.cast_mut_ptr();
    // SAFETY: the planner passes a node, and its tag says of which kind.
    unsafe {
        if (*node).type_ != pg_sys::NodeTag::T_SupportRequestCost {
            return 0;
        }
        let request = node.cast::<pg_sys::SupportRequestCost>();
        (*request).startup = 0.0;
        (*request).per_tuple = guc::recompute_cost();
    }
    node as i64
}
