"""Downloads from a real server on loopback that breaks off, forgets, changes and refuses."""

import hashlib
import resource
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest

from cohort import fetch
from job import InputError

DATA = np.random.default_rng(1).bytes(900_000)
OTHER = np.random.default_rng(2).bytes(900_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves server.data as server.plan says; notes each request in server.seen."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        plan, data = self.server.plan, self.server.data
        asked, condition = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.seen.append((asked, condition))
        if plan.statuses:
            self.send_response(plan.statuses.pop(0))
            self.send_header("Retry-After", plan.retry_after)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and plan.ranges else 0
        if condition not in (None, plan.etag) and not plan.ignores_if_range:
            start = 0
        body = data[start:]
        if asked and start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "7")
            self.end_headers()
            return self.wfile.write(b"no more")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + plan.shift}-{len(data) - 1}/{len(data)}")
        if plan.etag:
            self.send_header("ETag", plan.etag)
        if plan.length:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        cut = plan.cuts.pop(0) if plan.cuts else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.data, server.seen = DATA, []
        server.plan = SimpleNamespace(
            statuses=[], cuts=[], etag='"one"', ranges=True, length=True, shift=0,
            ignores_if_range=False, retry_after="",
        )  # fmt: skip
        server.url = f"http://127.0.0.1:{server.server_port}/cohort.h5ad?token=secret"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def part(tmp_path):
    return tmp_path / ".cohort.h5ad.part"


def get(server, part, sha256=SHA256, size=None, attempts=4, url=None):
    fetch.fetch(url or server.url, part, sha256=sha256, size=size, attempts=attempts, backoff_s=0.001)
    return part.read_bytes()


def starts(server):
    return [int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0 for asked, _ in server.seen]


@pytest.mark.parametrize(("sha256", "size"), [(SHA256, None), (SHA256.upper(), None), (None, len(DATA))])
def test_a_file_is_fetched_in_one_request(server, part, sha256, size):
    assert get(server, part, sha256, size) == DATA
    assert server.seen == [(None, None)]


def test_a_cut_connection_is_resumed_at_the_byte_where_it_broke(server, part):
    server.plan.cuts = [300_000, 250_000, 1]
    assert get(server, part) == DATA
    first, second, third, fourth = starts(server)
    assert first == 0
    assert 300_000 - fetch.PIECE < second <= 300_000  # at most one piece is lost
    assert second + 250_000 - fetch.PIECE < third <= second + 250_000
    assert fourth == third
    assert [condition for _, condition in server.seen] == [None, '"one"', '"one"', '"one"']


def test_more_cuts_than_attempts_are_survived_as_long_as_bytes_come(server, part):
    server.plan.cuts = [150_000] * 5
    assert get(server, part, attempts=2) == DATA
    assert len(server.seen) == 6


def test_a_later_run_goes_on_from_what_an_earlier_one_left(server, part):
    server.plan.cuts = [400_000, 0, 0]
    with pytest.raises(
        ConnectionError, match=r"^http://127.0.0.1:\d+/cohort.h5ad: 3 attempts ended at byte \d+$"
    ):
        get(server, part, attempts=3)
    have = part.stat().st_size
    assert 300_000 < have <= 400_000
    server.seen.clear()
    assert get(server, part) == DATA
    assert server.seen == [(f"bytes={have}-", '"one"')]


def test_what_is_complete_is_not_asked_for_again(server, part):
    get(server, part, size=len(DATA))
    get(server, part, size=len(DATA))
    assert len(server.seen) == 1
    assert get(server, part) == DATA  # of unknown size: the server says that nothing is lacking
    assert starts(server) == [0, len(DATA)]


def test_a_server_that_ignores_ranges_starts_anew(server, part):
    server.plan.ranges, server.plan.cuts = False, [500_000]
    assert get(server, part) == DATA
    assert len(server.seen) == 2


def test_a_server_that_ignores_ranges_and_always_breaks_is_given_up(server, part):
    server.plan.ranges, server.plan.cuts = False, [500_000] * 9
    with pytest.raises(ConnectionError, match="3 attempts"):
        get(server, part, attempts=3)
    assert len(server.seen) == 3


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_remote_file_that_changed_is_fetched_whole(server, part, ignores_if_range):
    server.plan.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        get(server, part, attempts=3)
    server.data, server.plan.etag = OTHER, '"two"'
    server.plan.ignores_if_range = ignores_if_range
    assert get(server, part, sha256=None, size=len(OTHER)) == OTHER


def test_pieces_are_joined_only_if_the_version_or_the_digest_vouches_for_them(server, part):
    server.plan.etag = None
    server.plan.cuts = [400_000]
    assert get(server, part, sha256=None, size=len(DATA)) == DATA
    assert starts(server) == [0, 0]
    part.unlink()
    server.seen.clear()
    server.plan.cuts = [400_000]
    assert get(server, part) == DATA
    assert starts(server)[1] > 0
    server.plan.etag, server.plan.cuts = 'W/"weak"', [400_000]
    part.unlink()
    server.seen.clear()
    assert get(server, part, sha256=None, size=len(DATA)) == DATA
    assert starts(server) == [0, 0]


