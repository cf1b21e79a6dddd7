"""Tests against private servers: fixtures, and the report that tests/run counts.

`make test ONLY=server/crash` runs one file, after installing the extension. Once it is installed, also of one
case:

    .build/venv/bin/pytest tests/server -k unlogged
    PG_CONFIG=/path/to/pg_config LEANN_SOAK=1 .build/venv/bin/pytest tests/server/test_crash.py

A case makes its own cluster or takes the fixtures `cluster` and `session`, whose settings its marker
`cluster` has. Each check (support/checks.py) is a line `ok name` or `not ok name`, and so is a case without
checks. After each file the logs of its clusters are looked through."""

import pathlib
import shutil
import tempfile

import pytest

from cluster import Cluster
from support.checks import SOAK, check, record
from support.clusters import real_cluster, tiny_cluster

SOAK_TIMEOUT = 2 * 3600  # seconds for one case
MAKERS = {"tiny": tiny_cluster, "real": real_cluster}


@pytest.fixture
def cluster(request):
    """A private cluster with the extension: @pytest.mark.cluster("autovacuum=off", model="real")."""
    marker = request.node.get_closest_marker("cluster")
    settings, options = (marker.args, marker.kwargs) if marker else ((), {})
    with MAKERS[options.get("model", "tiny")](*settings) as made:
        yield made


@pytest.fixture
def session(cluster):
    with cluster.session() as made:
        yield made


@pytest.fixture
def open_folder():
    """A folder that the server's user can enter and read."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="leann-test-files.", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True, scope="module")
def quiet_logs():
    """What no server of a file may have written to its log."""
    Cluster.log_faults.clear()
    record.total = 0
    yield
    faults = "\n    ".join(Cluster.log_faults[:10])
    if record.total and not check(
        "the servers' logs show no crash, no leak and no failed assertion", not faults, faults
    ):
        pytest.fail("a server's log shows a fault", pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    before = record.total
    record.failed.clear()
    try:
        result = yield
    except pytest.skip.Exception:
        raise
    except BaseException:
        check(f"{pyfuncitem.name} runs to its end", False)
        raise
    if record.total == before:
        check(pyfuncitem.name, True)
    if record.failed:
        pytest.fail(f"failed: {'; '.join(record.failed)}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for name, value in item.funcargs.items():
            if isinstance(value, Cluster):
                report.sections.append((f"end of the server's log ({name})", value.tail()))
    return report


@pytest.hookimpl(trylast=True)  # once there is a terminal reporter
def pytest_configure(config):
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    capture = config.pluginmanager.get_plugin("capturemanager")

    def write(line):
        with capture.global_and_fixture_disabled():
            reporter.ensure_newline()
            reporter.write_line(line)

    record.write = write


def pytest_runtest_logreport(report):
    if report.skipped:
        record.write(f"skipped: {report.longrepr[2].removeprefix('Skipped: ')}")
    elif report.when == "call":
        record.write(f"   {report.nodeid.rpartition('::')[2]}: {report.duration:.1f} s")


def pytest_report_teststatus(report):
    """No letters of progress: the checks are the progress."""
    if report.when == "call" or report.skipped or report.failed:
        return report.outcome, "", ""
    return None


def pytest_collection_modifyitems(items):
    if SOAK:
        for item in items:
            item.add_marker(pytest.mark.timeout(SOAK_TIMEOUT))
