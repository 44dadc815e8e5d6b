"""Every file is written whole or not at all, by one function; what is read is a file of a sane
size.
"""

import ast
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qsopt import files
from qsopt.errors import InputError
from qsopt.files import (
    check_folder,
    check_plot,
    check_writable,
    read_text,
    read_toml,
    replacement,
    understood,
    write_figure,
    write_text,
)

ROOT = Path(__file__).parents[1]


def test_writes_a_file_and_its_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "new" / "a.toml", "é = 1\n")
    assert (tmp_path / "new" / "a.toml").read_bytes() == "é = 1\n".encode()
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.toml"]


def test_a_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def torn() -> None:
        with replacement(path) as temporary:
            assert (temporary.suffix, temporary.parent) == (".txt", tmp_path)
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        torn()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_replaces_what_is_there(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old and longer")
    write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file.a\.txt: cannot be written"):
        write_text(tmp_path / "file" / "a.txt", "text")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    write_text(tmp_path / "there.txt", "old")
    (tmp_path / "link.txt").symlink_to("there.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "there.txt").read_text() == "new"


def test_devices_and_pipes_are_not_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    for path in (pipe, tmp_path, Path(os.devnull)):
        with pytest.raises(InputError, match="cannot be written"):
            write_text(path, "text")
        with pytest.raises(InputError, match="cannot be written"):
            check_writable(path)
    assert pipe.is_fifo()


class _Full:
    """A figure that meets a full disk after its first bytes."""

    def savefig(self, path: Path, **_: object) -> None:
        path.write_bytes(b"PNG")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "plot.png", "old")
    with pytest.raises(InputError, match=r"plot\.png: cannot be written \(No space left"):
        write_figure(_Full(), tmp_path / "plot.png")
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]
    assert (tmp_path / "plot.png").read_text() == "old"


WRITER = """
import sys
from pathlib import Path
from qsopt.files import write_text
path = Path(sys.argv[1])
write_text(path, "0" * 3_000_000)
print("ready", flush=True)
while True:
    for digit in "123456789":
        write_text(path, digit * 3_000_000)
"""


def test_a_process_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for pause in (0.0, 0.003, 0.007, 0.011):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"ready\n"
            time.sleep(pause)
            child.send_signal(signal.SIGKILL)
        content = path.read_text()
        assert len(content) == 3_000_000
        assert len(set(content)) == 1


def test_what_cannot_be_written_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new" / "folder" / "a.json")
    check_folder(tmp_path / "new")
    check_plot(tmp_path / "a.png", (".png",))
    check_plot(None, (".png",))
    assert list(tmp_path.iterdir()) == [], "nothing is left behind"
    with pytest.raises(InputError, match=r"a\.gif: give a file that ends in \.png or \.svg"):
        check_plot(tmp_path / "a.gif", (".png", ".svg"))

    def denied(**_: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files.tempfile, "TemporaryFile", denied)
    for check in (check_writable, check_folder):
        with pytest.raises(InputError, match=r"Permission denied.*give a file"):
            check(tmp_path / "a.json")


# ---- reading -------------------------------------------------------------------------------------


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/stdin"), tmp_path):
        with pytest.raises(InputError, match=r"cannot be read .*; give another"):
            read_text(path, "give another")
    with pytest.raises(InputError, match="No such file"):
        read_text(tmp_path / "none", "give another")
    with pytest.raises(InputError, match="null byte"):
        read_text(Path("a\0b"), "give another")


def test_only_text_of_a_sane_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "long").write_text("12345")
    assert read_text(tmp_path / "long", "give another", largest=5) == "12345"
    with pytest.raises(InputError, match="more than 4 bytes"):
        read_text(tmp_path / "long", "give another", largest=4)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="codec"):
        read_text(tmp_path / "binary", "give another")
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbfa = 1")
    assert read_toml(tmp_path / "marked", "give another") == {"a": 1}


@pytest.mark.parametrize("text", ["a = ", "a = 1\na = 2", "a = " + "[" * 10_000])
def test_what_is_no_toml_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(InputError, match=r"a\.toml: not valid TOML .*; give another"):
        read_toml(tmp_path / "a.toml", "give another")


ENTRIES = {
    "{}": "KeyError",
    '{"sizes": 3}': "TypeError",
    '{"sizes": []}': "IndexError",
    '{"sizes": ["x"]}': "ValueError",
    '{"sizes": [1' + "0" * 400 + "]}": "OverflowError",
    "[]": "TypeError",
}
"""Contents of a file that should hold a list of numbers, and what Python makes of them."""


@pytest.mark.parametrize("text", ENTRIES)
def test_content_of_another_type_is_refused(text: str) -> None:
    says = rf"a\.json: an entry is missing or wrong \({ENTRIES[text]}.*; write it again"
    with pytest.raises(InputError, match=says), understood(Path("a.json"), "write it again"):
        float(json.loads(text)["sizes"][0])


# ---- one function --------------------------------------------------------------------------------

WRITES = {"write_text", "write_bytes", "savefig", "save", "to_csv", "dump", "copyfile"}
"""Methods that write a file."""


def _writes(path: Path) -> Iterator[str]:
    """Calls in a file that write another one, but for those to a temporary one or to memory."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr not in {*WRITES, "open"}:
            continue
        text = ast.unparse(node)
        if node.func.attr == "open" and not any(mode in text for mode in ("'w", "'a", "'x")):
            continue
        if not any(word in text for word in ("temporary", "store.save", "vector", "pixels")):
            yield f"{path.relative_to(ROOT)}:{node.lineno}: {text[:60]}"


def test_nothing_writes_a_file_by_itself() -> None:
    own = ROOT / "qsopt" / "files.py"
    sources = [*(ROOT / "qsopt").rglob("*.py"), *(ROOT / "experiments").rglob("*.py")]
    assert [call for path in sources if path != own for call in _writes(path)] == []
