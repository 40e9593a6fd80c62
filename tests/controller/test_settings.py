"""Settings: file, environment, and what is said where they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from adapters.traffic_prometheus import PrometheusTraffic
from adapters.traffic_scrape import ScrapedTraffic
from controller import wiring
from controller.settings import FILE_NAME, find_file, load
from specs.errors import Stalled


def _write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(text)
    return folder


def test_relative_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    """Wherever below the file a command is started, the settings mean the same places."""
    _write(tmp_path, 'repository = "models.git"\nstore = "store"\nstate = "../state"\n')
    below = tmp_path / "a/b"
    below.mkdir(parents=True)
    found = load(below, {})
    assert found == load(tmp_path, {})
    assert found.repository == str(tmp_path / "models.git")
    assert found.store == str(tmp_path / "store")
    assert found.state == tmp_path.parent / "state"


@pytest.mark.parametrize(
    ("repository", "store"),
    [
        ("https://git.example.com/models.git", "s3://bucket/store"),
        ("git@git.example.com:team/models.git", "file:///srv/store"),
        ("ssh://git@git.example.com/models.git", "/srv/store"),
    ],
    ids=["https", "scp", "ssh"],
)
def test_addresses_stay_as_they_are(tmp_path: Path, repository: str, store: str) -> None:
    """What is no relative path is not made one."""
    _write(tmp_path, f'repository = "{repository}"\nstore = "{store}"\n')
    found = load(tmp_path, {})
    assert (found.repository, found.store) == (repository, store)
    assert found.local_repository is None


def test_the_environment_wins(tmp_path: Path) -> None:
    """Every field can be given by a variable, which outweighs the file; commands are split at blanks."""
    _write(tmp_path, 'repository = "a"\nstore = "b"\nbranch = "main"\nport = 1\n')
    found = load(tmp_path, {
        "TRUNKLINE_BRANCH": "release", "TRUNKLINE_PORT": "8000", "TRUNKLINE_WORKLOAD_COMMAND": "python3 -m jobs",
        "UNRELATED": "x",
    })  # fmt: skip
    assert (found.branch, found.port, found.workload_command) == ("release", 8000, ["python3", "-m", "jobs"])


def test_the_environment_alone_is_enough(tmp_path: Path) -> None:
    """Without a file the state lies where the command was started."""
    found = load(tmp_path, {"TRUNKLINE_REPOSITORY": "/r", "TRUNKLINE_STORE": "/s"})
    assert (found.repository, found.store, found.state) == ("/r", "/s", Path(".trunkline"))


def test_another_file_can_be_named(tmp_path: Path) -> None:
    """TRUNKLINE_CONFIG names the file; the one in the folder is not read."""
    _write(tmp_path, "this is no toml")
    other = _write(tmp_path / "other", 'repository = "r"\nstore = "s"\n')
    found = load(tmp_path, {"TRUNKLINE_CONFIG": str(other / FILE_NAME)})
    assert found.repository == str(other / "r")


def test_the_nearest_file_counts(tmp_path: Path) -> None:
    """Of two files above a folder the nearer one holds."""
    _write(tmp_path, "")
    near = _write(tmp_path / "a", "")
    assert find_file(near / "b" / "c") == near / FILE_NAME
    assert find_file(tmp_path) == tmp_path / FILE_NAME


def test_no_settings_says_how_to_get_them(tmp_path: Path) -> None:
    """Where there is neither file nor variable, the error names both ways out."""
    with pytest.raises(Stalled, match=r"trunkline init.*TRUNKLINE_REPOSITORY") as caught:
        load(tmp_path, {})
    assert caught.value.reason == "NoSettings"


@pytest.mark.parametrize(
    ("text", "environment", "words"),
    [
        ('branch = "x"\nrepository = nonsense\n', {}, ("line 2",)),
        ('repository = "r"\nstore = "s"\nbranche = "x"\n', {}, ("branche", "not permitted")),
        ('repository = "r"\nstore = "s"\nport = 70000\n', {}, ("port", "65535")),
        ('repository = "r"\nstore = "s"\n', {"TRUNKLINE_INTERVAL": "often"}, ("interval", "number")),
        ('repository = "r"\nstore = 5\n', {}, ("store", "string")),
    ],
    ids=["no-toml", "unknown-field", "out-of-range", "bad-variable", "wrong-type"],
)
def test_wrong_settings_name_file_and_field(
    tmp_path: Path, text: str, environment: dict[str, str], words: tuple[str, ...]
) -> None:
    """A mistake is refused with the file and the field, never guessed around."""
    _write(tmp_path, text)
    with pytest.raises(Stalled) as caught:
        load(tmp_path, environment)
    assert caught.value.reason == "InvalidSettings"
    assert FILE_NAME in caught.value.message
    assert all(word in caught.value.message for word in words), caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A named file that does not exist is an error, not an empty one."""
    with pytest.raises(Stalled, match=r"nowhere\.toml"):
        load(tmp_path, {"TRUNKLINE_CONFIG": str(tmp_path / "nowhere.toml")})


