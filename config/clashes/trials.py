"""What experiments say: of one kind, leading to what there is, and no two at the same name."""

from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal
from typing import Final

from config.clashes import quotas
from config.clashes.clash import Clash, dangling
from config.node import Entry, Node, amount, given, items, members, text, whole
from config.outline import deployments_in
from config.problems import Path, quoted
from config.scalars import moment_of
from config.trials import Canary

_KINDS: Final = ("arms", "canary", "migration", "shadow")
_USUAL_STEPS: Final = len(Canary.model_fields["steps"].default)


def check(root: Node) -> Iterator[Clash]:
    """Check every experiment."""
    askable = _Askable(root)
    deployments = [name for name, _, _ in deployments_in(root)]
    leading: dict[tuple[str | None, bool], str] = {}
    for name, entry in members(root, "experiments"):
        path: Path = ("experiments", name)
        node = entry.node
        asked = node.get("asked")
        yield from dangling((*path, "asked"), asked, askable, "model or route")
        kinds = [kind for kind in _KINDS if given(node.get(kind))]
        if len(kinds) != 1:
            yield Clash(
                path,
                entry,
                f"{' and '.join(kinds) or 'none'} of arms, canary, migration and shadow",
                "an experiment is of one kind: write one of them",
            )
            continue
        [kind] = kinds
        yield from _of_its_kind((*path, kind), kind, node.get(kind) or node, askable, deployments)
        if given(node.get("stopped")):
            continue
        meets = (text(asked), kind == "shadow")
        if meets in leading:
            yield Clash(
                (*path, "asked"),
                entry,
                f"experiment {quoted(leading[meets])} leads the calls of"
                f" {quoted(meets[0] or '')} already",
                "stop one of the two (`stopped: why`), or make them one with more arms",
            )
        leading.setdefault(meets, name)


class _Askable(dict[str, Entry]):
    """The names that callers may ask for: models, routes, `auto`, and what of these has a tag (`auto/coding`)."""

    def __init__(self, root: Node) -> None:
        super().__init__(
            (name, each) for part in ("models", "routes") for name, each in members(root, part)
        )
        self._tagged = {"auto", *(name for name, _ in members(root, "routes"))}

    def __contains__(self, name: object) -> bool:
        known = super().__contains__(name) or name in self._tagged
        return known or str(name).rpartition("/")[0] in self._tagged


def _of_its_kind(
    path: Path, kind: str, node: Node, askable: Collection[str], deployments: Collection[str]
) -> Iterator[Clash]:
    if kind == "arms":
        for arm, each in members(node):
            yield from _destination((*path, arm), each.node, askable, deployments)
        yield from _weightless(path, node)
        return
    yield from _destination(path, node, askable, deployments)
    if not given(node.get("model")) and not given(node.get("deployment")):
        yield Clash(path, node, "it leads nowhere", "say model or deployment")
    if kind == "canary":
        steps = items(node.get("steps"))
        yield from _rising((*path, "steps"), steps)
        yield from _beyond((*path, "step"), node.get("step"), len(steps) or _USUAL_STEPS)
    elif kind == "migration":
        yield from _in_order((*path, "schedule"), items(node.get("schedule")))
    else:
        yield from quotas.check(path, node)


def _destination(
    path: Path, node: Node, askable: Collection[str], deployments: Collection[str]
) -> Iterator[Clash]:
    model, deployment = given(node.get("model")), given(node.get("deployment"))
    yield from dangling((*path, "model"), model, askable, "model or route")
    yield from dangling((*path, "deployment"), deployment, deployments, "deployment", shape=".+")
    if model is not None and deployment is not None:
        yield Clash(
            (*path, "deployment"),
            deployment,
            "a model and a deployment",
            "keep one: a deployment serves its own model",
        )


def _weightless(path: Path, arms: Node) -> Iterator[Clash]:
    weights = [whole(each.node.get("weight")) for _, each in members(arms)]
    if weights and all(weight == 0 for weight in weights):
        yield Clash(path, arms, "no arm has a weight", "give one more than 0")


def _rising(path: Path, steps: Sequence[Node]) -> Iterator[Clash]:
    before = Decimal(0)
    for at, node in enumerate(steps):
        percent = amount(node)
        if percent is None:
            continue
        if percent <= before:
            yield Clash(
                (*path, at),
                node,
                "no more than the step before",
                "steps rise, from more than 0 to at most 100",
            )
        before = percent


def _beyond(path: Path, step: Node | None, count: int) -> Iterator[Clash]:
    number = whole(step)
    if step is not None and number is not None and number >= count:
        yield Clash(path, step, f"there are only {count} steps", "steps are counted from 0")


def _in_order(path: Path, schedule: Sequence[Node]) -> Iterator[Clash]:
    before = None
    for at, point in enumerate(schedule):
        when = point.get("at")
        try:
            moment = moment_of(text(when) or "", "UTC")
        except ValueError:
            continue  # no moment: the models report it
        if when is not None and before is not None and moment <= before:
            yield Clash(
                (*path, at, "at"),
                when,
                "not later than the moment before",
                "write the schedule in order of time",
            )
        before = moment
