"""
Which candidate a call favours, because it has most likely seen the beginning of its prompt before.

Only for long prompts (the exchange looks at that), and only among the deployments of the model that comes first.
"""

from proxy.live import Offer
from proxy.wire.look import Look
from routing.affinity import LEAST_TOKENS, favourite, prefix_hash

__all__ = ["LEAST_TOKENS", "favoured"]


def favoured(offer: Offer, tiers: bytes, seen: Look, body: bytes) -> int:
    """
    Return the number of the favoured candidate, counted from 1; 0 for none.

    `tiers` are those of the ask, empty where the plan's hold.
    """
    if not seen.cuts:
        return 0
    candidates = offer.plan.candidates
    ranks = tiers or [candidate.tier for candidate in candidates]
    best = min(ranks)
    first = next(place for rank, place in zip(ranks, offer.places, strict=True) if rank == best)
    if first.model not in offer.affine:
        return 0
    peers = [
        at
        for at, place in enumerate(offer.places)
        if ranks[at] == best and place.model == first.model
    ]
    prefix = prefix_hash(body, seen.cuts[0][0])
    return 1 + peers[favourite(prefix, [offer.places[at].id for at in peers])]
