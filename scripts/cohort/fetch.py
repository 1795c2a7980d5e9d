"""Download the cohort file: resumed where it stopped, verified, and only then given its name.

What has arrived is kept beside the output as `.<name>.part`, with a note of where it came from, so that a
later attempt or run goes on from there (HTTP Range with If-Range, RFC 9110 sections 13.1.5 and 14). It starts
again when the remote file has changed, when the server cannot resume or tells no version of a file that is
verified by size alone, and when the part is too long. Lost connections and busy servers are tried again with
exponential backoff and jitter; any other answer ends the download.
"""

import hashlib
import os
import random
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from job import InputError, conclude, job, track_progress

ATTEMPTS = 8  # in a row that bring nothing more
BACKOFF_S = 1.0  # doubled with each of them
MAX_WAIT_S = 300.0
TIMEOUT_S = 20, 60  # to connect, between bytes
BUSY = {408, 425, 429, 500, 502, 503, 504}
PIECE = 2**16  # bytes; a connection that breaks loses one piece


class TryAgain(OSError):
    """The transfer failed for a reason that may pass; wait_s: what the server asks for."""

    def __init__(self, message: str, wait_s: float = 0.0):
        super().__init__(message)
        self.wait_s = wait_s


class Changed(TryAgain):
    """What is there cannot be gone on from."""


TRANSIENT = TryAgain, requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError
NO_ADDRESS = (
    requests.exceptions.MissingSchema,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
)


