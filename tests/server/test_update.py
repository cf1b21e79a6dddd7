"""ALTER EXTENSION leann UPDATE: the frozen scripts of released versions (sql/released) lead by update scripts
to the objects of a fresh install, their indexes usable. And by way of a made-up version before this one, that
an update does so, and that this test would notice an update script that forgets something."""

import contextlib
import pathlib
import re
import subprocess
import tempfile

import pytest

from cluster import ROOT, pg_config
from support.checks import check
from support.index import faults, nearest

RELEASED = ROOT / "sql" / "released"
# Everything that belongs to the extension, described without OIDs: one row per object.
CATALOG = """
SET search_path = pg_catalog;
WITH member AS (
    SELECT d.classid, d.objid FROM pg_depend d JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass
        AND d.refobjid = e.oid
    WHERE e.extname = 'leann' AND d.deptype = 'e'
)
SELECT concat_ws(' | ', i.type, i.identity, obj_description(objid, classid::regclass::name),
    (SELECT p.initprivs::text FROM pg_init_privs p WHERE p.objoid = objid AND p.classoid = classid AND
        p.objsubid = 0),
    (SELECT replace(pg_get_functiondef(p.oid), E'\\n', ' ') || coalesce(p.proacl::text, '') FROM pg_proc p
     WHERE classid = 'pg_proc'::regclass AND p.oid = objid),
    (SELECT concat_ws(' ', nspacl) FROM pg_namespace n WHERE classid = 'pg_namespace'::regclass AND n.oid =
        objid),
    (SELECT concat_ws(' ', relkind, relacl, replace(pg_get_viewdef(c.oid), E'\\n', ' ')) FROM pg_class c
     WHERE classid = 'pg_class'::regclass AND c.oid = objid),
    (SELECT concat_ws(' ', typlen, typalign, typstorage, typinput, typoutput, typreceive, typsend,
        typcategory, typarray::regtype)
     FROM pg_type t WHERE classid = 'pg_type'::regclass AND t.oid = objid),
    (SELECT concat_ws(' ', oprcode, oprresult::regtype, oprcom::regoperator, oprnegate::regoperator, oprrest,
        oprjoin, oprcanhash)
     FROM pg_operator o WHERE classid = 'pg_operator'::regclass AND o.oid = objid),
    (SELECT concat_ws(' ', castfunc::regprocedure, castcontext, castmethod) FROM pg_cast c
     WHERE classid = 'pg_cast'::regclass AND c.oid = objid),
    (SELECT concat_ws(' ', amhandler, amtype) FROM pg_am a WHERE classid = 'pg_am'::regclass AND a.oid =
        objid),
    (SELECT concat_ws(' ', opcdefault, opcintype::regtype, opckeytype::regtype) FROM pg_opclass o
     WHERE classid = 'pg_opclass'::regclass AND o.oid = objid),
    (SELECT string_agg(concat_ws(' ', amopstrategy, amoppurpose, amopopr::regoperator, amopsortfamily), ', '
        ORDER BY
        amopstrategy, amopopr::regoperator::text) FROM pg_amop WHERE classid = 'pg_opfamily'::regclass AND
            amopfamily = objid),
    (SELECT string_agg(concat_ws(' ', amprocnum, amproc::regprocedure), ', ' ORDER BY amprocnum)
     FROM pg_amproc WHERE classid = 'pg_opfamily'::regclass AND amprocfamily = objid))
FROM member, pg_identify_object(classid, objid, 0) i ORDER BY 1;
"""
# The made-up version before this one: what it lacks of this one's script, what it had instead, and the way
# from there.
LACKS = [
    r"CREATE FUNCTION leann\.distance\(body text, query text, model text\).*?;\n",
    r"COMMENT ON FUNCTION leann\.distance\(text, text, text\).*?;\n",
    r"COMMENT ON FUNCTION leann\.clear_cache\(\).*?;\n",
]
HAD = """
CREATE FUNCTION leann.former() RETURNS integer LANGUAGE sql IMMUTABLE RETURN 1;
CREATE OR REPLACE FUNCTION leann.distance(body text, query text) RETURNS double precision
    STABLE STRICT COST 100000 LANGUAGE sql RETURN @extschema@.embedding_of(body) OPERATOR(@extschema@.<=>)
        query;
"""


def share():
    """The server's folder of extension scripts."""
    return pathlib.Path(pg_config("--sharedir"), "extension")


@contextlib.contextmanager
def extension_files(**scripts):
    """Puts scripts leann--NAME.sql (two underscores in NAME stand for the two hyphens) into the server's
    extension folder."""
    folder, paths = share(), []

    def as_root(*command):
        subprocess.run(
            ["bash", "-c", f'. "{ROOT}/scripts/common.sh"; as_root "$@"', "as_root", *command], check=True
        )

    try:
        with tempfile.TemporaryDirectory() as scratch:
            for name, text in scripts.items():
                file = pathlib.Path(scratch, f"leann--{name.replace('__', '--')}.sql")
                file.write_text(text, encoding="utf-8")
                paths.append(f"{folder}/{file.name}")
                as_root("install", "-m", "644", str(file), paths[-1])
        yield
    finally:
        as_root("rm", "-f", *paths)


