"""SIGHUP: a new configuration is taken over whole, or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from idsync.app.core import Core, engine_settings, take_tokens
from idsync.app.parts import limits_of, rules_of, start_problems, wanted_keys, wanted_teams
from idsync.config import LIVE, Config, cross_checks, differing, served
from idsync.errors import ConfigError
from idsync.policy import GroupSpec
from idsync.store import facts
from idsync.store.db import Db


@dataclass(frozen=True)
class Reloaded:
    """What a reload has brought: keys that count now, and keys that count after a restart."""

    config: Config
    changed: tuple[str, ...]
    after_restart: tuple[str, ...]


async def reload(core: Core, wanted: Config) -> Reloaded:
    """Let a running core follow the live tables of a configuration, between two passes; secrets are read again as well.

    The rules change on the writer's thread, between two writes, in the transaction that looks at everybody again: what
    the change alone would take from people is on hold by the time the first push is judged by the new rules. If that
    transaction is undone, the old rules are back before the next write.

    Raises:
        ConfigError: the configuration cannot be used, or a file it names cannot; nothing has changed.
        StoreError: the store refused; nothing has changed.
    """
    running = core.config
    config = taken_over(running, wanted)
    if problems := await asyncio.to_thread(start_problems, wanted):
        raise ConfigError(problems)
    people = core.intake.people
    rules, before = rules_of(config), people.rules

    def adopt(db: Db) -> None:
        db.on_undo(lambda: setattr(people, "rules", before))
        people.rules = rules
        if db.shared:
            facts.put(db, facts.SERVED, served(config), core.clock.now())
        take_tokens(db, core)
        core.control.adopt_configuration(db)
        if db.shared:
            core.control.settle_configuration(db, core.store.name)

    async with core.reconciler.between_passes:
        await asyncio.wrap_future(core.store.submit(adopt))
        core.config = config
        core.engine.rules, core.engine.settings = rules, engine_settings(config)
        core.poller.follow(rules, limits_of(config))
        deletes = config.policy.on_departure == "delete"
        core.reconciler.follow(wanted_teams(config), limits_of(config), deletes=deletes)
    await core.keeper.follow(wanted_keys(config))
    return Reloaded(config, tuple(differing(running, config)), tuple(differing(config, wanted)))


def taken_over(running: Config, wanted: Config) -> Config:
    """Return the running configuration with the live tables of the wanted one.

    Raises:
        ConfigError: the live part of the wanted configuration needs a part that only a restart brings.
    """
    merged = running.model_copy(update={name: getattr(wanted, name) for name in LIVE})
    problems = [
        (path, f"{group!r} names a source that is another after a restart; restart instead")
        for path, groups in _groups(merged)
        for group in groups
        if GroupSpec.parse(group, running.source_names) != GroupSpec.parse(group, wanted.source_names)
    ]
    problems += cross_checks(merged)
    if problems:
        raise ConfigError(problems)
    return merged


def _groups(config: Config) -> list[tuple[str, tuple[str, ...]]]:
    named = [(f"teams.{team.alias}.groups", team.groups) for team in config.teams]
    named += [(f"teams.{team.alias}.admins", team.admins) for team in config.teams]
    return [*named, *((f"roles.{role.role}.groups", role.groups) for role in config.roles)]
