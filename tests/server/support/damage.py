"""Damage made on purpose: the file of an index, written over while its server is stopped."""

import contextlib
import pathlib

from support.clusters import tiny_cluster
from support.texts import SQL_SENTENCE

# The server is told not to mind checksums and not to mend pages from the WAL: it is our reading that is
# tested.
SETTINGS = ("autovacuum=off", "full_page_writes=off", "ignore_checksum_failure=on")


class IndexFile:
    """The file of an index of a stopped cluster; `whole` is its content before any damage."""

    def __init__(self, cluster, path):
        self.cluster, self.path, self.whole = cluster, path, path.read_bytes()

    def write(self, content):
        with self.path.open("r+b") as file:
            file.write(content)
            file.truncate(len(content))

    @contextlib.contextmanager
    def damaged(self, content, name="session"):
        """A session on the started server that has this content in the file; afterwards the server is
        stopped."""
        self.write(content)
        self.cluster.start()
        try:
            with self.cluster.session(name=name) as session:
                yield session
        finally:
            self.cluster.stop("immediate")


@contextlib.contextmanager
def index_file(options="", rows=2000, more_rows=0):
    """The index docs_embedding of the table docs, built on some rows and then grown by more."""
    with tiny_cluster(*SETTINGS) as cluster:
        with cluster.session() as session:
            session.run(
                f"{SQL_SENTENCE}; CREATE TABLE docs (id int PRIMARY KEY, body text);"
                f"INSERT INTO docs SELECT n, sentence(n) FROM generate_series(1, {rows}) n;"
                f"CREATE INDEX docs_embedding ON docs USING leann (embedding_of(body)) {options};"
                f"INSERT INTO docs SELECT n, sentence(n) FROM generate_series({rows + 1},"
                f" {rows + more_rows}) n;"
                "CHECKPOINT"
            )
            file = session.value("SELECT pg_relation_filepath('docs_embedding')")
        cluster.stop()
        yield IndexFile(cluster, pathlib.Path(cluster.data, file))
