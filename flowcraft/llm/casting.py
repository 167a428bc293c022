"""Who may be asked for an answer of a chain, and in which part: told before anybody is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flowcraft.llm.base import Link
from flowcraft.llm.chain import Chain
from flowcraft.llm.composer import ChainSpec, Workshop, cast
from flowcraft.plugin.capabilities import ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Casting:
    """The models of a chain by their parts, each in its order, with prices. Who can never be asked here is left out.

    ``answering`` are those of the chain (the offline one only where it stands alone), ``contestants`` those of best of two,
    ``judging`` who may judge these or a confidence, ``instead`` who answers where a cheap answer is not sure enough.
    ``measured`` says that the confidence of answers is measured. ``notes`` tell what these models cannot carry out.
    """

    strategy: str = "single"
    measured: bool = False
    answering: tuple[ModelInfo, ...] = ()
    contestants: tuple[ModelInfo, ...] = ()
    judging: tuple[ModelInfo, ...] = ()
    instead: tuple[ModelInfo, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def everyone(self) -> tuple[ModelInfo, ...]:
        """All of them, each once."""
        return tuple({info.id: info for info in (*self.answering, *self.instead, *self.judging)}.values())


def casting(chain: Chain, spec: ChainSpec, shop: Workshop) -> Casting:
    """Return who takes part in the answers of the chain that was made of ``spec``."""
    contestants, seats, instead = cast(chain.links, spec, shop)
    judges = [seat.link for seat in seats if seat.link is not None and not seat.missing]
    askable = _askable(chain.links, shop)
    return Casting(
        strategy=spec.policies.strategy,
        measured=spec.policies.measures,
        answering=tuple([info for info in askable if not info.offline] or askable),
        contestants=tuple(_askable(contestants, shop)),
        judging=tuple(_askable(judges, shop)),
        instead=tuple(_askable(instead, shop)),
        notes=chain.notes,
    )


def _askable(links: Iterable[Link], shop: Workshop) -> Sequence[ModelInfo]:
    return [shop.prices.priced(link.info) for link in links if link.llm is not None]
