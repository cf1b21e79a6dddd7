"""What drivers send, by libpq itself: parameters that nobody typed are described as text and taken as text,
in the text and in the binary format; vectors are vectors in every form that drivers write. And with other
extensions beside it that have operators of the same names, theirs and ours mean what they meant."""

import struct

import pytest

from pg import SqlError
from support.checks import check, note

TEXT, BINARY = 0, 1  # the formats of values
TEXT_OID, VARCHAR, FLOAT4S, FLOAT8S = 25, 1043, 1021, 1022
NEAREST = "SELECT id FROM docs ORDER BY embedding_of(body) <-> $1 LIMIT 1"
ROW = "passage number 42 about subject 9"
SETUP = """
CREATE TABLE docs (id int PRIMARY KEY, body text);
INSERT INTO docs SELECT n, 'passage number ' || n || ' about subject ' || n % 11
FROM generate_series(1, 1000) n;
CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body));
ANALYZE docs
"""


class Connection:
    """What the protocol has beyond Session: parameters, their types as the server tells them, and formats."""

    def __init__(self, session):
        self.session, self.pgconn = session, session.pgconn

    def run(self, sql):
        self.session.run(sql)

    def rows(self, select):
        return self.session.rows(select)

    def prepare(self, name, sql, *types):
        """Prepares a statement; without types, the server finds them."""
        self.session.checked(self.pgconn.prepare(name.encode(), sql.encode(), types or None))

    def parameters(self, name):
        """The OIDs of the parameters' types, as the server describes the statement."""
        described = self.pgconn.describe_prepared(name.encode())
        return [described.param_type(number) for number in range(described.nparams)]

    def execute(self, name, *values, formats=TEXT):
        """The rows of a prepared statement, with values as bytes, all in one format."""
        done = self.pgconn.exec_prepared(name.encode(), values, [formats] * len(values))
        return self.session.checked(done)


@pytest.fixture
def connection(session):
    session.run(SETUP)
    connection = Connection(session)
    connection.prepare("untyped", NEAREST)
    return connection


def array(numbers, element, code):
    """An array in the binary format."""
    items = b"".join(struct.pack("!i" + code, struct.calcsize("!" + code), number) for number in numbers)
    return struct.pack("!iiiii", 1, 0, element, len(numbers), 1) + items


@pytest.mark.cluster("autovacuum=off")
def test_untyped(connection):
    """Described before it is bound, as strict drivers do, and then bound in both formats, with a custom and a
    generic plan."""
    connection.prepare("by_function", "SELECT id FROM docs ORDER BY leann.distance(body, $1) LIMIT 1")
    connection.prepare("both_sides", "SELECT embedding_of($2) <-> $1")
    check(
        "parameters that nobody typed are described as text",
        connection.parameters("untyped") == [TEXT_OID]
        and connection.parameters("by_function") == [TEXT_OID]
        and connection.parameters("both_sides") == [TEXT_OID, TEXT_OID],
    )
    for plans in ("force_custom_plan", "force_generic_plan"):
        connection.run(f"SET plan_cache_mode = {plans}")
        for kind in (TEXT, BINARY):
            found = [
                connection.execute(name, ROW.encode(), formats=kind) for name in ("untyped", "by_function")
            ]
            check(f"{plans}: text in format {kind} finds its row", found == [[["42"]]] * 2, str(found))
            found = connection.execute("untyped", b'leann:{"text":"x","model":"tiny-hash-b"}', formats=kind)
            used = connection.rows("SELECT nodes > 0 FROM leann.last_scan()")
            check(
                f"{plans}: what looks like a literal in format {kind} is words, and the index is used",
                len(found) == 1 and used == [["t"]],
            )
    connection.run("RESET plan_cache_mode")
    check("NULL gives a row", len(connection.execute("untyped", None)) == 1)


@pytest.mark.cluster("autovacuum=off")
def test_vectors(connection):
    numbers = [float(row[0]) for row in connection.rows(f"SELECT unnest(leann.embed('{ROW}'))")]
    texts = {
        "a JSON list": "[" + ",".join(map(str, numbers)) + "]",
        "an array literal": "{" + ",".join(map(str, numbers)) + "}",
        "an array literal with quotes": "{" + ",".join(f'"{number}"' for number in numbers) + "}",
        "a bare list": ",".join(map(str, numbers)),
        "a printed numpy array": "[" + " ".join(map(str, numbers)) + "]",
    }
    for name, text in texts.items():
        for kind in (TEXT, BINARY):
            found = connection.execute("untyped", text.encode(), formats=kind)
            check(f"{name} in format {kind} is a vector", found == [["42"]], str(found))
    for name, oid, element, code in (
        ("real[]", FLOAT4S, 700, "f"),
        ("double precision[]", FLOAT8S, 701, "d"),
    ):
        connection.prepare(name, NEAREST, oid)
        for kind, value in (
            (TEXT, texts["an array literal"].encode()),
            (BINARY, array(numbers, element, code)),
        ):
            found = connection.execute(name, value, formats=kind)
            check(f"{name} in format {kind} is a vector", found == [["42"]], str(found))
    connection.prepare("varchar", NEAREST, VARCHAR)
    check("a varchar is words", connection.execute("varchar", ROW.encode(), formats=BINARY) == [["42"]])
    try:
        connection.execute("real[]", array([1.0, 2.0], 700, "f"), formats=BINARY)
        check("a vector of another dimension is refused", False)
    except SqlError as error:
        check("a vector of another dimension is refused", error.sqlstate == "22000", str(error))


