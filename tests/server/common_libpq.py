"""libpq itself, by ctypes: what psql does not show of the protocol. Parameters of no type, what the server says that they are, and
values in the text and in the binary format."""

import ctypes
import ctypes.util


class Failed(Exception):
    """An ERROR, with its SQLSTATE."""

    def __init__(self, sqlstate, message):
        super().__init__(message)
        self.sqlstate = sqlstate


def _library():
    path = ctypes.util.find_library("pq")
    if path is None:
        return None
    pq = ctypes.CDLL(path)
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
            ("PQconnectdb", pointer, [text]), ("PQstatus", number, [pointer]), ("PQerrorMessage", text, [pointer]),
            ("PQfinish", None, [pointer]), ("PQexec", pointer, [pointer, text]),
            ("PQprepare", pointer, [pointer, text, text, number, pointer]), ("PQdescribePrepared", pointer, [pointer, text]),
            ("PQnparams", number, [pointer]), ("PQparamtype", ctypes.c_uint, [pointer, number]),
            ("PQexecPrepared", pointer, [pointer, text, number, pointer, pointer, pointer, number]),
            ("PQresultStatus", number, [pointer]), ("PQresultErrorField", text, [pointer, number]),
            ("PQresultErrorMessage", text, [pointer]), ("PQntuples", number, [pointer]), ("PQnfields", number, [pointer]),
            ("PQgetvalue", pointer, [pointer, number, number]), ("PQgetlength", number, [pointer, number, number]),
            ("PQgetisnull", number, [pointer, number, number]), ("PQclear", None, [pointer])):
        function = getattr(pq, name)
        function.restype, function.argtypes = result, arguments
    return pq


PQ = _library()
TEXT, BINARY = 0, 1
# Of PGresult: PGRES_COMMAND_OK, PGRES_TUPLES_OK.
GOOD = (1, 2)


class Connection:
    """One connection; `env` is that of a Cluster."""

    def __init__(self, env, **options):
        words = {"host": env["PGHOST"], "port": env["PGPORT"], "user": env["PGUSER"], "dbname": env["PGDATABASE"], **options}
        self.raw = PQ.PQconnectdb(" ".join(f"{name}='{value}'" for name, value in words.items()).encode())
        if PQ.PQstatus(self.raw) != 0:
            raise RuntimeError(PQ.PQerrorMessage(self.raw).decode())

    def _rows(self, result):
        try:
            if PQ.PQresultStatus(result) not in GOOD:
                state = PQ.PQresultErrorField(result, ord("C")) or b""
                raise Failed(state.decode(), PQ.PQresultErrorMessage(result).decode())
            return [[None if PQ.PQgetisnull(result, row, column)
                     else ctypes.string_at(PQ.PQgetvalue(result, row, column), PQ.PQgetlength(result, row, column)).decode()
                     for column in range(PQ.PQnfields(result))] for row in range(PQ.PQntuples(result))]
        finally:
            PQ.PQclear(result)

    def run(self, sql):
        return self._rows(PQ.PQexec(self.raw, sql.encode()))

    def prepare(self, name, sql, *types):
        """Prepares a statement; without types, the server finds them."""
        oids = (ctypes.c_uint * len(types))(*types) if types else None
        self._rows(PQ.PQprepare(self.raw, name.encode(), sql.encode(), len(types), oids))

    def parameters(self, name):
        """The OIDs of the parameters' types, as the server describes the statement."""
        result = PQ.PQdescribePrepared(self.raw, name.encode())
        oids = [PQ.PQparamtype(result, number) for number in range(PQ.PQnparams(result))]
        self._rows(result)
        return oids

    def execute(self, name, *values, formats=TEXT):
        """Executes it with values as bytes, all in one format."""
        count = len(values)
        pointers = (ctypes.c_char_p * count)(*values)
        lengths = (ctypes.c_int * count)(*(len(value or b"") for value in values))
        kinds = (ctypes.c_int * count)(*([formats] * count))
        return self._rows(PQ.PQexecPrepared(self.raw, name.encode(), count, pointers, lengths, kinds, TEXT))

    def close(self):
        PQ.PQfinish(self.raw)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