def test_a_repository_on_this_machine_is_known(tmp_path: Path) -> None:
    """The local forge lives in the repository's folder, given as a path or as a file URL."""
    (tmp_path / "models.git").mkdir()
    _write(tmp_path, 'repository = "models.git"\nstore = "s"\n')
    assert load(tmp_path, {}).local_repository == tmp_path / "models.git"
    url = f"file://{tmp_path}/models.git"
    assert load(tmp_path, {"TRUNKLINE_REPOSITORY": url}).local_repository == tmp_path / "models.git"


TWO = """\
store = "s3://models"
[[bindings]]
namespaces = ["retail"]
repository = "https://git.example.com/retail/models.git"
prefix = "team-a/"
credentials = "retail/credentials"
[bindings.forge]
kind = "github"
token_file = "retail/token"
webhook_secret_file = "/etc/trunkline-git/webhook"
[[bindings]]
namespaces = ["*"]
repository = "street.git"
branch = "release"
"""


def test_bindings_are_settings_of_their_own(tmp_path: Path) -> None:
    """Each gives the settings that hold for its repository, paths made absolute, and a folder that no other one has."""
    found = load(_write(tmp_path, TWO), {})
    one, two = found.bound
    first, second = found.at(one), found.at(two)
    assert (first.repository, first.prefix) == ("https://git.example.com/retail/models.git", "team-a/")
    assert first.credentials == tmp_path / "retail/credentials"
    assert first.forge is not None
    assert first.forge.token_file == tmp_path / "retail/token"
    assert first.forge.webhook_secret_file == Path("/etc/trunkline-git/webhook")
    assert (second.repository, second.branch, second.forge) == (str(tmp_path / "street.git"), "release", None)
    assert first.store == second.store == "s3://models"
    assert len({found.state, first.state, second.state}) == 3
    assert found.state in first.state.parents
    assert not first.bindings


def test_one_repository_binds_everything(tmp_path: Path) -> None:
    """Without the table it is as it always was, mirror included."""
    found = load(_write(tmp_path, 'repository = "a.git"\nstore = "s"\nbranch = "next"\nprefix = "x"\n'), {})
    (one,) = found.bound
    assert (one.namespaces, one.repository, one.branch, one.prefix) == (["*"], str(tmp_path / "a.git"), "next", "x")
    assert found.at(one) is found


def test_commands_ask_for_one_repository(tmp_path: Path) -> None:
    """Whoever types a command where several are bound is told what to do."""
    found = load(_write(tmp_path, TWO), {})
    with pytest.raises(Stalled, match="operator alone"):
        wiring.repository(found)


def _bound(*tables: str, top: str = "") -> str:
    return f'store = "s"\n{top}\n' + "\n".join(f"[[bindings]]\n{table}" for table in tables)