@pytest.mark.cluster("autovacuum=off")
def test_lists(connection):
    """A list of texts that nobody typed is one text to leann.embed, and many to leann.embed_all."""
    connection.prepare("embed", "SELECT count(*) FROM leann.embed($1) AS v")
    connection.prepare("embed_all", "SELECT count(*) FROM leann.embed_all($1) AS v")
    check(
        "leann.embed takes text",
        connection.parameters("embed") == [TEXT_OID] and connection.execute("embed", b"{hi,ho}") == [["1"]],
    )
    check(
        "leann.embed_all takes text[]",
        connection.parameters("embed_all") == [1009]
        and connection.execute("embed_all", b"{hi,ho}") == [["2"]],
    )


# What each extension's operators and literals gave without leann: an expression, and what it must say.
BESIDE = {
    "citext": [
        (
            "(SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 42 about subject 9'::citext"
            " LIMIT 1)",
            "42",
        ),
        ("'A'::citext = 'a'", "true"),
    ],
    "pg_trgm": [
        ("'word'::text <-> 'word'", "0"),
        ("'word' <-> 'word'", "0"),
        ("'word'::varchar <-> 'word'", "0"),
    ],
    "cube": [
        ("'(1,2)'::cube <-> '(4,6)'", "5"),
        ("'(4,6)' <-> '(1,2)'::cube", "5"),
        ("cube(ARRAY[1.0,2.0]) <-> cube(ARRAY[4,6])", "5"),
    ],
    "btree_gist": [
        ("3 <-> 5", "2"),
        ("3 <-> '5'", "2"),
        ("'2026-01-01'::date <-> '2026-01-03'", "2"),
        ("1.5::float8 <-> 2.5", "1"),
    ],
    "hstore": [
        ("'a=>1'::hstore = 'a=>1'", "true"),
        ("'a=>1'::hstore -> 'a'", "1"),
        ("'a=>1'::hstore || 'b=>2' ? 'b'", "true"),
    ],
    "intarray": [
        ("ARRAY[1,2] = ARRAY[1,2]", "true"),
        ("ARRAY[1,2] && '{2}'", "true"),
        ("ARRAY[1,2] + 3 = '{1,2,3}'", "true"),
    ],
    "ltree": [("'a.b'::ltree = 'a.b'", "true"), ("'a.b'::ltree || 'c' = 'a.b.c'", "true")],
}
ALWAYS = [
    ("ARRAY[1.5]::float8[] = ARRAY[1.5]::float8[]", "true"),
    ("ARRAY[1.5]::real[] = '{1.5}'", "true"),
    ("'a'::text || 'b'", "ab"),
    ("ARRAY[1] || 2 = '{1,2}'", "true"),
    ("'a' || 'b'", "ab"),
    ("'(1,2)'::point <-> '(4,6)'", "5"),
    (
        "(SELECT id FROM docs ORDER BY embedding_of(body) <-> 'passage number 42 about subject 9' LIMIT 1)",
        "42",
    ),
    (
        "(SELECT id FROM docs ORDER BY embedding_of(body) <-> leann.embed('passage number 42 about subject"
        " 9')::float8[] LIMIT 1)",
        "42",
    ),
    (
        "(SELECT id FROM docs ORDER BY embedding_of(body) <-> (SELECT embedding_of(body) FROM docs"
        " WHERE id = 42) LIMIT 1)",
        "42",
    ),
]


def unlike(connection, cases):
    """The cases whose value is not the expected one."""
    return [
        (case, found)
        for case, expected in cases
        if (found := connection.rows(f"SELECT ({case})::text")) != [[expected]]
    ]


@pytest.mark.cluster("autovacuum=off")
def test_beside(connection):
    """Other extensions beside ours, one more each time."""
    there = {row[0] for row in connection.rows("SELECT name FROM pg_available_extensions")}
    tried = sorted(BESIDE.keys() & there)
    if not tried:
        note("no contrib extensions here")
    cases = list(ALWAYS)
    for name in tried:
        connection.run(f"CREATE EXTENSION {name}")
        cases += BESIDE[name]
        wrong = unlike(connection, cases)
        check(f"with {name}, operators mean what they meant", not wrong, str(wrong))
