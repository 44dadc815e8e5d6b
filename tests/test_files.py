from pathlib import Path

import pytest

from qsopt.errors import InputError
from qsopt.files import replacement, write_text


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
