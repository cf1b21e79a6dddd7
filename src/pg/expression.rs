//! What an index's definition says about its model: the constant second argument of `embedding_of`, if there is one.

use super::encoding;
use super::function::{self, Own};
use super::relation::Rel;
use pgrx::{FromDatum, PgList, pg_sys};

/// What an index is defined on.
pub enum Definition {
    /// An expression with `embedding_of(…, 'model')` in it.
    Model(String),
    /// An expression of type `embedding` that names no model.
    Default,
}

/// Reads the definition of `index`. An expression with several differing models counts as its first.
pub fn definition(index: Rel) -> Definition {
    // SAFETY: the relation is open; the list and its nodes are copies in the current context.
    unsafe {
        let expressions = PgList::<pg_sys::Node>::from_pg(pg_sys::RelationGetIndexExpressions(index.raw()));
        for node in expressions.iter_ptr() {
            let mut found: Option<String> = None;
            find_model(node, &raw mut found as *mut std::ffi::c_void);
            if let Some(model) = found {
                return Definition::Model(model);
            }
        }
    }
    Definition::Default
}

/// An expression walker: looks for a call of the two-argument `embedding_of` with a constant model.
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

/// The model that a call names, if it is one of `embedding_of(text, text)` with a constant model. The datum of a constant
/// is read only where its type says what it is: the definition of an index is anybody's to write.
///
/// # Safety
/// `call` is a live FuncExpr.
unsafe fn constant_model(call: *mut pg_sys::FuncExpr) -> Option<String> {
    // SAFETY: by the caller's promise; each cast follows a check of the tag, and the datum's reading one of its type.
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
