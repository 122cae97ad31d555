"""The laws of the table of dialects."""

import pytest

from config import dialects
from config.dialects import COMPATIBLE, DIALECTS, OPENAI, of_host
from proxy.wire.translate.core import Sampling

KNOWN = {
    *Sampling.__struct_fields__,
    *("n", "stop", "user", "service_tier", "verbosity", "parallel_tool_calls"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_row_says_only_what_a_writer_heeds(name: str) -> None:
    """A member that nobody would write cannot be lacking: it is misspelt."""
    assert DIALECTS[name].name == name
    assert DIALECTS[name].lacks <= KNOWN


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "openai"),
        ("eu.api.openai.com", "openai"),
        ("acme.openai.azure.com", "azure"),
        ("api.deepseek.com", "deepseek"),
        ("dashscope-intl.aliyuncs.com", "qwen"),
        ("api.z.ai", "glm"),
        ("openrouter.ai", "openrouter"),
        ("api.x.ai", "xai"),
        ("api.max.ai", "compatible"),
        ("10.0.0.5", "compatible"),
    ],
)
def test_a_host_tells_its_dialect(host: str, name: str) -> None:
    """By whole labels; a server that nobody knows does as most do."""
    assert of_host(host).name == name


def test_every_host_of_the_table_has_a_row() -> None:
    """And OpenAI itself is one of them."""
    assert {name for _, name in dialects._HOSTS} <= set(DIALECTS)
    assert OPENAI.cap == "max_completion_tokens"
    assert COMPATIBLE.cap == "max_tokens"
