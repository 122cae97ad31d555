"""Cohere's client: what is put in order by a query, and embeddings."""

from typing import Any

from cohere import ClientV2
from story import EMBED, KEY, URL, VECTORS, raised, tell

DOCUMENTS = ["A lake.", "A gate above a turbine."]


def main() -> None:
    """Tell of both."""
    client = ClientV2(api_key=KEY, base_url=URL)
    ranked = client.rerank(model="ranks", query="Where is the gate?", documents=DOCUMENTS)
    told: dict[str, Any] = {
        "ranked": [[one.index, one.relevance_score] for one in ranked.results],
        "missing": raised(lambda: client.rerank(model="nobody", query="x", documents=DOCUMENTS)),
    }
    for model in VECTORS:
        embedded = client.embed(
            model=model, texts=EMBED, input_type="search_query", embedding_types=["float"]
        )
        told[f"vectors, {model}"] = embedded.embeddings.float_
    tell(told)


main()
