//! `amvalidate`: checks whether this access method can work with an operator class.

use crate::error::raise_internal;
use crate::pg::settings::LocalSettings;
use pgrx::prelude::*;

/// Selects the faults of an operator class, one per row. The class over text has no members; it exists for
/// its error message.
const FAULTS: &str = "
with class as (
    select c.oid, c.opcname, c.opcfamily, c.opcintype, e.oid as embedding, q.oid as query
    from pg_catalog.pg_opclass c
    join pg_catalog.pg_proc p on p.proname = 'leann_handler'
         and p.prorettype = 'pg_catalog.index_am_handler'::pg_catalog.regtype
    join pg_catalog.pg_am a on a.oid = c.opcmethod and a.amhandler = p.oid
    join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_am'::pg_catalog.regclass and d.objid = a.oid
         and d.deptype = 'e'
    join pg_catalog.pg_depend t on t.refclassid = d.refclassid and t.refobjid = d.refobjid and t.deptype = 'e'
         and t.classid = 'pg_catalog.pg_type'::pg_catalog.regclass
    join pg_catalog.pg_type e on e.oid = t.objid and e.typname = 'embedding'
    join pg_catalog.pg_type q on q.typbasetype = e.oid and q.typname = 'query'
         and q.typnamespace = e.typnamespace
    where c.oid = $1
), member as (
    select o.*, op.oprresult, op.oprcode
    from class c
    join pg_catalog.pg_amop o on o.amopfamily = c.opcfamily
    join pg_catalog.pg_operator op on op.oid = o.amopopr
)
select fault from (
select 'operator class does not belong to the access method leann' where not exists (select from class)
union all
select 'operator class is for a type other than embedding' from class
where opcintype not in (embedding, 'pg_catalog.text'::pg_catalog.regtype)
union all
select 'operator class over text has operators' from class, member
where opcintype = 'pg_catalog.text'::pg_catalog.regtype
union all
select pg_catalog.format('operator %s is not an ordering operator', amopopr::pg_catalog.regoperator)
from member where amoppurpose <> 'o'
union all
select pg_catalog.format('operator %s has strategy %s, not 1, 2 or 3', amopopr::pg_catalog.regoperator,
                         amopstrategy)
from member where amopstrategy not between 1 and 3
union all
select pg_catalog.format('operator %s has a left operand other than embedding',
                         amopopr::pg_catalog.regoperator)
from class, member where amoplefttype <> embedding
union all
select pg_catalog.format('operator %s has a right operand other than text, query or an array of numbers',
                         amopopr::pg_catalog.regoperator)
from class, member
where amoprighttype <> all (array['pg_catalog.text', 'pg_catalog.float4[]', 'pg_catalog.float8[]',
                                  'pg_catalog.numeric[]', 'pg_catalog.int2[]', 'pg_catalog.int4[]',
                                  'pg_catalog.int8[]']::pg_catalog.regtype[]::pg_catalog.oid[] || query)
union all
select pg_catalog.format('operator %s does not return double precision', amopopr::pg_catalog.regoperator)
from member where oprresult <> 'pg_catalog.float8'::pg_catalog.regtype
union all
select pg_catalog.format('operator %s does not sort by float_ops', amopopr::pg_catalog.regoperator)
from member m where amoppurpose = 'o' and not exists (
    select from pg_catalog.pg_opfamily f join pg_catalog.pg_am a on a.oid = f.opfmethod
    where f.oid = m.amopsortfamily and f.opfname = 'float_ops' and a.amname = 'btree')
union all
select pg_catalog.format('operator family lacks strategy %s for (embedding, text)', s)
from class, pg_catalog.generate_series(1, 3) s
where opcintype = embedding and not exists (
    select from member where amopstrategy = s and amoplefttype = embedding
    and amoprighttype = 'pg_catalog.text'::pg_catalog.regtype)
union all
select 'operator family has support functions, but the access method has none'
from class c where exists (select from pg_catalog.pg_amproc p where p.amprocfamily = c.opcfamily)
) as found(fault) order by fault collate pg_catalog.\"C\"
";

/// Reports the faults of an operator class as INFO messages, and returns whether it has none.
#[pg_guard]
pub unsafe extern "C-unwind" fn amvalidate(class: pg_sys::Oid) -> bool {
    // Under another search path, an operator of a user could match an expression better than the server's
    // own.
    let _path = LocalSettings::system_search_path();
    let faults: Vec<String> = Spi::connect(|client| {
        let rows = client.select(FAULTS, None, &[class.into()])?;
        let mut faults = Vec::new();
        for row in rows {
            faults.extend(row.get::<String>(1)?);
        }
        Ok::<_, pgrx::spi::Error>(faults)
    })
    .unwrap_or_else(|error| raise_internal(format!("could not read the catalogs: {error}")));
    let valid = faults.is_empty();
    for fault in faults {
        ereport!(INFO, PgSqlErrorCode::ERRCODE_INVALID_OBJECT_DEFINITION, fault);
    }
    valid
}