A, B = 'repository = "/a.git"\n', 'repository = "/b.git"\n'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (_bound(A + 'namespaces = ["x", "y"]', B + 'namespaces = ["z", "y"]'), "namespace y is in bindings 1 and 2"),
        (_bound(A + 'namespaces = ["y", "y"]'), "namespace y is in bindings 1 and 1"),
        (_bound(A + 'namespaces = ["*"]', B + 'namespaces = ["*"]'), "namespace * is in bindings 1 and 2"),
        (_bound(A + 'namespaces = ["*", "x"]'), "stands alone"),
        (_bound(A + 'namespaces = ["team-*"]'), "no patterns"),
        (_bound(A + 'namespaces = ["x"]', top='repository = "/c.git"'), "both given"),
        (_bound(A + "namespaces = []"), "namespaces"),
        (_bound('namespaces = ["x"]'), "bindings.0.repository"),
        (_bound(A + 'namespaces = ["x"]\nprefix = "a/../b"'), "binding 1: 'a/../b' is not a path"),
        (_bound(A + 'namespaces = ["x"]\nprefix = "../b"'), "is not a path"),
        (_bound(A + 'namespaces = ["x"]\nprefix = "./b"'), "is not a path"),
        (_bound(A + 'namespaces = ["x"]\nbranch = "-x"'), "not a branch name"),
        (_bound('namespaces = ["x"]\nrepository = "ext::sh"'), "does not open"),
        (_bound(A + 'namespaces = ["x"]', A + 'namespaces = ["y"]\ncredentials = "c"'), "the same credentials"),
        (_bound(A + 'namespaces = ["x"]', A + 'namespaces = ["y"]\nforge = {kind = "local"}'), "credentials and forge"),
        (_bound(A + 'namespaces = ["x"]') + '\n[kubernetes]\nimage = "i"\nserve_image = "s"\nnamespaces = ["y"]',
         "nobody watches it"),
        ("bindings = 5", "bindings"),
        ("store = 's'\nbindings = [5]", "bindings.0"),
    ],
)  # fmt: skip
def test_bindings_that_leave_a_doubt_are_refused(tmp_path: Path, text: str, words: str) -> None:
    """At the start, with the numbers of those concerned: a namespace has one place, and one place has one way in."""
    _write(tmp_path, text if text.startswith("store") else f'store = "s"\n{text}')
    with pytest.raises(Stalled) as caught:
        load(tmp_path, {})
    assert caught.value.reason == "InvalidSettings"
    assert words in caught.value.message


def test_credentials_in_an_address_are_refused_unseen(tmp_path: Path) -> None:
    """The error says where they belong, and not what they are."""
    text = _bound('namespaces = ["x"]\nrepository = "https://bot:hunter2@git.example.com/a.git"')
    with pytest.raises(Stalled) as caught:
        load(_write(tmp_path, text), {})
    assert "credentials file" in caught.value.message
    assert "hunter2" not in caught.value.message


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('token_file = "token"', "token_file needs prometheus_url"),
        ('prometheus_url = "prometheus:9090"', "an address like http://prometheus:9090"),
        ('prometheus_url = "http://ada:s3cret@prometheus:9090"', "a token goes into token_file"),
    ],
    ids=["token-for-nobody", "no-address", "secret-in-address"],
)
def test_where_traffic_is_counted_is_an_address_without_secrets(tmp_path: Path, table: str, words: str) -> None:
    """A token goes to an address that is given, and no secret is part of an address; none is repeated in the error."""
    with pytest.raises(Stalled, match=words) as caught:
        load(_write(tmp_path, f'repository = "a"\nstore = "b"\n[monitoring]\n{table}\n'), {})
    assert "s3cret" not in str(caught.value)


def test_the_settings_say_who_counts_traffic(tmp_path: Path) -> None:
    """Prometheus where it is named, else the servers themselves."""
    head = 'repository = "a"\nstore = "b"\n'
    asked = wiring.traffic(load(_write(tmp_path / "plain", head), {}), lambda _: [])
    named = f'{head}[monitoring]\nprometheus_url = "http://prometheus:9090"\n'
    told = wiring.traffic(load(_write(tmp_path / "named", named), {}), lambda _: [])
    assert (type(asked), type(told)) == (ScrapedTraffic, PrometheusTraffic)
