"""``cache``: what a stage gave a while ago is taken over, in this run or any other."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from flowcraft.engine.pieces.book import Kept
from flowcraft.engine.pieces.reuse import plain_path
from flowcraft.engine.pieces.values import digest
from flowcraft.engine.ports import KeptOutput, Quality
from flowcraft.engine.stages.goes import Goes, Unit
from flowcraft.engine.stages.rendering import most_tries
from flowcraft.errors import StageFailed
from flowcraft.workflow.expressions.expression import ExpressionError
from flowcraft.workflow.schema import Prompt, tool_lists


class StageCache:
    """Finds and keeps outputs of one stage."""

    def __init__(self, goes: Goes) -> None:
        self.goes = goes
        self.stage = goes.stage
        self.ground = goes.ground

    @property
    def used(self) -> bool:
        """Whether the stage has a ``cache``, and its run goes by it: one that is replayed does not."""
        job = self.ground.job
        return self.stage.cache is not None and (job.reuse is None or job.before is not None)

    async def key(self, unit: Unit, scope: Mapping[str, Any]) -> str:
        """Return the hash of all that an output depends on; with ``until``, of the first try and of what ends the tries."""
        secrets = await self._fingerprint()
        return digest("output", unit.wanted.what, unit.wanted.code, self._tries(unit, scope), secrets)

    async def find(self, key: str, unit: Unit) -> tuple[str, Kept] | None:
        """Return the run that gave an output within the stage's time, and the output; nothing for what is done anew."""
        before = self.ground.job.before
        if before is not None and before.anew and f"{plain_path(unit.path)}/".startswith(f"{before.anew}/"):
            return None
        after = time.time() - (unit.rendered.cache or 0.0)
        found = await self.ground.threads.run(lambda: self.ground.desk.store.kept_output(key, after))
        return None if found is None else (found.run, Kept(found.result, json.loads(found.result)))

    async def keep(self, key: str, unit: Unit, kept: Kept) -> None:
        """Keep an output for as long as the stage says."""
        now, store = time.time(), self.ground.desk.store
        output = KeptOutput(run=self.goes.book.run, path=unit.path, result=kept.text)
        await self.ground.threads.run(lambda: store.keep_output(key, output, now, now + (unit.rendered.cache or 0.0)))

    def _tries(self, unit: Unit, scope: Mapping[str, Any]) -> Any:
        until, judge = self.stage.until, self.stage.judge
        if until is None:
            return None
        names = set(until.names)
        asked: Any = None
        if judge is not None:
            names |= {name for part in judge.rubric.expressions for name in part.names}
            default = self.goes.frame.workflow.default_model
            model = judge.model or unit.rendered.model
            chain = self.ground.written(model, self.stage.name, default, Quality())
            asked = [judge.rubric.source, judge.model, chain]
        try:
            most = most_tries(self.stage, scope)
        except ExpressionError as error:
            raise StageFailed(str(error), run=self.goes.book.run, stage=unit.path) from None
        values = {name: scope[name] for name in sorted(names - {self.stage.name}) if name in scope and name != "env"}
        return [until.text, most, asked, values]

    async def _fingerprint(self) -> str:
        """Return what tells the values of the file's environment names apart, without telling them."""
        body, env = self.stage.body, self.goes.frame.workflow.env
        if not env or (isinstance(body, Prompt) and not any(tools for _, tools in tool_lists(self.stage))):
            return ""
        return await self.ground.fingerprints.of({name: self.ground.job.env.get(name) for name in env})
