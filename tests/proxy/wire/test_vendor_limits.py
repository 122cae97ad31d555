"""What a vendor says of its own limits: in every spelling, and nothing of what cannot be read."""

import pytest

from proxy.wire.headers import Header
from proxy.wire.vendor_limits import cooldown_us, is_scarce, left_of, should_retry


@pytest.mark.parametrize(
    ("value", "wanted"), [(b"true", True), (b"False", False), (b"maybe", None), (b"", None)]
)
def test_should_retry_is_obeyed_when_it_is_said(value: bytes, wanted: bool | None) -> None:
    """True, false, or nothing said."""
    assert should_retry([(b"X-Should-Retry", value)]) is wanted
    assert should_retry([]) is None


NOW_S = 1_763_769_600.0  # Sat, 22 Nov 2025 00:00:00 GMT


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ([], None),
        ([("retry-after", "2")], 2_000_000),
        ([("Retry-After", "0.5")], 500_000),
        ([("retry-after", "0")], 0),
        ([("retry-after", "3600")], 60_000_000),
        ([("retry-after", "999999999999")], 60_000_000),
        ([("retry-after", " 7 ")], 7_000_000),
        ([("retry-after", "Sat, 22 Nov 2025 00:00:05 GMT")], 5_000_000),
        ([("retry-after", "Saturday, 22-Nov-25 00:00:05 GMT")], 5_000_000),
        ([("retry-after", "Sat Nov 22 00:00:05 2025")], 5_000_000),
        ([("retry-after", "Fri, 21 Nov 2025 00:00:00 GMT")], 0),
        ([("retry-after", "Sat, 22 Nov 2026 00:00:05 GMT")], 60_000_000),
        ([("retry-after-ms", "250"), ("retry-after", "9")], 250_000),
        ([("retry-after-ms", "soon"), ("retry-after", "9")], 9_000_000),
        *(
            ([("retry-after", value)], None)
            for value in ("soon", "-1", "", "nan", "inf", "1e5", "٣", "1" * 400, "32 Foo 2025")
        ),
        ([("x-ratelimit-reset-requests", "1s")], 1_000_000),
        ([("x-ratelimit-reset-tokens", "20ms")], 20_000),
        ([("x-ratelimit-reset-tokens", "6m0s")], 60_000_000),
        ([("x-ratelimit-reset-tokens", "1m2.5s")], 60_000_000),
        ([("x-ratelimit-reset-tokens", "2.5s")], 2_500_000),
        ([("x-ratelimit-reset-tokens", "1h")], 60_000_000),
        ([("x-ratelimit-reset-tokens", "900us")], 900),
        ([("x-ratelimit-reset", "12")], 12_000_000),
        ([("x-ratelimit-reset", f"{NOW_S + 4:.0f}")], 4_000_000),
        ([("x-ratelimit-reset", f"{(NOW_S + 4) * 1000:.0f}")], 4_000_000),
        # Only the limit that is used up counts; of two the later one.
        (
            [
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-requests", "3s"),
                ("x-ratelimit-remaining-tokens", "900"),
                ("x-ratelimit-reset-tokens", "50s"),
            ],
            3_000_000,
        ),
        ([("x-ratelimit-reset-requests", "3s"), ("x-ratelimit-reset-tokens", "5s")], 5_000_000),
        ([("x-ratelimit-remaining-requests", "7"), ("x-ratelimit-reset-requests", "3s")], None),
        *(
            ([("x-ratelimit-reset-tokens", value)], None)
            for value in ("s", "1x", "1s2", "-1s", "1 s", "2025-11-22T00:00:05Z")
        ),
        ([("retry-after", "1"), ("x-ratelimit-reset-tokens", "9s")], 1_000_000),
    ],
)
def test_a_cooldown_is_read_in_every_spelling(
    pairs: list[tuple[str, str]], wanted: int | None
) -> None:
    """Milliseconds, seconds, dates, durations and epochs; never negative, never beyond a minute."""
    raw = [(name.encode(), value.encode()) for name, value in pairs]
    assert cooldown_us(raw, NOW_S) == wanted


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        (
            {"x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s"},
            (59, 10**6, -1, 0),
        ),
        ({"x-ratelimit-remaining-requests": "100", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0"}, None),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"}, None),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, None),
        (
            {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"},
            (-1, 0, 0, 360 * 10**6),
        ),
        ({"x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6ms"}, None),
        ({"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1763769605"}, (0, 5 * 10**6, -1, 0)),
        (
            {
                "anthropic-ratelimit-requests-remaining": "3",
                "anthropic-ratelimit-requests-reset": "2025-11-22T00:00:20Z",
                "anthropic-ratelimit-input-tokens-remaining": "9000",
                "anthropic-ratelimit-input-tokens-reset": "2025-11-22T00:01:00Z",
                "anthropic-ratelimit-output-tokens-remaining": "10",
                "anthropic-ratelimit-output-tokens-reset": "2025-11-22T00:00:30+00:00",
            },
            (3, 20 * 10**6, 10, 30 * 10**6),
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2035-11-22T00:00:00",
            },
            (-1, 0, 0, 3600 * 10**6),
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2025-13-22T00:00:00Z",
            },
            None,
        ),
        (
            {
                "anthropic-ratelimit-tokens-remaining": "0",
                "anthropic-ratelimit-tokens-reset": "2025-11-21T00:00:00Z",
            },
            None,
        ),
    ],
)
def test_what_is_left_is_read_as_each_vendor_says_it(
    headers: dict[str, str], wanted: tuple[int, int, int, int] | None
) -> None:
    """How much until when; plenty is not worth telling, and half of the words say nothing."""
    raw: list[Header] = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert left_of(raw, NOW_S) == wanted


@pytest.mark.parametrize(
    ("name", "value", "scarce"),
    [
        (b"x-ratelimit-remaining-requests", b"7", True),
        (b"X-RateLimit-Remaining-Requests", b"107", False),
        (b"x-ratelimit-remaining-tokens", b"107", True),
        (b"x-ratelimit-remaining-tokens", b"10700", False),
        (b"x-ratelimit-limit-requests", b"60", False),
    ],
)
def test_a_cheap_look_finds_what_is_worth_reading(name: bytes, value: bytes, scarce: bool) -> None:
    """Most answers come with plenty, and cost one comparison."""
    assert is_scarce(name, value) is scarce
