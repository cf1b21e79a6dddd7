"""Private clusters with the extension: with the small model of tests/models, or with the one that `make
model` makes."""

import os
import subprocess

from cluster import ROOT, Cluster, program

MODELS = ROOT / "tests" / "models"


def tiny_cluster(*settings, pg_config=None):
    """A cluster whose default model is the small one, with the extension in its database."""
    cluster = Cluster("leann.threads=1", *settings, pg_config=pg_config, start=False)
    cluster.settings += [f"leann.model_dir={cluster.readable(MODELS)}", "leann.default_model=tiny-hash"]
    return with_extension(cluster)


def real_cluster(*settings):
    """A cluster with the real model."""
    return with_extension(Cluster("shared_buffers=256MB", *settings, start=False))


def with_extension(cluster):
    try:
        cluster.start()
        with cluster.session() as session:
            session.run("CREATE EXTENSION leann")
    except BaseException:
        cluster.remove()
        raise
    return cluster


def model_settings(cluster):
    """The settings by which another cluster finds the same models."""
    return [setting for setting in cluster.settings if setting.startswith("leann.")]


def use_models(cluster, folder, default="tiny-hash"):
    """Starts the cluster anew with other models."""
    others = [s for s in cluster.settings if not s.startswith(("leann.model_dir", "leann.default_model"))]
    readable = cluster.readable(folder)
    cluster.settings = [*others, f"leann.model_dir={readable}", f"leann.default_model={default}"]
    cluster.start()


def standby_of(primary, *settings):
    """A standby that lets its queries finish."""
    patient = ["hot_standby_feedback=on", "max_standby_streaming_delay=-1"]
    return Cluster(*model_settings(primary), *patient, *settings, standby_of=primary)


def run_client(cluster, name, *arguments, given=None):
    """Runs a client program of Postgres (pg_dump, psql, ...) on the cluster; its output."""
    env = {**os.environ, **cluster.env}
    done = subprocess.run([program(name), *arguments], env=env, input=given, capture_output=True, check=False)
    if done.returncode:
        raise AssertionError(f"{name}: {done.stderr.decode(errors='replace')}")
    return done.stdout