def hide_secrets(url: str) -> str:
    """The address without what may be secret: user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check_settings(url: str, sha256: str | None, size: int | None) -> None:
    """Raise InputError when the file could not be verified."""
    if sha256 is None and size is None:
        raise InputError(
            f"cohort.url: {hide_secrets(url)} cannot be verified; set cohort.sha256 or cohort.size"
        )
    if sha256 is not None and not re.fullmatch("[0-9a-fA-F]{64}", sha256):
        raise InputError(f"cohort.sha256: {sha256!r} is not 64 hexadecimal digits; correct it")


def find_problem(path: Path, *, sha256: str | None, size: int | None) -> str:
    """What is wrong with the file; empty when it has the size (bytes) and the digest that are given."""
    found = path.stat().st_size
    if size is not None and found != size:
        return f"cohort.size: {found} bytes came, not {size}"
    if sha256 is not None:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256.lower():
            return f"cohort.sha256: {digest} came, not {sha256.lower()}"
    return ""


def name_note(part: Path) -> Path:
    """Two lines beside the part: digest of the address that it came from, and version of that file."""
    return part.with_name(f"{part.name}.of")


def read_part(url: str, part: Path, *, sha256: str | None, size: int | None) -> tuple[int, str | None]:
    """Bytes of the part that can be used, and the version of its remote file; removes a useless part."""
    if part.exists() and name_note(part).exists():
        address, version = (name_note(part).read_text(encoding="utf-8") + "\n\n").split("\n")[:2]
        have = part.stat().st_size
        if address == _hash_address(url) and (version or sha256) and (size is None or have <= size):
            return have, version or None
    part.unlink(missing_ok=True)
    return 0, None


def _hash_address(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()  # the address may hold a token


def transfer(
    session: requests.Session, url: str, part: Path, *, sha256: str | None, size: int | None
) -> None:
    """Ask once for what the part lacks and append it. Raises one of TRANSIENT, or InputError."""
    have, version = read_part(url, part, sha256=sha256, size=size)
    if have and have == size:
        return
    headers = {"Accept-Encoding": "identity"}  # ranges count the bytes of the file itself
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": version} if version else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        try:
            total = read_size(response, have, version)
        except Changed:
            part.unlink(missing_ok=True)
            raise
        if total is not None and size not in (None, total):
            raise InputError(
                f"cohort.size: {hide_secrets(url)} has {total} bytes, not {size}; correct cohort.size"
            )
        if response.status_code == 416:  # nothing is lacking
            return
        if response.status_code == 200:
            have = 0
            part.write_bytes(b"")
            name_note(part).write_text(
                f"{_hash_address(url)}\n{_read_version(response.headers) or ''}\n", encoding="utf-8"
            )
        print(f"fetch: {hide_secrets(url)}: from byte {have} of {total or size or 'unknown'}", flush=True)
        pieces, lacking = response.iter_content(PIECE), (total or size or have) - have
        if lacking > 0:
            pieces = track_progress(pieces, lacking / 2**20, "MB", lambda piece: len(piece) / 2**20)
        with open(part, "ab") as file:
            for piece in pieces:
                file.write(piece)
    came, wanted = part.stat().st_size, total or size
    if wanted is not None and came < wanted:
        raise TryAgain(f"the answer ended at byte {came} of {wanted}")


def read_size(response: requests.Response, have: int, version: str | None) -> int | None:
    """Bytes of the remote file, None if it is not told, from an answer that can be used.

    have, version: what was asked to go on from. Raises TryAgain, Changed, or InputError for any other answer.
    """
    status, answer = response.status_code, response.headers
    what = f"the server answered {status} {response.reason}"
    if status in BUSY:
        after = answer.get("Retry-After", "")
        raise TryAgain(what, float(after) if after.isdigit() else 0.0)
    if status == 200:
        return int(answer["Content-Length"]) if "Content-Length" in answer else None
    if status not in (206, 416):
        raise InputError(f"cohort.url: {hide_secrets(response.url)}: {what}; correct cohort.url")
    place = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+)?", answer.get("Content-Range", ""))
    first, total = place.groups() if place else (None, None)
    if status == 416 and have and total == str(have):
        return have
    if status == 416 or first != str(have) or _read_version(answer) not in (None, version):
        raise Changed(f"{what}; the remote file has changed, or the server cannot resume")
    return int(total) if total else None


def _read_version(answer) -> str | None:
    """What If-Range takes: the ETag unless it is weak, else the date of the last change."""
    tag = answer.get("ETag", "W/")
    return answer.get("Last-Modified") if tag.startswith("W/") else tag


def download(
    url: str, part: Path, *, sha256: str | None, size: int | None, attempts: int, backoff_s: float
) -> int:
    """Complete the part; returns the number of requests that it took.

    Raises ConnectionError when `attempts` requests in a row brought nothing more, InputError as `transfer`.
    """
    most = failures = requests_made = 0
    with requests.Session() as session:
        while True:
            requests_made += 1
            try:
                transfer(session, url, part, sha256=sha256, size=size)
                return requests_made
            except NO_ADDRESS as error:
                raise InputError(
                    f"cohort.url: {error}; correct cohort.url, or set cohort.path to a file"
                ) from error
            except TRANSIENT as error:
                have = part.stat().st_size if part.exists() else 0
                failures = 1 if have > most else failures + 1
                most = max(most, have)
                if failures >= attempts:
                    raise ConnectionError(
                        f"{hide_secrets(url)}: {failures} attempts ended at byte {have}"
                    ) from error
                wait_s = backoff_s * 2 ** (failures - 1) * random.uniform(0.5, 1)
                wait_s = min(max(wait_s, getattr(error, "wait_s", 0)), MAX_WAIT_S)
                print(f"fetch: {error}; again in {wait_s:.1f} s", flush=True)
                time.sleep(wait_s)


def fetch(
    url: str, part: Path, *, sha256: str | None, size: int | None, attempts: int, backoff_s: float
) -> None:
    """Complete the part and verify it. A wrong file that was put together from pieces is fetched once more.

    size: bytes. Raises InputError for settings or a file that are wrong (the part is removed then), and
    ConnectionError as `download` (the part stays).
    """
    check_settings(url, sha256, size)
    settings = {"sha256": sha256, "size": size, "attempts": attempts, "backoff_s": backoff_s}
    pieces = part.exists()
    pieces = download(url, part, **settings) > 1 or pieces
    wrong = find_problem(part, sha256=sha256, size=size)
    if wrong and pieces:
        print(f"fetch: {wrong}; it was put together from pieces, so it is fetched again", flush=True)
        part.unlink()
        download(url, part, **settings)
        wrong = find_problem(part, sha256=sha256, size=size)
    if wrong:
        part.unlink()
        name_note(part).unlink()
        raise InputError(
            f"{wrong}; {hide_secrets(url)} is another file, or the setting is wrong: correct one of them"
        )


if __name__ == "__main__":
    with job(snakemake) as out:
        cohort = Path(snakemake.output.cohort)
        part = cohort.with_name(f".{cohort.name}.part")
        fetch(part=part, attempts=ATTEMPTS, backoff_s=BACKOFF_S, **snakemake.params)
        conclude(f"{part.stat().st_size:,} bytes, verified")
        os.replace(part, out.cohort)
        name_note(part).unlink()
