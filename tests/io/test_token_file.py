"""Files of tokens: what is read, what is refused, and that a token is in no message."""

import os

import pytest

from peerway.io.tokenfile import TokenFileError, load_tokens

ONE, OTHER = "correct-horse-battery", "staple-correct-horse"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "tokens"

    def write(content, mode=0o600):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(mode)
        return path

    return write


def test_tokens_are_lines_and_comments_do_not_count(file):
    assert load_tokens(file(f"# ours\n\n  {ONE}  # since May\n{OTHER}\n")) == (ONE, OTHER)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "holds no token"),
        ("# nothing\n", "holds no token"),
        (f"{ONE}\nsecret\n", "tokens, line 2: not a token"),
        (f"{ONE} {OTHER}\n", "tokens, line 1: not a token"),
        (b"\xff\xfe", "is not text"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_without_repeating_it(file, content, problem):
    with pytest.raises(TokenFileError, match=problem) as caught:
        load_tokens(file(content))
    assert ONE not in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o606])
def test_a_file_that_others_can_read_is_refused(file, mode):
    with pytest.raises(TokenFileError, match=r"others can read the token file .*chmod 600"):
        load_tokens(file(ONE, mode))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(TokenFileError, match=r"cannot read the token file .*none: No such file"):
        load_tokens(tmp_path / "none")
