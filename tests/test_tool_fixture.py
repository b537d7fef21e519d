import pytest


def test_a_tool_that_is_there_is_found(tool):
    assert tool("sh", "dash").endswith("/sh")


def test_a_missing_tool_skips_and_names_its_package(tool, monkeypatch):
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool is missing: apt-get install some-package"):
        tool("no-such-tool", "some-package")


def test_a_missing_tool_fails_where_nobody_reads_skips(tool, monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install some-package"):
        tool("no-such-tool", "some-package")
