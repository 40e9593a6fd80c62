"""What jobs are told about places outside the store: on this machine by variables, in a cluster by Secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.cluster import styles
from controller.settings import Settings, load

TABLES = """
[data]
credentials = "git"
platform_key_file = "platform"
allow_hosts = ["minio.data.svc", "10.1.2.3"]
allow_folders = ["pictures"]
environment = ["AWS_PROFILE", "NOT_SET_HERE"]
secret = "data-access"

[tracking]
hosts = ["mlflow.example.com"]
token_file = "mlflow"
secret = "mlflow-access"

[kubernetes]
image = "i"
serve_image = "s"
cache_claim = "node-cache"
"""


def _settings(folder: Path, tables: str = TABLES) -> Settings:
    (folder / "trunkline.toml").write_text(f'repository = "hub.git"\nstore = "s3://store"\nstate = "state"\n{tables}')
    return load(folder, {})


def test_jobs_of_the_agent_are_told_where_files_are(tmp_path: Path) -> None:
    """Files by their names, hosts and folders that are allowed, the agent's variables that are listed, and a cache."""
    told = _settings(tmp_path).job_environment({"AWS_PROFILE": "data", "OTHER": "private"})
    assert told == {
        "TRUNKLINE_CACHE": str(tmp_path / "state/cache"),
        "TRUNKLINE_DATA_CREDENTIALS": str(tmp_path / "git"), "TRUNKLINE_PLATFORM_KEY_FILE": str(tmp_path / "platform"),
        "TRUNKLINE_DATA_HOSTS": "minio.data.svc 10.1.2.3", "TRUNKLINE_DATA_FOLDERS": str(tmp_path / "pictures"),
        "TRUNKLINE_PLATFORM_URL": "https://platform.ultralytics.com",
        "TRUNKLINE_TRACKING_HOSTS": "mlflow.example.com",
        "TRUNKLINE_TRACKING_TOKEN_FILE": str(tmp_path / "mlflow"), "AWS_PROFILE": "data",
    }  # fmt: skip


def test_nothing_is_said_where_nothing_is_set(tmp_path: Path) -> None:
    """Without the tables a job knows of its cache, and of no place outside."""
    assert _settings(tmp_path, "").job_environment({"AWS_PROFILE": "data"}).keys() == {"TRUNKLINE_CACHE"}


@pytest.mark.parametrize(("asked", "port"), [("", 0), ("grpc = true\n", 8001)])
def test_in_a_cluster_servers_speak_grpc_where_they_are_asked_to(tmp_path: Path, asked: str, port: int) -> None:
    """One setting opens a second port in all servers, and in no job."""
    found = _settings(tmp_path, TABLES + asked)
    assert found.kubernetes is not None
    jobs, servers = styles(found, found.kubernetes)
    assert (jobs.grpc_port, servers.grpc_port) == (0, port)


def test_in_a_cluster_secrets_go_to_those_who_need_them(tmp_path: Path) -> None:
    """Jobs that fetch get the data's Secret, those that tell a tracker the tracker's; servers hear of neither.

    The operator's own files are named to nobody.
    """
    found = _settings(tmp_path)
    assert found.kubernetes is not None
    jobs, servers = styles(found, found.kubernetes)
    data, tracking = jobs.job_secrets
    assert (data.name, data.components, data.variables) == ("data-access", ("import",), ("AWS_PROFILE", "NOT_SET_HERE"))
    assert data.files == (
        ("TRUNKLINE_DATA_CREDENTIALS", "git-credentials"), ("TRUNKLINE_PLATFORM_KEY_FILE", "platform-key"),
    )  # fmt: skip
    assert (tracking.name, tracking.components) == ("mlflow-access", ("train", "tune", "track"))
    assert tracking.files == (("TRUNKLINE_TRACKING_TOKEN_FILE", "token"),)
    assert dict(jobs.environment)["TRUNKLINE_DATA_HOSTS"] == "minio.data.svc 10.1.2.3"
    assert dict(jobs.environment)["TRUNKLINE_TRACKING_HOSTS"] == "mlflow.example.com"
    assert jobs.cache_claim == "node-cache"
    assert (servers.job_secrets, servers.environment, servers.cache_claim) == ((), (), "")
    assert str(tmp_path / "git") not in repr((jobs, servers))


def test_a_secret_is_asked_only_for_what_the_settings_have(tmp_path: Path) -> None:
    """A bucket's variables need no file of git's; without a Secret no job asks for one."""
    own = '[data]\nsecret = "access"\nenvironment = ["AWS_PROFILE"]\n[kubernetes]\nimage = "i"\nserve_image = "s"\n'
    found = _settings(tmp_path, own)
    assert found.kubernetes is not None
    (data,) = styles(found, found.kubernetes)[0].job_secrets
    assert (data.files, data.variables) == ((), ("AWS_PROFILE",))
    found = _settings(tmp_path, own.replace('secret = "access"\n', ""))
    assert found.kubernetes is not None
    assert styles(found, found.kubernetes)[0].job_secrets == ()
