"""What providers say: the headers that are sent to them, what shows them who asks, how they are probed, and what they keep."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from config.clashes import quotas
from config.clashes.clash import Clash
from config.node import Entry, Node, given, is_true, members, text
from config.problems import Path, quoted
from config.vendors import bedrock_region, credential_of, why_unprobed, word_of

# Headers that frame a message or that the gateway itself must own (RFC 9110 §7.6.1, RFC 9112 §6):
# a second opinion about them would let a request be read in two ways, or hide usage from the meter.
_OWNED_HEADERS = frozenset(
    {
        *("connection", "content-length", "expect", "host", "keep-alive", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "accept-encoding", "content-encoding"),
    }
)
# What is said to providers of one protocol only.
_SPOKEN_BY = {"aws": "bedrock", "dialect": "openai", "api_version": "openai"}


def check(root: Node) -> Iterator[Clash]:
    """Check every provider."""
    for name, provider in members(root, "providers"):
        path: Path = ("providers", name)
        yield from quotas.check(path, provider.node)
        yield from _strangers(path, provider.node)
        yield from _shown(path, provider.node)
        if text(provider.node.get("protocol")) == "bedrock":
            yield from _signed(path, provider)
        yield from _unprobed(path, provider.node)
        yield from _unkept(path, provider.node)
        yield from _headers(path, provider.node)


def _headers(path: Path, provider: Node) -> Iterator[Clash]:
    seen: dict[str, str] = {}
    made = dict(_made(provider))
    for header, entry in members(provider, "headers"):
        here = (*path, "headers", header)
        folded = header.lower()
        if folded in _OWNED_HEADERS:
            remedy = "leave it out: it is made for each request"
            yield Clash(here, entry, "the gateway owns this header", remedy)
        if folded in seen:
            same = f"the same header as {quoted(seen[folded])}"
            yield Clash(here, entry, same, "keep one of the two")
        if folded in made:
            said = f"this header is made from {made[folded]}"
            yield Clash(here, entry, said, "write one of the two")
        seen.setdefault(folded, header)


def _made(provider: Node) -> Iterator[tuple[str, str]]:
    """Give each header that shows a provider who asks, with what it is made from."""
    key = text(provider.get("api_key"))
    if key is not None:
        # The form of a key decides, too: a token is a bearer's, wherever it is shown.
        name, _ = credential_of(text(provider.get("protocol")) or "", _dialect(provider))(key)
        yield name, "api_key"
    if given(provider.get("token")) is not None:
        yield "authorization", "token"
    if given(provider.get("aws")) is not None:
        for name in ("authorization", "x-amz-date", "x-amz-security-token"):
            yield name, "aws"


def _strangers(path: Path, provider: Node) -> Iterator[Clash]:
    """See that nothing is said that the protocol has no use for."""
    protocol = text(provider.get("protocol"))
    for name, spoken in _SPOKEN_BY.items():
        said = given(provider.get(name))
        platform = name == "dialect" and text(said) == "vertex"
        fitting = {"gemini", "anthropic"} if platform else {spoken}
        if said is not None and protocol is not None and protocol not in fitting:
            speakers = " or ".join(sorted(fitting))
            yield Clash(
                (*path, name), said, f"this is for providers that speak {speakers}", "leave it out"
            )


def _shown(path: Path, provider: Node) -> Iterator[Clash]:
    """See that a token comes from one place, and nothing else shows who asks."""
    token = given(provider.get("token"))
    if token is None:
        return
    ways = [name for name in ("service_account", "file") if given(token.get(name))]
    ways += ["metadata"] if is_true(token.get("metadata")) else []
    others = [name for name in ("api_key", "aws") if given(provider.get(name))]
    if len(ways) != 1 or others:
        yield Clash(
            (*path, "token"),
            token,
            "a provider is shown one thing only",
            "write one of service_account, metadata and file, and no api_key beside it",
        )


def _signed(path: Path, provider: Entry) -> Iterator[Clash]:
    """See that Amazon is told who asks, by one key, and for which region."""
    node = provider.node
    aws, key = given(node.get("aws")), given(node.get("api_key"))
    if (aws is None) == (key is None):
        yield Clash(
            path if aws is None else (*path, "aws"),
            aws or provider,
            "Amazon has to be told who asks, once",
            "write api_key (a bearer key) or aws (an access key), one of the two",
        )
    if aws is None:
        return
    halves = [given(aws.get(name)) for name in ("access_key_id", "secret_access_key")]
    if any(halves) if is_true(aws.get("role")) else not all(halves):
        yield Clash(
            (*path, "aws"),
            aws,
            "there is one key to sign with",
            "write role: true, or access_key_id with its secret_access_key",
        )
    host = _host(node)
    if given(aws.get("region")) is None and host is not None and not bedrock_region(host):
        yield Clash(
            (*path, "aws"),
            aws,
            "the host of base_url names no region",
            "write aws.region, e.g. eu-central-1",
        )


def _unprobed(path: Path, provider: Node) -> Iterator[Clash]:
    """See that a probe only asks whom it can ask as the edges do."""
    probe = provider.get("health", "probe")
    protocol, host = text(provider.get("protocol")), _host(provider)
    if probe is None or protocol is None or host is None or text(probe) not in {"models", "call"}:
        return
    why = why_unprobed(
        protocol,
        _dialect(provider),
        with_token=given(provider.get("token")) is not None,
    )
    if why:
        yield Clash(
            (*path, "health", "probe"),
            probe,
            f"a probe cannot ask this provider: {why}",
            "write connect or off",
        )


def _unkept(path: Path, provider: Node) -> Iterator[Clash]:
    """See that files are kept where the edges can ask for them, and the control for what became of batches."""
    files, protocol = provider.get("files"), text(provider.get("protocol"))
    if files is None or not is_true(files):
        return
    if protocol not in {None, "openai"}:
        why, remedy = "this is for providers that speak openai", "leave it out"
    elif given(provider.get("api_version")) is not None:
        why = "files have no place in Azure's API by deployment"
        remedy = "leave api_version out, and let base_url end with /openai/v1"
    elif given(provider.get("token")) is not None:
        why = "the control, which bills batches, has no token to ask with"
        remedy = "write an api_key in place of the token"
    else:
        return
    yield Clash((*path, "files"), files, why, remedy)


def _dialect(provider: Node) -> str:
    return text(provider.get("dialect")) or word_of(_host(provider) or "")


def _host(provider: Node) -> str | None:
    """Give the host of `base_url`, "" where it names none, None where it cannot be read."""
    url = text(provider.get("base_url"))
    try:
        return None if url is None else urlsplit(url).hostname or ""
    except ValueError:
        return None
