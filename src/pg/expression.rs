//! Finds the model that an index's definition names: the constant second argument of `embedding_of`, if there
//! is one.

use super::function::{self, Own};
use super::relation::Rel;
use crate::{encoding, guc};
use pgrx::{FromDatum, PgList, pg_sys};

/// What an index is defined on.
pub enum Definition {
    /// An expression with `embedding_of(…, 'model')` in it.
    Model(String),
    /// An expression of type `embedding` that names no model.
    Default,
}

impl Definition {
    /// Returns the name of the model that an index of this definition would be built with now.
    pub fn model(&self) -> String {
        match self {
            Definition::Model(model) => model.clone(),
            Definition::Default => guc::default_model(),
        }
    }

    /// Returns whether an index that was built with model `built` answers this session's queries. An
    /// expression without a model means the session's default, which may have changed since.
    pub fn is_served_by(&self, built: &str) -> bool {
        match self {
            Definition::Model(_) => true,
            Definition::Default => guc::default_model() == built,
        }
    }
}

/// Reads the definition of `index`. If an expression names several models, the first one counts.
pub fn definition(index: Rel) -> Definition {
    // SAFETY: the relation is open; the list and its nodes are copies in the current context.
    let expressions =
        unsafe { PgList::<pg_sys::Node>::from_pg(pg_sys::RelationGetIndexExpressions(index.raw())) };
    for node in expressions.iter_ptr() {
        let mut found: Option<String> = None;
        // SAFETY: the node is live, and the walker gets the Option above.
        unsafe { find_model(node, (&raw mut found).cast()) };
        if let Some(model) = found {
            return Definition::Model(model);
        }
    }
    Definition::Default
}

/// Walks an expression, and ends at a call of the two-argument `embedding_of` with a constant model.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn find_model(node: *mut pg_sys::Node, found: *mut std::ffi::c_void) -> bool {
    if node.is_null() {
        return false;
    }
    // SAFETY: nodes come from the server with true tags; `found` points to the Option of `definition`.
    unsafe {
        if (*node).type_ == pg_sys::NodeTag::T_FuncExpr {
            let call = node as *mut pg_sys::FuncExpr;
            if let Some(model) = constant_model(call) {
                *(found as *mut Option<String>) = Some(model);
                return true;
            }
        }
        pg_sys::expression_tree_walker(node, Some(find_model), found)
    }
}

/// Returns the model that a call names, if the call is one of `embedding_of(text, text)` with a constant
/// model. The datum of a constant is read only if its type says that it is text, because any user may write
/// an index definition.
///
/// # Safety
/// `call` is a live FuncExpr.
unsafe fn constant_model(call: *mut pg_sys::FuncExpr) -> Option<String> {
    // SAFETY: the caller promises a live node; each cast follows a check of the tag, and reading the datum
    // follows a check of its type.
    unsafe {
        let arguments = PgList::<pg_sys::Node>::from_pg((*call).args);
        let model = if arguments.len() == 2 { arguments.get_ptr(1)? } else { return None };
        if (*model).type_ != pg_sys::NodeTag::T_Const {
            return None;
        }
        let model = &*(model as *mut pg_sys::Const);
        if model.consttype != pg_sys::TEXTOID
            || model.constisnull
            || !function::is((*call).funcid, Own::EmbeddingOfModel)
        {
            return None;
        }
        let name = <&[u8]>::from_datum(model.constvalue, false)?;
        Some(encoding::utf8(name).into_owned())
    }
}
