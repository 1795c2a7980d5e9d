"""Releases on disk: switch in one step, removal, rollback; complete after a kill at any moment."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from job import InputError
from publish import _release
from publish._release import list_by_time, make_staging, prune, read_current, rename_release, switch_release

OPS = Path(__file__).parent.parent.parent.parent / "ops"


def make(place, name, time):
    """Build, rename and switch to a release of two files."""
    folder = make_staging(place)
    (folder / "run.json").write_text(json.dumps({"published_at": time}))
    (folder / "deep").mkdir()
    (folder / "deep/content").write_text(name)
    rename_release(folder, place / "releases" / name)
    switch_release(place, name)


def content(place):
    """What a reader finds."""
    return (place / "v1/deep/content").read_text()


def left_over(place):
    return [path.name for path in place.rglob(".tmp-*")]


def test_the_link_leads_to_the_release_of_the_last_switch(tmp_path):
    assert read_current(tmp_path) is None
    make(tmp_path, "a", "2001")
    make(tmp_path, "b", "2002")
    assert read_current(tmp_path) == content(tmp_path) == "b"
    assert not Path(os.readlink(tmp_path / "v1")).is_absolute()  # so the folder can be moved
    assert left_over(tmp_path) == []


def test_a_folder_named_as_the_link_is_not_replaced(tmp_path):
    (tmp_path / "v1").mkdir()
    with pytest.raises(InputError, match="v1: is not a link to a release; move it away"):
        make(tmp_path, "a", "2001")


def test_the_same_content_stays_as_it_was_published_first(tmp_path):
    make(tmp_path, "a", "2001")
    folder = make_staging(tmp_path)
    (folder / "run.json").write_text(json.dumps({"published_at": "2009"}))
    rename_release(folder, tmp_path / "releases/a")
    assert json.loads((tmp_path / "releases/a/run.json").read_text()) == {"published_at": "2001"}


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    make(tmp_path, "a", "2001")
    (tmp_path / ".tmp-release-x/deep").mkdir(parents=True)
    (tmp_path / ".tmp-link-x").symlink_to("releases/x")
    folder = make_staging(tmp_path)
    assert left_over(tmp_path) == [folder.name]
    assert content(tmp_path) == "a"


@pytest.mark.parametrize(
    ("keep", "there"), [(0, ["d"]), (1, ["d", "c"]), (2, ["d", "c", "b"]), (9, ["d", "c", "b", "a"])]
)
def test_the_current_and_the_last_others_are_kept(tmp_path, keep, there):
    for number, name in enumerate("abcd"):
        make(tmp_path, name, f"200{number}")
    removed = prune(tmp_path, keep)
    assert list_by_time(tmp_path) == there
    assert sorted(removed) == sorted(set("abcd") - set(there))


def test_the_current_release_is_kept_however_old(tmp_path):
    for number, name in enumerate("abc"):
        make(tmp_path, name, f"200{number}")
    switch_release(tmp_path, "a")
    assert prune(tmp_path, 1) == ["b"]
    assert list_by_time(tmp_path) == ["c", "a"]


STEPS = ("fsync", "rename", "replace", "mkdir", "symlink", "unlink", "rmdir")


def killed_at(number, work):
    """Do the work in a child process that gets SIGKILL at its n-th step on disk; whether it was killed."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            count = iter(range(number))

            def dying(step):
                def instead(*arguments, **named):
                    if next(count, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)
                    return step(*arguments, **named)

                return instead

            for name in STEPS:
                setattr(os, name, dying(getattr(os, name)))
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def kill_everywhere(folder):
    """Publish with a kill before the first step, the second, ... until none is left; what v1 then led to.

    Checks that every release with a name is whole and that the next run goes on from there.
    """

    def publish(place, name, time):
        make(place, name, time)
        prune(place, 1)

    seen, killed = [], True
    while killed:
        place = folder / str(len(seen))
        make(place, "older", "2000")
        make(place, "old", "2001")
        killed = killed_at(len(seen), lambda place=place: publish(place, "new", "2002"))
        seen.append(content(place))
        for name in list_by_time(place):
            assert (place / "releases" / name / "deep/content").read_text() == name
        publish(place, "newer", "2003")
        assert content(place) == list_by_time(place)[0] == "newer"
        assert left_over(place) == []
    return seen


def of_this_file(code):
    """A command that runs code with the functions of this file in a process of its own, of one thread."""
    paths = [str(OPS.parent / "scripts"), str(Path(__file__).parent)]
    return [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\nfrom test_release import *\n{code}"]


def test_a_kill_before_any_step_leaves_the_old_or_the_new_release_whole(tmp_path):
    code = f"print(json.dumps(kill_everywhere(Path({str(tmp_path)!r}))))"
    done = subprocess.run(of_this_file(code), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    print(f"killed before each of {len(seen) - 1} steps; the new release was there from {seen.index('new')}")
    assert len(seen) > 10
    assert seen == sorted(seen, reverse=True)  # old, ..., new: one switch
    assert set(seen) == {"old", "new"}


def test_a_reader_sees_a_whole_release_at_any_time_while_others_are_published(tmp_path):
    """A process switches as fast as it can; no look at it finds the link missing or a file gone."""
    make(tmp_path, "0000", "2000")
    place = f"Path({str(tmp_path)!r})"
    code = f"for n in range(1, 10_000): make({place}, f'{{n:04}}', f'{{2000 + n}}')"
    writer = subprocess.Popen(of_this_file(code))
    try:
        seen = [content(tmp_path)]
        while len(set(seen)) < 20:
            assert writer.poll() is None
            seen.append(content(tmp_path))
    finally:
        writer.kill()
        writer.wait()
    assert seen == sorted(seen)


def roll_back(place, *arguments):
    command = [sys.executable, OPS / "rollback.py", place, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def published(small, tmp_path):
    """The place of three releases of a small cohort, c the last one; their ids."""
    from publish.publish import publish

    paths, params = small
    ids = []
    for number in range(3):
        provenance = json.loads(Path(paths.provenance).read_text())
        Path(paths.provenance).write_text(json.dumps(provenance | {"commit": f"{number}"}) + "\n")
        ids.append(publish(tmp_path / "publish", paths, params)[0])
    return tmp_path / "publish", ids


def test_rollback_verifies_and_goes_back_one_release_at_a_time(published):
    place, (a, b, c) = published
    assert read_current(place) == c
    done = roll_back(place)
    assert done.stdout == f"{place}/v1: release {b}, before {c}\n"
    assert read_current(place) == b
    assert roll_back(place).returncode == 0
    assert read_current(place) == a
    done = roll_back(place)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: no release before {a}; there are {c} ")
    assert roll_back(place, "--to", c).returncode == 0
    assert read_current(place) == c
    (place / "releases" / b / "samples.tsv").write_text("changed")
    done = roll_back(place)
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"error: release {b} is not complete, nothing was changed\nerror: samples.tsv: has "
    )
    assert read_current(place) == c
    assert roll_back(place, "--to", "0123").stderr.startswith("error: there is no release 0123; there are ")
    assert roll_back(place.parent).stderr.startswith(f"error: {place.parent} has no releases")


def test_only_publish_writes_where_others_read():
    """The one rule whose outputs are below publish/ (operations-features L5)."""
    rules = {path.name: path.read_text() for path in (OPS.parent / "rules").glob("*.smk")}
    writers = [name for name, text in rules.items() if '"<results>/publish' in text]
    assert writers == ["publish.smk"]
    assert _release.LINK == "v1"
