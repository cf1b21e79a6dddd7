//! Who asks, what they may do with a table, and acting as the table's owner.

use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;
use pgrx::{PgList, pg_sys};

/// The roles on whose behalf something happens. They differ inside a SECURITY DEFINER function, and wherever
/// else the server acts as an owner: the rights are those of `user`, but what the function reveals, `outer`
/// learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    pub user: pg_sys::Oid,
    pub outer: pg_sys::Oid,
}

impl Asker {
    /// Returns the roles of this moment.
    pub fn now() -> Asker {
        // SAFETY: plain reads of this backend's user ids.
        unsafe { Asker { user: pg_sys::GetUserId(), outer: pg_sys::GetOuterUserId() } }
    }

    /// Returns whether both roles may read every row and column of a table, directly or through a parent that
    /// it is a partition of.
    pub fn reads_whole(self, table: pg_sys::Oid) -> bool {
        let may = |role| reads(table, role) || ancestors(table).into_iter().any(|parent| reads(parent, role));
        may(self.user) && (self.outer == self.user || may(self.outer))
    }
}

/// Returns whether a role may read a whole table: it has the privilege, and no row-security policy applies to
/// it.
fn reads(table: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: both calls read the catalogs; the table exists, since it or its partition is open.
    unsafe {
        has_privilege(table, role, pg_sys::ACL_SELECT)
            && pg_sys::check_enable_rls(table, role, true)
                != pg_sys::CheckEnableRlsResult::RLS_ENABLED as std::ffi::c_int
    }
}

fn has_privilege(table: pg_sys::Oid, role: pg_sys::Oid, privilege: u32) -> bool {
    // SAFETY: reads the catalogs.
    let result = unsafe { pg_sys::pg_class_aclcheck(table, role, privilege as pg_sys::AclMode) };
    result == pg_sys::AclResult::ACLCHECK_OK
}

/// Returns the partitioned tables that a table is a partition of, nearest first.
fn ancestors(table: pg_sys::Oid) -> Vec<pg_sys::Oid> {
    unsafe extern "C-unwind" {
        fn get_partition_ancestors(table: pg_sys::Oid) -> *mut pg_sys::List;
    }
    // SAFETY: both read the catalogs. The second one returns a list of oids in the current memory context,
    // and its errors are caught at the boundary, as those of the calls of `pg_sys` are.
    unsafe {
        if !pg_sys::get_rel_relispartition(table) {
            return Vec::new();
        }
        let list = pg_guard_ffi_boundary(|| get_partition_ancestors(table));
        PgList::<pg_sys::Oid>::from_pg(list).iter_oid().collect()
    }
}

/// Returns whether the current user may see the statistics of all users.
pub fn reads_all_statistics() -> bool {
    let role = pg_sys::Oid::from(pg_sys::ROLE_PG_READ_ALL_STATS);
    // SAFETY: reads the catalogs.
    unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), role) }
}

/// Raises the server's own error unless the current user may read the table `oid`.
pub fn require_select(oid: pg_sys::Oid) {
    // SAFETY: a plain read.
    let user = unsafe { pg_sys::GetUserId() };
    if !has_privilege(oid, user, pg_sys::ACL_SELECT) {
        refuse(oid, pg_sys::AclResult::ACLCHECK_NO_PRIV, pg_sys::ObjectType::OBJECT_TABLE);
    }
}

/// Raises the server's own error unless the current user may maintain the index: as owner of its table, or,
/// from Postgres 17 on, by the privilege MAINTAIN (which pg_maintain has on every table).
pub fn require_maintenance(index: pg_sys::Oid, table: pg_sys::Oid) {
    // SAFETY: a plain read.
    let user = unsafe { pg_sys::GetUserId() };
    #[cfg(any(feature = "pg15", feature = "pg16"))]
    let maintains = false;
    #[cfg(not(any(feature = "pg15", feature = "pg16")))]
    let maintains = has_privilege(table, user, pg_sys::ACL_MAINTAIN);
    if !maintains && !owns(table, user) {
        refuse(index, pg_sys::AclResult::ACLCHECK_NOT_OWNER, pg_sys::ObjectType::OBJECT_INDEX);
    }
}

#[cfg(feature = "pg15")]
fn owns(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    unsafe { pg_sys::pg_class_ownercheck(relation, role) }
}

#[cfg(not(feature = "pg15"))]
fn owns(relation: pg_sys::Oid, role: pg_sys::Oid) -> bool {
    // SAFETY: reads the catalogs.
    unsafe { pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, role) }
}

/// Raises the server's own error for a refused right.
fn refuse(relation: pg_sys::Oid, why: pg_sys::AclResult::Type, kind: pg_sys::ObjectType::Type) {
    // SAFETY: the name is a palloc'd C string, or a constant if there is none; the call raises an ERROR.
    unsafe {
        let name = pg_sys::get_rel_name(relation);
        let name = if name.is_null() { c"?".as_ptr() } else { name.cast_const() };
        pg_sys::aclcheck_error(why, kind, name);
    }
}

/// While this lives, the user id is that of a table's owner, under SECURITY_RESTRICTED_OPERATION.
pub struct AsOwner {
    user: pg_sys::Oid,
    context: i32,
}

impl AsOwner {
    /// Switches to `owner` if the current user has that role's rights anyway, as a superuser has. Then code
    /// that the owner wrote runs with the owner's rights and not with the current user's.
    pub fn if_allowed(owner: pg_sys::Oid) -> Option<AsOwner> {
        // SAFETY: reads the catalogs.
        let allowed = unsafe { pg_sys::has_privs_of_role(pg_sys::GetUserId(), owner) };
        allowed.then(|| AsOwner::new(owner))
    }

    fn new(owner: pg_sys::Oid) -> AsOwner {
        let (mut user, mut context) = (pg_sys::InvalidOid, 0);
        // SAFETY: reads and writes this backend's user id; the former values are put back on drop, or by the
        // abort of the transaction after an error.
        unsafe {
            pg_sys::GetUserIdAndSecContext(&mut user, &mut context);
            pg_sys::SetUserIdAndSecContext(owner, context | pg_sys::SECURITY_RESTRICTED_OPERATION as i32);
        }
        AsOwner { user, context }
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // SAFETY: puts back what `new` found; also right while unwinding.
        unsafe { pg_sys::SetUserIdAndSecContext(self.user, self.context) };
    }
}