def test_pieces_of_two_files_are_found_out_by_the_digest_and_fetched_anew(server, part):
    server.plan.etag = None
    server.data, server.plan.cuts = OTHER, [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        get(server, part, attempts=3)
    server.data = DATA
    assert get(server, part) == DATA
    assert starts(server)[-1] == 0


def test_an_answer_that_starts_elsewhere_is_refused(server, part):
    server.plan.cuts, server.plan.shift = [400_000], 5
    assert get(server, part) == DATA
    assert starts(server)[0] == starts(server)[2] == 0 < starts(server)[1]


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_part_that_is_too_long_is_dropped(server, part, size):
    server.plan.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        get(server, part, attempts=3)
    part.write_bytes(DATA + b"more")
    server.seen.clear()
    assert get(server, part, size=size) == DATA
    assert starts(server) == ([0] if size else [len(DATA) + 4, 0])  # without a size only the server can tell


def test_a_part_of_another_address_is_dropped(server, part):
    server.plan.cuts = [400_000, 0, 0]
    with pytest.raises(ConnectionError):
        get(server, part, attempts=3)
    server.seen.clear()
    assert get(server, part, url=server.url + "2") == DATA
    assert starts(server) == [0]
    assert "secret" not in fetch.name_note(part).read_text()


def test_a_part_without_its_note_is_dropped(server, part):
    part.write_bytes(b"of unknown origin")
    assert get(server, part) == DATA
    assert starts(server) == [0]


def test_a_busy_server_is_asked_again_when_it_says(server, part, capsys):
    server.plan.statuses, server.plan.retry_after = [503, 429], "1"
    assert get(server, part) == DATA
    assert capsys.readouterr().out.count("again in 1.0 s") == 2


def test_waits_double_and_are_drawn_at_random(server, part, capsys):
    server.plan.statuses = [500] * 5
    with pytest.raises(ConnectionError):
        fetch.fetch(server.url, part, sha256=SHA256, size=None, attempts=5, backoff_s=0.2)
    waits = [float(line.split()[-2]) for line in capsys.readouterr().out.splitlines()]
    assert len(waits) == 4
    for times, wait in zip([1, 2, 4, 8], waits, strict=True):
        assert 0.1 * times - 0.05 <= wait <= 0.2 * times + 0.05


def test_an_answer_of_unknown_length_that_ends_early_is_resumed(server, part):
    server.plan.length, server.plan.cuts = False, [400_000]
    assert get(server, part, size=len(DATA)) == DATA
    assert starts(server) == [0, 400_000]


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_ends_at_once_and_names_the_setting(server, part, status):
    server.plan.statuses = [status]
    with pytest.raises(
        InputError, match=rf"^cohort.url: http://127.0.0.1:\d+/cohort.h5ad: .*{status}.*cohort.url$"
    ):
        get(server, part)
    assert len(server.seen) == 1


def test_a_wrong_digest_is_refused_and_nothing_stays(server, part):
    with pytest.raises(
        InputError, match=rf"^cohort.sha256: {SHA256} came, not {'0' * 64}; http.*another file"
    ):
        get(server, part, sha256="0" * 64)
    assert not list(part.parent.iterdir())
    assert len(server.seen) == 1


def test_a_wrong_size_is_refused_before_the_download(server, part):
    with pytest.raises(
        InputError, match=r"^cohort.size: http.* has 900000 bytes, not 7; correct cohort.size"
    ):
        get(server, part, sha256=None, size=7)
    assert not part.exists()


def test_a_wrong_size_is_found_without_a_length_too(server, part):
    server.plan.length = False
    with pytest.raises(InputError, match=r"^cohort.size: 900000 bytes came, not 7"):
        get(server, part, sha256=None, size=7)


@pytest.mark.parametrize(
    ("url", "sha256", "message"),
    [
        ("http://host/x.h5ad", None, "cohort.url: http://host/x.h5ad cannot be verified; set cohort.sha256"),
        ("http://me:word@host/x.h5ad", None, "cohort.url: http://host/x.h5ad cannot be"),
        ("http://host/x.h5ad", "abc", "cohort.sha256: 'abc' is not 64 hexadecimal digits"),
        ("host/x.h5ad", SHA256, "cohort.url: Invalid URL 'host/x.h5ad'.*cohort.path"),
        ("file:///x.h5ad", SHA256, "cohort.url: No connection adapters.*cohort.path"),
    ],
)
def test_settings_are_checked_first(part, url, sha256, message):
    with pytest.raises(InputError, match=f"^{message}"):
        fetch.fetch(url, part, sha256=sha256, size=None, attempts=1, backoff_s=0)


def test_a_host_that_does_not_answer_is_an_error_of_the_network(server, part):
    server.server_close()
    with pytest.raises(ConnectionError, match="2 attempts ended at byte 0"):
        get(server, part, attempts=2)


def test_a_disk_that_takes_no_more_is_not_tried_again(server, part):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            get(server, part)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert len(server.seen) == 1