def objects(cluster, database, *statements):
    """The objects of the extension in a new database, after these statements."""
    with cluster.session() as session:
        session.run(f"CREATE DATABASE {database}")
    with cluster.session(database=database) as session:
        for statement in statements:
            session.run(statement)
        return session.run(CATALOG)


def updated(cluster, database, old, new):
    """The objects in a database with an index, updated from one version to another; the index must serve all
    along."""
    with cluster.session() as session:
        session.run(f"CREATE DATABASE {database}")
    with cluster.session(database=database) as session:
        session.run(
            f"CREATE EXTENSION leann VERSION '{old}'; CREATE TABLE docs (id int PRIMARY KEY, body text);"
            "INSERT INTO docs SELECT n, 'passage number ' || n FROM generate_series(1, 300) n;"
            "CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body))"
        )
        before = nearest(session, "passage number 7", 10, False)
        session.run(f"ALTER EXTENSION leann UPDATE TO '{new}'")
        session.run(
            "INSERT INTO docs VALUES (301, 'a new row'); DELETE FROM docs WHERE id > 250 AND id < 301;"
            "VACUUM docs"
        )
        check(
            f"{old} to {new}: the index is sound and serves",
            not faults(session)
            and nearest(session, "a new row", 1, False)[0][0] == 301
            and len(before) == 10,
        )
    with cluster.session(database=database) as session:
        return session.run(CATALOG)


def difference(ours, theirs):
    return "; ".join(f"only one has: {line}" for line in sorted(set(ours) ^ set(theirs)))[:2000]


@pytest.mark.cluster("autovacuum=off")
def test_updates(cluster):
    with cluster.session() as session:
        version = session.value("SELECT default_version FROM pg_available_extensions WHERE name = 'leann'")
    fresh = objects(cluster, "fresh", "CREATE EXTENSION leann")
    check(
        "all kinds of objects are described",
        len(fresh) > 50
        and all(
            any(line.startswith(kind) for line in fresh)
            for kind in ("function", "view", "operator family", "cast", "access method", "type")
        ),
    )
    made_up(cluster, version, fresh)
    frozen(cluster, version, fresh)


def frozen(cluster, version, fresh):
    """Every released version, this one included once it is."""
    script = RELEASED / f"leann--{version}.sql"
    if f"## {version} (unreleased)" not in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"):
        check(f"the schema of {version} is frozen in sql/released", script.exists(), "see sql/README.md")
    if script.exists():
        with extension_files(frozen=script.read_text(encoding="utf-8")):
            same = objects(cluster, "as_frozen", "CREATE EXTENSION leann VERSION 'frozen'")
        check(
            f"the frozen schema of {version} is that of the build",
            same == fresh,
            difference(same, fresh) + "\n    see sql/README.md",
        )
    for old in sorted(path.name[len("leann--") : -len(".sql")] for path in RELEASED.glob("leann--*.sql")):
        if old != version:
            result = updated(cluster, "from_" + re.sub(r"\W", "_", old), old, version)
            check(f"from {old}: the objects of a fresh {version}", result == fresh, difference(result, fresh))


def made_up(cluster, version, fresh):
    """A version before this one, an update script from it that is whole, and one that forgets a comment and a
    function's body."""
    script = (share() / f"leann--{version}.sql").read_text(encoding="utf-8")
    removed = [re.search(pattern, script, flags=re.S).group() for pattern in LACKS]
    for text in removed:
        script = script.replace(text, "")
    body = re.search(
        r"CREATE FUNCTION (leann\.distance\(body text, query text\).*?;\n)", script, flags=re.S
    ).group(1)
    update = "DROP FUNCTION leann.former();\n" + "".join(removed) + "CREATE OR REPLACE FUNCTION " + body
    lacking = "DROP FUNCTION leann.former();\n" + "".join(removed[:-1])
    with extension_files(before=script + HAD, **{f"before__{version}": update, "before__lacking": lacking}):
        before = objects(cluster, "before_fresh", "CREATE EXTENSION leann VERSION 'before'")
        # former and distance(text, text) are others, distance(text, text, text) and a comment are not there.
        check(
            "the made-up version before this one has other objects",
            len(set(before) ^ set(fresh)) == 6,
            difference(before, fresh),
        )
        result = updated(cluster, "before_updated", "before", version)
        check(
            "an update from it gives the objects of a fresh install",
            result == fresh,
            difference(result, fresh),
        )
        result = updated(cluster, "before_lacking", "before", "lacking")
        check(
            "what an update script forgets is noticed",
            len(set(result) ^ set(fresh)) == 4,
            difference(result, fresh),
        )
